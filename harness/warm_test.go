package harness

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
)

// pythonPool is the environment of a worker pool of the Python SDK.
func pythonPool(t *testing.T, address string) *pipepb.Environment {
	t.Helper()
	return &pipepb.Environment{
		Urn: urnExternal, Payload: marshal(t, &pipepb.ExternalPayload{Endpoint: &pipepb.ApiServiceDescriptor{Url: address}}),
		Capabilities: []string{"beam:version:sdk_base:apache/beam_python3.11_sdk:2.77.0", fnapi.CapabilityNamedDataStreams},
	}
}

func externalAddress(t *testing.T, env *pipepb.Environment) string {
	t.Helper()
	var payload pipepb.ExternalPayload
	if err := proto.Unmarshal(env.GetPayload(), &payload); err != nil {
		t.Fatal(err)
	}
	return payload.GetEndpoint().GetUrl()
}

// keepWarm keeps workers warm for the test, and waits until that has ended.
func keepWarm(t *testing.T, m *Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.KeepWarm(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// awaitWarm waits until so many workers of the pool are warm.
func awaitWarm(t *testing.T, m *Manager, address string, n int) {
	t.Helper()
	ctx := testContext(t)
	for {
		m.warm.mu.Lock()
		now := len(m.warm.ready[address])
		m.warm.mu.Unlock()
		if now == n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%d workers are warm, not %d", now, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestWarm: a job adopts workers that were started before it, and is told what they log. Those that nobody has adopted end with the server.
func TestWarm(t *testing.T) {
	pool := &workerPool{}
	env, _ := pool.serve(t)
	address := externalAddress(t, env)
	m := newManager(t, func(c *Config) { c.Warm = []Warm{{Address: address, Workers: 3}} })
	m.warm.after = time.Hour // none is to take the place of an adopted one while they are counted
	stop := keepWarm(t, m)
	awaitWarm(t, m, address, 3)
	started := pool.starts()
	p := start(t, m, Spec{Environment: pythonPool(t, address), Processes: 2})
	workers := p.Workers()
	if len(workers) != 2 || pool.starts() != started || !strings.HasPrefix(string(workers[0].ID()), "warm-") {
		t.Fatalf("%d workers, and the pool has started %d", len(workers), pool.starts()-started)
	}
	if !workers[0].Supports(fnapi.CapabilityNamedDataStreams) || workers[0].ProvisionInfo().GetMetadata()["job_name"] != "job" {
		t.Error("the worker is not the job's")
	}
	echo(t, m, workers[1], "warm")
	awaitWarm(t, m, address, 1)

	// One that is lost in the job starts again as any does.
	generation := workers[0].Generation()
	workers[0].Disconnect("the test breaks it")
	ctx := testContext(t)
	for workers[0].Generation() == generation || len(p.Workers()) < 2 {
		select {
		case <-ctx.Done():
			t.Fatal("it does not come back")
		case <-time.After(time.Millisecond):
		}
	}
	p.Close(context.Background())
	stop()
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if len(pool.workers) != 0 {
		t.Errorf("%d workers are left", len(pool.workers))
	}
}

// TestWarmIsNotForAll: workers of other pools, threads of a submitting program, and workers that are told something are started anew; so is
// one that was lost while it waited.
func TestWarmIsNotForAll(t *testing.T) {
	pool := &workerPool{}
	env, _ := pool.serve(t) // it has parameters, and is not Python's
	address := externalAddress(t, env)
	m := newManager(t, func(c *Config) { c.Warm = []Warm{{Address: address, Workers: 1}} })
	keepWarm(t, m)
	awaitWarm(t, m, address, 1)
	if w := start(t, m, Spec{Environment: env}).Workers()[0]; strings.HasPrefix(string(w.ID()), "warm-") {
		t.Error("a worker with parameters was warm")
	}
	if w := start(t, m, Spec{Environment: pythonPool(t, address+",127.0.0.1:1")}).Workers()[0]; strings.HasPrefix(string(w.ID()), "warm-") {
		t.Error("a worker of one of several pools was warm")
	}
	loopback, err := structpb.NewStruct(map[string]any{"beam:option:environment_type:v1": "LOOPBACK"})
	if err != nil {
		t.Fatal(err)
	}
	if w := start(t, m, Spec{Environment: pythonPool(t, address), Options: loopback}).Workers()[0]; strings.HasPrefix(string(w.ID()), "warm-") {
		t.Error("a thread of the submitting program was warm")
	}
	m.warm.mu.Lock()
	waiting := m.warm.ready[address][0]
	m.warm.mu.Unlock()
	waiting.Disconnect("the test breaks it")
	w := start(t, m, Spec{Environment: pythonPool(t, address)}).Workers()[0]
	if w == waiting {
		t.Error("a worker that was lost was adopted")
	}
	echo(t, m, w, "anew")
}

// TestWarmProvisioned: a worker that has asked whose it is cannot be any other's.
func TestWarmProvisioned(t *testing.T) {
	pool := &workerPool{provision: true}
	env, _ := pool.serve(t)
	address := externalAddress(t, env)
	m := newManager(t, func(c *Config) { c.Warm = []Warm{{Address: address, Workers: 1}} })
	keepWarm(t, m)
	ctx := testContext(t)
	for pool.starts() < 2 { // it is tried again, in case the pool becomes another one
		select {
		case <-ctx.Done():
			t.Fatal("no worker is started")
		case <-time.After(time.Millisecond):
		}
	}
	if w := start(t, m, Spec{Environment: pythonPool(t, address)}).Workers()[0]; strings.HasPrefix(string(w.ID()), "warm-") {
		t.Error("it was adopted")
	}
}
