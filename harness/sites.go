package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// An environment may name several worker pools, one after the other with commas between them or by a name that has several addresses.
// Harnesses are started by the one that has fewest of them. One that cannot be reached is asked last, and looked for until it is back.
// See docs/decisions/0042-an-environment-has-several-pools.md.

// site is one worker pool.
type site struct {
	address string

	// Guarded by the lock of sites.
	conn    *grpc.ClientConn        // nil until it is needed
	workers map[fnapi.WorkerID]bool // that it has started and was not asked to stop; false: it ends as soon as its bundles have
	stale   map[fnapi.WorkerID]bool // that it could not be asked to stop
	away    bool                    // it could not be reached, and is looked for
}

// sites are the worker pools of an environment. Safe for concurrent use.
type sites struct {
	cfg     *Config
	log     *zap.Logger
	names   []string // as the environment names them
	resolve func(ctx context.Context, host string) ([]net.IP, error)
	tell    func(text string)
	back    func() // a pool has come back
	timeout time.Duration

	ctx     context.Context // of the search for pools that are away
	cancel  context.CancelFunc
	looking sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*site         // by address
	warm   map[fnapi.WorkerID]*site // of workers that were adopted and are yet to be launched
	listed []string                 // addresses that the names stood for when they were last resolved
	closed bool
}

func newSites(m *Manager, names []string, tell func(text string), back func()) *sites {
	s := &sites{
		cfg: &m.cfg, log: m.cfg.Logger, names: names, resolve: m.resolve, tell: tell, back: back, timeout: m.cfg.StopTimeout,
		known: make(map[string]*site), warm: make(map[fnapi.WorkerID]*site),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// now returns the pools that there are now.
func (s *sites) now(ctx context.Context) []*site {
	listed := addresses(ctx, s.names, s.resolve)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = listed
	all := make([]*site, 0, len(listed))
	for _, address := range listed {
		one := s.known[address]
		if one == nil {
			one = &site{address: address, workers: make(map[fnapi.WorkerID]bool), stale: make(map[fnapi.WorkerID]bool)}
			s.known[address] = one
		}
		all = append(all, one)
	}
	return all
}

// take takes the best of the pools to start a worker by, from those that are left: of those that are there the one that has fewest, else
// one that is away. The worker is the pool's from then on, so that another one that starts at the same time counts it.
func (s *sites) take(left []*site, id fnapi.WorkerID) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := slices.MinFunc(left, func(a, b *site) int {
		if a.away != b.away {
			if a.away {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.countLocked(), b.countLocked())
	})
	best.workers[id] = true
	return best
}

// connect returns the connection to a pool that can be reached. Errors: why it cannot.
func (s *sites) connect(ctx context.Context, one *site) (*grpc.ClientConn, error) {
	if err := reach(ctx, one.address); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, context.Canceled
	}
	if one.conn == nil {
		conn, err := grpc.NewClient(one.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		one.conn = conn
	}
	return one.conn, nil
}

// start has a pool start the worker, the best one that does.
func (s *sites) start(ctx context.Context, req *fnpb.StartWorkerRequest) (*site, error) {
	var first *fault.Error
	all, id := s.now(ctx), fnapi.WorkerID(req.GetWorkerId())
	for left := slices.Clone(all); len(left) > 0; {
		one := s.take(left, id)
		left = slices.DeleteFunc(left, func(o *site) bool { return o == one })
		err, away := s.ask(ctx, one, req, len(left) > 0)
		if s.asked(one, id, err == nil, away); err == nil {
			return one, nil
		}
		if away && ctx.Err() == nil {
			s.lost(one, err.Err)
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(all) > 1 {
		first.Msg += fmt.Sprintf("; none of the %d pools has started the worker", len(all))
	}
	return nil, first
}

// ask has the pool start the worker. away: it cannot be reached, or does not answer in time where there are others.
func (s *sites) ask(ctx context.Context, one *site, req *fnpb.StartWorkerRequest, others bool) (why *fault.Error, away bool) {
	conn, err := s.connect(ctx, one)
	if err != nil {
		return poolUnreachable(one.address, err), true
	}
	const answerFor = 10 * time.Second // pools start a program, or a thread, and say so at once
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerFor)
		defer cancel()
	}
	if !others && !s.greets(ctx, one) {
		return poolMute(one.address), true
	}
	resp, err := fnpb.NewBeamFnExternalWorkerPoolClient(conn).StartWorker(ctx, req, grpc.WaitForReady(true))
	if err != nil && late(ctx) {
		return poolMute(one.address), true
	}
	if err != nil {
		return poolUnreachable(one.address, err), true
	}
	if resp.GetError() != "" {
		return poolRefuses(one.address, resp), false
	}
	return nil, false
}

// late says that a call was given up because it took too long.
func late(ctx context.Context) bool {
	cause := context.Cause(ctx)
	f := fault.Of(cause)
	return errors.Is(cause, context.DeadlineExceeded) || f != nil && f.Code == codeTimeout
}

// countLocked is how many workers the pool has that stay.
func (one *site) countLocked() (n int) {
	for _, stays := range one.workers {
		if stays {
			n++
		}
	}
	return n
}

// leaves notes that a worker ends as soon as its bundles have: its successor may be the same pool's.
func (s *sites) leaves(id fnapi.WorkerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.known {
		if _, ok := one.workers[id]; ok {
			one.workers[id] = false
		}
	}
}

// asked notes what has become of a worker that the pool was to start. One that has not answered may start it yet.
func (s *sites) asked(one *site, id fnapi.WorkerID, started, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case started:
		delete(one.stale, id)
	case away:
		one.stale[id] = true
		fallthrough
	default:
		delete(one.workers, id)
	}
}

// stop asks the pool to stop a worker. One that cannot be asked now is asked when it is back.
func (s *sites) stop(one *site, id fnapi.WorkerID) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	conn, err := s.connect(ctx, one)
	if err == nil {
		request := &fnpb.StopWorkerRequest{WorkerId: string(id)}
		_, err = fnpb.NewBeamFnExternalWorkerPoolClient(conn).StopWorker(ctx, request, grpc.WaitForReady(true))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(one.workers, id)
	if err != nil {
		one.stale[id] = true
		s.log.Debug("StopWorker failed", zap.String("pool", one.address), zap.Error(err))
	}
}

// check words what can be known of a worker whose connection broke: whether its pool is still there. Pools need not know the question, as
// long as they say so.
func (s *sites) check(ctx context.Context, one *site) string {
	switch err := s.healthy(ctx, one, true); status.Code(err) {
	case codes.Unavailable:
		s.lost(one, err)
		return fmt.Sprintf("its connection broke, and the worker pool at %s cannot be reached", one.address)
	case codes.DeadlineExceeded, codes.Canceled:
		return fmt.Sprintf("its connection broke, and the worker pool at %s does not answer", one.address)
	default:
		return fmt.Sprintf("its connection broke; how it ended only the worker pool at %s knows, which is there", one.address)
	}
}

// healthy asks the pool whether it is well. Errors have a gRPC status; one of a pool that does not know the question is no fault of it.
// patient: an earlier failure to connect does not count.
func (s *sites) healthy(ctx context.Context, one *site, patient bool) error {
	conn, err := s.connect(ctx, one)
	if err != nil {
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		return status.Error(codes.Unavailable, err.Error())
	}
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(patient))
	return err
}

// lost notes that a pool is away, tells so where there are others, and looks for it until it is back.
func (s *sites) lost(one *site, why error) {
	others, several, news := s.away(one)
	if !news {
		return
	}
	if several {
		text := fmt.Sprintf("the worker pool at %s is lost: %v; ", one.address, why)
		if len(others) > 0 {
			text += "until it is back its workers are started at " + strings.Join(others, ", ")
		} else {
			text += "no other one of this environment is left, and all are looked for"
		}
		s.tell(text)
	}
}

// away has a pool looked for, and returns the others that are there. several says whether there are any, there or not, news whether the
// pool was there so far.
func (s *sites) away(one *site) (others []string, several, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if one.away || s.closed {
		return nil, false, false
	}
	one.away = true
	if one.conn != nil { // gRPC would wait for up to two minutes before it tries again
		conn := one.conn
		s.looking.Go(func() { conn.Close() }) // it says goodbye first
		one.conn = nil
	}
	for _, address := range s.listed {
		if other := s.known[address]; other != one && !other.away {
			others = append(others, address)
		}
	}
	s.looking.Go(func() { s.lookFor(one) })
	return others, len(s.listed) > 1, true
}

// lookFor waits until a pool that was away answers again. What it could not be asked to stop is stopped first: a boot program starts a
// worker that has ended again, under the id that another pool's has by now.
func (s *sites) lookFor(one *site) {
	const answerFor = 5 * time.Second
	for wait := s.cfg.BackoffMin; ; wait = min(2*wait, s.cfg.BackoffMax) {
		if !rest(s.ctx, wait) {
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, answerFor)
		err := s.healthy(ctx, one, true)
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
			continue
		}
		s.mu.Lock()
		stale := slices.Collect(maps.Keys(one.stale))
		clear(one.stale)
		s.mu.Unlock()
		for _, id := range stale {
			s.stop(one, id)
		}
		s.mu.Lock()
		one.away = false
		several := len(s.listed) > 1 && slices.Contains(s.listed, one.address)
		s.mu.Unlock()
		if several {
			s.tell(fmt.Sprintf("the worker pool at %s is back, and used again", one.address))
			s.back()
		}
		return
	}
}

// at returns the pool that has a worker; nil when none has.
func (s *sites) at(id fnapi.WorkerID) *site {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.known {
		if _, ok := one.workers[id]; ok {
			return one
		}
	}
	return nil
}

func (one *site) isAway(s *sites) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return one.away
}

// count is how many pools there are, those that are away included.
func (s *sites) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listed)
}

// close ends the search and the connections.
func (s *sites) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.looking.Wait()
	var closing sync.WaitGroup
	for _, one := range s.known { // nobody else uses it any more
		if one.conn != nil {
			closing.Go(func() { one.conn.Close() }) // it only says that it is closed
		}
	}
	closing.Wait()
	return nil
}
