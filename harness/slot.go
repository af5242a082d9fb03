package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// slot is one worker of a pool and its supervisor's state.
type slot struct {
	pool     *Pool
	worker   *fnapi.Worker
	life     context.Context // of its supervisor
	end      context.CancelFunc
	ready    atomic.Bool
	forgiven atomic.Bool  // the next restart starts counting anew
	heard    atomic.Int64 // when the harness that starts has logged or printed last, in nanoseconds since 1970
	run      atomic.Pointer[attempt]
	coming   atomic.Pointer[attempt] // that has not connected yet, or not again

	// Guarded by the pool's lock.
	users   int  // bundles that hold it
	retired bool // it ends as soon as nobody holds it

	loss     loss
	restarts []time.Time // within the window; the supervisor's own
	backoff  time.Duration
	failed   error // why the last attempt failed
	failures int   // attempts to start it again since it was lost
}

// attempt is a harness that runs in a slot.
type attempt struct {
	launched
	began time.Time
}

// addSlot registers a worker with the Fn API server.
func (p *Pool) addSlot() (*slot, error) {
	spec := fnapi.WorkerSpec{
		ID:          fnapi.NewWorkerID(p.spec.JobName + "-" + p.spec.EnvID),
		Environment: p.target.env, Endpoint: p.launcher.reachedBy(), Options: p.spec.Options,
		ArtifactEndpoint: p.spec.ArtifactEndpoint, RetrievalToken: p.spec.RetrievalToken,
		JobID: p.spec.JobID, JobName: p.spec.JobName, Log: p.logEntry,
	}
	var w *fnapi.Worker
	if l, ok := p.launcher.(*externalLauncher); ok {
		w = l.adopt(p.life, spec)
	}
	if w == nil {
		var err error
		if w, err = p.manager.cfg.Server.Expect(spec); err != nil {
			return nil, err
		}
	}
	s := &slot{pool: p, worker: w}
	s.life, s.end = context.WithCancel(p.life)
	return s, nil
}

// launchSlot starts a worker and its supervisor; the channel gets the outcome of the first start.
func (p *Pool) launchSlot() (*slot, <-chan error, error) {
	s, err := p.addSlot()
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		s.worker.Stop()
		return nil, nil, fault.New(fault.Environment, codeStart, "%s is being closed", p.describe())
	}
	p.mu.slots = append(p.mu.slots, s)
	first := make(chan error, 1)
	p.running.Go(func() {
		s.supervise(s.life, first)
		p.mu.Lock()
		p.mu.slots = slices.DeleteFunc(p.mu.slots, func(o *slot) bool { return o == s })
		p.mu.Unlock()
		p.changed()
	})
	return s, first, nil
}

// supervise runs the worker's harness until ctx ends or restarts do not help. first gets the outcome of the first start; a harness
// that does not even start once is not started again, nor is one that is lost while it retires.
func (s *slot) supervise(ctx context.Context, first chan<- error) {
	defer s.end()
	defer s.worker.Stop()
	run, generation, err := s.start(ctx)
	s.setReady(err == nil) // before the pool is handed over, whose workers are counted then
	first <- err
	if err != nil {
		return
	}
	for {
		s.run.Store(&attempt{run, time.Now()})
		s.setReady(true)
		generation = s.watch(ctx, run, generation)
		s.setReady(false)
		s.run.Store(nil)
		if ctx.Err() != nil {
			s.worker.Stop()
			run.stop(s.pool.hurry)
			return
		}
		s.lost(ctx, run, generation)
		s.worker.Disconnect("its harness is being restarted")
		run.stop(s.hurry())
		if s.isRetired() {
			return
		}
		if run, generation = s.restart(ctx); run == nil {
			return
		}
	}
}

// start launches the harness once and waits for its control stream. Who has heard that it is there may lose it at once, and its launcher
// start the next one: so the generation is that which has come, not that which is there a moment later.
func (s *slot) start(ctx context.Context) (run launched, generation int, err error) {
	ctx, cancel := s.limitStart(ctx)
	defer cancel()
	if run, err = s.pool.launcher.launch(ctx, s.worker); err != nil {
		return nil, 0, s.explain(err)
	}
	s.coming.Store(&attempt{run, time.Now()})
	defer s.coming.Store(nil)
	exited := run.exited()
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		generation, err = s.worker.Connected(waiting)
	}()
	select {
	case <-ready:
		if err == nil {
			return run, generation, nil
		}
	case <-exited:
		stop()
		<-ready
		err = fault.New(fault.Environment, codeStart, "%s ended before it connected: %s", s.pool.describe(), run.outcome())
	case broken := <-run.broken():
		stop()
		<-ready
		err = broken
	}
	s.worker.Disconnect("its harness did not start")
	run.stop(now()) // nobody has told it of any work that it should finish
	return nil, 0, s.explain(err)
}

// explain makes an error name the environment and quote the last log lines.
func (s *slot) explain(err error) error {
	e := fault.Of(err)
	if e == nil {
		e = fault.New(fault.Environment, codeStart, "%s: %w", s.pool.describe(), err)
	}
	if e.Kind != fault.Environment {
		return e
	}
	if where := s.pool.describe(); !strings.Contains(e.Msg, where) {
		e.Msg = where + ": " + e.Msg
	}
	if l, ok := s.pool.launcher.(*containerLauncher); ok && !s.worker.Provisioned() && (e.Code == codeStart || e.Code == codeTimeout) {
		if doubt := l.doubt(); doubt != "" {
			e = e.WithHint("%s", doubt)
		}
	}
	return withLogs(e, s.pool.LastLogs())
}

// watch returns when the harness is lost for good or ctx ends, with the generation that was the last.
func (s *slot) watch(ctx context.Context, run launched, generation int) int {
	for {
		select {
		case <-ctx.Done():
			return generation
		case <-run.exited():
			return generation
		case <-s.worker.Lost(generation):
		}
		if !s.pool.launcher.respawns() || s.worker.Hung() {
			return generation
		}
		s.setReady(false)
		var telling sync.WaitGroup
		telling.Go(func() { s.lost(ctx, run, generation) })
		next := s.comesBack(ctx, run)
		telling.Wait()
		if next == 0 {
			return generation
		}
		generation = next
		s.setReady(true)
	}
}

// comesBack waits for a harness that its launcher starts again by itself, and returns its generation; 0: it does not.
func (s *slot) comesBack(ctx context.Context, run launched) (generation int) {
	s.coming.Store(s.run.Load())
	defer s.coming.Store(nil)
	ctx, cancel := s.limitStart(ctx)
	defer cancel()
	back := make(chan int, 1)
	go func() {
		next, _ := s.worker.Connected(ctx) // 0 when none has come
		back <- next
	}()
	select {
	case next := <-back:
		return next
	case <-run.exited():
		cancel()
		<-back
		return 0
	}
}

// restart starts the harness until that works, with back-off. nil: ctx has ended or the pool has failed.
func (s *slot) restart(ctx context.Context) (run launched, generation int) {
	cfg := &s.pool.manager.cfg
	for {
		if s.forgiven.Swap(false) {
			s.restarts, s.backoff = nil, 0
		}
		now := time.Now()
		for len(s.restarts) > 0 && now.Sub(s.restarts[0]) > cfg.RestartWindow {
			s.restarts = s.restarts[1:]
		}
		if len(s.restarts) >= cfg.RestartsMax && !s.pool.lasting() {
			s.giveUp()
			return nil, 0
		}
		s.restarts = append(s.restarts, now)
		s.backoff = min(max(2*s.backoff, cfg.BackoffMin), cfg.BackoffMax)
		if !rest(ctx, s.backoff) {
			return nil, 0
		}
		run, generation, err := s.start(ctx)
		if err == nil {
			s.failures = 0
			return run, generation
		}
		if ctx.Err() != nil {
			return nil, 0
		}
		s.failed = err
		s.failures++
		s.pool.log.Warn("harness does not start again", zap.String("worker", string(s.worker.ID())), zap.Error(err))
		if s.failures&(s.failures-1) == 0 { // ever less often
			s.pool.tell(s.worker.ID(), fmt.Sprintf("a lost harness does not start again, at the attempt number %d: %v", s.failures, err))
		}
	}
}

func (s *slot) giveUp() {
	const hint = "user code that crashes its process, or too little memory, looks like this; see the log lines"
	what := fmt.Sprintf("%s was lost and started again %d times within %s, without progress",
		s.pool.describe(), len(s.restarts), s.pool.manager.cfg.RestartWindow)
	if s.failed != nil { // it quotes the log lines
		s.pool.fail(fault.New(fault.Environment, codeUnstable, "%s; the last attempt: %w", what, s.failed).WithHint(hint))
		return
	}
	s.pool.fail(withLogs(fault.New(fault.Environment, codeUnstable, "%s", what), s.pool.LastLogs()).WithHint(hint))
}

func (s *slot) setReady(ready bool) {
	if s.ready.Swap(ready) != ready {
		s.pool.changed()
	}
}

// tail returns the last n lines.
func tail(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// rest waits; false: ctx has ended.
func rest(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
