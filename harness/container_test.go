package harness

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/harness/docker"
	"padstone/harness/docker/dockertest"
	"padstone/internal/fault"
)

// argument returns the value of an argument of Beam's container contract.
func argument(c *dockertest.Container, name string) string {
	for _, arg := range c.Args {
		if v, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

// bootIn does what boot programs do: it asks for its provisioning, then it runs a worker.
func bootIn(ctx context.Context, c *dockertest.Container) int {
	fmt.Fprintln(c.Stdout, "boot says hello")
	id := argument(c, "id")
	conn, err := grpc.NewClient(argument(c, "provision_endpoint"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 1
	}
	defer conn.Close()
	resp, err := fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(
		metadata.AppendToOutgoingContext(ctx, "worker_id", id), &fnpb.GetProvisionInfoRequest{})
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 1
	}
	h, err := fakesdk.Start(ctx, fakesdk.Config{Endpoint: resp.GetInfo().GetControlEndpoint().GetUrl(), WorkerID: fnapi.WorkerID(id)})
	if err != nil {
		fmt.Fprintln(c.Stderr, err)
		return 1
	}
	defer h.Close()
	select {
	case <-h.Done():
	case <-ctx.Done():
	}
	fmt.Fprintln(c.Stdout, "boot says goodbye")
	return 0
}

func dockerEnv(t *testing.T, image string) *pipepb.Environment {
	t.Helper()
	return &pipepb.Environment{Urn: urnDocker, Payload: marshal(t, &pipepb.DockerPayload{ContainerImage: image})}
}

// TestContainers run bundles, one worker each, and are gone with their pool.
func TestContainers(t *testing.T) {
	fake := dockertest.Start(t, bootIn)
	m := newManager(t, withEngine(t, fake.Host))
	p := start(t, m, Spec{Environment: dockerEnv(t, "beam"), Processes: 2})
	workers := p.Workers()
	if len(workers) != 2 {
		t.Fatalf("%d workers", len(workers))
	}
	echo(t, m, workers[0], "d0")
	echo(t, m, workers[1], "d1")
	fake.SetStats(map[string]any{"memory_stats": map[string]any{"usage": 5 << 20}})
	if usage := p.Usage(); len(usage) != 2 || usage[1].Memory != 5<<20 {
		t.Errorf("usage %+v", usage)
	}
	for i := range workers {
		c := fake.Containers()[fmt.Sprintf("padstone-job-env-1-%d", i+1)]
		if c == nil {
			t.Fatalf("containers %v", fake.Containers())
		}
		for _, name := range []string{"logging_endpoint", "artifact_endpoint", "provision_endpoint", "control_endpoint"} {
			if got := argument(c, name); got != m.cfg.Server.Endpoint() {
				t.Errorf("%s is %q", name, got)
			}
		}
		if id := argument(c, "id"); id != string(workers[0].ID()) && id != string(workers[1].ID()) {
			t.Errorf("the id is %q", id)
		}
	}
	p.Close(context.Background())
	if left := fake.Containers(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
	if logs := strings.Join(p.LastLogs(), "\n"); !strings.Contains(logs, "hello") || !strings.Contains(logs, "goodbye") {
		t.Errorf("logs %q: harnesses were not left to end by themselves", logs)
	}
}

// TestContainersOnTheirOwnNetwork reach the server by the network's gateway, for everything.
func TestContainersOnTheirOwnNetwork(t *testing.T) {
	fake := dockertest.Start(t, bootIn)
	m := newManager(t, withEngine(t, fake.Host))
	m.cfg.Docker = engineOn(t, fake.Host, docker.Config{Options: docker.Options{Network: "bridge"}})
	p := start(t, m, Spec{Environment: dockerEnv(t, "beam")})
	w := p.Workers()[0]
	if !strings.HasPrefix(w.Endpoint(), "127.0.0.1:") || w.Endpoint() == m.cfg.Server.Endpoint() {
		t.Errorf("the endpoint is %s", w.Endpoint())
	}
	echo(t, m, w, "d0")
}

// engineOn returns a Docker Engine with a configuration.
func engineOn(t *testing.T, host string, cfg docker.Config) *docker.Engine {
	t.Helper()
	cfg.Host, cfg.Owner, cfg.RetryEvery = host, "test", time.Millisecond
	e, err := docker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// back waits until a worker has come back after a generation.
func back(t *testing.T, p *Pool, w *fnapi.Worker, generation int) {
	t.Helper()
	ctx := testContext(t)
	for len(p.Workers()) == 0 || w.Generation() <= generation {
		select {
		case <-ctx.Done():
			t.Fatal("the worker does not come back")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestContainerThatIsKilled is told of, and another takes its place under the same id.
func TestContainerThatIsKilled(t *testing.T) {
	for oom, want := range map[bool]string{false: "kill", true: "for memory, its limit is 512MiB"} { // others may be short of memory meanwhile
		fake := dockertest.Start(t, bootIn)
		m := newManager(t, nil)
		m.cfg.Docker = engineOn(t, fake.Host, docker.Config{Options: docker.Options{Memory: 512 << 20}})
		p := start(t, m, Spec{Environment: dockerEnv(t, "beam")})
		w := p.Workers()[0]
		fake.Containers()["padstone-job-env-1-1"].Kill(oom)
		why := p.Loss(testContext(t), w.ID(), 1)
		for _, part := range []string{"container padstone-job-env-1-1 ended: signal: killed (exit status 137)", want, "boot says hello"} {
			if !strings.Contains(why, part) {
				t.Errorf("%q does not tell of %q", why, part)
			}
		}
		back(t, p, w, 1)
		echo(t, m, w, "d")
		if left := fake.Containers(); len(left) != 1 || left["padstone-job-env-1-2"] == nil {
			t.Errorf("there are %v", left)
		}
		p.Close(t.Context())
	}
}

// TestWorkerKilledInItsContainer: boot lives on and starts another; that memory was short is told once.
func TestWorkerKilledInItsContainer(t *testing.T) {
	t.Parallel()
	fake := dockertest.Start(t, func(ctx context.Context, c *dockertest.Container) int {
		for ctx.Err() == nil {
			bootIn(ctx, c)
		}
		return 0
	})
	m := newManager(t, func(c *Config) { c.StopTimeout, c.LossWait = 20*time.Millisecond, 5*time.Second })
	m.cfg.Docker = engineOn(t, fake.Host, docker.Config{})
	p := start(t, m, Spec{Environment: dockerEnv(t, "beam")})
	w := p.Workers()[0]
	fake.Containers()["padstone-job-env-1-1"].Starve()
	w.Disconnect("test")
	if why := p.Loss(testContext(t), w.ID(), 1); !strings.Contains(why, "the kernel has killed a process of it for memory") {
		t.Errorf("%q", why)
	}
	back(t, p, w, 1)
	generation := w.Generation()
	w.Disconnect("test")
	if why := p.Loss(testContext(t), w.ID(), generation); !strings.Contains(why, "Beam's boot program in the container") {
		t.Errorf("%q", why)
	}
	if len(fake.Containers()) != 1 {
		t.Errorf("there are %v", fake.Containers())
	}
}

// TestContainerThatEndsAtOnce: the error has its exit status and its last words, and the container is not left.
func TestContainerThatEndsAtOnce(t *testing.T) {
	fake := dockertest.Start(t, func(_ context.Context, c *dockertest.Container) int {
		fmt.Fprint(c.Stderr, "Python: no module named apache_beam") // without a line end
		return 3
	})
	m := newManager(t, withEngine(t, fake.Host))
	_, err := m.Start(testContext(t), Spec{JobName: "job", EnvID: "py", Environment: dockerEnv(t, "beam")})
	wantCode(t, err, fault.Environment, "harness-start")
	for _, want := range []string{`environment "py"`, "container of beam", "exit status 3", "no module named apache_beam"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if left := fake.Containers(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// mute is a boot program that cannot reach the server: it dials for minutes and says nothing.
func mute(ctx context.Context, c *dockertest.Container) int {
	select {
	case <-ctx.Done():
	case <-c.Over():
	}
	return 1
}

// TestContainerWithoutARoute is found out long before the start's own limit, and the container is not waited for.
func TestContainerWithoutARoute(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		exec dockertest.Exec
		want string
	}{
		{"refused", func(context.Context, []string) (string, int) { return "trying\nConnection refused", 1 }, "Connection refused"},
		{"nothing to try with", nil, "nothing came within 2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fake := dockertest.Start(t, mute)
			fake.OnExec(c.exec)
			m := newManager(t, func(c *Config) {
				c.StartTimeout, c.StopTimeout, c.BootSilence = time.Minute, time.Minute, 2*time.Second
			})
			m.cfg.Docker = engineOn(t, fake.Host, docker.Config{})
			_, err := m.Start(testContext(t), Spec{Environment: dockerEnv(t, "beam")})
			wantCode(t, err, fault.Environment, "docker-no-route")
			if !strings.Contains(err.Error(), m.cfg.Server.Endpoint()) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if left := fake.Containers(); len(left) != 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// TestContainerThatTakesItsTime: a route that works, or an entry point that is not Beam's, has the whole time of a start.
func TestContainerThatTakesItsTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, image string
		exec        dockertest.Exec
	}{
		{"with a route", "beam", func(context.Context, []string) (string, int) { return "trying\n", 0 }},
		{"with an entry point of its own", "custom", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int64
			fake := dockertest.Start(t, func(ctx context.Context, c *dockertest.Container) int {
				for tries.Load() < 3 && ctx.Err() == nil {
					time.Sleep(time.Millisecond)
				}
				return bootIn(ctx, c)
			})
			fake.AddImage("custom", "/entry.sh")
			fake.OnExec(func(ctx context.Context, args []string) (string, int) {
				tries.Add(1)
				if c.exec == nil {
					return "", 126
				}
				return c.exec(ctx, args)
			})
			m := newManager(t, func(c *Config) { c.BootSilence = time.Millisecond })
			m.cfg.Docker = engineOn(t, fake.Host, docker.Config{})
			start(t, m, Spec{Environment: dockerEnv(t, c.image)})
		})
	}
}

// TestContainersThatAreNoHarness: the error of an image that never calls names its entry point, one without is not started.
func TestContainersThatAreNoHarness(t *testing.T) {
	fake := dockertest.Start(t, func(ctx context.Context, c *dockertest.Container) int {
		if strings.HasPrefix(c.Create.Image, "sleeps") {
			<-ctx.Done()
		}
		return 0
	})
	fake.AddImage("ends", "/entry.sh", "-x")
	fake.AddImage("sleeps", "/entry.sh", "-x")
	fake.AddImage("nothing")
	withEngine := withEngine(t, fake.Host)
	m := newManager(t, func(c *Config) {
		withEngine(c)
		c.StartTimeout = 100 * time.Millisecond
	})
	for image, code := range map[string]fault.Code{"ends": "harness-start", "sleeps": "harness-start-timeout", "nothing": "docker-no-entry-point"} {
		_, err := m.Start(testContext(t), Spec{Environment: dockerEnv(t, image)})
		wantCode(t, err, fault.Environment, code)
		if called := `"/entry.sh -x", and not Beam's boot program`; image != "nothing" && !strings.Contains(err.Error(), called) {
			t.Errorf("%s: %v", image, err)
		}
	}
}

// TestContainersThatAreAtWork have longer to connect than those that say and do nothing, but not for ever.
func TestContainersThatAreAtWork(t *testing.T) {
	var looks atomic.Int64
	enough := make(chan struct{})
	fake := dockertest.Start(t, func(ctx context.Context, c *dockertest.Container) int {
		select {
		case <-enough:
		case <-ctx.Done():
		}
		if c.Create.Image == "never" {
			<-ctx.Done()
		}
		return bootIn(ctx, c)
	})
	fake.AddImage("never", "/opt/apache/beam/boot")
	fake.Before = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/stats") {
			n := looks.Add(1)
			fake.SetStats(map[string]any{"cpu_stats": map[string]any{"cpu_usage": map[string]any{"total_usage": n * 1e9}}, "memory_stats": map[string]any{"usage": 1}})
			if n == 3 {
				close(enough)
			}
		}
		return false
	}
	withEngine := withEngine(t, fake.Host)
	m := newManager(t, func(c *Config) {
		withEngine(c)
		c.StartTimeout, c.StartTimeoutMax = time.Second, 5*time.Minute
	})
	start(t, m, Spec{Environment: dockerEnv(t, "beam")})
	if looks.Load() < 3 {
		t.Errorf("looked %d times", looks.Load())
	}
	m = newManager(t, func(c *Config) { // another one: the first one's pool still reads its own
		withEngine(c)
		c.StartTimeout, c.StartTimeoutMax = 100*time.Millisecond, 300*time.Millisecond
	})
	_, err := m.Start(testContext(t), Spec{Environment: dockerEnv(t, "never")})
	wantCode(t, err, fault.Environment, "harness-start-timeout")
}

// TestContainersOfAnEngineThatWasAway: harnesses work on without it, and the loss of one meanwhile is noticed when it is back.
func TestContainersOfAnEngineThatWasAway(t *testing.T) {
	fake := dockertest.Start(t, bootIn)
	m := newManager(t, withEngine(t, fake.Host))
	p := start(t, m, Spec{Environment: dockerEnv(t, "beam")})
	w := p.Workers()[0]
	fake.Leave()
	echo(t, m, w, "d0")
	containers := fake.Containers()
	containers["padstone-job-env-1-1"].Kill(false)
	fake.Return(t)
	if why := p.Loss(testContext(t), w.ID(), 1); why == "" {
		t.Error("nothing is known of the loss")
	}
	back(t, p, w, 1)
	echo(t, m, w, "d1")
	p.Close(t.Context())
	if left := fake.Containers(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// TestContainersOfAJob: what a job chooses by its options, as SDKs send them, and what it may not.
func TestContainersOfAJob(t *testing.T) {
	fake := dockertest.Start(t, bootIn)
	m := newManager(t, withEngine(t, fake.Host))
	options, err := structpb.NewStruct(map[string]any{
		"beam:option:docker_env:v1": []any{"A=1", "B=2"}, "beam:option:docker_memory:v1": "1g", "beam:option:docker_cpus:v1": 0.5,
		"beam:option:docker_pull:v1": nil, "beam:option:other:v1": "docker_network",
	})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, m, Spec{Environment: dockerEnv(t, "beam"), Options: options})
	c := fake.Containers()["padstone-job-env-1-1"]
	if got := fmt.Sprint(c.Create.Env, c.Create.HostConfig.Memory, c.Create.HostConfig.NanoCPUs); got != "[A=1 B=2] 1073741824 500000000" {
		t.Errorf("got %s", got)
	}
	p.Close(t.Context())
	options.Fields["beam:option:docker_volume:v1"] = structpb.NewStringValue("/:/host")
	_, err = m.Start(testContext(t), Spec{Environment: dockerEnv(t, "beam"), Options: options})
	wantCode(t, err, fault.Pipeline, "docker-not-allowed")
	wantCode(t, m.Check(testContext(t), dockerEnv(t, "beam"), options), fault.Pipeline, "docker-not-allowed")
	if left := fake.Containers(); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// TestCheckOfContainers is what a start would say, before it.
func TestCheckOfContainers(t *testing.T) {
	fake := dockertest.Start(t, bootIn)
	m := newManager(t, withEngine(t, fake.Host))
	if err := m.Check(testContext(t), dockerEnv(t, "beam"), nil); err != nil {
		t.Error(err)
	}
	wantCode(t, m.Check(testContext(t), nil, nil), fault.Pipeline, "unsupported-environment")
	fake.Leave()
	wantCode(t, m.Check(testContext(t), dockerEnv(t, "beam"), nil), fault.Environment, "docker-no-engine")
	_, err := m.Start(testContext(t), Spec{Environment: dockerEnv(t, "beam")})
	wantCode(t, err, fault.Environment, "docker-no-engine")
}
