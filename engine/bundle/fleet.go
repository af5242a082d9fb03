package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/fnapi"
	"padstone/internal/fault"
)

// Pool is the harness processes of one environment. Implemented by harness.Pool.
type Pool interface {
	// Acquire returns the worker of a place, or another one where that is not connected, and holds it: it does not end before release is
	// called. nil: none is connected. A place beyond the last one stands for another.
	Acquire(place int) (w *fnapi.Worker, release func())
	// Places lists who is at each place, "" where nobody is connected.
	Places() []fnapi.WorkerID
	LastLogs() []string
	// Loss says why a generation of a worker was lost, as soon as that is known; "" if it is not.
	Loss(ctx context.Context, id fnapi.WorkerID, generation int) string
	Progressed()
	Err() error
}

// Parallel says whether the harnesses of an environment process bundles in parallel.
func Parallel(env *pipepb.Environment) bool {
	return slices.Contains(env.GetCapabilities(), fnapi.CapabilityMultiCore)
}

// Fleet is where a job's harness bundles run: its pools, its descriptors, and the data streams and ids that its bundles take.
// Safe for concurrent use.
type Fleet struct {
	server *fnapi.Server
	prefix string // of descriptor and instruction ids: harnesses outlive runs, so ids never repeat
	job    *Job
	drain  chan struct{}
	serial atomic.Uint64

	mu struct {
		sync.Mutex
		pools    map[plan.EnvID]Pool
		draining bool
		streams  map[fnapi.WorkerID]map[int]bool // data streams in use by worker
		meters   map[plan.EnvID]map[fnapi.WorkerID]*meter
	}
}

// NewFleet registers the job's descriptors. prefix must be unique among all runs of all jobs.
func NewFleet(server *fnapi.Server, job *Job, prefix string) (*Fleet, error) {
	f := &Fleet{server: server, prefix: prefix, job: job, drain: make(chan struct{})}
	f.mu.pools = make(map[plan.EnvID]Pool)
	f.mu.streams = make(map[fnapi.WorkerID]map[int]bool)
	f.mu.meters = make(map[plan.EnvID]map[fnapi.WorkerID]*meter)
	for _, s := range job.Stages {
		for as, raw := range s.descriptors() {
			d, err := s.descriptor(string(f.descriptor(s, as)), raw, server.DataEndpoint(), server.StateEndpoint())
			if err == nil {
				err = server.AddDescriptor(d)
			}
			if err != nil {
				f.Close()
				return nil, err
			}
		}
	}
	return f, nil
}

// Close forgets the job's descriptors. No bundle may be in flight.
func (f *Fleet) Close() {
	for _, s := range f.job.Stages {
		for as := range s.descriptors() {
			f.server.RemoveDescriptor(f.descriptor(s, as))
		}
	}
}

func (f *Fleet) descriptor(s *Stage, as role) fnapi.DescriptorID {
	return fnapi.DescriptorID(f.prefix + "/" + string(s.Def.ID) + string(as))
}

// SetPool says where the bundles of an environment run.
func (f *Fleet) SetPool(env plan.EnvID, p Pool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.pools[env] = p
}

// Drain asks the bundles of unbounded splittable DoFns, present and future, to return their restrictions.
func (f *Fleet) Drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.draining {
		f.mu.draining = true
		close(f.drain)
	}
}

// Progressed tells the environment's pool that a bundle of it has been committed.
func (f *Fleet) Progressed(env plan.EnvID) {
	f.mu.Lock()
	p := f.mu.pools[env]
	f.mu.Unlock()
	if p != nil {
		p.Progressed()
	}
}

// Run runs a bundle of a Harness stage on a process of its environment.
func (f *Fleet) Run(ctx context.Context, r *Runner, start *scheduler.Start, link *Link) (res *Result, err error) {
	st := f.job.Stages[start.Stage]
	as := running
	switch {
	case start.Truncate:
		as = draining
	case !r.lifts.lifted(st):
		as = converting
	}
	items, at := r.paces.items(start.Stage), start.Worker
	for {
		err = f.on(ctx, st, start.Process, as, func(slot Slot) error {
			slot.ItemsMax, slot.Straight = items, as == converting
			if got := string(slot.Worker.ID()); got != at { // whoever it was meant for was lost, or has gone, a moment ago
				at = got
				link.Moved(at)
			}
			res, err = r.Harness(ctx, start, slot, link)
			return err
		})
		var o *overrun
		if !errors.As(err, &o) {
			break
		}
		items = o.items
		r.paces.overran(start.Stage, items)
	}
	if err != nil {
		return nil, err
	}
	if res.LeftOut {
		r.paces.succeeded(start.Stage)
	}
	r.observeLifts(st, as, res)
	return res, nil
}

// Merger returns what merges the windows of a Group stage: the SDK in which their function is written, in a bundle of its own beside
// those that the scheduler counts. It is nil for other stages.
func (f *Fleet) Merger(ctx context.Context, start *scheduler.Start) group.Merger {
	st := f.job.Stages[start.Stage]
	if st.merge == nil {
		return nil
	}
	return func(sets [][][]byte) (merged [][]group.Merged, err error) {
		err = f.on(ctx, st, int(start.Bundle%math.MaxInt32), merging, func(slot Slot) error {
			merged, err = st.merge.merge(ctx, slot, sets)
			return err
		})
		return merged, err
	}
}

// Combiner returns what merges the accumulators of a Group stage, likewise.
func (f *Fleet) Combiner(ctx context.Context, start *scheduler.Start) group.Combiner {
	st := f.job.Stages[start.Stage]
	if st.compact == nil {
		return nil
	}
	return func(sets []group.Accumulators) (merged [][]byte, err error) {
		err = f.on(ctx, st, int(start.Bundle%math.MaxInt32), compacting, func(slot Slot) error {
			merged, err = st.compact.merge(ctx, slot, sets)
			return err
		})
		return merged, err
	}
}

// on calls run with a place on a process of the stage's environment.
func (f *Fleet) on(ctx context.Context, st *Stage, process int, as role, run func(slot Slot) error) error {
	f.mu.Lock()
	pool := f.mu.pools[st.Def.Env]
	f.mu.Unlock()
	if pool == nil {
		return fault.New(fault.Internal, "bad-plan", "environment %q has no harness pool", st.Def.Env)
	}
	w, release := pool.Acquire(process)
	if w == nil {
		if err := pool.Err(); err != nil {
			return err
		}
		return fault.New(fault.Environment, "harness-lost", "no harness of environment %q is connected: %w", st.Def.Env, fnapi.ErrWorkerLost)
	}
	held := newHold(release)
	defer held.letGo()
	slot := Slot{
		Worker: w, Descriptor: f.descriptor(st, as), Drain: f.drain, Run: f.prefix, Meter: f.meter(st.Def.Env, w.ID()), hold: held,
		Instruction: fnapi.InstructionID(fmt.Sprintf("%s/%d", f.prefix, f.serial.Add(1))),
	}
	if w.Supports(fnapi.CapabilityNamedDataStreams) {
		n := f.takeStream(w.ID())
		defer f.giveStream(w.ID(), n)
		slot.DataStream = fmt.Sprintf("stream-%d", n)
	}
	generation := w.Generation()
	err := run(slot)
	if !errors.Is(err, fnapi.ErrWorkerLost) {
		return err
	}
	if w.Generation() == generation {
		// It may have lost a data stream alone and not notice: it would hang with the next bundle on that stream.
		w.Disconnect("a bundle has lost its connection")
	}
	return because(err, pool.Loss(ctx, w.ID(), generation))
}

// because adds to an error, which bundles share, why the harness was lost.
func because(err error, why string) error {
	shared := fault.Of(err)
	if shared == nil || why == "" {
		return err
	}
	e := *shared
	e.Msg += "; " + why
	var a *Attempt
	if !errors.As(err, &a) {
		return &e
	}
	told := *a
	told.Err = &e
	return &told
}

// meter returns the meter of a process.
func (f *Fleet) meter(env plan.EnvID, w fnapi.WorkerID) *meter {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.meters[env] == nil {
		f.mu.meters[env] = make(map[fnapi.WorkerID]*meter)
	}
	m := f.mu.meters[env][w]
	if m == nil {
		m = &meter{}
		f.mu.meters[env][w] = m
	}
	return m
}

// Busy is for how long processes of the environment have had a bundle at work, all together.
func (f *Fleet) Busy(env plan.EnvID) (sum time.Duration) {
	f.mu.Lock()
	meters := slices.Collect(maps.Values(f.mu.meters[env]))
	f.mu.Unlock()
	for _, m := range meters {
		sum += m.busy()
	}
	return sum
}

// takeStream returns the lowest data stream number that no bundle on the worker uses.
func (f *Fleet) takeStream(w fnapi.WorkerID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	used := f.mu.streams[w]
	if used == nil {
		used = make(map[int]bool)
		f.mu.streams[w] = used
	}
	n := 0
	for used[n] {
		n++
	}
	used[n] = true
	return n
}

func (f *Fleet) giveStream(w fnapi.WorkerID, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mu.streams[w], n)
}
