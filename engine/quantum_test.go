package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// longOpen has bundles be kept open for longer than a test takes: what closes them is something else.
func longOpen(c *engine.Config) {
	s := &c.Scheduler
	s.BundleFixedMs, s.BundleTimeMaxMs, s.BundleIdleMaxMs, s.LatencyBudgetMs = 1e9, 3_600_000, 3_600_000, 36_000_000
}

// dialogue is a source whose next element comes when the one before has been processed: by a bundle that is still open, if bundles are.
type dialogue struct {
	source *enginetest.Source
	gates  map[string]func() // by element: opens what comes behind it
	seen   map[string]chan struct{}

	mu struct {
		sync.Mutex
		bundles int
		in      map[int][]string // by bundle
	}
}

// start starts a job that writes what comes of the dialogue through one step.
func (s *dialogue) start(r *enginetest.Rig, options enginetest.Options) (*enginetest.Job, *enginetest.Sink) {
	p := r.Pipeline()
	sink := &enginetest.Sink{}
	p.WriteTo("out", sink, p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{Fn: s.fn(nil)}))
	return r.Start(p, options), sink
}

// newDialogue makes one of values of coder bytes, or of key=value.
func newDialogue(elements func(string) []enginetest.Element, values ...string) *dialogue {
	s := &dialogue{source: &enginetest.Source{Unbounded: true, Ends: true}, gates: map[string]func(){}, seen: map[string]chan struct{}{}}
	s.mu.in = map[int][]string{}
	var gate chan struct{}
	for _, v := range values {
		s.source.Batches = append(s.source.Batches, enginetest.Batch{Elements: elements(v), Gate: gate})
		next := make(chan struct{})
		gate = next
		s.gates[v] = sync.OnceFunc(func() { close(next) })
		s.seen[v] = gate
	}
	s.source.Batches = append(s.source.Batches, enginetest.Batch{Gate: gate}) // the end comes after the last one
	return s
}

func one(v string) []enginetest.Element { return texts(v) }

// stays has the source never end: only what the test does ends the bundle.
func (s *dialogue) stays() {
	s.source.Ends = false
}

// fn is a DoFn that notes what it processes in which bundle. next is what else it does with an element; it may be nil.
func (s *dialogue) fn(next func(c *fakesdk.Context, v string) error) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		n := 0
		return fakesdk.DoFn{
			Start: func(*fakesdk.Context) error {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.mu.bundles++
				n = s.mu.bundles
				return nil
			},
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				v := string(fakesdk.Bytes(e.Value))
				s.mu.Lock()
				s.mu.in[n] = append(s.mu.in[n], v)
				s.mu.Unlock()
				if next != nil {
					if err := next(c, v); err != nil {
						return err
					}
				}
				if err := c.Emit("", e); err != nil {
					return err
				}
				s.gates[v]()
				return nil
			},
		}
	}
}

// wantIn checks what the first bundle has processed.
func (s *dialogue) wantIn(t *testing.T, bundle int, values ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := fmt.Sprint(s.mu.in[bundle]); got != fmt.Sprint(values) {
		t.Errorf("bundle %d has processed %s, not %v; all: %v", bundle, got, values, s.mu.in)
	}
}

// TestOpenBundleTakesWhatComes: a bundle takes elements that the source puts out only once it has processed the ones before. It is closed
// when there is nothing more to come.
func TestOpenBundleTakesWhatComes(t *testing.T) {
	r := newRig(t, longOpen)
	s := newDialogue(one, "a", "b", "c")
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{Fn: s.fn(nil)}))
	j := r.Run(p, nil)
	want(t, out, "a", "b", "c")
	s.wantIn(t, 1, "a", "b", "c")
	if n := stageOf(t, j, "work").ElementsIn; n != 3 {
		t.Errorf("%d elements in, not 3", n)
	}
}

// arrive waits until the sink has so many elements.
func arrive(t *testing.T, r *enginetest.Rig, s *enginetest.Sink, n int) {
	t.Helper()
	if err := s.Await(r.Context(), func(texts []string) bool { return len(texts) == n }); err != nil {
		t.Fatalf("%v; the sink has %q", err, s.Texts())
	}
}

// TestOpenBundleOfKeys: an open bundle of a stateful DoFn takes what comes for its keys, and for keys that nobody has; state is read and
// written as if all had been there from the beginning.
func TestOpenBundleOfKeys(t *testing.T) {
	r := newRig(t, longOpen)
	gates := make([]chan struct{}, 4)
	src := &enginetest.Source{Unbounded: true, Ends: true}
	for i, e := range []string{"a=0@0", "b=1@1", "a=2@2", "c=3@3", ""} {
		b := enginetest.Batch{}
		if i > 0 {
			gates[i-1] = make(chan struct{})
			b.Gate = gates[i-1]
		}
		if e != "" {
			b.Elements = pairs(e)
		}
		src.Batches = append(src.Batches, b)
	}
	var mu sync.Mutex
	bundles, seen := 0, 0
	fn := func() fakesdk.DoFn {
		d := running()
		process := d.Process
		d.Start = func(*fakesdk.Context) error {
			mu.Lock()
			defer mu.Unlock()
			bundles++
			return nil
		}
		d.Process = func(c *fakesdk.Context, e fakesdk.Element) error {
			if err := process(c, e); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			close(gates[seen])
			seen++
			return nil
		}
		return d
	}
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("state", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{Bags: []string{"seen"}, Fn: fn}))
	r.Run(p, nil)
	want(t, out, "a=1 0", "b=1 1", "a=2 2", "c=1 3")
	if bundles != 1 {
		t.Errorf("%d bundles, not one", bundles)
	}
}

// TestOpenBundleFails: whatever happens to an open bundle, all that it has taken runs again, and counts once.
func TestOpenBundleFails(t *testing.T) {
	for name, fails := range map[string]func(r *enginetest.Rig) error{
		"user code":    func(*enginetest.Rig) error { return errors.New("Traceback (most recent call last): not now") },
		"lost harness": func(r *enginetest.Rig) error { r.Harnesses.Break(0); return nil },
	} {
		for _, options := range []enginetest.Options{nil, twoProcesses()} {
			t.Run(fmt.Sprint(name, " ", options), func(t *testing.T) {
				r := newRig(t, longOpen)
				s := newDialogue(one, "a", "b", "c")
				tries := 0 // of c: one at a time
				p := r.Pipeline()
				out := p.Write("out", p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{
					Fn: s.fn(func(c *fakesdk.Context, v string) error {
						if v != "c" {
							return nil
						}
						if tries++; tries > 1 {
							return nil
						}
						if err := fails(r); err != nil {
							return err
						}
						<-c.Done()
						return context.Canceled
					}),
				}))
				r.Run(p, options)
				want(t, out, "a", "b", "c")
				s.wantIn(t, 1, "a", "b", "c")
			})
		}
	}
}

// TestLostHarnessWhileOpen breaks the harness of an open bundle that has nothing to do: it must not wait for more for ever.
func TestLostHarnessWhileOpen(t *testing.T) {
	r := newRig(t, longOpen)
	s := newDialogue(one, "a", "b")
	s.stays()
	j, sink := s.start(r, nil)
	<-s.seen["b"]
	r.Harnesses.Break(0)
	arrive(t, r, sink, 2) // what has failed is not kept open
	s.wantIn(t, 1, "a", "b")
	if err := j.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
}

// TestOpenBundleIsClosed: what ends a job, or holds it up, does not wait for an open bundle.
func TestOpenBundleIsClosed(t *testing.T) {
	for _, c := range []struct {
		name  string
		by    func(t *testing.T, r *enginetest.Rig, j *enginetest.Job)
		state jobpb.JobState_Enum
		out   []string
	}{
		{"drain", func(t *testing.T, _ *enginetest.Rig, j *enginetest.Job) {
			if err := j.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, jobpb.JobState_DRAINED, []string{"a", "b"}},
		{"cancel", func(t *testing.T, _ *enginetest.Rig, j *enginetest.Job) {
			if err := j.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, jobpb.JobState_CANCELLED, nil},
		{"stop", func(t *testing.T, _ *enginetest.Rig, j *enginetest.Job) {
			if _, err := j.Stop(t.TempDir()); err != nil {
				t.Fatal(err)
			}
		}, jobpb.JobState_UPDATED, []string{"a", "b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, longOpen)
			s := newDialogue(one, "a", "b")
			s.stays()
			p := r.Pipeline()
			out := p.Write("out", p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{Fn: s.fn(nil)}))
			j := r.Start(p, nil)
			<-s.seen["b"]
			c.by(t, r, j)
			j.End(c.state)
			want(t, out, c.out...)
			s.wantIn(t, 1, "a", "b")
		})
	}
}

// TestRestartWithOpenBundle: what an open bundle has taken is not consumed before it is committed.
func TestRestartWithOpenBundle(t *testing.T) {
	r := newRig(t, longOpen)
	s := newDialogue(one, "a", "b")
	s.stays()
	j, sink := s.start(r, nil)
	<-s.seen["b"]
	r.Restart()
	if got := sink.Texts(); len(got) > 0 {
		t.Errorf("the sink has %q of a bundle that was not committed", got)
	}
	s.source.Ends = true
	j = r.Recover(j)
	j.End(jobpb.JobState_DONE)
	want(t, sink, "a", "b")
}

// TestOpenBundleAnsweredEarly has a harness answer before it has been told that its input is complete: nothing may be lost.
func TestOpenBundleAnsweredEarly(t *testing.T) {
	r := newRig(t, longOpen)
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if n == 0 {
			return fakesdk.AnswerEarly
		}
		return fakesdk.NoFault
	}
	s := newDialogue(one, "a", "b")
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{Fn: s.fn(nil)}))
	r.Run(p, nil)
	want(t, out, "a", "b")
}

// TestStandingClock keeps no bundle open where time stands still.
func TestStandingClock(t *testing.T) {
	r := newRig(t, func(c *engine.Config) {
		c.Scheduler.BundleFixedMs, c.Scheduler.LatencyBudgetMs = 1e9, 1000
		c.Now, c.Elapsed = func() element.Time { return 1000 }, nil
	})
	s := newDialogue(one, "a", "b")
	s.stays()
	j, sink := s.start(r, nil)
	arrive(t, r, sink, 2)
	if err := j.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
}

// TestBundleBoundsOfUsers: a bundle of one element is never kept open, and one that has been open for as long as the user lets it is closed
// although its source goes on.
func TestBundleBoundsOfUsers(t *testing.T) {
	t.Run("max_bundle_size", func(t *testing.T) {
		r := newRig(t, longOpen)
		s := newDialogue(one, "a", "b", "c")
		p := r.Pipeline()
		out := p.Write("out", p.ParDo("work", p.Read("in", s.source, "bytes"), enginetest.ParDo{Fn: s.fn(nil)}))
		r.Run(p, enginetest.Options{"max_bundle_size": 1})
		want(t, out, "a", "b", "c")
		s.wantIn(t, 1, "a")
		s.wantIn(t, 2, "b")
	})
	t.Run("max_bundle_time_mills", func(t *testing.T) {
		r := newRig(t, longOpen)
		s := newDialogue(one, "a")
		s.stays()
		j, sink := s.start(r, enginetest.Options{"max_bundle_time_mills": 20})
		<-s.seen["a"]
		began := time.Now()
		arrive(t, r, sink, 1)
		t.Logf("%v later", time.Since(began))
		if err := j.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		j.End(jobpb.JobState_CANCELLED)
	})
}
