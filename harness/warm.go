package harness

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// Workers that are kept warm are started before there is a job for them, and connected: a Python program takes seconds for that, most of
// them for imports. A job whose environment is their pool adopts them, and others are started in their place. A worker that has been a
// job's is no other one's: it holds what user code has left in it.

// Warm is a worker pool of which workers are kept warm.
type Warm struct {
	Address string // host:port, as environments name it
	Workers int
}

// warmAfter is how long after it was adopted a worker is replaced, unless a test says: a job that begins has use for the cores.
const warmAfter = 5 * time.Second

// warm keeps workers warm. Safe for concurrent use.
type warm struct {
	cfg   *Config
	after time.Duration // warmAfter
	mu    sync.Mutex
	// ready are connected and nobody's, by the address of their pool.
	ready map[string][]*fnapi.Worker
	taken map[fnapi.WorkerID]chan struct{} // closed when one is adopted
}

func newWarm(cfg *Config) *warm {
	return &warm{cfg: cfg, after: warmAfter, ready: make(map[string][]*fnapi.Worker), taken: make(map[fnapi.WorkerID]chan struct{})}
}

// take returns a warm worker of the pool; nil when there is none.
func (w *warm) take(address string) *fnapi.Worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.ready[address]) > 0 {
		one := w.ready[address][0]
		w.ready[address] = w.ready[address][1:]
		if gone(one) { // a moment ago
			continue
		}
		close(w.taken[one.ID()])
		delete(w.taken, one.ID())
		return one
	}
	return nil
}

// offer makes a worker be adopted; taken is closed when it is.
func (w *warm) offer(address string, one *fnapi.Worker) (taken <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	w.taken[one.ID()] = c
	w.ready[address] = append(w.ready[address], one)
	return c
}

// withdraw takes an offer back; false: it has been accepted.
func (w *warm) withdraw(address string, one *fnapi.Worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken[one.ID()] == nil {
		return false
	}
	delete(w.taken, one.ID())
	w.ready[address] = slices.DeleteFunc(w.ready[address], func(o *fnapi.Worker) bool { return o == one })
	return true
}

// KeepWarm keeps workers of the configured pools warm until ctx ends, and ends those that nobody has adopted.
func (m *Manager) KeepWarm(ctx context.Context) {
	var keeping sync.WaitGroup
	for _, pool := range m.cfg.Warm {
		for range pool.Workers {
			keeping.Go(func() { m.warm.keep(ctx, pool.Address) })
		}
	}
	keeping.Wait()
}

// keep keeps one worker of a pool warm.
func (w *warm) keep(ctx context.Context, address string) {
	log := w.cfg.Logger.With(zap.String("pool", address))
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Error("no worker can be kept warm", zap.Error(err))
		return
	}
	defer conn.Close()
	client := fnpb.NewBeamFnExternalWorkerPoolClient(conn)
	wait := w.cfg.BackoffMin
	for ctx.Err() == nil {
		began := time.Now()
		adopted, err := w.one(ctx, client, address)
		switch {
		case ctx.Err() != nil:
			return
		case adopted:
			wait = w.after
		case time.Since(began) > w.cfg.BackoffMax:
			wait = w.cfg.BackoffMin
		default:
			wait = min(2*wait, w.cfg.BackoffMax)
		}
		if err != nil {
			log.Info("a worker that is kept warm is lost", zap.Duration("another one after", wait), zap.Error(err))
		}
		rest(ctx, wait)
	}
}

// one starts a worker and keeps it until it is adopted, is lost, or ctx ends.
func (w *warm) one(ctx context.Context, client fnpb.BeamFnExternalWorkerPoolClient, address string) (adopted bool, err error) {
	one, err := w.cfg.Server.Expect(fnapi.WorkerSpec{ID: fnapi.NewWorkerID("warm"), Endpoint: w.cfg.Server.AdvertisedEndpoint()})
	if err != nil {
		return false, err
	}
	defer func() {
		if !adopted {
			one.Stop()
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.StopTimeout)
			defer cancel()
			_, _ = client.StopWorker(stopping, &fnpb.StopWorkerRequest{WorkerId: string(one.ID())}) // it ends by itself, too
		}
	}()
	starting, cancel := context.WithTimeoutCause(ctx, w.cfg.StartTimeout,
		fault.New(fault.Environment, codeTimeout, "the worker did not connect within %s", w.cfg.StartTimeout))
	defer cancel()
	resp, err := client.StartWorker(starting, startRequest(one, nil))
	if err == nil && resp.GetError() != "" {
		err = poolRefuses(address, resp)
	}
	if err == nil {
		err = one.Ready(starting)
	}
	if err != nil {
		return false, err
	}
	if one.Provisioned() {
		return false, errors.New("it runs a program that asks whose worker it is, as Beam's boot program does: such workers cannot be kept warm")
	}
	w.cfg.Logger.Info("a worker is kept warm", zap.String("worker", string(one.ID())), zap.String("pool", address))
	taken := w.offer(address, one)
	select {
	case <-taken:
		return true, nil
	case <-one.Done():
	case <-ctx.Done():
	}
	if !w.withdraw(address, one) {
		return true, nil
	}
	return false, fmt.Errorf("worker %s has gone", one.ID())
}

// adopt counts a worker that a pool has started for nobody.
func (s *sites) adopt(one *site, id fnapi.WorkerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.workers[id], s.warm[id] = true, one
}

// adopted returns the pool of a worker that was adopted, once; nil of any other one: it is to be started.
func (s *sites) adopted(id fnapi.WorkerID) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.warm[id]
	delete(s.warm, id)
	return one
}

// adopt makes a worker that is kept warm the job's; nil when there is none. Of several pools none is asked: workers are shared out to them.
func (l *externalLauncher) adopt(ctx context.Context, spec fnapi.WorkerSpec) *fnapi.Worker {
	if !l.programs || len(l.params) > 0 || len(l.warm.cfg.Warm) == 0 { // they are programs, and nobody has told them anything
		return nil
	}
	pools := l.sites.now(ctx)
	if len(pools) != 1 {
		return nil
	}
	w := l.warm.take(pools[0].address)
	if w == nil {
		return nil
	}
	w.Adopt(spec)
	l.sites.adopt(pools[0], w.ID())
	return w
}

// gone says that no harness is connected.
func gone(w *fnapi.Worker) bool {
	select {
	case <-w.Done():
		return true
	default:
		return false
	}
}
