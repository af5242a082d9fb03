package enginetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"

	"padstone/engine"
	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/jobserver"
)

// pool is the harnesses of one environment of one job.
type pool struct {
	harnesses *Harnesses
	spec      engine.HarnessSpec
	fns       map[string]fakesdk.New
	env       string
	changed   func()
	ctx       context.Context // of the supervisors
	cancel    context.CancelFunc
	running   sync.WaitGroup
	closing   sync.Once

	mu      sync.Mutex
	err     error
	failure error
	closed  bool
	wanted  int
	coming  int
	serial  int       // of the next member
	all     []*member // that run
	places  []*member // those in service
}

// member is one process.
type member struct {
	worker  *fnapi.Worker
	serial  int
	ctx     context.Context
	end     context.CancelFunc
	users   int
	retired bool
	away    bool // it broke, and its successor has yet to come
}

// start starts one process and its supervisor.
func (p *pool) start(ctx context.Context) (*member, error) {
	w, err := p.harnesses.server.Expect(fnapi.WorkerSpec{
		ID: fnapi.NewWorkerID(p.spec.Job.Name), Environment: p.spec.Environment, JobID: p.spec.Job.ID, JobName: p.spec.Job.Name,
	})
	if err != nil {
		return nil, err
	}
	m := &member{worker: w}
	m.ctx, m.end = context.WithCancel(p.ctx)
	p.mu.Lock()
	m.serial = p.serial
	p.serial++
	p.mu.Unlock()
	sdk, err := p.connect(ctx, m)
	if err != nil {
		w.Stop()
		m.end()
		return nil, err
	}
	p.mu.Lock()
	p.all = append(p.all, m)
	p.mu.Unlock()
	p.running.Go(func() {
		p.supervise(m, sdk)
		p.mu.Lock()
		p.all = slices.DeleteFunc(p.all, func(o *member) bool { return o == m })
		p.mu.Unlock()
		if p.ctx.Err() == nil {
			p.changed()
		}
	})
	return m, nil
}

func (p *pool) connect(ctx context.Context, m *member) (*fakesdk.Harness, error) {
	h := p.harnesses
	var conn grpc.ClientConnInterface
	if h.Dial != nil {
		conn = h.Dial(h.server, p.env, m.serial)
	}
	sdk, err := fakesdk.Start(m.ctx, fakesdk.Config{
		Endpoint: h.server.Endpoint(), Conn: conn,
		WorkerID: m.worker.ID(), DoFns: p.fns, EmbedElements: h.Embed, ShortIDs: h.ShortIDs, OnClaim: h.OnClaim,
		Tamper: h.Tamper, OnLateSplit: h.OnLateSplit, Rounds: h.Rounds,
		Fault: func(_ int, req *fnpb.ProcessBundleRequest) fakesdk.Fault {
			h.mu.Lock()
			n := h.mu.bundles
			h.mu.bundles++
			h.mu.Unlock()
			if h.Fault == nil {
				return fakesdk.NoFault
			}
			return h.Fault(n, req)
		},
	})
	if err != nil {
		return nil, err
	}
	if err := m.worker.Ready(ctx); err != nil {
		return nil, errors.Join(err, sdk.Close())
	}
	return sdk, nil
}

// supervise replaces the harness whenever it breaks.
func (p *pool) supervise(m *member, sdk *fakesdk.Harness) {
	defer m.end()
	for {
		select {
		case <-m.ctx.Done():
			m.worker.Stop()
			_ = sdk.Close() // the connection is broken on purpose
			return
		case <-sdk.Done():
		}
		p.setAway(m, p.harnesses.OnBack != nil)
		if p.harnesses.OnBack != nil {
			p.harnesses.OnBack(m.ctx)
		}
		_ = sdk.Close()
		next, err := p.connect(m.ctx, m)
		if err != nil {
			if m.ctx.Err() == nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
				p.changed()
			}
			m.worker.Stop()
			return
		}
		sdk = next
		p.setAway(m, false)
	}
}

func (p *pool) setAway(m *member, away bool) {
	p.mu.Lock()
	m.away = away
	p.mu.Unlock()
	p.changed()
}

// Places implements bundle.Pool.
func (p *pool) Places() []fnapi.WorkerID {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]fnapi.WorkerID, len(p.places))
	for i, m := range p.places {
		if !m.away {
			all[i] = m.worker.ID()
		}
	}
	return all
}

// Acquire implements bundle.Pool.
func (p *pool) Acquire(place int) (*fnapi.Worker, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.places[place%len(p.places)]
	if i := slices.IndexFunc(p.places, func(o *member) bool { return !o.away }); m.away && i >= 0 {
		m = p.places[i]
	}
	m.users++
	return m.worker, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.users--
		m.endIfDone()
	})
}

func (m *member) endIfDone() {
	if m.retired && m.users == 0 {
		m.end()
	}
}

// Size implements engine.HarnessPool.
func (p *pool) Size() engine.PoolSize {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := engine.PoolSize{
		Wanted: p.wanted, InService: len(p.places), Connected: len(p.places), Coming: p.coming, Max: p.harnesses.ProcessesMax,
	}
	for _, m := range p.all {
		if m.retired {
			size.Retiring++
		}
	}
	return size
}

// Pools implements engine.HarnessPool.
func (p *pool) Pools() int { return int(p.harnesses.WorkerPools.Load()) }

// Resize implements engine.HarnessPool.
func (p *pool) Resize(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = p.harnesses.processes(n)
	for len(p.places) > p.wanted {
		last := p.places[len(p.places)-1]
		p.places = p.places[:len(p.places)-1]
		last.retired = true
		last.endIfDone()
	}
	for !p.closed && len(p.places)+p.coming < p.wanted {
		p.coming++
		p.running.Go(p.grow)
	}
}

// grow puts one more process into service.
func (p *pool) grow() {
	var m *member
	var err error
	if p.harnesses.OnGrow != nil {
		err = p.harnesses.OnGrow(p.ctx)
	}
	if err == nil {
		m, err = p.start(p.ctx)
	}
	p.mu.Lock()
	p.coming--
	switch {
	case err != nil:
		p.failure, p.wanted = err, min(p.wanted, len(p.places)+p.coming)
	case len(p.places) < p.wanted:
		p.places = append(p.places, m)
	default:
		m.retired = true
		m.endIfDone()
	}
	p.mu.Unlock()
	p.changed()
}

// Failure implements engine.HarnessPool.
func (p *pool) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failure
	p.failure = nil
	return err
}

// Usage implements engine.HarnessPool.
func (p *pool) Usage() []engine.HarnessUsage { return nil }

// SetMemoryMax implements engine.HarnessPool.
func (p *pool) SetMemoryMax(int64) {}

// LastLogs implements bundle.Pool.
func (p *pool) LastLogs() []string { return nil }

// Loss implements bundle.Pool.
func (p *pool) Loss(context.Context, fnapi.WorkerID, int) string { return "" }

// Progressed implements bundle.Pool.
func (p *pool) Progressed() {}

// Err implements bundle.Pool.
func (p *pool) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Describe implements engine.HarnessPool.
func (p *pool) Describe() (out []jobserver.WorkerDescription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.places {
		out = append(out, jobserver.WorkerDescription{
			ID: string(m.worker.ID()), Environment: p.env, Bundles: m.worker.Bundles(), Generation: m.worker.Generation(),
		})
	}
	return out
}

// Close implements engine.HarnessPool.
func (p *pool) Close(context.Context) {
	p.closing.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.cancel()
		p.running.Wait()
		p.harnesses.mu.Lock()
		p.harnesses.mu.open--
		p.harnesses.mu.Unlock()
	})
}
