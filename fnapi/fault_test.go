package fnapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// once makes the first bundle go wrong and the others not.
func once(f fakesdk.Fault) func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
	return func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if n == 0 {
			return f
		}
		return fakesdk.NoFault
	}
}

// TestHostileHarness breaks the protocol in every way that the fake knows. The bundle must end with the right error, and the server
// must serve the next one, on the same generation or on the next.
func TestHostileHarness(t *testing.T) {
	tests := []struct {
		name  string
		fault fakesdk.Fault
		kind  fault.Kind
		code  fault.Code // "" means that the bundle succeeds
		lost  bool       // the generation ends
		late  bool       // or it succeeds: the breach may come when the bundle is complete already, since streams race
	}{
		{"error answer", fakesdk.Fail, fault.Pipeline, "bundle-failed", false, false},
		{"connection drops", fakesdk.DropConnection, fault.Environment, "harness-lost", true, false},
		{"data stream breaks", fakesdk.DropDataStream, fault.Environment, "harness-lost", true, false},
		{"data stream breaks, with an error", fakesdk.BreakDataStream, fault.Environment, "harness-lost", true, false},
		{"data stream closes", fakesdk.CloseDataStream, fault.Environment, "harness-lost", true, false},
		{"end marker twice", fakesdk.DoubleLast, fault.Environment, "harness-protocol", false, true},
		{"data of unknown transform", fakesdk.UnknownTransform, fault.Environment, "harness-protocol", false, false},
		{"data of unknown instruction", fakesdk.UnknownInstruction, 0, "", false, false},
		{"answer twice", fakesdk.AnswerTwice, fault.Environment, "harness-protocol", false, true},
		{"answer before the input ends", fakesdk.AnswerEarly, fault.Environment, "harness-protocol", false, false},
		{"answer of another type", fakesdk.WrongAnswer, fault.Environment, "harness-protocol", false, false},
		{"state of unknown instruction", fakesdk.DeadState, fault.Pipeline, "bundle-failed", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			h := r.connect(fakesdk.Config{Fault: once(tt.fault)})
			d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
			gone := r.worker.Done()
			b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
			// AnswerEarly must be noticed while the input is open; the others take it or leave it.
			if tt.fault != fakesdk.AnswerEarly {
				_ = r.feed(b, "x")
			}
			_, err := b.Wait(r.context())
			if tt.code == "" || tt.late && err == nil {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantCode(t, err, tt.kind, tt.code)
			}
			if tt.lost {
				if !errors.Is(err, fnapi.ErrWorkerLost) {
					t.Fatalf("%v is not ErrWorkerLost", err)
				}
				if tt.fault != fakesdk.CloseDataStream { // the fake, unlike a real harness, lives on with half a stream
					<-gone
				}
				h.Close()
				<-gone
				r.connect(fakesdk.Config{})
			}
			next, out := r.start(fnapi.StartBundle{DescriptorID: d})
			if err := r.feed(next, "y"); err != nil {
				t.Fatal(err)
			}
			r.wait(next)
			wantStrings(t, out.values(t), "y")
		})
	}
}

func TestBundleErrorNamesTheTransform(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "Parse/Map(f)", DoFn: "fakesdk:fail", Params: []byte("poison")})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	_ = r.feed(b, "fine", "poison") // which may fail before the end of its input is sent
	_, err := b.Wait(r.context())
	wantCode(t, err, fault.Pipeline, "bundle-failed")
	if f := fault.Of(err); f.Transform != "Parse/Map(f)" || !strings.Contains(f.Msg, "Traceback") {
		t.Fatalf("transform %q, message %q", f.Transform, f.Msg)
	}
}

// TestGenerations: a harness that reconnects under its id is a new generation; the bundles of the old one fail, whether its streams
// have ended yet or not.
func TestGenerations(t *testing.T) {
	r := newRig(t)
	silent := func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault { return fakesdk.NeverAnswer }
	first := r.connect(fakesdk.Config{Fault: silent})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	if g := r.worker.Generation(); g != 1 {
		t.Fatalf("generation %d", g)
	}
	b1, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b1, "x"); err != nil {
		t.Fatal(err)
	}
	gone := r.worker.Done()
	r.connect(fakesdk.Config{}) // the old one is still connected
	<-gone
	if _, err := b1.Wait(r.context()); !errors.Is(err, fnapi.ErrWorkerLost) {
		t.Fatalf("got %v", err)
	}
	if err := b1.Finalize(r.context()); !errors.Is(err, fnapi.ErrWorkerLost) {
		t.Fatalf("finalize on a lost generation: %v", err)
	}
	<-first.Done()
	if g := r.worker.Generation(); g != 2 {
		t.Fatalf("generation %d", g)
	}
	b2, out := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b2, "x"); err != nil {
		t.Fatal(err)
	}
	r.wait(b2)
	wantStrings(t, out.values(t), "x")
}

func TestNeverAnswer(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{Fault: once(fakesdk.NeverAnswer)})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("watchdog"))
	if _, err := b.Wait(ctx); err == nil || err.Error() != "watchdog" {
		t.Fatalf("got %v", err)
	}
	r.worker.Disconnect("stuck")
	_, err := b.Wait(r.context())
	wantCode(t, err, fault.Environment, "harness-lost")
	if !strings.Contains(err.Error(), "stuck") {
		t.Fatalf("%v does not say why", err)
	}
}

// TestWithheldEndMarker: the response alone does not complete a bundle.
func TestWithheldEndMarker(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{Fault: once(fakesdk.WithholdLast)})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b, "x"); err != nil {
		t.Fatal(err)
	}
	next, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(next, "y"); err != nil {
		t.Fatal(err)
	}
	r.wait(next)
	select {
	case <-b.Done():
		t.Fatal("complete without its end marker")
	default:
	}
}

func TestStopFailsEverything(t *testing.T) {
	r := newRig(t)
	h := r.connect(fakesdk.Config{Fault: once(fakesdk.NeverAnswer)})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	r.worker.Stop()
	r.worker.Stop()
	if _, err := b.Wait(r.context()); !errors.Is(err, fnapi.ErrWorkerLost) {
		t.Fatalf("got %v", err)
	}
	<-h.Done()
	if err := r.worker.Ready(r.context()); !errors.Is(err, fnapi.ErrWorkerLost) {
		t.Fatalf("got %v", err)
	}
	again, err := fakesdk.Start(context.Background(), fakesdk.Config{Endpoint: r.server.Endpoint(), WorkerID: r.worker.ID()})
	if err != nil {
		t.Fatal(err)
	}
	<-again.Done()
	again.Close()
	if err := again.Err(); !strings.Contains(err.Error(), "PermissionDenied") {
		t.Fatalf("a stopped worker's id was admitted: %v", err)
	}
}
