package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
	"padstone/jobserver"
)

// stopwatch is a clock that goes on only where a test has time pass.
type stopwatch struct{ ns atomic.Int64 }

func newStopwatch(c *engine.Config) *stopwatch {
	s := &stopwatch{}
	s.pass(time.Hour)
	c.Stopwatch = func() time.Duration { return time.Duration(s.ns.Load()) }
	return s
}

func (s *stopwatch) pass(d time.Duration) { s.ns.Add(int64(d)) }

// spentOf writes what of a stage's time went where: parts that are not nothing, in milliseconds.
func spentOf(p *jobserver.ProfileDescription) string {
	var out []string
	for _, part := range p.Parts {
		if part.Seconds != 0 {
			out = append(out, fmt.Sprintf("%s/%s=%g", part.Group, part.Part, part.Seconds*1000))
		}
	}
	return strings.Join(out, " ")
}

// waitsOf writes waits that are not nothing.
func waitsOf(p *jobserver.ProfileDescription) string {
	var out []string
	for _, w := range []struct {
		name string
		jobserver.Waits
	}{{"inbox", p.Inbox}, {"durable", p.Durable}, {"written", p.Written}, {"again", p.Again}} {
		if w.Seconds != 0 {
			out = append(out, fmt.Sprintf("%s=%g/%d", w.name, w.Seconds*1000, w.Count))
		}
	}
	return strings.Join(out, " ")
}

// finishing is a DoFn that passes everything on, and does something when the harness has all of its input.
func finishing(fn func() error) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) },
			Finish:  func(*fakesdk.Context) error { return fn() },
		}
	}
}

// TestProfileAttribution has time pass at one place at a time, on a clock that does not go on by itself: all of it is found there, and
// nothing anywhere else.
func TestProfileAttribution(t *testing.T) {
	const some = 30 * time.Millisecond
	for _, c := range []struct {
		name       string
		durability store.Durability
		at         string
		spent      string // of the step
		waits      string
		sink, sunk string // likewise, of the sink
	}{
		{name: "harness", at: "finish", spent: "harness/harness=30"},
		{name: "store", at: "commit", durability: store.Sync, spent: "store/commit=30"},
		{name: "inbox", at: "start", waits: "inbox=30/1"},
		{name: "durable", at: "sync", sunk: "durable=30/1"},
		{name: "outside", at: "publish", sunk: "written=30/1"},
		{name: "failure", at: "fail", waits: "inbox=30/2 again=30/1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := storetest.NewDisk()
			var clock *stopwatch
			r := newRig(t, func(cfg *engine.Config) {
				clock = newStopwatch(cfg)
				cfg.FS, cfg.Durability = disk, c.durability
			})
			var armed atomic.Bool // time passes at the next sync of the log
			disk.Watch = func(op storetest.Op) error {
				if op.Change == storetest.Sync && op.File == "log" && armed.CompareAndSwap(true, false) {
					clock.pass(some)
				}
				return nil
			}
			ready := make(chan struct{})
			r.Harnesses.OnStart = func(ctx context.Context) error {
				select {
				case <-ready:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			failed := false
			p := r.Pipeline()
			step := p.ParDo("step", p.Impulse("impulse"), enginetest.ParDo{Out: "bytes", Fn: finishing(func() error {
				switch c.at {
				case "finish":
					clock.pass(some)
				case "commit", "sync":
					armed.Store(true)
				case "fail":
					if !failed {
						failed = true
						clock.pass(some)
						return errors.New("once")
					}
				}
				return nil
			})})
			out := p.Write("out", step)
			out.OnPublish = func(int) error {
				if c.at == "publish" {
					clock.pass(some)
				}
				return nil
			}
			j := r.Start(p, nil)
			j.AwaitOutput("impulse", 1)
			if c.at == "start" {
				clock.pass(some)
			}
			close(ready)
			j.End(jobpb.JobState_DONE)
			for transform, want := range map[string][2]string{"step": {c.spent, c.waits}, "out": {c.sink, c.sunk}, "impulse": {}} {
				pr := stage(t, r, j, transform).Profile
				if got := [2]string{spentOf(pr), waitsOf(pr)}; got != want {
					t.Errorf("%s: %q, not %q", transform, got, want)
				}
				if pr.Bundles != 1 {
					t.Errorf("%s: %d bundles", transform, pr.Bundles)
				}
				adds(t, transform, pr)
			}
		})
	}
}

// adds holds that the parts of a profile are its whole.
func adds(t *testing.T, name string, p *jobserver.ProfileDescription) {
	t.Helper()
	sum := 0.0
	for _, part := range p.Parts {
		sum += part.Seconds
		if part.Seconds < 0 {
			t.Errorf("%s: %s is %g s", name, part.Part, part.Seconds)
		}
	}
	if math.Abs(sum-p.Seconds) > 1e-9 {
		t.Errorf("%s: the parts are %g s of %g", name, sum, p.Seconds)
	}
	// Bundles are rounded down to a microsecond each.
	if ms := p.Seconds * 1000; p.Millis.Sum > ms+1e-6 || p.Millis.Sum < ms-float64(p.Bundles)/1000-1e-6 {
		t.Errorf("%s: bundles took %g ms together, the parts %g", name, p.Millis.Sum, ms)
	}
	if n := p.Millis.Counts; n[len(n)-1] != p.Bundles {
		t.Errorf("%s: %v of %d bundles", name, n, p.Bundles)
	}
}

// TestProfileOfAJob runs a job with all kinds of stages on the machine's clock: every stage's parts add up to the time of its bundles.
func TestProfileOfAJob(t *testing.T) {
	r := newRig(t, nil)
	l := newLedger(r, 10)
	l.job = r.Start(l.pipeline(), nil)
	for _, name := range []string{"write items", "write totals", "write groups"} {
		l.job.AwaitWatermark(name, 1_000_000)
	}
	l.job.AwaitIdle()
	if err := l.job.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	l.job.End(jobpb.JobState_DRAINED)
	d, err := l.job.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]bool)
	for _, s := range d.Stages {
		adds(t, s.Name, s.Profile)
		if s.Profile.Bundles == 0 || s.Profile.Seconds <= 0 {
			t.Errorf("%s: %+v", s.Name, s.Profile)
		}
		if n := int64(s.Profile.Elements.Sum); s.Kind == "harness" && n != s.ElementsIn {
			t.Errorf("%s: %d elements of %d", s.Name, n, s.ElementsIn)
		}
		kinds[s.Kind] = true
	}
	if len(kinds) < 4 {
		t.Errorf("stages of the kinds %v only", kinds)
	}
}

// TestProfileSDK: what the SDK says of its own time is shown by the user's names, of this life of the server alone.
func TestProfileSDK(t *testing.T) {
	r := newRig(t, nil)
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b")}}}
	gate := make(chan struct{})
	src.Batches[1].Gate = gate
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("step", p.Read("in", src, "bytes"), enginetest.ParDo{Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			c.Took(7)
			return c.Emit("", e)
		}}
	}}))
	j := r.Start(p, nil)
	check := func(elements int) {
		t.Helper()
		awaitTexts(t, r, out, elements)
		got := stage(t, r, j, "step").Profile.SDK
		if len(got) != 1 || got[0] != (jobserver.SDKTime{Transform: "step", ProcessMillis: 7}) {
			t.Errorf("%+v", got)
		}
	}
	check(1)
	r.Restart()
	j = r.Recover(j)
	close(gate)
	check(2)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
}
