package engine

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/bundle"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// job is a running job. Fields below the line belong to the driver goroutine.
type job struct {
	cfg      Config
	spec     jobserver.Spec
	log      *zap.Logger
	reporter jobserver.Reporter
	*fitted
	plan   *plan.Plan
	dir    string
	store  *store.Store
	home   home
	clock  *clock
	runner *bundle.Runner
	cache  *blockCache
	// checkpoints is told what it needs through the driver's queue.
	checkpoints *checkpoints
	starts      *starts
	early       *early // nil when no harnesses have been started early

	ctx    context.Context // ends when the job ends, with the reason
	cancel context.CancelCauseFunc
	events chan func()    // work for the driver, from other goroutines
	ended  chan struct{}  // closed when everything is released
	tasks  sync.WaitGroup // goroutines other than the driver

	last struct {
		sync.Mutex
		description *jobserver.Description
		metrics     *jobpb.MetricResults
	}

	committedTotals committedMetrics

	// ---- driver only ----
	sched   *scheduler.Scheduler
	chosen  *chosen       // settings
	mapping chan struct{} // 1-buffered: held while windows of a block are mapped
	fleet   *bundle.Fleet
	pools   map[plan.EnvID]*pooled
	sinks   map[int]*publisher
	sources map[int]*source
	replay  *replay // nil without a TestStream
	effects *effects
	pause   pause
	totals  *metrics.Totals // of committed bundles
	// failedTotals are of failed attempts.
	failedTotals *metrics.Totals
	sdkBefore    map[string]metrics.Execution // what transforms had taken before this run
	attending    map[scheduler.BundleID]*attended
	asked        map[scheduler.BundleID]scheduler.Split // not answered yet
	stages       []stageTotals
	gathers      []bool // by stage: groups its whole input at its end, long after most of it has come
	phases       phases
	running      int                   // bundles in flight
	order        map[int][]*flight     // by ordered stage, its bundles in flight in the order in which they began
	backoff      map[int]time.Duration // by stage, while its bundles fail for the environment's fault
	warned       map[int]time.Time     // by stage: when its user was last told of a failed bundle
	slowTold     map[int]time.Duration // by stage: when its user was last told of a slow element, on the stopwatch
	resumed      bool                  // the job ran before: what is missing outside is an outage, no mistake of its user's
	rerun        bool                  // this server has run the job before
	ending       bool                  // nothing is left to do; the end waits for the frontier
	draining     bool
	canceled     bool
	outcome      error // why the job ends before it is done; nil: it is done
	over         bool
}

// stageTotals counts what a stage has done in this run of the job.
type stageTotals struct {
	bundles, in, out, late, splits int64
	failed, lost                   int64  // bundles: in user code or for a wrong answer, and with their harness
	suspect                        string // an input of the stage that keeps losing its harness, in words
	profile                        profile.Stage
}

// tickMax is how long the driver sleeps at most while something is due at a time.
const tickMax = 10 * time.Second

// eventsMax bounds the work that waits for the driver; senders block.
const eventsMax = 256

// openJob opens a job's store and makes a job of it.
func (e *Engine) openJob(cfg Config, spec jobserver.Spec, h home, c *chosen) (*job, error) {
	log, dir := h.log, h.dir
	settings, err := checkpointsOf(cfg.Checkpoints, spec.Options)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir); err != nil {
		return nil, fault.New(fault.Environment, "store-open", "cannot make the job's directory: %w", err)
	}
	begun := phases{began: time.Now()}
	st, err := e.openStore(cfg, dir, h.waiting, log.Named("store"))
	if err != nil {
		return nil, err
	}
	begun.opened = begun.since()
	f, err := e.fit(st, spec, h.reporter.Message)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	machines, err := bundle.NewMachines(f.compiled)
	if err == nil {
		err = c.restore(st)
	}
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	j := &job{
		cfg: cfg, spec: spec, log: log, reporter: h.reporter, chosen: c, fitted: f, plan: f.compiled.Plan, dir: dir, store: st, home: h,
		phases: begun,
		cache:  newBlockCache(cfg.Memory.Recent),
		events: make(chan func(), eventsMax), ended: make(chan struct{}),
		pools: make(map[plan.EnvID]*pooled),
		sinks: make(map[int]*publisher), sources: make(map[int]*source),
		stages: make([]stageTotals, len(f.compiled.Stages)), order: make(map[int][]*flight),
		backoff: make(map[int]time.Duration), warned: make(map[int]time.Time),
		slowTold: make(map[int]time.Duration),
	}
	j.checkpoints = newCheckpoints(j, settings)
	j.clock = newClock(cfg.Now, cfg.Elapsed)
	j.replay = newReplay(j.plan, j.clock.Now)
	j.runner = &bundle.Runner{Job: f.compiled, Store: st, Load: j.load, Borrow: j.borrow, Now: j.now, Machines: machines, Memory: cfg.Memory,
		ProgressEvery: cfg.ProgressEvery,
		HideElements:  cfg.HideElements || optionBool(spec.Options, optionHideElements),
		Log:           log.Named("bundle")}
	if j.replay != nil {
		j.runner.Wall = cfg.Now
	} else {
		j.runner.Ahead = j.clock.ahead
	}
	names := transformNames(j.plan)
	j.totals, j.failedTotals = metrics.New(names), metrics.New(names)
	j.attending, j.asked = make(map[scheduler.BundleID]*attended), make(map[scheduler.BundleID]scheduler.Split)
	sc := cfg.Scheduler
	batch := j.plan.Bounded && !optionBool(spec.Options, "streaming")
	j.gathers = make([]bool, len(j.plan.Stages))
	sc.BatchGroup = func(s *plan.Stage) bool {
		i := stageIndex(j.plan, s.ID)
		j.gathers[i] = machines[i].BatchEligible() || batch && machines[i].EndEligible()
		return j.gathers[i]
	}
	if batch {
		sc.BundleTimeMaxMs = cmp.Or(sc.BundleTimeMaxMs, bundleTimeBatch)
	} else {
		sc.LatencyBudgetMs = cmp.Or(sc.LatencyBudgetMs, latencyBudgetStreaming)
	}
	j.chosen.leave(sc)
	j.chosen.slots = cmp.Or(sc.RunnerSlots, scheduler.RunnerSlotsDefault)
	sc.Tuning = j.tuned()
	sc.DeferGroup, sc.InOrder = func(*plan.Stage) bool { return batch }, !batch
	sc.SideReadyAt = bundle.SideReadyAt
	j.sched, j.mapping = scheduler.New(j.plan, sc), make(chan struct{}, 1)
	return j, nil
}

// run is the driver.
func (j *job) run() {
	defer close(j.ended)
	if !j.rerun {
		j.reporter.State(jobpb.JobState_STARTING)
	}
	j.tasks.Go(j.watchStore)
	if j.home.slip.asked() == askedCancel {
		j.canceled = true
		j.end(errCanceled)
	} else if err := j.begin(); err != nil {
		j.end(err)
	}
	for !j.over || j.running > 0 {
		j.step()
	}
	j.release()
}

// do runs fn on the driver, unless the job has ended; then ok is false. Once do has returned fn does not run any more: what it writes is
// the caller's again.
func (j *job) do(ctx context.Context, fn func()) (ok bool, err error) {
	var taken atomic.Bool // by the driver, or back by the caller
	done := make(chan struct{})
	run := func() {
		defer close(done)
		if taken.CompareAndSwap(false, true) {
			fn()
		}
	}
	select {
	case j.events <- run:
	case <-j.ended:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	select {
	case <-done:
		return true, nil
	case <-j.ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if taken.CompareAndSwap(false, true) {
		return false, err
	}
	<-done
	return true, nil
}

// post queues fn for the driver, unless the job has ended.
func (j *job) post(fn func()) {
	select {
	case j.events <- fn:
	case <-j.ended:
	}
}

// postLive queues fn for the driver unless the job is ending: for news that do not matter any more then.
func (j *job) postLive(fn func()) {
	select {
	case j.events <- fn:
	case <-j.ctx.Done():
	}
}

// end stops the job: no more bundles, those in flight are cancelled. The first reason counts.
func (j *job) end(reason error) {
	if j.over {
		return
	}
	if failed := j.store.Err(); failed != nil && reason != nil && !j.canceled {
		reason = failed // whatever else has failed may have failed because of that
	}
	if cause := context.Cause(j.ctx); cause != nil && reason != nil {
		reason = cause // the job is being suspended; what fails because of that must not make it terminal
	}
	j.over, j.outcome = true, reason
	j.goOn() // what was held up is given up
	if reason == nil {
		reason = context.Canceled
	}
	j.cancel(reason)
}

// stop ends the job from another goroutine.
func (j *job) stop(reason error) { j.cancel(reason) }

// abandon releases a job that was never run.
func (j *job) abandon() error {
	close(j.ended)
	j.cancel(errSuspended)
	j.early.giveUp(j.ctx)
	return j.store.Close()
}

// release waits for the job's goroutines, stops its harnesses, closes its store and reports the outcome.
func (j *job) release() {
	j.remember()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		j.tasks.Wait()
	}()
	for waiting := true; waiting; {
		select {
		case fn := <-j.events: // let nobody wait for a driver that only waits for them
			fn()
		case <-drained:
			waiting = false
		}
	}
	for len(j.events) > 0 { // a pool that came at the last moment must be closed, too
		(<-j.events)()
	}
	j.discardOrdered()
	ctx, cancel := context.WithTimeout(context.Background(), j.cfg.StopTimeout)
	defer cancel()
	var stopping sync.WaitGroup
	for _, p := range j.poolsInOrder() {
		stopping.Go(func() { p.pool.Close(ctx) })
	}
	stopping.Go(func() { j.early.giveUp(ctx) })
	stopping.Wait()
	if j.fleet != nil {
		j.fleet.Close()
	}
	for _, s := range j.sources {
		if reader := s.current(); reader != nil {
			j.warn(reader.Close(), "closing a source")
		}
	}
	for _, p := range j.sinks {
		p.close()
	}
	j.cache.close()
	if j.replay != nil {
		j.warn(j.replay.close(), "closing the service of the TestStream")
	}
	j.warn(j.store.Close(), "closing the job's store")
	j.report()
}

func (j *job) warn(err error, doing string) {
	if err != nil {
		j.log.Warn(doing, zap.Error(err))
	}
}
