package harness

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// workerPool is an external worker pool in this process.
type workerPool struct {
	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
	provision bool // its workers ask for their provisioning, as boot does
	idle      bool // it says that it starts workers, and does not

	mu      sync.Mutex
	refuse  string
	asked   int // workers that it was asked for
	ending  sync.WaitGroup
	workers map[string]*fakesdk.Harness
	stopped []string
	params  map[string]string
}

func (p *workerPool) StartWorker(ctx context.Context, req *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	p.mu.Lock()
	refuse := p.refuse
	p.asked++
	p.mu.Unlock()
	if refuse != "" {
		return &fnpb.StartWorkerResponse{Error: refuse}, nil
	}
	if p.idle {
		return &fnpb.StartWorkerResponse{}, nil
	}
	if p.provision {
		if err := provision(ctx, req); err != nil {
			return &fnpb.StartWorkerResponse{Error: err.Error()}, nil
		}
	}
	h, err := fakesdk.Start(context.Background(), fakesdk.Config{
		Endpoint: numeric(req.GetControlEndpoint().GetUrl()), WorkerID: fnapi.WorkerID(req.GetWorkerId()),
	})
	if err != nil {
		return &fnpb.StartWorkerResponse{Error: err.Error()}, nil
	}
	p.ending.Go(func() { // as its program does
		<-h.Done()
		h.Close()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers == nil {
		p.workers = make(map[string]*fakesdk.Harness)
	}
	p.workers[req.GetWorkerId()] = h
	p.params = req.GetParams()
	return &fnpb.StartWorkerResponse{}, nil
}

// TestPoolsThatDoNot names what a pool does not do: answer, or start the worker that it says it starts.
func TestPoolsThatDoNot(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for _, limit := range []func(*Config){
		func(c *Config) { c.GreetTimeout, c.StartTimeout = 500*time.Millisecond, time.Hour },
		func(c *Config) { c.GreetTimeout, c.StartTimeout = time.Hour, 2*time.Second },
	} {
		_, err = newManager(t, limit).Start(testContext(t), Spec{Environment: externalEnv(t, mute.Addr().String())})
		wantCode(t, err, fault.Environment, "harness-worker-pool")
		if !strings.Contains(err.Error(), "takes a connection, but does not answer") {
			t.Error(err)
		}
	}
	pool := &workerPool{idle: true}
	env, _ := pool.serve(t)
	m := newManager(t, func(c *Config) { c.StartTimeout = 4 * time.Second }) // the pool has to answer in it
	_, err = m.Start(testContext(t), Spec{Environment: env})
	wantCode(t, err, fault.Environment, "harness-start-timeout")
	if !strings.Contains(err.Error(), m.cfg.Server.AdvertisedEndpoint()) || !strings.Contains(err.Error(), "--advertised-worker-host") {
		t.Error(err)
	}
}

// numeric is an endpoint that no name server is asked for: a question may be on its way when the test ends.
func numeric(endpoint string) string { return strings.Replace(endpoint, "localhost:", "127.0.0.1:", 1) }

// starts is how many workers it was asked for.
func (p *workerPool) starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// refusing makes the pool refuse to start workers, or takes that back.
func (p *workerPool) refusing(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = why
}

func provision(ctx context.Context, req *fnpb.StartWorkerRequest) error {
	conn, err := grpc.NewClient(numeric(req.GetProvisionEndpoint().GetUrl()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "worker_id", req.GetWorkerId())
	_, err = fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(ctx, &fnpb.GetProvisionInfoRequest{})
	return err
}

func (p *workerPool) StopWorker(_ context.Context, req *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = append(p.stopped, req.GetWorkerId())
	if h := p.workers[req.GetWorkerId()]; h != nil {
		delete(p.workers, req.GetWorkerId())
		_ = h.Close() // by itself already, maybe
	}
	return &fnpb.StopWorkerResponse{}, nil
}

// serve starts the pool and returns its environment.
func (p *workerPool) serve(t *testing.T) (*pipepb.Environment, *grpc.Server) {
	t.Helper()
	p.workers = make(map[string]*fakesdk.Harness)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	fnpb.RegisterBeamFnExternalWorkerPoolServer(s, p)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
		p.kill()
		p.ending.Wait()
	})
	return externalEnv(t, lis.Addr().String()), s
}

func externalEnv(t *testing.T, address string) *pipepb.Environment {
	t.Helper()
	payload := &pipepb.ExternalPayload{
		Endpoint: &pipepb.ApiServiceDescriptor{Url: address}, Params: map[string]string{"k": "v"},
	}
	return &pipepb.Environment{Urn: urnExternal, Payload: marshal(t, payload)}
}

func TestWorkerPool(t *testing.T) {
	tests := []struct {
		name        string
		pool        workerPool
		processPool bool
		workers     int
	}{
		{"loopback gets one worker", workerPool{}, false, 1},
		{"a pool that runs boot gets all", workerPool{provision: true}, false, 3},
		{"a known process pool gets all", workerPool{}, true, 3},
	}
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t, nil)
			env, _ := tt.pool.serve(t)
			p := start(t, m, Spec{Environment: env, Processes: 3, ProcessPool: tt.processPool})
			if n := len(p.Workers()); n != tt.workers {
				t.Fatalf("%d workers, want %d", n, tt.workers)
			}
			echo(t, m, p.Workers()[0], "d")
			p.Close(context.Background())
			if len(tt.pool.stopped) != tt.workers || tt.pool.params["k"] != "v" {
				t.Fatalf("stopped %v, params %v", tt.pool.stopped, tt.pool.params)
			}
		})
	}
}

func TestWorkerPoolRefuses(t *testing.T) {
	m := newManager(t, nil)
	env, _ := (&workerPool{refuse: "Traceback: no memory"}).serve(t)
	_, err := m.Start(testContext(t), Spec{EnvID: "e", Environment: env})
	wantCode(t, err, fault.Environment, "harness-worker-pool")
	if !strings.Contains(err.Error(), "no memory") || !strings.Contains(err.Error(), `environment "e"`) {
		t.Fatal(err)
	}
}

func TestWorkerPoolUnreachable(t *testing.T) {
	address := closedAddress(t)
	m := newManager(t, nil)
	_, err := m.Start(testContext(t), Spec{Environment: externalEnv(t, address)})
	wantCode(t, err, fault.Environment, "harness-worker-pool")
	if !strings.Contains(err.Error(), address) {
		t.Fatal(err)
	}
}

// TestWorkerPoolGoesAway: the submitting program of a LOOPBACK job ends.
func TestWorkerPoolGoesAway(t *testing.T) {
	changed := make(chan struct{}, 100)
	m := newManager(t, func(c *Config) { c.RestartsMax = 2 })
	pool := &workerPool{}
	env, s := pool.serve(t)
	p := start(t, m, Spec{Environment: env, OnChange: func() { changed <- struct{}{} }})
	s.Stop()
	pool.mu.Lock()
	for _, h := range pool.workers {
		h.Close()
	}
	pool.mu.Unlock()
	for p.Err() == nil {
		select {
		case <-changed:
		case <-testContext(t).Done():
			t.Fatal("the pool does not give up")
		}
	}
	wantCode(t, p.Err(), fault.Environment, "harness-unstable")
	if !strings.Contains(p.Err().Error(), "cannot be reached") {
		t.Fatal(p.Err())
	}
}
