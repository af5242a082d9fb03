package harness

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// Pool is the harnesses of one environment of one job. Safe for concurrent use.
type Pool struct {
	manager  *Manager
	target   *target
	spec     Spec
	log      *zap.Logger
	launcher launcher
	logs     *ring
	running  sync.WaitGroup // supervisors, and what starts and watches harnesses
	life     context.Context
	cancel   context.CancelFunc // ends life
	closing  sync.Once
	hurry    chan struct{} // closed when harnesses must be gone at once
	starting atomic.Int32  // slots that start their harness
	proved   atomic.Bool   // they have got work done
	most     atomic.Int64  // places that there can be: workers of one worker pool would share a process; 0: no bound
	memory   memory
	idle     idleLosses

	mu struct {
		sync.Mutex
		err    error
		closed bool
		slots  []*slot // all whose supervisor runs
		places []*slot // those in service: bundles are given to a place
		wanted int     // places that there should be
		coming int     // workers that are starting to be in service
		failed error   // why the last of these has not come
		// uneven says that worker pools may have too few workers, evening that this is being seen to.
		uneven, evening bool
	}
}

func newPool(m *Manager, t *target, spec Spec, life context.Context, cancel context.CancelFunc) *Pool {
	return &Pool{
		manager: m, target: t, spec: spec, life: life, cancel: cancel,
		log:  m.cfg.Logger.With(zap.String("job", spec.JobID), zap.String("environment", spec.EnvID)),
		logs: newRing(m.cfg.LogLinesMax), hurry: make(chan struct{}),
	}
}

// Workers returns the workers in service that are connected now, always in the same order. After a loss a worker comes back with the same
// id and the next generation.
func (p *Pool) Workers() []*fnapi.Worker {
	places := p.slotsInService()
	out := make([]*fnapi.Worker, 0, len(places))
	for _, s := range places {
		if s.ready.Load() {
			out = append(out, s.worker)
		}
	}
	return out
}

func (p *Pool) slotsInService() []*slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.mu.places)
}

// Err returns why the pool has given up on a worker, or nil. It does not recover from it.
func (p *Pool) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// LastLogs returns the last lines that the harnesses have logged or printed, oldest first.
func (p *Pool) LastLogs() []string { return p.logs.last() }

// Progressed tells the pool that its harnesses get work done: restarts until now are forgiven. Call it when a bundle is committed.
func (p *Pool) Progressed() {
	p.proved.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.mu.slots {
		s.forgiven.Store(true)
	}
}

// Status has the harness of a worker describe itself: its threads, its active bundles. For people. Errors: why it does not.
func (p *Pool) Status(ctx context.Context, id fnapi.WorkerID) (string, error) {
	for _, w := range p.Workers() {
		if w.ID() == id {
			return w.Status(ctx)
		}
	}
	return "", fault.New(fault.Environment, "harness-status-unavailable", "worker %s: no harness is connected", id)
}

// Close stops all harnesses and waits for their end: first their control streams are closed, on which they exit by themselves, then
// worker pools are asked to stop them and processes get SIGTERM and SIGKILL. When ctx ends, processes are killed at once. Idempotent.
func (p *Pool) Close(ctx context.Context) {
	p.closing.Do(func() {
		stop := context.AfterFunc(ctx, func() { close(p.hurry) })
		defer stop()
		p.mu.Lock()
		p.mu.closed = true
		p.mu.Unlock()
		p.cancel()
		p.running.Wait()
		if err := p.launcher.close(); err != nil {
			p.log.Warn("harness files are left behind", zap.Error(err))
		}
	})
}

// lasting says that the pool does not give up: its harnesses have proved that they can work, so what they are lost for now will pass. A
// program that submits a job and runs it in itself does not come back.
func (p *Pool) lasting() bool { return p.proved.Load() && !isLoopback(p.spec.Options) }

// tell has the pool's user hear of a harness.
func (p *Pool) tell(id fnapi.WorkerID, text string) {
	if p.spec.Log != nil {
		p.spec.Log(fnapi.LogEntry{Worker: id, Severity: fnapi.SeverityWarn, Time: time.Now(), Message: text})
	}
}

// fail gives up on the pool.
func (p *Pool) fail(err *fault.Error) {
	p.mu.Lock()
	if p.mu.err == nil {
		p.mu.err = err
	}
	p.mu.Unlock()
	p.log.Error("harness pool failed", zap.Error(err))
	p.changed()
}

func (p *Pool) changed() {
	if p.spec.OnChange != nil {
		p.spec.OnChange()
	}
}

// logEntry takes what a harness logs or prints.
func (p *Pool) logEntry(e fnapi.LogEntry) {
	p.hear(e.Worker)
	p.logs.addEntry(e)
	if p.spec.Log != nil {
		p.spec.Log(e)
	}
}
