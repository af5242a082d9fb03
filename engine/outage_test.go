package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// TestOutagesAtARestart: what a job needs is not there when it is taken up again, before it has committed anything or after.
func TestOutagesAtARestart(t *testing.T) {
	outage := fault.New(fault.Environment, "not-there", "nobody answers")
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed=%v", committed), func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b")}}}
			polled, gate := make(chan struct{}), make(chan struct{})
			src.OnPoll = func(ctx context.Context, n int) error {
				if committed && n == 0 {
					return nil
				}
				if (committed && n == 1) || (!committed && n == 0) {
					close(polled)
				}
				select {
				case <-gate:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			var opens, starts atomic.Int32
			src.OnOpen = func(_ context.Context, n int) error {
				if n == 1 || n == 2 {
					opens.Add(1)
					return outage
				}
				return nil
			}
			sink := &enginetest.Sink{}
			p.WriteTo("out", sink, p.Map("pass", p.Read("in", src, "bytes"), "",
				func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
			j := r.Start(p, nil)
			<-polled
			r.Suspend()
			r.Harnesses.OnStart = func(context.Context) error {
				if starts.Add(1) < 3 {
					return outage
				}
				return nil
			}
			close(gate)
			r.Restart()
			j = r.Recover(j)
			j.End(jobpb.JobState_DONE)
			if got := fmt.Sprint(sink.Distinct()); got != "[a b]" || starts.Load() != 3 || opens.Load() != 2 {
				t.Errorf("the sink has %s; harnesses were started %d times, %d opens failed", got, starts.Load(), opens.Load())
			}
			warnings := strings.Join(j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), "\n")
			if !strings.Contains(warnings, "starting the harnesses") || !strings.Contains(warnings, "nobody answers") {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}

// TestLoopbackAtARestart: workers that lived in the program that submitted the job do not come back without it.
func TestLoopbackAtARestart(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b"), Gate: make(chan struct{})}}}
	p.Write("out", p.Map("pass", p.Read("in", src, "bytes"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
	j := r.Start(p, enginetest.Options{"environment_type": "LOOPBACK"})
	j.AwaitOutput("in", 1)
	r.Suspend()
	r.Harnesses.OnStart = func(context.Context) error {
		return fault.New(fault.Environment, "not-there", "nobody answers")
	}
	r.Restart()
	failed(t, r.Recover(j), "nobody answers")
}

// TestSourceThatHasFailed is opened again at what is committed, even if brokers are away just then, and a second time.
func TestSourceThatHasFailed(t *testing.T) {
	outage := fault.New(fault.Environment, "not-there", "nobody answers")
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{}
	for n := range 20 {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(fmt.Sprintf("%02d", n))})
	}
	var mu sync.Mutex
	opens := 0
	src.OnOpen = func(_ context.Context, n int) error {
		mu.Lock()
		defer mu.Unlock()
		opens++
		if n == 1 {
			return outage
		}
		return nil
	}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 5 || n == 11 {
			return outage
		}
		return nil
	}
	sink := p.Write("out", p.Read("in", src, "bytes"))
	r.Run(p, nil)
	var all []string
	for n := range 20 {
		all = append(all, fmt.Sprintf("%02d", n))
	}
	want(t, sink, all...)
	mu.Lock()
	defer mu.Unlock()
	if opens != 4 {
		t.Errorf("opened %d times", opens)
	}
}

// TestOutageIsDescribed: while a sink waits for the outside, the job's description says for what.
func TestOutageIsDescribed(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	back := make(chan struct{})
	out := &enginetest.Sink{OnPublish: func(int) error {
		select {
		case <-back:
			return nil
		default:
			return fault.New(fault.Environment, "not-there", "nobody answers")
		}
	}}
	p.WriteTo("Write totals", out, p.Read("in", bounded(texts("a", "b")), "bytes"))
	j := r.Start(p, nil)
	waiting := func() string {
		d, err := j.Running.Describe(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Stages {
			if s.Name == "Write totals" {
				return s.Waiting
			}
		}
		return ""
	}
	for !strings.Contains(waiting(), "nobody answers") {
		time.Sleep(time.Millisecond)
	}
	close(back)
	j.End(jobpb.JobState_DONE)
	if why := waiting(); why != "" {
		t.Errorf("it still waits: %s", why)
	}
	want(t, out, "a", "b")
}
