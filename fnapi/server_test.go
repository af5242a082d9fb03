package fnapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/goleak"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a server with one expected worker.
type rig struct {
	t      *testing.T
	server *fnapi.Server
	worker *fnapi.Worker
	last   int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s, err := fnapi.New(fnapi.Config{StreamBytesMax: 1 << 20, ProbeAfter: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(context.Background()) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	w, err := s.Expect(fnapi.WorkerSpec{
		ID:          fnapi.NewWorkerID("test"),
		Environment: &pipepb.Environment{Capabilities: []string{fnapi.CapabilityNamedDataStreams}},
		JobID:       "job-1", JobName: "job",
	})
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, server: s, worker: w}
}

// context ends before the test's own deadline, so that a hang is an error with a message.
func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

// connect starts a fake harness and waits for it, also where the server does not know yet that the former one has gone.
func (r *rig) connect(cfg fakesdk.Config) *fakesdk.Harness {
	r.t.Helper()
	cfg.Endpoint, cfg.WorkerID = r.server.Endpoint(), r.worker.ID()
	former := r.worker.Generation()
	h, err := fakesdk.Start(context.Background(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { h.Close() })
	for ctx := r.context(); r.worker.Generation() == former; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			r.t.Fatal("the harness does not connect")
		}
	}
	return h
}

func (r *rig) describe(id, input string, steps ...fakesdk.Step) fnapi.DescriptorID {
	r.t.Helper()
	d, err := fakesdk.Chain(id, r.server.Endpoint(), input, steps...)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.server.AddDescriptor(d); err != nil {
		r.t.Fatal(err)
	}
	return fnapi.DescriptorID(id)
}

// output collects what a bundle emits.
type output struct {
	mu     sync.Mutex
	data   []byte
	timers []byte
}

func (o *output) values(t *testing.T) []string {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	values, err := fakesdk.Values(o.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// start starts a bundle of a Chain.
func (r *rig) start(sb fnapi.StartBundle) (*fnapi.Bundle, *output) {
	r.t.Helper()
	b, out, err := r.tryStart(sb)
	if err != nil {
		r.t.Fatal(err)
	}
	return b, out
}

func (r *rig) tryStart(sb fnapi.StartBundle) (*fnapi.Bundle, *output, error) {
	out := &output{}
	r.last++
	sb.InstructionID = fnapi.InstructionID(fmt.Sprintf("b%d", r.last))
	sb.Inputs, sb.Outputs = []string{fakesdk.SourceID}, []string{fakesdk.SinkID}
	sb.OnData = func(_ string, data []byte, _ *buffers.Buffer) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.data = append(out.data, data...)
	}
	sb.OnTimers = func(_, _ string, data []byte) {
		out.mu.Lock()
		defer out.mu.Unlock()
		out.timers = append(out.timers, data...)
	}
	b, err := r.worker.StartBundle(r.context(), sb)
	return b, out, err
}

// feed sends bytes elements in one message and ends the input.
func (r *rig) feed(b *fnapi.Bundle, values ...string) error {
	var data []byte
	for i, v := range values {
		data = fakesdk.InGlobalWindow(int64(i), fakesdk.Nested([]byte(v))).Append(data)
	}
	if err := b.SendData(r.context(), fakesdk.SourceID, data); err != nil {
		return err
	}
	return b.Finish(r.context())
}

func (r *rig) wait(b *fnapi.Bundle) *fnpb.ProcessBundleResponse {
	r.t.Helper()
	resp, err := b.Wait(r.context())
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func wantStrings(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func wantCode(t *testing.T, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	if f := fault.Of(err); f == nil || f.Kind != kind || f.Code != code {
		t.Fatalf("got %v, want a fault of kind %s with code %s", err, kind, code)
	}
}

func TestBundleThroughFusedSteps(t *testing.T) {
	for _, cfg := range []fakesdk.Config{{}, {ShortIDs: true}, {EmbedElements: true}} {
		t.Run(fmt.Sprintf("short=%t,embed=%t", cfg.ShortIDs, cfg.EmbedElements), func(t *testing.T) {
			r := newRig(t)
			r.connect(cfg)
			d := r.describe("d", "bytes",
				fakesdk.Step{ID: "append", DoFn: "fakesdk:append", Params: []byte("!")},
				fakesdk.Step{ID: "repeat", DoFn: "fakesdk:repeat", Params: []byte("2")})
			for range 2 { // the second time with descriptor and short ids known
				b, out := r.start(fnapi.StartBundle{DescriptorID: d})
				if err := r.feed(b, "a", "b"); err != nil {
					t.Fatal(err)
				}
				resp := r.wait(b)
				wantStrings(t, out.values(t), "a!", "a!", "b!", "b!")
				var infos []string
				for _, info := range resp.GetMonitoringInfos() {
					of := info.GetLabels()["PTRANSFORM"] + info.GetLabels()["PCOLLECTION"]
					infos = append(infos, fmt.Sprintf("%s=%d", of, info.GetPayload()[0]))
				}
				wantStrings(t, infos, "append=2", "pc0=2", "pc1=2", "pc2=4", "repeat=2", "source=1")
			}
			if n := r.worker.Bundles(); n != 0 {
				t.Fatalf("%d bundles are left in flight", n)
			}
		})
	}
}

func TestNamedDataStreamsAreIndependent(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{})
	slow := r.describe("slow", "bytes", fakesdk.Step{ID: "slow", DoFn: "fakesdk:slow", Params: []byte("1h")})
	fast := r.describe("fast", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	held, _ := r.start(fnapi.StartBundle{DescriptorID: slow, DataStreamID: "s1"})
	if err := r.feed(held, "x"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b, out := r.start(fnapi.StartBundle{DescriptorID: fast, DataStreamID: "s2"})
		if err := r.feed(b, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		r.wait(b)
		wantStrings(t, out.values(t), fmt.Sprint(i))
	}
	held.Abandon(errors.New("enough"))
	if _, err := held.Wait(r.context()); err == nil || err.Error() != "enough" {
		t.Fatalf("got %v, want what Abandon was given", err)
	}
}

func TestNamedDataStreamNeedsCapability(t *testing.T) {
	r := newRig(t)
	w, err := r.server.Expect(fnapi.WorkerSpec{ID: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.StartBundle(r.context(), fnapi.StartBundle{InstructionID: "b", DataStreamID: "s"})
	wantCode(t, err, fault.Internal, "unsupported-named-data-streams")
}

func TestSendBlocksAndIsReleased(t *testing.T) {
	r := newRig(t)
	r.connect(fakesdk.Config{Fault: func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault { return fakesdk.NoFault }})
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d, DataStreamID: "never-mind"})
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("impatient"))
	// The harness has not opened the stream, or has: either way an ended context wins over waiting, and nothing is lost.
	big := fakesdk.InGlobalWindow(0, fakesdk.Nested(make([]byte, 3<<20))).Append(nil)
	for range 100 {
		if err := b.SendData(ctx, fakesdk.SourceID, big); err != nil {
			if err.Error() != "impatient" {
				t.Fatalf("got %v", err)
			}
			break
		}
	}
	if err := b.Finish(r.context()); err != nil {
		t.Fatal(err)
	}
	r.wait(b)
}

func TestMisuse(t *testing.T) {
	r := newRig(t)
	_, _, err := r.tryStart(fnapi.StartBundle{DescriptorID: "unknown"})
	wantCode(t, err, fault.Internal, "fnapi-misuse")
	d := r.describe("d", "bytes", fakesdk.Step{ID: "id", DoFn: "fakesdk:identity"})
	_, _, err = r.tryStart(fnapi.StartBundle{DescriptorID: d})
	if !errors.Is(err, fnapi.ErrWorkerLost) {
		t.Fatalf("without a harness: %v", err)
	}
	r.connect(fakesdk.Config{})
	b, _ := r.start(fnapi.StartBundle{DescriptorID: d})
	_, err = r.worker.StartBundle(r.context(), fnapi.StartBundle{DescriptorID: d, InstructionID: b.ID()})
	wantCode(t, err, fault.Internal, "fnapi-misuse")
	wantCode(t, b.SendData(r.context(), "nowhere", []byte("x")), fault.Internal, "fnapi-misuse")
	if err := r.feed(b); err != nil {
		t.Fatal(err)
	}
	wantCode(t, b.SendData(r.context(), fakesdk.SourceID, []byte("x")), fault.Internal, "fnapi-misuse")
	r.wait(b)
	if err := r.server.AddDescriptor(&fnpb.ProcessBundleDescriptor{Id: "d"}); err == nil {
		t.Fatal("a descriptor id was taken twice")
	}
	if _, err := r.server.Expect(fnapi.WorkerSpec{ID: r.worker.ID()}); err == nil {
		t.Fatal("a worker id was taken twice")
	}
}
