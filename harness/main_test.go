package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/harness/docker"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// bootMode makes the test binary behave as a harness program; set in the environment's payload. bootWaits names a file that it waits for.
const (
	bootMode  = "PADSTONE_TEST_BOOT"
	bootWaits = "PADSTONE_TEST_BOOT_WAITS"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(bootMode); mode != "" {
		os.Exit(boot(mode))
	}
	goleak.VerifyTestMain(m)
}

// hoard is what a hungry harness has.
var hoard []byte

// boot is a harness program: Beam's container contract, or what a Python worker is told in its environment.
func boot(mode string) int {
	id, endpoint := os.Getenv("WORKER_ID"), strings.Trim(strings.TrimPrefix(os.Getenv("CONTROL_API_SERVICE_DESCRIPTOR"), "url: "), `"`)
	for _, arg := range os.Args[1:] {
		if v, ok := strings.CutPrefix(arg, "--id="); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(arg, "--control_endpoint="); ok {
			endpoint = v
		}
	}
	fmt.Println("boot says hello")
	switch mode {
	case "exit":
		fmt.Fprintln(os.Stderr, "boot cannot go on")
		return 3
	case "busy": // with something that it tells of
		for range 110 { // for longer than a silent one may take
			fmt.Println("installing packages")
			time.Sleep(50 * time.Millisecond)
		}
	case "chatter":
		for {
			fmt.Println("installing packages")
			time.Sleep(time.Millisecond)
		}
	case "mute":
		time.Sleep(time.Hour)
	case "eat":
		for eaten := [][]byte{}; len(eaten) < 4096; eaten = append(eaten, bytes.Repeat([]byte("x"), 1<<20)) {
			time.Sleep(time.Millisecond)
		}
	case "hungry":
		hoard = bytes.Repeat([]byte{1}, 256<<20)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "tells":
		for _, arg := range os.Args[1:] {
			if dir, ok := strings.CutPrefix(arg, "--semi_persist_dir="); ok {
				fmt.Println(os.WriteFile(filepath.Join(dir, "pid"), []byte(fmt.Sprint(os.Getpid())), 0o600))
			}
		}
	case "python":
		options, err := os.ReadFile(os.Getenv("PIPELINE_OPTIONS_FILE"))
		fmt.Println("options", string(options), err)
		staged, err := os.ReadFile(filepath.Join(os.Getenv("SEMI_PERSISTENT_DIRECTORY"), "staged", "pickled_main_session"))
		fmt.Println("staged", string(staged), err)
		fmt.Println("args", os.Args[1:])
	}
	h, err := fakesdk.Start(context.Background(), fakesdk.Config{Endpoint: endpoint, WorkerID: fnapi.WorkerID(id)})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	switch mode {
	case "crash":
		for _, err := os.Stat(os.Getenv(bootWaits)); err != nil; _, err = os.Stat(os.Getenv(bootWaits)) {
			time.Sleep(time.Millisecond) // the first one is to be known before it crashes
		}
		time.Sleep(20 * time.Millisecond) // the others have mostly connected by then
		return 4
	case "stubborn":
		select {}
	}
	<-h.Done()
	if mode == "phoenix" { // starts its worker again under the same id, as boot does, but only once
		if h, err = fakesdk.Start(context.Background(), fakesdk.Config{Endpoint: endpoint, WorkerID: fnapi.WorkerID(id)}); err != nil {
			return 1
		}
		<-h.Done()
	}
	fmt.Println("boot says goodbye")
	return 0
}

// newManager returns a manager on a running Fn API server. It waits long for what comes by itself: a machine that tests may be busy.
func newManager(t *testing.T, adjust func(*Config)) *Manager {
	t.Helper()
	return newManagerOn(t, fnapi.Config{}, adjust)
}

func newManagerOn(t *testing.T, of fnapi.Config, adjust func(*Config)) *Manager {
	t.Helper()
	server, err := fnapi.New(of)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- server.Run(context.Background()) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	cfg := Config{
		Server: server, TempDir: t.TempDir(), StartTimeout: time.Minute, StopTimeout: 30 * time.Second, LossWait: 30 * time.Second,
		BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
	}
	if adjust != nil {
		adjust(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// processEnv is an environment that runs a command.
func processEnv(t *testing.T, command, mode string) *pipepb.Environment {
	t.Helper()
	payload := &pipepb.ProcessPayload{Command: command, Env: map[string]string{bootMode: mode}}
	return &pipepb.Environment{Urn: urnProcess, Payload: marshal(t, payload)}
}

// crashEnv is an environment whose harnesses connect and crash, but not before crash is called.
func crashEnv(t *testing.T) (env *pipepb.Environment, crash func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crash")
	payload := &pipepb.ProcessPayload{Command: self(t), Env: map[string]string{bootMode: "crash", bootWaits: file}}
	return &pipepb.Environment{Urn: urnProcess, Payload: marshal(t, payload)}, func() {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Error(err)
		}
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// self is the path of the test binary.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, m *Manager, spec Spec) *Pool {
	t.Helper()
	spec.JobID, spec.JobName, spec.EnvID = "job-1", "job", "env-1"
	p, err := m.Start(testContext(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func wantCode(t *testing.T, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	if f := fault.Of(err); f == nil || f.Kind != kind || f.Code != code {
		t.Fatalf("got %v, want a fault of kind %s with code %s", err, kind, code)
	}
}

// echo runs a bundle on a worker: what goes in must come out.
func echo(t *testing.T, m *Manager, w *fnapi.Worker, id string) {
	t.Helper()
	d, err := fakesdk.Chain(id, m.cfg.Server.Endpoint(), "bytes")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.cfg.Server.AddDescriptor(d); err != nil {
		t.Fatal(err)
	}
	var got []byte
	b, err := w.StartBundle(testContext(t), fnapi.StartBundle{
		InstructionID: fnapi.InstructionID("i-" + id), DescriptorID: fnapi.DescriptorID(id),
		Inputs: []string{fakesdk.SourceID}, Outputs: []string{fakesdk.SinkID},
		OnData: func(_ string, data []byte, _ *buffers.Buffer) { got = append(got, data...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	in := fakesdk.InGlobalWindow(5, fakesdk.Nested([]byte("x"))).Append(nil)
	if err := b.SendData(testContext(t), fakesdk.SourceID, in); err != nil {
		t.Fatal(err)
	}
	if err := b.Finish(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if string(got) != string(in) {
		t.Fatalf("got % x, sent % x", got, in)
	}
}

// withEngine gives a manager a Docker Engine at an address.
func withEngine(t *testing.T, host string) func(*Config) {
	t.Helper()
	e, err := docker.New(docker.Config{Host: host, Owner: "test", RetryEvery: 10 * time.Millisecond, AnswerTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(c *Config) { c.Docker = e }
}
