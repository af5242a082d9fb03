package engine_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/scheduler"
	"padstone/fnapi/fakesdk"
)

// only is the tag of a TestStream with one output.
const only = "out"

// inOrder compares what a sink has taken, in order.
func inOrder(t *testing.T, s *enginetest.Sink, texts ...string) {
	t.Helper()
	if got := s.Texts(); !slices.Equal(got, texts) {
		t.Errorf("the sink has\n%q, not\n%q", got, texts)
	}
}

// TestReplayEvents sees one pane for each event, whatever the number of its elements, and the pane of the watermark before the next
// event. A watermark is that of one output.
func TestReplayEvents(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	outs := p.TestStream("events", []string{"a", "b"},
		enginetest.Elements("a", 1, "k=1", "k=2", "k=3", "k=4", "k=5"),
		enginetest.Watermark("b", 1000),
		enginetest.Elements("a", 2, "k=6"),
		enginetest.Watermark("a", 10),
		enginetest.Elements("a", 3, "k=late"),
		enginetest.Elements("b", 2000, "of b"),
		enginetest.Elements("a", 11, "k=7"),
	)
	windows := enginetest.Fixed(10).Early(1)
	in := p.WindowInto("windows", p.Map("key", outs["a"], "kv(bytes,bytes)", keyed), windows)
	panes := p.Write("panes", p.GroupByKey("group", in))
	b := p.Write("b", p.Map("pass", outs["b"], "", func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
	j := r.Run(p, nil)
	inOrder(t, panes, "k=[1 2 3 4 5]@10", "k=[6]@10", "k=[]@10", "k=[7]@20", "k=[]@20")
	inOrder(t, b, "of b")
	if n := j.Counter("group", "dropped_due_to_lateness"); n != 1 {
		t.Errorf("%d elements were late, not 1", n)
	}
}

// TestClosedIsNotLate tells values that come after the last firing of a trigger from those that come too late for their window.
func TestClosedIsNotLate(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.TestStream("events", []string{only},
		enginetest.Elements(only, 1, "k=1"), enginetest.Watermark(only, 10), enginetest.Elements(only, 2, "k=closed"),
		enginetest.Watermark(only, 30), enginetest.Elements(only, 3, "k=late", "k=late"))[only]
	windows := enginetest.Fixed(10).Early(2).Lateness(15)
	p.Write("panes", p.GroupByKey("group", p.WindowInto("windows", p.Map("key", in, "kv(bytes,bytes)", keyed), windows)))
	j := r.Run(p, nil)
	if late, closed := j.Counter("group", "dropped_due_to_lateness"), j.Counter("group", "dropped_due_to_closed_window"); late != 2 || closed != 1 {
		t.Errorf("%d were late and %d for a closed window, not 2 and 1", late, closed)
	}
}

// clockPipeline writes elements and the processing-time timers that they set 5 s ahead, in the order in which they come, as "key=value"
// and "key=clock time".
func clockPipeline(p *enginetest.Pipeline, events enginetest.Collection) *enginetest.Sink {
	in := p.Map("key", events, "kv(bytes,bytes)", keyed)
	timers := p.ParDo("alarm", in, enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"clock": processingTime}, Fn: alarm("clock", 5000, processingTime),
	})
	return p.Write("out", p.Flatten("all", in, timers))
}

func clockEvents() (events []*enginetest.Event, want []string) {
	return []*enginetest.Event{
		enginetest.Elements(only, 1, "a=1"),
		enginetest.Clock(4000),
		enginetest.Elements(only, 2, "b=1"),
		enginetest.Clock(1000),
		enginetest.Elements(only, 3, "c=1"),
		enginetest.Watermark(only, 1<<62),
		enginetest.Clock(3999),
		enginetest.Clock(1),
		enginetest.Clock(500),
	}, []string{"a=1", "b=1", "a=clock 1", "c=1", "b=clock 2", "c=clock 3"}
}

// TestReplayClock has the script alone move processing time, also at the end of the input: a timer of 5 s fires when the script's
// clock has gone on by 5 s, however long that takes, and what is left fires at the script's end.
func TestReplayClock(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	events, texts := clockEvents()
	out := clockPipeline(p, p.TestStream("events", []string{only}, events...)[only])
	r.Run(p, nil)
	inOrder(t, out, texts...)
}

// TestReplayLostHarness breaks bundles: a bundle waits for its second attempt by the wall clock, as the script's stands still.
func TestReplayLostHarness(t *testing.T) {
	r := newRig(t, nil)
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if n == 1 || n == 4 {
			return fakesdk.DropConnection
		}
		return fakesdk.NoFault
	}
	p := r.Pipeline()
	events, texts := clockEvents()
	out := clockPipeline(p, p.TestStream("events", []string{only}, events...)[only])
	r.Run(p, nil)
	inOrder(t, out, texts...)
}

// TestReplayRecovered interrupts the job after each output. It goes on behind its last event, with the clock that the script had.
func TestReplayRecovered(t *testing.T) {
	events, texts := clockEvents()
	service := serveEvents(t, events)
	for _, from := range []string{"payload", "service"} {
		for n := 1; n < len(texts); n++ {
			t.Run(fmt.Sprintf("%s after %d", from, n), func(t *testing.T) {
				r := newRig(t, nil)
				p := r.Pipeline()
				in := func() enginetest.Collection {
					if from == "service" {
						return p.TestStreamFrom("events", service, []string{only})[only]
					}
					return p.TestStream("events", []string{only}, events...)[only]
				}
				out := clockPipeline(p, in())
				j := r.Start(p, nil)
				if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) >= n }); err != nil {
					t.Fatal(err)
				}
				r.Restart()
				if j.Last() != jobpb.JobState_DONE { // it may have been faster
					r.Recover(j).End(jobpb.JobState_DONE)
				}
				got := slices.Compact(out.Texts())
				if !slices.Equal(got, texts) {
					t.Errorf("the sink has %q, not %q", got, texts)
				}
			})
		}
	}
}

// TestReplayLateRecovered interrupts the job while a late element is on its way: it is late all the same.
func TestReplayLateRecovered(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	events := p.TestStream("events", []string{only}, enginetest.Watermark(only, 20), enginetest.Elements(only, 5, "k=late"))[only]
	begun, first := make(chan struct{}), atomic.Bool{}
	key := p.Map("key", events, textPair, func(c *fakesdk.Context, e fakesdk.Element) error {
		if first.CompareAndSwap(false, true) {
			close(begun)
			<-c.Done()
			return context.Canceled
		}
		return keyed(c, e)
	})
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", key, enginetest.Fixed(10))))
	j := r.Start(p, nil)
	<-begun
	r.Restart()
	j = r.Recover(j)
	j.End(jobpb.JobState_DONE)
	want(t, out)
	if n := j.Counter("group", "dropped_due_to_lateness"); n != 1 {
		t.Errorf("%d elements were dropped as late, not 1", n)
	}
}

// serveEvents serves events as a TestStreamService does and returns its address. It tells them to whoever asks for the output only.
func serveEvents(t *testing.T, events []*enginetest.Event) string {
	t.Helper()
	return serve(t, func(stream grpc.ServerStream) error {
		for _, ev := range events {
			if err := stream.SendMsg(ev); err != nil {
				return err
			}
		}
		return nil
	})
}

func serve(t *testing.T, events func(stream grpc.ServerStream) error) string {
	t.Helper()
	tell := func(_ any, stream grpc.ServerStream) error {
		var request emptypb.Empty
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		if asked := request.ProtoReflect().GetUnknown(); !strings.HasSuffix(string(asked), only) {
			return fmt.Errorf("asked for %q", asked)
		}
		return events(stream)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "org.apache.beam.model.interactive.v1.TestStreamService", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Events", ServerStreams: true, Handler: tell}},
	}, nil)
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// TestReplayService refuses events that cannot be, and says so when the service is not there.
func TestReplayService(t *testing.T) {
	for name, events := range map[string][]*enginetest.Event{
		"no output \"other\"":          {enginetest.Elements(only, 1, "a"), enginetest.Elements("other", 1, "b")},
		"watermark back":               {enginetest.Watermark(only, 10), enginetest.Watermark(only, 9)},
		"processing time goes back":    {enginetest.Clock(-1)},
		"an event of the unknown kind": {{}},
	} {
		t.Run(name, func(t *testing.T) {
			address := serveEvents(t, events)
			r := newRig(t, nil)
			p := r.Pipeline()
			p.Write("out", p.TestStreamFrom("events", address, []string{only})[only])
			failed(t, r.Start(p, nil), "test-stream-event", name, "events")
		})
	}
	t.Run("not there", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		p.Write("out", p.TestStreamFrom("events", "localhost:1", []string{only})[only])
		failed(t, r.Start(p, nil), "test-stream-service", "localhost:1", "events")
	})
}

// TestReplayDrained ends a script that its service has not told to the end.
func TestReplayDrained(t *testing.T) {
	waiting := make(chan struct{})
	address := serve(t, func(stream grpc.ServerStream) error {
		if err := stream.SendMsg(enginetest.Elements(only, 1, "a=1")); err != nil {
			return err
		}
		close(waiting)
		<-stream.Context().Done()
		return nil
	})
	r := newRig(t, nil)
	p := r.Pipeline()
	out := clockPipeline(p, p.TestStreamFrom("events", address, []string{only})[only])
	j := r.Start(p, nil)
	<-waiting
	if err := out.Await(r.Context(), contains("a=1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	inOrder(t, out, "a=1", "a=clock 1")
}

// TestReplayDrainedWithin drains the job while the bundle of an event runs: its elements are not late.
func TestReplayDrainedWithin(t *testing.T) {
	begun, drained, first := make(chan struct{}), make(chan struct{}), atomic.Bool{}
	r := newRig(t, func(c *engine.Config) {
		c.Turn = func(_ string, at engine.Turn, _ scheduler.BundleID) {
			if at == engine.TurnEnd && first.CompareAndSwap(false, true) {
				close(begun)
				<-drained
			}
		}
	})
	p := r.Pipeline()
	key := p.Map("key", p.TestStream("events", []string{only}, enginetest.Elements(only, 5, "k=a"))[only], textPair, keyed)
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", key, enginetest.Fixed(10))))
	j := r.Start(p, nil)
	<-begun
	if err := j.Drain(r.Context()); err != nil {
		t.Error(err)
	}
	close(drained)
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "k=[a]@10")
}

// TestReplayBesideBounded waits with the first event until the rest of the job has come to rest.
func TestReplayBesideBounded(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.TestStream("events", []string{only}, enginetest.Elements(only, 1, "event"))[only]
	begin := p.Map("begin", p.Impulse("impulse"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Value = enginetest.Text("impulse")
		return c.Emit("", e)
	})
	out := p.Write("out", p.Flatten("all", in, begin))
	r.Run(p, nil)
	inOrder(t, out, "impulse", "event")
}
