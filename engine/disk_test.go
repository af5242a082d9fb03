package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
)

// awaitStill waits until the job stands still, and returns why it says it does.
func awaitStill(t *testing.T, r *enginetest.Rig, j *enginetest.Job) string {
	t.Helper()
	return awaitWaiting(t, r, j, func(why string) bool { return why != "" })
}

// awaitWaiting waits until the job as a whole waits for what is wanted.
func awaitWaiting(t *testing.T, r *enginetest.Rig, j *enginetest.Job, wanted func(why string) bool) string {
	t.Helper()
	last := ""
	for ctx := r.Context(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		d, err := j.Describe(ctx)
		if err != nil {
			break
		}
		if last = d.Waiting; wanted(last) {
			return last
		}
	}
	t.Fatalf("the job waits for %q; states %v", last, j.States())
	return ""
}

// TestLedgerDiskFails has the disk of a job fail at random moments, for a while: it stands still and says so, and then goes on. Sinks
// keep a mark, so that everything must come exactly once.
func TestLedgerDiskFails(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 28))
			disk := storetest.NewDisk()
			l := newLedger(newRig(t, func(c *engine.Config) { c.FS = disk }), 80)
			var armed atomic.Bool // input comes only while a failure is on its way, lest none is left when the next one is
			l.source.OnPoll = func(ctx context.Context, _ int) error {
				for time.Sleep(3 * time.Millisecond); !armed.Load() && ctx.Err() == nil; time.Sleep(time.Millisecond) {
				}
				return ctx.Err()
			}
			p := l.pipeline()
			for _, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
				s.Marked = true
			}
			l.job = l.rig.Start(p, nil)
			for range 3 {
				why, text := error(syscall.ENOSPC), "disk-full"
				if rng.IntN(2) == 0 {
					why, text = syscall.EIO, "store-write"
				}
				disk.FailAfter(rng.IntN(20), why)
				armed.Store(true)
				if still := awaitStill(t, l.rig, l.job); !strings.Contains(still, text) {
					t.Errorf("with %v it says %q", why, still)
				}
				armed.Store(false)
				disk.Heal()
				awaitWaiting(t, l.rig, l.job, func(why string) bool { return why == "" })
				if _, err := l.job.Metrics(l.rig.Context()); err != nil {
					t.Error(err)
				}
			}
			armed.Store(true)
			if states := l.job.States(); l.job.Last() != jobpb.JobState_RUNNING || len(states) > 5 {
				t.Errorf("states %v", states)
			}
			for _, text := range []string{"stands still", "disk"} {
				if !strings.Contains(strings.Join(l.job.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), "\n"), text) {
					t.Errorf("no message says %q", text)
				}
			}
			l.finish(t)
			for i, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
				if all, once := len(s.Texts()), len(s.Distinct()); all != once {
					t.Errorf("sink %d has taken %d texts, %d of them different", i, all, once)
				}
			}
		})
	}
}

// stuck starts a streaming job whose disk is full.
func stuck(t *testing.T) (*enginetest.Rig, *enginetest.Job, *storetest.Disk, *enginetest.Sink) {
	t.Helper()
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{
		{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}, {Elements: texts("c")},
	}}
	out := p.Write("out", p.Read("in", src, "bytes"))
	out.Marked = true
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 1 }); err != nil {
		t.Fatal(err)
	}
	disk.FailAfter(0, syscall.ENOSPC)
	close(gate)
	awaitStill(t, r, j)
	return r, j, disk, out
}

// TestCancelOnFullDisk cancels a job that has filled its disk: that works, gives the room back, and is not forgotten.
func TestCancelOnFullDisk(t *testing.T) {
	r, j, disk, _ := stuck(t)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
	if names, err := disk.List(j.StoreDir()); err == nil {
		t.Errorf("the store is still there: %q", names)
	}
	r.Restart()
	r.Recover(j).End(jobpb.JobState_CANCELLED)
}

// TestDrainOnFullDisk drains a job whose disk is full: it does so when there is room.
func TestDrainOnFullDisk(t *testing.T) {
	r, j, disk, out := stuck(t)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	disk.Heal()
	j.End(jobpb.JobState_DRAINED)
	if got := out.Texts(); len(got) == 0 || got[0] != "a" || len(got) != len(out.Distinct()) {
		t.Errorf("the sink has %q", got)
	}
}

// TestSuspendOnFullDisk stops the server while the disk is full, and starts it before and after there is room.
func TestSuspendOnFullDisk(t *testing.T) {
	r, j, disk, out := stuck(t)
	r.Restart()
	j = r.Recover(j)
	if why := awaitStill(t, r, j); !strings.Contains(why, "disk-full") {
		t.Errorf("it says %q", why)
	}
	if m, err := j.Metrics(r.Context()); err != nil || m == nil {
		t.Errorf("metrics %v, %v", m, err)
	}
	r.Restart() // nothing but waiting has been going on
	disk.Heal()
	r.Recover(j).End(jobpb.JobState_DONE)
	want(t, out, "a", "b", "c")
}

// TestNewJobOnFullDisk is refused: its user is there.
func TestNewJobOnFullDisk(t *testing.T) {
	disk := storetest.NewDisk()
	disk.FailAfter(0, syscall.ENOSPC)
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(texts("a")), "bytes"))
	_, err := r.Submit(p, nil)
	if f := fault.Of(err); f == nil || f.Code != "disk-full" || f.Hint == "" {
		t.Errorf("refused with %v", err)
	}
}

// TestDamagedStore finds a job's store damaged, while it runs and when it is taken up: the job fails by name, what is left of its
// store is kept, and another job is none the worse.
func TestDamagedStore(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	var jobs [2]*enginetest.Job
	var sinks [2]*enginetest.Sink
	for i := range jobs {
		p := r.Pipeline()
		src := &enginetest.Source{Unbounded: true, Ends: true}
		gate := make(chan struct{})
		for n := range 40 {
			src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(strings.Repeat(fmt.Sprint(n%10), 1000))})
		}
		src.Batches = append(src.Batches, enginetest.Batch{Gate: gate})
		p.Write("groups out", p.GroupByKey("group", p.Map(fmt.Sprint("ones ", i), p.Read("in", src, "bytes"), "kv(bytes,varint)", oneByOne)))
		sinks[i] = p.Write("out", p.Read("other in", bounded(texts("x")), "bytes"))
		jobs[i] = r.Start(p, nil)
		jobs[i].AwaitOutput("in", 40)
		t.Cleanup(func() { close(gate) })
	}
	r.Restart()
	damaged, err := disk.Damage(jobs[0].StoreDir(), func(name string, size int64) (int64, bool) {
		return size / 2, filepath.Ext(name) == ".sst" || strings.HasPrefix(name, "MANIFEST") || filepath.Ext(name) == ".log"
	})
	if err != nil || damaged < 2 {
		t.Fatal(damaged, err)
	}
	next, err := r.Engine.Recover(r.Context(), jobs[0].Spec, jobs[0].Recorder)
	if err == nil {
		if werr := next.Wait(r.Context()); werr != nil {
			t.Fatal(werr)
		}
		err = errors.New(strings.Join(jobs[0].Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR), "\n"))
	}
	if !strings.Contains(err.Error(), "store-corrupt") || !strings.Contains(err.Error(), "hint") {
		t.Errorf("the damage is told as %v", err)
	}
	if names, err := disk.List(jobs[0].StoreDir()); err != nil || len(names) < damaged {
		t.Errorf("what is left of the store is not kept: %q, %v", names, err)
	}
	other := r.Recover(jobs[1])
	other.AwaitOutput("in", 0)
	if err := other.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	other.End(jobpb.JobState_CANCELLED)
}

// waiting starts a job that has written its first element and waits for the next one.
func waiting(t *testing.T) (*enginetest.Rig, *enginetest.Job, *storetest.Disk, *enginetest.Source) {
	t.Helper()
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}}}
	out := p.Write("out", p.Read("in", src, "bytes"))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 1 }); err != nil {
		t.Fatal(err)
	}
	return r, j, disk, src
}

// TestCancelledJobDoesNotComeBack loses everything but the disk right after the answer to Cancel.
func TestCancelledJobDoesNotComeBack(t *testing.T) {
	r, j, disk, src := waiting(t)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	at := disk.Crashed(0, nil)
	polls := src.Durable()
	r.Crash(j, at)
	next := r.Recover(j)
	next.End(jobpb.JobState_CANCELLED)
	if states := next.States(); len(states) != 1 || src.Durable() != polls {
		t.Errorf("it has run again: %v", states)
	}
	if _, err := os.Stat(filepath.Join(j.Spec.Dir, "engine", "outcome.json")); err != nil {
		t.Error(err)
	}
}

// TestDrainedJobGoesOnDraining likewise after the answer to Drain.
func TestDrainedJobGoesOnDraining(t *testing.T) {
	r, j, disk, _ := waiting(t)
	release := disk.BlockLog() // the answer does not wait for more than it must
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	at := disk.Crashed(0, nil)
	release()
	r.Crash(j, at)
	r.Recover(j).End(jobpb.JobState_DRAINED)
}
