package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"padstone/internal/fault"
)

// testConfig listens on free ports, with its data in a directory of the test's.
func testConfig(t *testing.T) Config {
	t.Helper()
	cfg := defaultConfig(noEnv)
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.JobEndpoint, cfg.ArtifactEndpoint, cfg.ExpansionEndpoint, cfg.HTTP = "localhost:0", "localhost:0", "localhost:0", "localhost:0"
	return cfg
}

func TestServe(t *testing.T) {
	cfg := testConfig(t)
	cfg.EmbeddedKafka, cfg.EmbeddedKafkaTopics = "localhost:0", topicList{"payments": 2}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan Endpoints, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, cfg, zap.NewNop(), func(e Endpoints) { ready <- e }) }()
	var endpoints Endpoints
	select {
	case endpoints = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}

	term, _, _ := testTerminal(nil)
	api, info, ok, err := locate(ctx, "", cfg.DataDir, term.getenv)
	if err != nil || !ok || info.PID != os.Getpid() || info.Endpoints != endpoints {
		t.Errorf("located %+v, %v, %v; want %+v", info, ok, err, endpoints)
	}
	for _, address := range []string{endpoints.Job, endpoints.Artifact, endpoints.Expansion, endpoints.HTTP, endpoints.EmbeddedKafka} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		_ = conn.Close()
	}
	if jobs, err := api.jobs(ctx); err != nil || len(jobs) != 0 {
		t.Errorf("jobs %v, %v", jobs, err)
	}

	second := testConfig(t)
	second.DataDir = cfg.DataDir
	if err := serve(ctx, second, zap.NewNop(), nil); fault.Of(err) == nil {
		t.Errorf("a second server on the same data directory: %v", err)
	}
	taken := testConfig(t)
	taken.JobEndpoint = endpoints.HTTP
	if err := serve(ctx, taken, zap.NewNop(), nil); fault.Of(err) == nil || fault.Of(err).Code != codeAddress {
		t.Errorf("a port that is taken: %v", err)
	}

	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, ok, err := readServerFile(cfg.DataDir); ok || err != nil {
		t.Errorf("server.json is still there: %v, %v", ok, err)
	}
}

func TestLocateStaleServerFile(t *testing.T) {
	dir := t.TempDir()
	if err := writeServerFile(dir, ServerInfo{PID: 1, Endpoints: Endpoints{HTTP: "localhost:1"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := locate(context.Background(), "", dir, noEnv); ok || err != nil {
		t.Errorf("a server that is gone: %v, %v", ok, err)
	}
	// The port has gone to another server since.
	f := startFake(t)
	if err := writeServerFile(dir, ServerInfo{PID: 1, Endpoints: f.endpoints}); err != nil {
		t.Fatal(err)
	}
	if _, _, ok, err := locate(context.Background(), "", dir, noEnv); ok || err != nil {
		t.Errorf("another server's port: %v, %v", ok, err)
	}
	if err := removeServerFile(dir, os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := readServerFile(dir); !ok {
		t.Error("another server's file was removed")
	}
	if err := os.WriteFile(filepath.Join(dir, serverFileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := locate(context.Background(), "", dir, noEnv); err == nil {
		t.Error("half a file is no error")
	}
}

func TestStackStopsInReverseAndReportsFailure(t *testing.T) {
	var order []string
	s := &stack{log: zap.NewNop(), dataDir: t.TempDir()}
	for _, name := range []string{"engine", "jobs", "http"} {
		s.addCloser(name, func(context.Context) error {
			order = append(order, name)
			return nil
		})
	}
	broken := errors.New("broken")
	s.parts = append(s.parts, part{name: "listener", serve: func(context.Context) error { return broken }})
	if err := s.run(context.Background(), 1, nil); !errors.Is(err, broken) || !strings.Contains(err.Error(), "listener") {
		t.Errorf("error %v", err)
	}
	if want := []string{"http", "jobs", "engine"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
	if left, err := os.ReadDir(s.dataDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDialable(t *testing.T) {
	for _, c := range []struct{ address, want string }{
		{"0.0.0.0:1", "h:1"}, {"[::]:1", "h:1"}, {":1", "h:1"}, {"127.0.0.1:1", "127.0.0.1:1"}, {"a.b:1", "a.b:1"}, {"", ""},
	} {
		if got := dialable(c.address, "h"); got != c.want {
			t.Errorf("%q: %q, want %q", c.address, got, c.want)
		}
	}
}

// TestStagingEndpoint: clients stage where they can reach the server.
func TestStagingEndpoint(t *testing.T) {
	for _, c := range []struct{ job, artifact, called, want string }{
		{"127.0.0.1:8099", "127.0.0.1:8098", "localhost:8099", "127.0.0.1:8098"},
		{"127.0.0.1:8099", "127.0.0.1:8099", "proxy:1", "127.0.0.1:8099"},
		{"[::]:8099", "[::]:8099", "padstone:8099", "padstone:8099"},
		{"[::]:8099", "[::]:8099", "localhost:18099", "localhost:18099"}, // published as another port
		{"[::]:8099", "0.0.0.0:8098", "padstone:8099", "padstone:8098"},
		{"[::]:8099", "[::]:8098", "[fd00::1]:8099", "[fd00::1]:8098"},
		{"[::]:8099", "[::]:8099", "without-a-port", "localhost:8099"},
	} {
		if got := stagingEndpoint(c.job, c.artifact)(c.called); got != c.want {
			t.Errorf("job service at %s, called as %s, artifacts at %s: %s, want %s", c.job, c.called, c.artifact, got, c.want)
		}
	}
}

// TestServeAnswersTheUI asks for one page of everything behind the HTTP port.
func TestServeAnswersTheUI(t *testing.T) {
	cfg := testConfig(t)
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan Endpoints, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, cfg, zap.NewNop(), func(e Endpoints) { ready <- e }) }()
	endpoints := <-ready
	for _, path := range []string{"/", "/healthz", "/metrics", "/api/v1/jobs", "/api/v1/server"} {
		response, err := http.Get("http://" + endpoints.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStartOnDiskThatHangs: the log says what a start waits for, and the server starts when the disk answers.
func TestStartOnDiskThatHangs(t *testing.T) {
	cfg := testConfig(t)
	cfg.DiskTimeout = time.Millisecond
	core, logs := observer.New(zap.ErrorLevel)
	said := make(chan struct{})
	once := sync.OnceFunc(func() { close(said) })
	log := zap.New(core, zap.Hooks(func(zapcore.Entry) error { once(); return nil }))
	hangs := func(cfg Config, log *zap.Logger) (*executor, error) {
		<-said
		return newExecutor(cfg, log)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready, ended := make(chan Endpoints, 1), make(chan error, 1)
	go func() { ended <- serveOn(ctx, cfg, log, hangs, func(e Endpoints) { ready <- e }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	if text := fmt.Sprint(logs.All()[0].ContextMap()["error"]); !strings.Contains(text, "disk-stalled") || !strings.Contains(text, cfg.DataDir) {
		t.Errorf("said %q", text)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
