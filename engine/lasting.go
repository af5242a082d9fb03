package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/bundle"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// lasting is a job over its runs. A run whose store fails (disk full, I/O error) ends without an outcome, and the next one goes on
// from the last durable commit when the disk works again: what a restart of the server does, within it. Harnesses start anew with a
// run. It implements jobserver.Running.
type lasting struct {
	engine   *Engine
	cfg      Config // with the job's own durability
	spec     jobserver.Spec
	compiled *bundle.Job // for people, before there is a run
	home     home
	// recovered: an earlier server has run the job.
	recovered bool

	disk *stall
	seen atomic.Pointer[jobserver.Description] // what the job looked like when it was last described

	over  chan struct{} // closed when the last run has ended
	again chan struct{} // 1-buffered: no need to wait any longer for the disk

	mu struct {
		sync.Mutex
		run       *job  // the present run, or the last one; nil before the first
		between   error // why there is no present run; nil when there is one, or none will come
		stopped   error // why the server lets go of the job
		suspended bool  // the last run has ended without an outcome
	}
}

// home is where a job's outcome goes.
type home struct {
	fs       store.FS
	dir      string
	slip     *slip
	reporter jobserver.Reporter
	log      *zap.Logger
	waiting  *store.Outstanding // what the disk is asked and has not answered; nil where nobody looks
}

func (h home) storeDir() string { return filepath.Join(h.dir, storeDir) }

func (h home) warn(err error, doing string) {
	if err != nil {
		h.log.Warn(doing, zap.Error(err))
	}
}

// begin makes the first run. A job that is recovered waits for its disk if that does not work.
func (l *lasting) begin() error {
	_, err := l.newRun()
	if err != nil && l.recovered && store.Failed(err) {
		l.mu.between = err
		return nil
	}
	return err
}

// live runs the job until it is terminal or suspended.
func (l *lasting) live() {
	defer close(l.over)
	j, why := l.present()
	for {
		if why == nil {
			j.run()
			if !j.interrupted() {
				l.ended(errors.Is(j.outcome, errSuspended))
				return
			}
			why = j.outcome
		}
		if j = l.wait(why); j == nil {
			return
		}
		why = nil
	}
}

func (l *lasting) ended(suspended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.suspended = suspended
	if !suspended {
		l.mu.between = nil
	}
}

// wait waits for the disk and returns the next run; nil when there is none.
func (l *lasting) wait(why error) *job {
	l.mu.Lock()
	l.mu.between = why
	l.mu.Unlock()
	l.home.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
		fmt.Sprintf("the job stands still and goes on from its last durable commit when the disk works: %v", why))
	for backoff := backoffMin; ; backoff = min(2*backoff, backoffMax) {
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-l.again:
			timer.Stop()
		}
		l.mu.Lock()
		stopped := l.mu.stopped
		l.mu.Unlock()
		switch {
		case stopped != nil:
			l.ended(true)
			return nil
		case l.home.slip != nil && l.home.slip.asked() == askedCancel:
			l.conclude(&outcome{State: jobpb.JobState_CANCELLED})
			return nil
		}
		next, err := l.newRun()
		if err == nil {
			l.home.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "the disk works again: the job goes on from its last durable commit")
			return next
		}
		if errors.Is(err, errSuspended) {
			l.ended(true)
			return nil
		}
		l.home.log.Info("the job's store does not open yet", zap.Duration("tried_after", backoff), zap.Error(err))
		if !store.Failed(err) {
			l.conclude(&outcome{State: jobpb.JobState_FAILED, Message: err.Error(), kept: keptStore(err)})
			return nil
		}
	}
}

// newRun makes the next run.
func (l *lasting) newRun() (*job, error) {
	j, err := l.openRun()
	if err != nil {
		return nil, err
	}
	if l.home.slip == nil { // beside the store, which has made the directory
		sl, err := openSlip(l.home.fs, l.home.dir)
		if err != nil {
			return nil, errors.Join(err, j.abandon())
		}
		l.mu.Lock()
		l.home.slip, j.home.slip = sl, sl
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	j.rerun = l.mu.run != nil
	j.resumed = l.recovered || j.rerun
	l.mu.run, l.mu.between = j, nil
	if l.mu.stopped != nil {
		j.stop(l.mu.stopped)
	}
	return j, nil
}

// conclude ends the job between two runs.
func (l *lasting) conclude(o *outcome) {
	metrics := &jobpb.MetricResults{}
	if last, _ := l.present(); last != nil {
		last.last.Lock()
		o.Description, metrics = last.last.description, last.last.metrics
		last.last.Unlock()
	}
	o.settle(metrics, l.home)
	l.ended(false)
}

// stop ends the job from outside: the server stops.
func (l *lasting) stop(reason error) {
	l.mu.Lock()
	l.mu.stopped = reason
	run := l.mu.run
	l.mu.Unlock()
	if run != nil {
		run.stop(reason)
	}
	signal(l.again)
}

// present returns the present run, or the last one with the reason why it is not present.
func (l *lasting) present() (*job, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.run, l.mu.between
}

// Cancel asks for CANCELLED. The request is durable before it is answered: a cancelled job does not come back.
func (l *lasting) Cancel(ctx context.Context) error {
	return l.ask(ctx, askedCancel, (*job).Cancel)
}

// Drain asks for DRAINED: sources stop, what is read is processed, windows close. The request is durable before it is answered.
func (l *lasting) Drain(ctx context.Context) error {
	return l.ask(ctx, askedDrain, (*job).Drain)
}

// ask makes a request durable and passes it on to the present run; later ones look at the slip.
func (l *lasting) ask(ctx context.Context, what byte, pass func(*job, context.Context) error) error {
	select {
	case <-l.over:
		return nil
	default:
	}
	l.mu.Lock()
	sl := l.home.slip
	l.mu.Unlock()
	if sl == nil {
		_, between := l.present()
		return fmt.Errorf("the request cannot be kept: %w", between)
	}
	kept, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- l.keep(context.WithoutCancel(ctx), sl, what, kept, pass) }()
	return l.disk.answered(ctx, kept, done)
}

// keep keeps a request on the slip, and passes it on to the present run.
func (l *lasting) keep(ctx context.Context, sl *slip, what byte, kept chan<- struct{}, pass func(*job, context.Context) error) error {
	id := l.disk.waiting.Begin("write", slipFile)
	err := sl.ask(what)
	l.disk.waiting.End(id)
	if err != nil {
		return fmt.Errorf("the request cannot be kept: %w", err)
	}
	close(kept)
	defer signal(l.again)
	if run, _ := l.present(); run != nil {
		return pass(run, ctx)
	}
	return nil
}

// Wait blocks until every resource of the job is released. The error of a suspended job is one of context.Canceled.
func (l *lasting) Wait(ctx context.Context) error {
	select {
	case <-l.over:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.mu.suspended {
			return errSuspended
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("job %s has not ended: %w", l.spec.ID, context.Cause(ctx))
	}
}

// Metrics returns the attempted and the committed metrics.
func (l *lasting) Metrics(ctx context.Context) (*jobpb.MetricResults, error) {
	if run, _ := l.present(); run != nil {
		return run.Metrics(ctx)
	}
	return &jobpb.MetricResults{}, nil
}

// Describe returns what the job looks like now, or looked like last.
func (l *lasting) Describe(ctx context.Context) (*jobserver.Description, error) {
	run, between := l.present()
	still := jobserver.Description{Plan: l.compiled.Plan.String(), Durability: string(l.cfg.Durability)}
	if run != nil {
		if age, why := l.disk.why(); why != nil && between == nil {
			return l.describeStalled(ctx, run, why, age)
		}
		d, err := run.Describe(ctx)
		if err == nil {
			l.seen.Store(d)
		}
		if err != nil || between == nil {
			return d, err
		}
		still = *d
	}
	still.Waiting = fmt.Sprintf("the job stands still until its disk works: %v", between)
	return &still, nil
}

// watchStore ends the run when the store fails, which may be when nobody has anything to commit.
func (j *job) watchStore() {
	select {
	case <-j.store.Failed():
		j.post(func() { j.end(j.store.Err()) })
	case <-j.ctx.Done():
	}
}

// interrupted says whether the run has ended because its store has failed, so that another may go on from it.
func (j *job) interrupted() bool {
	return !j.canceled && !errors.Is(j.outcome, errSuspended) && store.Failed(j.outcome)
}

// keptStore says whether an error is a reason to keep the store: it is damaged, and somebody may want to look at it.
func keptStore(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Code == store.CodeCorrupt
}

// engineDir is where the engine keeps what it needs of a job.
func engineDir(spec jobserver.Spec) string { return filepath.Join(spec.Dir, engineFolder) }

const engineFolder = "engine"
