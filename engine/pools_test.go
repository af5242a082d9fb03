package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/sizing"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
	"padstone/jobserver"
)

// crowd is a job of which much waits: user code numbers the elements of each key by state, and is slow until it is told otherwise. A key
// group that is with two processes at once, or whose state is left behind, would show in the numbers.
type crowd struct {
	t    *testing.T
	r    *enginetest.Rig
	src  *enginetest.Source
	out  *enginetest.Sink
	p    *enginetest.Pipeline
	job  *enginetest.Job
	slow atomic.Bool
	gate chan struct{}
	more func() // lets the rest come
}

const (
	crowdKeys  = 40
	crowdFirst = 60 // elements of each key that wait at once
	crowdRest  = 60 // that come later
)

// soon makes sizes be looked at all the time.
func soon(c *engine.Config) {
	c.Cores, c.BundlesPerProcess = 4, 1
	c.Sizing = sizing.Config{Every: 2 * time.Millisecond, IdleFor: 20 * time.Millisecond, BacklogMin: 10 * time.Millisecond}
}

func newCrowd(t *testing.T, r *enginetest.Rig) *crowd {
	w := &crowd{t: t, r: r, src: &enginetest.Source{Unbounded: true}, gate: make(chan struct{})}
	w.more = sync.OnceFunc(func() { close(w.gate) })
	w.slow.Store(true)
	batch := func(times int) (specs []string) {
		for i := range times {
			for k := range crowdKeys {
				specs = append(specs, fmt.Sprintf("k%02d=x@%d", k, i))
			}
		}
		return specs
	}
	w.src.Batches = []enginetest.Batch{{Elements: pairs(batch(crowdFirst)...)}, {Elements: pairs(batch(crowdRest)...), Gate: w.gate}}
	w.p = r.Pipeline()
	w.out = w.p.Write("out", w.p.ParDo("number", w.p.Read("in", w.src, "kv(bytes,bytes)"), enginetest.ParDo{
		Bags: []string{"seen"}, Out: "bytes",
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				if w.slow.Load() { // for long enough, all together, for whatever a test waits for
					time.Sleep(5 * time.Millisecond)
				}
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				bag := c.Bag("seen", key, e.Window())
				seen, err := bag.Read()
				if err == nil {
					err = bag.Append([]byte{0})
				}
				if err != nil {
					return err
				}
				e.Value = enginetest.Text(fmt.Sprintf("%s:%d", fakesdk.Bytes(key), len(seen)))
				return c.Emit("", e)
			}}
		},
	}))
	w.out.Marked = true // a restart may come before it is known what was published
	return w
}

// pool is what the job says of its processes.
func (w *crowd) pool() jobserver.PoolDescription {
	w.t.Helper()
	d, err := w.job.Describe(w.r.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if len(d.Pools) == 0 {
		return jobserver.PoolDescription{}
	}
	return d.Pools[0]
}

func (w *crowd) await(what string, is func(p jobserver.PoolDescription) bool) {
	w.t.Helper()
	ctx := w.r.Context()
	for !is(w.pool()) {
		if ctx.Err() != nil {
			w.t.Fatalf("not %s: %+v", what, w.pool())
		}
		time.Sleep(time.Millisecond)
	}
}

// rest lets the rest come, with fast user code, and waits for all.
func (w *crowd) rest() {
	w.t.Helper()
	w.slow.Store(false)
	w.more()
	const all = crowdKeys * (crowdFirst + crowdRest)
	if err := w.out.Await(w.r.Context(), func(texts []string) bool { return len(texts) >= all }); err != nil {
		w.t.Fatalf("%d of %d: %.200s", len(w.out.Texts()), all, err)
	}
}

// end ends the job; each element must have been numbered once.
func (w *crowd) end() {
	w.t.Helper()
	if err := w.job.Drain(w.r.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.job.End(jobpb.JobState_DRAINED)
	var all []string
	for k := range crowdKeys {
		for n := range crowdFirst + crowdRest {
			all = append(all, fmt.Sprintf("k%02d:%d", k, n))
		}
	}
	want(w.t, w.out, all...)
}

func (w *crowd) messages(of jobpb.JobMessage_MessageImportance) string {
	return strings.Join(w.job.Messages(of), "\n")
}

// TestPoolFollowsWork: a pool grows while too much waits, and shrinks when there is little to do. Every element is numbered once.
func TestPoolFollowsWork(t *testing.T) {
	r := newRig(t, soon)
	w := newCrowd(t, r)
	w.job = r.Start(w.p, enginetest.Options{"max_num_workers": "3"})
	w.await("three", func(p jobserver.PoolDescription) bool { return p.Ready == 3 })
	if p := w.pool(); p.Min != 1 || p.Max != 3 || !p.Sized || p.Grown < 2 || !strings.Contains(p.Reason, "what waits would take") || p.ChangedAt == nil {
		t.Errorf("%+v", p)
	}
	w.rest()
	w.await("one", func(p jobserver.PoolDescription) bool { return p.Wanted == 1 && p.Ready == 1 && p.Ending == 0 })
	if p := w.pool(); p.Shrunk < 2 || !strings.Contains(p.Reason, "were busy") {
		t.Errorf("%+v", p)
	}
	w.end()
	text := w.messages(jobpb.JobMessage_JOB_MESSAGE_BASIC)
	for _, part := range []string{`grows from 1 to 2 harness processes: what waits`, "grows from 2 to 3", "shrinks from 3 to 2 harness processes: for", "shrinks from 2 to 1"} {
		if !strings.Contains(text, part) {
			t.Errorf("no message says %q:\n%s", part, text)
		}
	}
}

// TestPoolCrash: a job whose server crashes while its pool is large begins with a small one again, and loses nothing.
func TestPoolCrash(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { soon(c); c.FS = disk })
	w := newCrowd(t, r)
	w.job = r.Start(w.p, enginetest.Options{"max_num_workers": 3})
	w.await("two", func(p jobserver.PoolDescription) bool { return p.Ready >= 2 })
	durable := w.src.Durable()
	r.Crash(w.job, disk.Crashed(0, rand.New(rand.NewPCG(1, 40))))
	w.src.Rewind(durable)
	w.job = r.Recover(w.job)
	w.await("three", func(p jobserver.PoolDescription) bool { return p.Ready == 3 })
	w.rest()
	w.end()
}

// TestPoolLosesWhileItGrows: a process is lost while another one is coming. Neither does harm.
func TestPoolLosesWhileItGrows(t *testing.T) {
	r := newRig(t, soon)
	growing, go_ := make(chan struct{}, 10), make(chan struct{})
	r.Harnesses.OnGrow = func(ctx context.Context) error {
		growing <- struct{}{}
		select {
		case <-go_:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	w := newCrowd(t, r)
	w.job = r.Start(w.p, enginetest.Options{"max_num_workers": 3})
	<-growing
	if p := w.pool(); p.Ready != 1 || p.Starting != 1 || p.Wanted != 2 {
		t.Errorf("%+v", p)
	}
	r.Harnesses.Break(0)
	w.job.AwaitOutput("number", crowdKeys) // it is back
	close(go_)
	w.await("three", func(p jobserver.PoolDescription) bool { return p.Ready == 3 })
	r.Harnesses.Break(2)
	w.rest()
	w.end()
}

// TestPoolEndsWhileItGrows: a job can be cancelled and drained while a process is coming.
func TestPoolEndsWhileItGrows(t *testing.T) {
	for _, drains := range []bool{false, true} {
		r := newRig(t, soon)
		growing := make(chan struct{}, 10)
		r.Harnesses.OnGrow = func(ctx context.Context) error {
			growing <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		w := newCrowd(t, r)
		w.job = r.Start(w.p, enginetest.Options{"max_num_workers": 3})
		<-growing
		if drains {
			w.rest()
			w.end()
			continue
		}
		if err := w.job.Cancel(r.Context()); err != nil {
			t.Fatal(err)
		}
		w.job.End(jobpb.JobState_CANCELLED)
	}
}

// TestPoolCannotGrow: a process that cannot be started does no harm to the job, which says so.
func TestPoolCannotGrow(t *testing.T) {
	r := newRig(t, soon)
	r.Harnesses.OnGrow = func(context.Context) error { return errors.New("there is no room") }
	w := newCrowd(t, r)
	w.job = r.Start(w.p, enginetest.Options{"max_num_workers": 3})
	w.await("held up", func(p jobserver.PoolDescription) bool { return p.Holding != "" })
	if p := w.pool(); p.Ready != 1 || p.Wanted != 1 || !strings.Contains(p.Holding, "could not be started; that is tried again in") {
		t.Errorf("%+v", p)
	}
	if text := w.messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); !strings.Contains(text, "goes on with 1 harness process: another one could not be started: there is no room") {
		t.Errorf("%s", text)
	}
	w.rest()
	w.end()
}

// TestPoolFollowsSettings: how many processes there are can be set while the job runs, also of one that is not sized, and outlives the
// server.
func TestPoolFollowsSettings(t *testing.T) {
	r := newRig(t, soon)
	w := newCrowd(t, r)
	w.job = r.Start(w.p, enginetest.Options{"sdk_worker_parallelism": "1"})
	change := func(values map[string]string) {
		t.Helper()
		if _, err := set(r, w.job, values); err != nil {
			t.Fatal(err)
		}
	}
	ready := func(n int) func(p jobserver.PoolDescription) bool {
		return func(p jobserver.PoolDescription) bool { return p.Ready == n && p.Ending == 0 && p.Starting == 0 }
	}
	w.await("one", ready(1))
	change(map[string]string{"sdk_worker_parallelism": "3"})
	w.await("three", ready(3))
	change(map[string]string{"sdk_worker_parallelism": "2", "parallelism": "8"})
	w.slow.Store(false)
	w.await("two", ready(2))
	if p := w.pool(); p.Sized || p.Min != 2 || p.Max != 2 || p.Reason != "its settings say 2" {
		t.Errorf("%+v", p)
	}
	r.Restart()
	w.job = r.Recover(w.job)
	w.await("two again", ready(2))
	change(map[string]string{"max_num_workers": "4"})
	w.slow.Store(true)
	w.more()
	w.await("four", ready(4))
	change(map[string]string{"autoscaling_algorithm": "NONE"})
	w.await("two", ready(2))
	change(map[string]string{"sdk_worker_parallelism": "default"})
	w.await("one", ready(1))
	w.rest()
	w.end()
}

// TestProcessesOfWorkerPools: a number that is asked for is that of each worker pool, within the parallelism, also of pools that come later.
func TestProcessesOfWorkerPools(t *testing.T) {
	for _, c := range []struct {
		options     enginetest.Options
		three, four int // processes of so many pools
		note        string
	}{
		{enginetest.Options{"sdk_worker_parallelism": "1"}, 3, 4, "1 in each of 4 worker pools"},
		{enginetest.Options{"sdk_worker_parallelism": "2", "parallelism": "7"}, 6, 7, "parallelism bounds it"},
		{enginetest.Options{"sdk_worker_parallelism": "0", "autoscaling_algorithm": "NONE"}, 3, 4, "as many as there are cores"},
	} {
		r := newRig(t, func(cfg *engine.Config) {
			soon(cfg)
			cfg.Cores = 2
		})
		r.Harnesses.WorkerPools.Store(3)
		w := newCrowd(t, r)
		w.job = r.Start(w.p, c.options)
		ready := func(n int) func(p jobserver.PoolDescription) bool {
			return func(p jobserver.PoolDescription) bool { return p.Ready == n && p.Ending == 0 && p.Starting == 0 }
		}
		w.await("started", ready(c.three))
		r.Harnesses.WorkerPools.Store(4)
		w.await("grown", ready(c.four))
		d, err := w.job.Describe(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Settings {
			if s.Name == engine.SettingWorkers && !strings.Contains(s.Note, c.note) {
				t.Errorf("%v: the note is %q", c.options, s.Note)
			}
		}
		w.slow.Store(false)
		w.rest()
		w.end()
	}
}
