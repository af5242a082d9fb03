package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// twoProcesses asks for two harness processes.
func twoProcesses() enginetest.Options { return enginetest.Options{"sdk_worker_parallelism": 2} }

// eager makes the engine look at the progress of bundles often, and split them when they have a moment to go.
func eager(c *engine.Config) {
	c.ProgressEvery = 10 * time.Millisecond
	c.Scheduler.SplitLeftMs = 1
}

// gate holds up a slow bundle until the other half of its work is seen somewhere else, which a split alone can bring about.
type gate struct {
	at, far int64         // held up at the one, the other half begins at the other
	begun   chan struct{} // closed when the bundle is held up
	open    chan struct{}
	hold    func()
	pass    func()
}

func newGate(t *testing.T, at, far int64) *gate {
	g := &gate{at: at, far: far, begun: make(chan struct{}), open: make(chan struct{})}
	g.hold = sync.OnceFunc(func() { close(g.begun) })
	g.pass = sync.OnceFunc(func() { close(g.open) })
	t.Cleanup(g.pass)
	return g
}

func (g *gate) claim(n int64) {
	if n >= g.far {
		g.pass()
	}
	if n == g.at {
		g.hold()
		<-g.open
	}
}

// slowly passes elements on, held up by the gate.
func (g *gate) slowly(c *fakesdk.Context, e fakesdk.Element) error {
	c.Count("tried", 1)
	var n int64
	fmt.Sscan(string(fakesdk.Bytes(e.Value)), &n)
	g.claim(n)
	return c.Emit("", e)
}

// splits is how many bundles of the stage with the transform were split.
func splits(t *testing.T, j *enginetest.Job, transform string) int64 {
	t.Helper()
	d, err := j.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, s := range d.Stages {
		if slices.Contains(s.Transforms, transform) {
			n += s.Splits
		}
	}
	return n
}

func wantSplit(t *testing.T, j *enginetest.Job, transform string) {
	t.Helper()
	if splits(t, j, transform) == 0 {
		t.Errorf("no bundle of %q was split", transform)
	}
}

// numberTexts are so many elements "0", "1", …
func numberTexts(n int) []enginetest.Element { return texts(countTo(n)...) }

func countTo(n int) []string {
	words := make([]string, n)
	for i := range words {
		words[i] = fmt.Sprint(i)
	}
	return words
}

// TestInitialSplitsSpread has two restrictions, of one message, the first of which waits for the second: they run at once, on two processes.
func TestInitialSplitsSpread(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.ProgressEvery = time.Hour }) // nothing is split
	r.Harnesses.OnClaim = newGate(t, 10, 50).claim
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("two", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 100, Pieces: 2}),
	}))
	r.Run(p, twoProcesses())
	want(t, out, offsets("a", 0, 100)...)
}

// TestHotRestriction has one restriction that would never end if nobody else took its second half.
func TestHotRestriction(t *testing.T) {
	for name, sdf := range map[string]fakesdk.Ranges{
		"alone":        {To: 100},
		"checkpointed": {To: 100, Checkpoint: 60},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, eager)
			r.Harnesses.OnClaim = newGate(t, 10, 50).claim
			p := r.Pipeline()
			out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{Splittable: true, Fn: ranges(sdf)}))
			j := r.Run(p, twoProcesses())
			want(t, out, offsets("a", 0, 100)...)
			wantSplit(t, j, "hot")
			messages := j.Messages(jobpb.JobMessage_JOB_MESSAGE_DETAILED)
			if !slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, `split a bundle of "hot"`) }) {
				t.Errorf("no message tells of the split: %q", messages)
			}
		})
	}
}

// TestHotBundle splits a bundle of elements, within a block and between blocks.
func TestHotBundle(t *testing.T) {
	for _, batches := range []int{1, 10} {
		t.Run(fmt.Sprint(batches), func(t *testing.T) {
			r := newRig(t, eager)
			src := &enginetest.Source{}
			all := numberTexts(100)
			for i := range batches {
				src.Batches = append(src.Batches, enginetest.Batch{Elements: all[100*i/batches : 100*(i+1)/batches]})
			}
			p := r.Pipeline()
			out := p.Write("out", p.Map("slow", p.Read("in", src, "bytes"), "bytes", newGate(t, 7, 70).slowly))
			j := r.Run(p, twoProcesses())
			want(t, out, countTo(100)...)
			if batches == 1 {
				wantSplit(t, j, "slow")
			}
			if n := j.Counter("slow", "tried"); n != 100 {
				t.Errorf("%d elements were counted", n)
			}
		})
	}
}

// TestSplitPrimaryFails breaks the harness of a bundle that has been split, after the rest has been seen elsewhere: the bundle runs
// again, with its own part only.
func TestSplitPrimaryFails(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 7, 50)
	broken := sync.OnceFunc(func() { r.Harnesses.Break(0) })
	r.Harnesses.OnClaim = func(n int64) {
		g.claim(n)
		if n == g.at {
			broken()
		}
	}
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 100}),
	}))
	j := r.Run(p, twoProcesses())
	want(t, out, offsets("a", 0, 100)...)
	wantSplit(t, j, "hot")
}

// TestSplitResidualFails breaks the harness of the rest.
func TestSplitResidualFails(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 7, 90)
	broken := sync.OnceFunc(func() { r.Harnesses.Break(1) })
	p := r.Pipeline()
	out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(100)), "bytes"), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		if string(fakesdk.Bytes(e.Value)) == "80" {
			broken()
		}
		return g.slowly(c, e)
	}))
	r.Run(p, twoProcesses())
	want(t, out, countTo(100)...)
}

// TestSplitToSuccessor has another process come in the place of the one that is held up, which ends when its bundle has. Had the new one
// nothing to do until then, it would never end.
func TestSplitToSuccessor(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 7, 70)
	p := r.Pipeline()
	out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(100)), "bytes"), "bytes", g.slowly))
	j := r.Start(p, nil)
	<-g.begun
	if err := r.Harnesses.Replace(0); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DONE)
	want(t, out, countTo(100)...)
	wantSplit(t, j, "slow")
}

// TestSplitToReturned loses a process with a bundle, which the other one has then. When there is a process in its place again, that gets a
// part. So that nothing is split before, the other one is not there at first either.
func TestSplitToReturned(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 7, 70)
	var losses, times atomic.Int64
	begun, rerun := make(chan struct{}), make(chan struct{})
	lost := map[int64]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
	back := map[int64]chan struct{}{1: make(chan struct{}), 2: rerun}
	r.Harnesses.OnBack = func(ctx context.Context) {
		n := losses.Add(1)
		close(lost[n])
		select {
		case <-back[n]:
		case <-ctx.Done():
		}
	}
	p := r.Pipeline()
	src := bounded(numberTexts(100))
	src.Batches[0].Gate = lost[1]
	out := p.Write("out", p.Map("slow", p.Read("in", src, "bytes"), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		if string(fakesdk.Bytes(e.Value)) == "7" {
			switch times.Add(1) {
			case 1:
				close(begun)
				<-rerun
				return errors.New("its process was lost")
			case 2:
				close(rerun)
			}
		}
		return g.slowly(c, e)
	}))
	j := r.Start(p, twoProcesses())
	for losses.Load() == 0 {
		r.Harnesses.Break(1) // it may have yet to come
		time.Sleep(time.Millisecond)
	}
	<-begun
	r.Harnesses.Break(0)
	<-lost[2]
	close(back[1])
	j.End(jobpb.JobState_DONE)
	want(t, out, countTo(100)...)
	messages := j.Messages(jobpb.JobMessage_JOB_MESSAGE_DETAILED)
	if !slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, "harness process 0 had room") }) {
		t.Errorf("no message tells of a split for the process that is back: %q", messages)
	}
}

// TestLateAnswerToSplit has the answer to a split come after that of the bundle, which was held up until it had been made: what was given up
// is in the answer alone.
func TestLateAnswerToSplit(t *testing.T) {
	for name, sdf := range map[string]fakesdk.Ranges{
		"divided":      {To: 100},
		"checkpointed": {To: 100, Unbounded: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, eager)
			g := newGate(t, 10, 1000)
			r.Harnesses.OnClaim, r.Harnesses.OnLateSplit = g.claim, g.pass
			p := r.Pipeline()
			out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
				Splittable: true, Unbounded: sdf.Unbounded, Fn: ranges(sdf),
			}))
			r.Run(p, twoProcesses())
			want(t, out, offsets("a", 0, 100)...)
		})
	}
}

// TestCrashWithSplitInFlight crashes while both halves of a bundle are in flight, with all, some or nothing of what the log had not synced.
func TestCrashWithSplitInFlight(t *testing.T) {
	for _, kept := range []int{0, 50, 100} {
		t.Run(fmt.Sprint(kept), func(t *testing.T) {
			disk := storetest.NewDisk()
			r := newRig(t, func(c *engine.Config) { eager(c); c.FS = disk })
			var crashed *storetest.Disk
			crash := sync.OnceFunc(func() { crashed = disk.Crashed(kept, rand.New(rand.NewPCG(1, uint64(kept)))) })
			g := newGate(t, 7, 90)
			p := r.Pipeline()
			out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(100)), "bytes"), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
				if string(fakesdk.Bytes(e.Value)) == "80" { // the second half runs, while the first is held up
					crash()
				}
				return g.slowly(c, e)
			}))
			j := r.Run(p, twoProcesses())
			want(t, out, countTo(100)...)
			wantSplit(t, j, "slow")
			out.Reset(nil)
			r.Crash(j, crashed)
			r.Recover(j).End(jobpb.JobState_DONE)
			want(t, out, countTo(100)...)
		})
	}
}

// TestSplitWhileDraining splits what is left of a restriction when the job drains: truncated restrictions are bounded.
func TestSplitWhileDraining(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 15, 60)
	begun, drained := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	r.Harnesses.OnClaim = func(n int64) {
		if n == 10 {
			begin()
			<-drained
		}
		g.claim(n)
	}
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}}}
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("hot", p.Read("in", src, "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 100, Checkpoint: 11}), // ends the bundle that does not truncate
	}))
	j := r.Start(p, twoProcesses())
	<-begun
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	close(drained)
	j.End(jobpb.JobState_DRAINED)
	want(t, out, offsets("a", 0, 100)...)
	wantSplit(t, j, "hot")
}

// attempted returns the attempted sum of a user counter.
func attempted(t *testing.T, j *enginetest.Job, transform, name string) int64 {
	t.Helper()
	m, err := j.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return enginetest.Sum(m.GetAttempted(), transform, name)
}

// TestAttemptedMetrics looks at the metrics of a bundle while it runs, and after its first attempt has failed.
func TestAttemptedMetrics(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 7, 1000)
	p := r.Pipeline()
	out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(10)), "bytes"), "bytes", g.slowly))
	j := r.Start(p, nil)
	await(t, func() bool { return attempted(t, j, "slow", "tried") == 8 })
	if n := j.Counter("slow", "tried"); n != 0 {
		t.Errorf("%d are committed before the bundle is", n)
	}
	r.Harnesses.Break(0)
	g.pass() // no harness comes before the old one's DoFn has ended
	j.End(jobpb.JobState_DONE)
	want(t, out, countTo(10)...)
	if n := j.Counter("slow", "tried"); n != 10 {
		t.Errorf("%d are committed, not 10", n)
	}
	if n := attempted(t, j, "slow", "tried"); n != 18 {
		t.Errorf("%d were attempted, not the 8 of the first attempt and the 10 of the second", n)
	}
}

// await waits for what has no event to wait for.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(enginetest.Patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what is awaited does not come")
		}
	}
}
