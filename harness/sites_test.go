package harness

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"

	"padstone/fnapi"
	"padstone/internal/fault"
)

func TestAddresses(t *testing.T) {
	names := map[string][]string{
		"pools.default.svc": {"10.0.0.9", "10.0.0.2", "fd00::2", "fd00::9"},
		"six":               {"fd00::2", "fd00::9"},
		"localhost":         {"::1", "127.0.0.1"},
		"one":               {"10.0.0.2", "10.0.0.2"},
	}
	resolve := func(_ context.Context, host string) (ips []net.IP, err error) {
		for _, ip := range names[host] {
			ips = append(ips, net.ParseIP(ip))
		}
		if ips == nil {
			return nil, errors.New("no such host")
		}
		return ips, nil
	}
	for url, want := range map[string]string{
		"localhost:50000":                        "localhost:50000",
		"one:1, two:2,one:1":                     "one:1 two:2",
		"10.0.0.5:1,[fd00::1]:2":                 "10.0.0.5:1 [fd00::1]:2",
		"pools.default.svc:50000":                "10.0.0.2:50000 10.0.0.9:50000",
		"six:7":                                  "[fd00::2]:7 [fd00::9]:7",
		"10.0.0.2:50000,pools.default.svc:50000": "10.0.0.2:50000 10.0.0.9:50000",
	} {
		if got := strings.Join(addresses(t.Context(), splitPools(url), resolve), " "); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}

// severalPools are worker pools in this process that can be taken away and given back at their addresses.
type severalPools struct {
	t         *testing.T
	pools     []*workerPool
	servers   []*grpc.Server
	addresses []string
	serving   sync.WaitGroup
}

func newSeveralPools(t *testing.T, n int) *severalPools {
	s := &severalPools{t: t}
	for range n {
		s.pools, s.servers = append(s.pools, &workerPool{provision: true}), append(s.servers, nil)
		s.addresses = append(s.addresses, "127.0.0.1:0")
		s.give(len(s.pools) - 1)
	}
	t.Cleanup(func() {
		for i := range s.pools {
			s.take(i)
			s.pools[i].ending.Wait()
		}
		s.serving.Wait()
	})
	return s
}

// give serves a pool, at the address that it had before.
func (s *severalPools) give(i int) {
	s.t.Helper()
	lis, err := net.Listen("tcp", s.addresses[i])
	for ctx := testContext(s.t); err != nil; lis, err = net.Listen("tcp", s.addresses[i]) { // somebody's connection may have the port
		if ctx.Err() != nil {
			s.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.addresses[i] = lis.Addr().String()
	s.servers[i] = grpc.NewServer()
	fnpb.RegisterBeamFnExternalWorkerPoolServer(s.servers[i], s.pools[i])
	server := s.servers[i]
	s.serving.Go(func() {
		if err := server.Serve(lis); err != nil {
			s.t.Error(err)
		}
	})
}

// take ends a pool with its workers, as the end of a pod does.
func (s *severalPools) take(i int) {
	s.servers[i].Stop()
	s.pools[i].kill()
}

func (s *severalPools) url() string { return strings.Join(s.addresses, ",") }

// counts is how many workers each pool has.
func (s *severalPools) counts() (all []int) {
	for _, p := range s.pools {
		all = append(all, p.count())
	}
	return all
}

func (p *workerPool) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.workers {
		h.Close()
	}
	p.workers = nil
}

func (p *workerPool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.workers)
}

// listener collects what a pool's user hears.
type listener struct {
	mu      sync.Mutex
	texts   []string
	changed chan struct{}
}

func newListener() *listener { return &listener{changed: make(chan struct{}, 1)} }

func (l *listener) wake() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

func (l *listener) log(e fnapi.LogEntry) {
	l.mu.Lock()
	l.texts = append(l.texts, e.Message)
	l.mu.Unlock()
	l.wake()
}

func (l *listener) heard(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.texts, func(text string) bool { return strings.Contains(text, part) })
}

// await waits until something holds.
func (l *listener) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx := testContext(t)
	for !holds() {
		select {
		case <-l.changed:
		case <-time.After(10 * time.Millisecond): // not everything tells of itself
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("not %s; heard %q", what, l.texts)
		}
	}
}

// TestSeveralPools: workers are spread, those of a lost pool are started by the others, and a pool that is back is used again.
func TestSeveralPools(t *testing.T) {
	s, l := newSeveralPools(t, 3), newListener()
	m := newManager(t, func(c *Config) { c.BackoffMin, c.BackoffMax = 5*time.Millisecond, 50*time.Millisecond })
	p := start(t, m, Spec{Environment: externalEnv(t, s.url()), Processes: 6, Log: l.log, OnChange: l.wake})
	if got := s.counts(); !slices.Equal(got, []int{2, 2, 2}) {
		t.Fatalf("workers by pool: %v", got)
	}
	s.take(1)
	l.await(t, "six workers of two pools", func() bool { return len(p.Workers()) == 6 && slices.Equal(s.counts(), []int{3, 0, 3}) })
	if !l.heard("the worker pool at "+s.addresses[1]+" is lost") || !l.heard("its workers are started at "+s.addresses[0]+", "+s.addresses[2]) {
		t.Errorf("heard %q", l.texts)
	}
	for i, w := range p.Workers() {
		echo(t, m, w, "d"+string(rune('0'+i)))
	}
	held, release := p.Acquire(0)
	s.give(1)
	l.await(t, "two workers of each pool", func() bool { return p.Size().Connected == 6 && slices.Equal(spread(p), []int{2, 2, 2}) })
	if !l.heard("the worker pool at " + s.addresses[1] + " is back") {
		t.Errorf("heard %q", l.texts)
	}
	echo(t, m, held, "held") // whether it has moved or not
	release()
	l.await(t, "no worker is left over", func() bool { return p.Size().Retiring == 0 && slices.Equal(s.counts(), []int{2, 2, 2}) })
	if err := p.Err(); err != nil {
		t.Error(err)
	}
}

// spread is how many workers in service the worker pools of a pool have, by address.
func spread(p *Pool) (all []int) {
	counts := make(map[string]int)
	sites := p.launcher.(*externalLauncher).sites
	sites.mu.Lock()
	listed := sites.listed
	sites.mu.Unlock()
	for _, s := range p.slotsInService() {
		if at := sites.at(s.worker.ID()); at != nil {
			counts[at.address]++
		}
	}
	for _, address := range listed {
		all = append(all, counts[address])
	}
	return all
}

// TestPoolsOfAName: a name that stands for more pools than before has workers in all of them.
func TestPoolsOfAName(t *testing.T) {
	s, l := newSeveralPools(t, 1), newListener()
	_, port, err := net.SplitHostPort(s.addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		s.pools, s.servers = append(s.pools, &workerPool{provision: true}), append(s.servers, nil)
		s.addresses = append(s.addresses, net.JoinHostPort(net.IPv4(127, 0, 0, byte(1+i)).String(), port))
		s.give(i)
	}
	m := newManager(t, func(c *Config) { c.ResolveEvery = 5 * time.Millisecond })
	var pools atomic.Int32
	pools.Store(2)
	m.resolve = func(context.Context, string) (ips []net.IP, err error) {
		for i := range byte(pools.Load()) {
			ips = append(ips, net.IPv4(127, 0, 0, 1+i))
		}
		return ips, nil
	}
	wanted := func(pools int) int { return 3 * pools }
	p := start(t, m, Spec{
		Environment: externalEnv(t, "pools.test:"+port), Processes: wanted(1), ProcessesOf: wanted, Log: l.log, OnChange: l.wake,
	})
	if z := p.Size(); z.Connected != 6 || p.Pools() != 2 || !slices.Equal(s.counts(), []int{3, 3, 0}) {
		t.Fatalf("%+v, workers by pool %v", z, s.counts())
	}
	pools.Store(3)
	l.await(t, "two workers of each", func() bool { return p.Pools() == 3 && slices.Equal(s.counts(), []int{2, 2, 2}) })
	p.Resize(wanted(3))
	l.await(t, "three workers of each", func() bool { return p.Size().Connected == 9 && slices.Equal(s.counts(), []int{3, 3, 3}) })
	if !l.heard("new under their name: [" + s.addresses[2] + "]") {
		t.Errorf("heard %q", l.texts)
	}
}

// TestAllPoolsAway: the job waits for the first one that is back.
func TestAllPoolsAway(t *testing.T) {
	s, l := newSeveralPools(t, 2), newListener()
	m := newManager(t, func(c *Config) { c.BackoffMin, c.BackoffMax = 5*time.Millisecond, 50*time.Millisecond })
	p := start(t, m, Spec{Environment: externalEnv(t, s.url()), Processes: 2, Log: l.log, OnChange: l.wake})
	p.Progressed() // what has worked once does not give up
	s.take(0)
	s.take(1)
	l.await(t, "told", func() bool { return l.heard("no other one of this environment is left") && len(p.Workers()) == 0 })
	s.give(1)
	l.await(t, "two workers of one pool", func() bool { return len(p.Workers()) == 2 && slices.Equal(s.counts(), []int{0, 2}) })
}

// TestPoolsAtStart: those that are not there do no harm, as long as one is. Then the error names them.
func TestPoolsAtStart(t *testing.T) {
	s := newSeveralPools(t, 2)
	s.pools[0].refuse = "no memory"
	m := newManager(t, nil)
	p := start(t, m, Spec{Environment: externalEnv(t, "127.0.0.1:1,"+s.url()), Processes: 3})
	if got := s.counts(); !slices.Equal(got, []int{0, 3}) {
		t.Errorf("workers by pool: %v", got)
	}
	p.Close(context.Background())
	_, err := m.Start(testContext(t), Spec{Environment: externalEnv(t, "127.0.0.1:1,"+s.addresses[0])})
	wantCode(t, err, fault.Environment, "harness-worker-pool")
	if !strings.Contains(err.Error(), "none of the 2 pools") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
}

// TestStaleWorkers: what a pool could not be asked to stop when it was away is stopped when it is back, before it gets another worker.
func TestStaleWorkers(t *testing.T) {
	s, l := newSeveralPools(t, 2), newListener()
	m := newManager(t, func(c *Config) { c.BackoffMin, c.BackoffMax = 5*time.Millisecond, 50*time.Millisecond })
	p := start(t, m, Spec{Environment: externalEnv(t, s.url()), Processes: 2, Log: l.log, OnChange: l.wake})
	at := make(map[string]*fnapi.Worker)
	for _, w := range p.Workers() {
		at[p.launcher.(*externalLauncher).sites.at(w.ID()).address] = w
	}
	stale := at[s.addresses[0]]
	if p.WorkerPool(stale.ID()) != s.addresses[0] || p.WorkerPool("nobody") != "" {
		t.Errorf("the worker is of the pool at %q", p.WorkerPool(stale.ID()))
	}
	s.servers[0].Stop() // its worker goes on, as after a break of the network
	stale.Disconnect("the test breaks it")
	l.await(t, "two workers of the other pool", func() bool { return len(p.Workers()) == 2 && s.pools[1].count() == 2 })
	s.pools[0].stops() // forgets
	s.give(0)
	l.await(t, "told that the pool is back", func() bool { return l.heard("the worker pool at " + s.addresses[0] + " is back") })
	if stops := s.pools[0].stops(); !slices.Equal(stops, []string{string(stale.ID())}) {
		t.Errorf("stopped %q, not %q", stops, stale.ID())
	}
	l.await(t, "a worker of each", func() bool { return p.Size().Connected == 2 && slices.Equal(spread(p), []int{1, 1}) })
}

// stops returns, once, what the pool was asked to stop.
func (p *workerPool) stops() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, p.stopped = p.stopped, nil
	return all
}
