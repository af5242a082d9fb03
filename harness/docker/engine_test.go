package docker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"padstone/harness/docker"
	"padstone/harness/docker/dockertest"
	"padstone/internal/fault"
)

// logins is where passwords of registries are read from, which is found out once.
var logins string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "docker-config")
	if err != nil {
		panic(err)
	}
	logins = filepath.Join(dir, "config.json")
	os.Setenv("DOCKER_CONFIG", dir)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		os.RemoveAll(dir)
		os.Exit(status)
	}))
}

// open returns an Engine at the address of a scripted one, which does not wait for long.
func open(t *testing.T, e *dockertest.Engine, adjust func(*docker.Config)) *docker.Engine {
	t.Helper()
	cfg := docker.Config{
		Host: e.Host, Owner: "this-server", AnswerTimeout: 10 * time.Second, PullStall: 10 * time.Second, RetryEvery: time.Millisecond,
	}
	if adjust != nil {
		adjust(&cfg)
	}
	engine, err := docker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// text is a writer that may be read meanwhile.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func spec() (docker.Spec, *text) {
	out := &text{}
	return docker.Spec{
		Image: "beam", Args: []string{"--id=w"}, Endpoint: "localhost:1", Options: docker.Options{Network: "host", Pull: docker.PullMissing},
		JobID: "job-1", JobName: "My job: nightly", EnvID: "env/1", Number: 1, Stdout: out, Stderr: out,
	}, out
}

func start(t *testing.T, e *docker.Engine, s docker.Spec) *docker.Container {
	t.Helper()
	c, err := e.Start(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(time.Millisecond, closed()) })
	return c
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func wantCode(t *testing.T, err error, kind fault.Kind, code fault.Code, parts ...string) {
	t.Helper()
	f := fault.Of(err)
	if f == nil || f.Kind != kind || f.Code != code {
		t.Fatalf("got %v, want a fault of kind %s with code %s", err, kind, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("%v does not tell of %q", err, part)
		}
	}
	if f.Hint == "" && code != "docker-refused" && code != "docker-option" {
		t.Fatalf("%v has no hint", err)
	}
}

// eventually waits for a condition that must come true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// sleeper runs until it is stopped.
func sleeper(ctx context.Context, _ *dockertest.Container) int {
	<-ctx.Done()
	return 0
}

// TestContainerIsMadeAsOptionsSay: what the Engine is asked for.
func TestContainerIsMadeAsOptionsSay(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	s, _ := spec()
	s.Endpoint = "host.docker.internal:8101"
	s.Options = docker.Options{
		Network: "bridge", Env: []string{"A=1,2"}, Volumes: []string{"/data:/in:ro", "cache:/cache"}, Hosts: []string{"db:10.0.0.1"},
		Memory: 512 << 20, CPUs: 1.5,
	}
	c := start(t, e, s)
	got := fake.Containers()[c.Name()]
	if c.Name() != "padstone-My-job-nightly-env-1-1" || got == nil {
		t.Fatalf("the name is %q, of %v", c.Name(), fake.Containers())
	}
	host := got.Create.HostConfig
	for what, pair := range map[string][2]any{
		"image":      {got.Create.Image, "beam"},
		"arguments":  {[]string(got.Create.Cmd), s.Args},
		"entrypoint": {len(got.Create.Entrypoint), 0},
		"variables":  {got.Create.Env, s.Options.Env},
		"network":    {string(host.NetworkMode), "bridge"},
		"hosts":      {host.ExtraHosts, []string{"db:10.0.0.1", "host.docker.internal:host-gateway"}},
		"memory":     {host.Memory, int64(512 << 20)},
		"swap":       {host.MemorySwap, int64(512 << 20)},
		"processors": {host.NanoCPUs, int64(1500000000)},
		"security":   {host.SecurityOpt, []string{"no-new-privileges"}},
		"privileged": {host.Privileged, false},
		"removal":    {host.AutoRemove, false},
		"server":     {got.Create.Labels[docker.LabelServer], "this-server"},
		"job id":     {got.Create.Labels[docker.LabelJobID], "job-1"},
		"job name":   {got.Create.Labels[docker.LabelJobName], "My job: nightly"},
		"env":        {got.Create.Labels[docker.LabelEnv], "env/1"},
	} {
		if fmt.Sprint(pair[0]) != fmt.Sprint(pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	m := host.Mounts
	if len(m) != 2 || m[0].Type != "bind" || m[0].Source != "/data" || m[0].Target != "/in" || !m[0].ReadOnly ||
		m[1].Type != "volume" || m[1].Source != "cache" || m[1].ReadOnly {
		t.Errorf("mounts %+v", m)
	}
}

// TestNameThatIsTaken: two servers may share an Engine and have jobs of one name.
func TestNameThatIsTaken(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	s, _ := spec()
	fake.AddContainer("padstone-My-job-nightly-env-1-1", nil)
	c := start(t, open(t, fake, nil), s)
	if !strings.HasPrefix(c.Name(), "padstone-My-job-nightly-env-1-1-") {
		t.Errorf("the name is %q", c.Name())
	}
}

// TestOutputIsReadToItsEnd: all of it is there when the container is known to have ended, and the container is until it is stopped.
func TestOutputIsReadToItsEnd(t *testing.T) {
	fake := dockertest.Start(t, func(_ context.Context, c *dockertest.Container) int {
		for i := range 200 {
			fmt.Fprintf(c.Stdout, "line %d\n", i)
		}
		fmt.Fprintln(c.Stderr, "the end")
		return 3
	})
	s, _ := spec()
	stdout, stderr := &text{}, &text{}
	s.Stdout, s.Stderr = stdout, stderr
	c := start(t, open(t, fake, nil), s)
	<-c.Done()
	if n := strings.Count(stdout.String(), "\n"); n != 200 || stderr.String() != "the end\n" {
		t.Errorf("%d lines and %q", n, stderr.String())
	}
	if c.Exit().String() != "exit status 3" || len(fake.Containers()) != 1 {
		t.Errorf("it ended with %q; there are %v", c.Exit(), fake.Containers())
	}
	c.Stop(time.Minute, nil)
	if len(fake.Containers()) != 0 {
		t.Error("the container is left")
	}
}

func TestExitReasons(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int64
		kill  func(*dockertest.Container, *dockertest.Engine)
		want  []string
	}{
		{"killed", 0, func(c *dockertest.Container, _ *dockertest.Engine) { c.Kill(false) },
			[]string{"signal: killed (exit status 137)"}},
		{"for memory", 512 << 20, func(c *dockertest.Container, _ *dockertest.Engine) { c.Kill(true) },
			[]string{"signal: killed", "for memory, its limit is 512MiB"}},
		{"for the machine's memory", 0, func(c *dockertest.Container, _ *dockertest.Engine) { c.Kill(true) },
			[]string{"for memory; it has no limit of its own"}},
		{"removed", 0, func(c *dockertest.Container, e *dockertest.Engine) {
			request, _ := http.NewRequest(http.MethodDelete, "/v1.41/containers/"+c.ID+"?force=1", nil)
			e.ServeHTTP(&discard{}, request)
		}, []string{"somebody has removed the container"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := dockertest.Start(t, sleeper)
			s, _ := spec()
			s.Options.Memory = c.limit
			got := start(t, open(t, fake, nil), s)
			c.kill(fake.Containers()[got.Name()], fake)
			if <-got.Done(); got.Exit().Killed() != (c.name == "killed") {
				t.Errorf("killed for no reason that is known: %t", got.Exit().Killed())
			}
			for _, part := range c.want {
				if !strings.Contains(got.Exit().String(), part) {
					t.Errorf("%q does not tell of %q", got.Exit(), part)
				}
			}
		})
	}
}

// discard takes an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = make(http.Header)
	}
	return d.header
}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// TestStarved: a container whose first process lives on although another was killed.
func TestStarved(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	s, _ := spec()
	s.Options.Memory = 64 << 20
	c := start(t, open(t, fake, nil), s)
	if why := c.Starved(testContext(t)); why != "" {
		t.Errorf("it tells %q", why)
	}
	for range 2 {
		fake.Containers()[c.Name()].Starve()
		if why := c.Starved(testContext(t)); !strings.Contains(why, "64MiB") {
			t.Errorf("it tells %q", why)
		}
		if why := c.Starved(testContext(t)); why != "" {
			t.Errorf("it tells %q again", why)
		}
	}
}

// TestStop: a container that ends by itself is waited for, one that does not is stopped, and one that ignores that is removed.
func TestStop(t *testing.T) {
	told := make(chan struct{})
	for _, c := range []struct {
		name    string
		program dockertest.Program
		stopped bool
	}{
		{"by itself", func(context.Context, *dockertest.Container) int { <-told; return 0 }, false},
		{"when it is asked", sleeper, true},
		{"never", deaf, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := dockertest.Start(t, c.program)
			s, _ := spec()
			got, err := open(t, fake, nil).Start(testContext(t), s)
			if err != nil {
				t.Fatal(err)
			}
			patience := 10 * time.Millisecond
			if !c.stopped {
				patience = time.Minute
				close(told)
			}
			got.Stop(patience, nil)
			if len(fake.Containers()) != 0 {
				t.Error("the container is left")
			}
			asked := slices.ContainsFunc(fake.Requests(), func(r string) bool { return strings.HasSuffix(r, "/stop") })
			if asked != c.stopped {
				t.Errorf("asked to stop: %t", asked)
			}
		})
	}
}

// deaf is a program that ends only with the test.
func deaf(_ context.Context, c *dockertest.Container) int {
	<-c.Over()
	return 0
}

// TestStopInAHurry waits for nothing.
func TestStopInAHurry(t *testing.T) {
	fake := dockertest.Start(t, deaf)
	s, _ := spec()
	c, err := open(t, fake, nil).Start(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop(time.Hour, closed())
	if len(fake.Containers()) != 0 {
		t.Error("the container is left")
	}
}

// TestContainerThatCannotStart is removed, and the Engine's own words are told.
func TestContainerThatCannotStart(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	fake.Before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/start") {
			return false
		}
		http.Error(w, `{"message":"exec: \"/opt/apache/beam/boot\": no such file or directory"}`, http.StatusBadRequest)
		return true
	}
	s, _ := spec()
	_, err := open(t, fake, nil).Start(testContext(t), s)
	wantCode(t, err, fault.Environment, "docker-refused", "no such file", "entry point")
	if len(fake.Containers()) != 0 {
		t.Error("the container is left")
	}
	s.Image = "gone"
	_, err = open(t, fake, nil).Start(testContext(t), s)
	wantCode(t, err, fault.Environment, "docker-no-image", "gone")
}

// TestNoEngine: whoever wants a container where nothing listens is told at once.
func TestNoEngine(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	fake.Leave()
	wantCode(t, e.Ping(testContext(t)), fault.Environment, "docker-no-engine", fake.Host)
	err := e.Provide(testContext(t), "beam", docker.PullMissing, func(string) {})
	wantCode(t, err, fault.Environment, "docker-no-engine")
	s, _ := spec()
	_, err = e.Start(testContext(t), s)
	wantCode(t, err, fault.Environment, "docker-no-engine")
	if n, err := e.Reap(testContext(t)); n != 0 || err != nil {
		t.Errorf("an Engine that is not there has left %d, %v", n, err)
	}
	given, cancel := context.WithCancelCause(testContext(t))
	cancel(errors.New("the job was cancelled"))
	if err := e.Ping(given); err == nil || !strings.Contains(err.Error(), "the job was cancelled") {
		t.Errorf("a caller that gave up is told %v", err)
	}
}

// TestEngineThatHangs: no call waits for ever, and what it does late is undone.
func TestEngineThatHangs(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, func(c *docker.Config) { c.AnswerTimeout, c.ActTimeout = 500*time.Millisecond, 3*time.Second })
	var hanging atomic.Pointer[chan struct{}] // a request may come to be answered long after it was given up
	hang := func() (wake func()) {
		wakes := make(chan struct{})
		hanging.Store(&wakes)
		return func() { close(wakes) }
	}
	wake, creates := hang(), make(chan struct{}, 1)
	fake.Before = func(w http.ResponseWriter, r *http.Request) bool {
		wakes := *hanging.Load()
		select {
		case <-wakes:
			return false
		default:
		}
		if r.Method != http.MethodPost { // a creation is carried out although nobody waits for its answer any more
			<-r.Context().Done()
			return true
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		creates <- struct{}{}
		<-wakes
		return err != nil
	}
	wantCode(t, e.Ping(testContext(t)), fault.Environment, "docker-no-engine", "does not answer")
	if _, err := e.Reap(testContext(t)); fault.Of(err) == nil {
		t.Errorf("reaping told %v", err)
	}
	wake()
	eventually(t, "it answers", func() bool { return e.Ping(testContext(t)) == nil }) // the version of the API is known from now on
	wake = hang()
	s, _ := spec()
	_, err := e.Start(testContext(t), s)
	wantCode(t, err, fault.Environment, "docker-no-engine", "does not answer")
	select {
	case <-creates:
	case <-testContext(t).Done():
		t.Fatal("nothing was created")
	}
	wake()
	created := func() bool {
		return slices.ContainsFunc(fake.Requests(), func(r string) bool { return strings.HasPrefix(r, "DELETE ") })
	}
	eventually(t, "the container that was created late is removed", func() bool { return created() && len(fake.Containers()) == 0 })
}

// TestEngineThatGoesAway: a container outlives it, and is watched and removed when it is back.
func TestEngineThatGoesAway(t *testing.T) {
	said, more := make(chan struct{}), make(chan struct{})
	fake := dockertest.Start(t, func(ctx context.Context, c *dockertest.Container) int {
		fmt.Fprintln(c.Stdout, "before")
		close(said)
		<-more
		fmt.Fprintln(c.Stdout, "after")
		return 7
	})
	e := open(t, fake, nil)
	s, out := spec()
	c := start(t, e, s)
	<-said
	eventually(t, "the first line", func() bool { return out.String() == "before\n" })
	fake.Leave()
	select {
	case <-c.Done():
		t.Fatal("the container is taken for ended")
	case <-time.After(20 * time.Millisecond):
	}
	close(more)
	fake.Return(t)
	<-c.Done()
	if out.String() != "before\nafter\n" || c.Exit().Code != 7 {
		t.Errorf("%q, %v", out.String(), c.Exit())
	}
	fake.Leave()
	c.Stop(time.Minute, nil)
	if len(fake.Containers()) != 1 {
		t.Error("an Engine that is away has removed a container")
	}
	fake.Return(t)
	eventually(t, "the container is removed once the Engine is back", func() bool { return len(fake.Containers()) == 0 })
}

// TestCloseRemovesWhatIsLeft: the last chance.
func TestCloseRemovesWhatIsLeft(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e, err := docker.New(docker.Config{Host: fake.Host, Owner: "x", RetryEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := spec()
	c, err := e.Start(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	fake.Leave()
	c.Stop(time.Millisecond, closed())
	fake.Return(t)
	if err := e.Close(); err != nil || len(fake.Containers()) != 0 {
		t.Errorf("%v; left %v", err, fake.Containers())
	}
}

// TestReap: a server removes what a former one on its data directory has left, and nothing else.
func TestReap(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, nil)
	s, _ := spec()
	mine := start(t, e, s)
	fake.AddContainer("former-1", map[string]string{docker.LabelServer: "this-server", docker.LabelRun: "former"})
	fake.AddContainer("former-2", map[string]string{docker.LabelServer: "this-server"})
	fake.AddContainer("other", map[string]string{docker.LabelServer: "this-server-too", docker.LabelRun: "former"})
	fake.AddContainer("stranger", nil)
	n, err := e.Reap(testContext(t))
	if n != 2 || err != nil {
		t.Fatalf("removed %d, %v", n, err)
	}
	left := fake.Containers()
	if len(left) != 3 || left[mine.Name()] == nil || left["other"] == nil || left["stranger"] == nil {
		t.Errorf("left are %v", left)
	}
}

// TestUsage: what an Engine tells of a container, in both versions of the kernel's control groups.
func TestUsage(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	s, _ := spec()
	c := start(t, open(t, fake, nil), s)
	for name, memory := range map[string]int64{"total_inactive_file": 700, "inactive_file": 700, "something": 1000} {
		fake.SetStats(map[string]any{
			"cpu_stats":    map[string]any{"cpu_usage": map[string]any{"total_usage": 5}},
			"memory_stats": map[string]any{"usage": 1000, "stats": map[string]any{name: 300}},
		})
		if cpu, got, known := c.Usage(testContext(t)); cpu != 5 || got != memory || !known {
			t.Errorf("%s: %v, %d, %t", name, cpu, got, known)
		}
	}
	fake.SetStats(map[string]any{})
	if _, _, known := c.Usage(testContext(t)); known {
		t.Error("what is not counted is known")
	}
	fake.Leave()
	if _, _, known := c.Usage(testContext(t)); known {
		t.Error("an Engine that is away tells")
	}
}

// TestStartThatIsGivenUp: a container that was created while its job ended is not left, nor one that was started.
func TestStartThatIsGivenUp(t *testing.T) {
	for _, when := range []string{"/create", "/start"} {
		fake := dockertest.Start(t, sleeper)
		ctx, cancel := context.WithCancelCause(testContext(t))
		fake.Before = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, when) {
				cancel(errors.New("the job has ended"))
			}
			return false
		}
		s, _ := spec()
		_, err := open(t, fake, nil).Start(ctx, s)
		wantCode(t, err, fault.Environment, "docker-refused", "the job has ended")
		if !slices.ContainsFunc(fake.Requests(), func(r string) bool { return strings.HasSuffix(r, "/create") }) || len(fake.Containers()) != 0 {
			t.Errorf("%s: asked %q; left %v", when, fake.Requests(), fake.Containers())
		}
	}
}

// TestStopWhileTheEngineHangs does not wait for it, and the container is removed once it answers.
func TestStopWhileTheEngineHangs(t *testing.T) {
	fake := dockertest.Start(t, sleeper)
	e := open(t, fake, func(c *docker.Config) { c.AnswerTimeout, c.ActTimeout = 50*time.Millisecond, time.Hour })
	s, _ := spec()
	c, err := e.Start(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	wakes := make(chan struct{})
	fake.Hang(wakes)
	c.Stop(time.Millisecond, nil)
	if len(fake.Containers()) != 1 {
		t.Error("an Engine that hangs has removed a container")
	}
	close(wakes)
	eventually(t, "the container is removed", func() bool { return len(fake.Containers()) == 0 })
}
