package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// failed checks that the job has failed with one error message that holds the parts.
func failed(t *testing.T, j *enginetest.Job, parts ...string) {
	t.Helper()
	j.End(jobpb.JobState_FAILED)
	messages := j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR)
	if len(messages) != 1 {
		t.Fatalf("%d error messages, not one: %q", len(messages), messages)
	}
	for _, part := range parts {
		if !strings.Contains(messages[0], part) {
			t.Errorf("%q does not say %q", messages[0], part)
		}
	}
	if _, err := os.Stat(j.StoreDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the store of a job that has ended is still there: %v", err)
	}
}

// poisoned fails on "poison".
func poisoned(c *fakesdk.Context, e fakesdk.Element) error {
	if string(fakesdk.Bytes(e.Value)) == "poison" {
		return errors.New("Traceback (most recent call last): ValueError: poison")
	}
	return c.Emit("", e)
}

func TestFailingDoFn(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.Map("Parse/Check", p.Read("in", bounded(texts("a", "poison")), "bytes"), "", poisoned))
	failed(t, r.Start(p, nil), "Parse/Check", "ValueError: poison")
}

func TestFailingTimer(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	fn := func() fakesdk.DoFn {
		d := alarm("bell", 1, eventTime)()
		d.OnTimer = func(*fakesdk.Context, string, fakesdk.Timer) error { return errors.New("no bell") }
		return d
	}
	p.Write("out", p.ParDo("alarm", p.Read("in", bounded(pairs("a=1@1")), "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime}, Fn: fn,
	}))
	failed(t, r.Start(p, nil), "alarm", "no bell")
}

// TestLostHarness breaks connections and streams at several bundles of a stateful job: each bundle counts once.
func TestLostHarness(t *testing.T) {
	for name, f := range map[string]fakesdk.Fault{
		"control": fakesdk.DropConnection, "data": fakesdk.DropDataStream, "half-closed data": fakesdk.CloseDataStream,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
				if n == 1 || n == 4 {
					return f
				}
				return fakesdk.NoFault
			}
			p := r.Pipeline()
			src := &enginetest.Source{}
			var texts []string
			for i := range 8 {
				src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs(fmt.Sprint("a=", i))})
				texts = append(texts, fmt.Sprintf("a=%d %d", i+1, i))
			}
			pass := p.Map("pass", p.Read("in", src, "kv(bytes,bytes)"), "",
				func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })
			out := p.Write("out", p.ParDo("state", pass, enginetest.ParDo{Bags: []string{"seen"}, Fn: running}))
			j := r.Run(p, nil)
			if len(out.Texts()) != len(texts) {
				t.Errorf("the sink has %q, not %d elements", out.Texts(), len(texts))
			}
			if n := j.Counter("pass", "elements"); n != 8 {
				t.Errorf("%d elements were counted, not 8", n)
			}
		})
	}
}

// TestHarnessBreaksProtocol has harnesses that do not answer as they should: the job fails and says so.
func TestHarnessBreaksProtocol(t *testing.T) {
	for name, f := range map[string]fakesdk.Fault{
		"unknown transform": fakesdk.UnknownTransform, "wrong answer": fakesdk.WrongAnswer, "fails": fakesdk.Fail,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault { return f }
			p := r.Pipeline()
			p.Write("out", p.Map("words", p.Read("in", bounded(texts("a b")), "bytes"), "", splitWords))
			failed(t, r.Start(p, nil), "words")
		})
	}
}

func TestHarnessThatCannotStart(t *testing.T) {
	r := newRig(t, nil)
	r.Harnesses.OnStart = func(context.Context) error {
		return fault.New(fault.Environment, "harness-start", "no such program").WithHint("install it")
	}
	p := r.Pipeline()
	p.Write("out", p.Map("words", p.Read("in", bounded(texts("a b")), "bytes"), "", splitWords))
	failed(t, r.Start(p, nil), "no such program", "install it")
}

// TestHarnessThatNeverComes can be cancelled, and suspended without becoming terminal.
func TestHarnessThatNeverComes(t *testing.T) {
	waiting := make(chan struct{}, 2)
	never := func(ctx context.Context) error {
		waiting <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	t.Run("cancel", func(t *testing.T) {
		r := newRig(t, nil)
		r.Harnesses.OnStart = never
		p := r.Pipeline()
		p.Write("out", p.Map("words", p.Read("in", bounded(texts("a b")), "bytes"), "", splitWords))
		j := r.Start(p, nil)
		<-waiting
		if err := j.Cancel(r.Context()); err != nil {
			t.Fatal(err)
		}
		j.End(jobpb.JobState_CANCELLED)
	})
	t.Run("suspend", func(t *testing.T) {
		r := newRig(t, nil)
		r.Harnesses.OnStart = never
		p := r.Pipeline()
		out := p.Write("out", p.Map("words", p.Read("in", bounded(texts("a b")), "bytes"), "", splitWords))
		j := r.Start(p, nil)
		<-waiting
		r.Suspend()
		if s := j.Last(); s != jobpb.JobState_STARTING {
			t.Fatalf("states %v of a job that was suspended", j.States())
		}
		r.Harnesses.OnStart = nil
		r.Restart()
		r.Recover(j).End(jobpb.JobState_DONE)
		want(t, out, "a", "b")
	})
}

// TestSuspendWhileSourceOpens is no failure either.
func TestSuspendWhileSourceOpens(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := bounded(texts("a"))
	opening := make(chan struct{})
	src.OnOpen = func(ctx context.Context, n int) error {
		if n > 0 {
			return nil
		}
		close(opening)
		<-ctx.Done()
		return ctx.Err()
	}
	out := p.Write("out", p.Read("in", src, "bytes"))
	j := r.Start(p, nil)
	<-opening
	r.Restart()
	if msgs := j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR); len(msgs) > 0 {
		t.Fatalf("states %v, errors %q of a job that was suspended", j.States(), msgs)
	}
	r.Recover(j).End(jobpb.JobState_DONE)
	want(t, out, "a")
}

func TestSourceErrors(t *testing.T) {
	outage := fault.New(fault.Environment, "broker-unreachable", "no broker at there:9092")
	t.Run("at open", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		src := bounded(texts("a"))
		src.OnOpen = func(context.Context, int) error { return outage }
		p.Write("out", p.Read("Read payments", src, "bytes"))
		failed(t, r.Start(p, nil), "Read payments", "there:9092", "broker-unreachable")
	})
	t.Run("at open after a restart", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b")}}}
		src.OnOpen = func(_ context.Context, n int) error {
			if n == 1 {
				return outage
			}
			return nil
		}
		src.OnPoll = func(ctx context.Context, n int) error {
			if n == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		out := p.Write("out", p.Read("in", src, "bytes"))
		j := r.Start(p, nil)
		if err := out.Await(r.Context(), contains("a")); err != nil {
			t.Fatal(err)
		}
		r.Restart()
		j = r.Recover(j)
		j.End(jobpb.JobState_DONE)
		if d := fmt.Sprint(out.Distinct()); d != "[a b]" {
			t.Errorf("the sink has %s", d)
		}
	})
	t.Run("while reading", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b")}}}
		src.OnPoll = func(_ context.Context, n int) error {
			if n == 1 || n == 2 {
				return outage
			}
			return nil
		}
		out := p.Write("out", p.Read("Read payments", src, "bytes"))
		j := r.Run(p, nil)
		want(t, out, "a", "b")
		if w := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(w) != 1 || !strings.Contains(w[0], "Read payments") {
			t.Errorf("warnings %q", w)
		}
	})
	t.Run("of the data", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		src := bounded(texts("a"))
		src.OnPoll = func(context.Context, int) error {
			return fault.New(fault.Pipeline, "bad-record", "record 7 is no pair")
		}
		p.Write("out", p.Read("Read payments", src, "bytes"))
		failed(t, r.Start(p, nil), "Read payments", "record 7")
	})
}

func TestSinkErrors(t *testing.T) {
	t.Run("outage", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		out := &enginetest.Sink{OnPublish: func(n int) error {
			if n < 2 {
				return fault.New(fault.Environment, "broker-unreachable", "no broker")
			}
			return nil
		}}
		p.WriteTo("Write totals", out, p.Read("in", bounded(texts("a", "b")), "bytes"))
		j := r.Run(p, nil)
		want(t, out, "a", "b")
		if w := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(w) != 1 || !strings.Contains(w[0], "Write totals") {
			t.Errorf("warnings %q", w)
		}
	})
	t.Run("refused", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.Pipeline()
		out := &enginetest.Sink{OnPublish: func(int) error { return fault.New(fault.Pipeline, "too-large", "record of 5 MB") }}
		p.WriteTo("Write totals", out, p.Read("in", bounded(texts("a", "b")), "bytes"))
		failed(t, r.Start(p, nil), "Write totals", "5 MB")
	})
}

// TestCancel stops a job in the middle of a bundle, twice.
func TestCancel(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	begun := make(chan struct{}, 1)
	p.Write("out", p.Map("hang", p.Read("in", bounded(texts("a")), "bytes"), "", func(c *fakesdk.Context, _ fakesdk.Element) error {
		begun <- struct{}{}
		<-c.Done()
		return context.Canceled
	}))
	j := r.Start(p, nil)
	<-begun
	for range 2 {
		if err := j.Cancel(r.Context()); err != nil {
			t.Fatal(err)
		}
	}
	j.End(jobpb.JobState_CANCELLED)
	if err := j.Cancel(r.Context()); err != nil {
		t.Errorf("cancelling a job that has ended: %v", err)
	}
	if states := fmt.Sprint(j.States()); states != "[STARTING RUNNING CANCELLING CANCELLED]" {
		t.Errorf("states %s", states)
	}
}

// TestCancelBusyState stops a job while its bundles ask for state: nothing of them reaches the store that is being closed.
func TestCancelBusyState(t *testing.T) {
	for range 20 {
		r := newRig(t, nil)
		p := r.Pipeline()
		begun := make(chan struct{}, 1)
		busy := func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				for err == nil {
					err = c.Bag("seen", key, e.Window()).Append(enginetest.Text("x"))
					select {
					case begun <- struct{}{}:
					default:
					}
				}
				return err
			}}
		}
		p.Write("out", p.ParDo("busy", p.Read("in", bounded(pairs("a=1@1")), "kv(bytes,bytes)"), enginetest.ParDo{
			Bags: []string{"seen"}, Fn: busy,
		}))
		j := r.Start(p, nil)
		<-begun
		if err := j.Cancel(r.Context()); err != nil {
			t.Fatal(err)
		}
		j.End(jobpb.JobState_CANCELLED)
	}
}

// TestDrain lets the sink have everything that was read, however much of it was still on its way.
func TestDrain(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true}
	for i := range 200 {
		b := enginetest.Batch{Elements: texts(fmt.Sprint("x", i))}
		if i >= 100 {
			b.Gate = make(chan struct{}) // never opened: the drain comes before the end of the script, however fast the machine
		}
		src.Batches = append(src.Batches, b)
	}
	slow := p.Map("slow", p.Read("in", src, "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		time.Sleep(time.Millisecond)
		return c.Emit("", e)
	})
	keyed := p.Map("key", slow, "kv(bytes,varint)", oneByOne)
	out := p.Write("out", p.GroupByKey("group", keyed))
	j := r.Start(p, nil)
	j.AwaitOutput("in", 20)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(out.Texts())); n != d.Stages[0].ElementsOut || n < 20 || n == 200 {
		t.Errorf("the sink has %d elements, the source has read %d", n, d.Stages[0].ElementsOut)
	}
}

// TestRefusedPipeline is refused before anything starts.
func TestRefusedPipeline(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(nil), "bytes"))
	for _, transform := range p.Proto.GetComponents().GetTransforms() {
		transform.Spec = &pipepb.FunctionSpec{Urn: "beam:transform:unheard_of:v1"}
	}
	_, err := r.Submit(p, nil)
	if fault.KindOf(err) != fault.Pipeline {
		t.Errorf("%v", err)
	}
}

// TestStartAfterClose is refused.
func TestStartAfterClose(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.KeyGroups = 4 })
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(nil), "bytes"))
	r.Suspend()
	if _, err := r.Submit(p, nil); fault.KindOf(err) != fault.Environment {
		t.Errorf("%v", err)
	}
}
