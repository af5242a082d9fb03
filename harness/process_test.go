package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/internal/fault"
)

func TestProcess(t *testing.T) {
	m := newManager(t, nil)
	p := start(t, m, Spec{Environment: processEnv(t, self(t), "run"), Processes: 2})
	workers := p.Workers()
	if len(workers) != 2 {
		t.Fatalf("%d workers", len(workers))
	}
	echo(t, m, workers[0], "d0")
	echo(t, m, workers[1], "d1")
	p.Close(context.Background())
	p.Close(context.Background())
	if logs := strings.Join(p.LastLogs(), "\n"); !strings.Contains(logs, "hello") || !strings.Contains(logs, "goodbye") {
		t.Fatalf("logs %q: harnesses were not left to end by themselves", logs)
	}
	if left, err := os.ReadDir(m.cfg.TempDir); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	if n := len(p.Workers()); n != 0 {
		t.Fatalf("%d workers after Close", n)
	}
}

func TestProcessThatExits(t *testing.T) {
	m := newManager(t, nil)
	_, err := m.Start(testContext(t), Spec{EnvID: "py", Environment: processEnv(t, self(t), "exit")})
	wantCode(t, err, fault.Environment, "harness-start")
	for _, want := range []string{`environment "py"`, self(t), "exit status 3", "boot says hello", "boot cannot go on"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestProcessThatDoesNotExist(t *testing.T) {
	m := newManager(t, nil)
	_, err := m.Start(testContext(t), Spec{EnvID: "py", Environment: processEnv(t, "/no/such/boot", "run")})
	wantCode(t, err, fault.Environment, "harness-start")
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

func TestProcessThatDoesNotConnect(t *testing.T) {
	m := newManager(t, func(c *Config) { c.StartTimeout, c.StopTimeout = 300*time.Millisecond, 10*time.Millisecond })
	_, err := m.Start(testContext(t), Spec{Environment: processEnv(t, self(t), "mute")})
	wantCode(t, err, fault.Environment, "harness-start-timeout")
}

// TestProcessThatTellsWhatItDoes has longer to connect than one that says nothing, but not for ever.
func TestProcessThatTellsWhatItDoes(t *testing.T) {
	t.Parallel()
	t.Run("and connects", func(t *testing.T) {
		t.Parallel()
		m := newManager(t, func(c *Config) { c.StartTimeout, c.StartTimeoutMax = 5*time.Second, 2*time.Minute })
		start(t, m, Spec{Environment: processEnv(t, self(t), "busy")})
	})
	t.Run("and does not", func(t *testing.T) {
		t.Parallel()
		m := newManager(t, func(c *Config) {
			c.StartTimeout, c.StartTimeoutMax, c.StopTimeout = 200*time.Millisecond, 600*time.Millisecond, 10*time.Millisecond
		})
		_, err := m.Start(testContext(t), Spec{Environment: processEnv(t, self(t), "chatter")})
		wantCode(t, err, fault.Environment, "harness-start-timeout")
	})
}

// TestStartGivenUp does not wait for the end of a harness that has not got any work yet.
func TestStartGivenUp(t *testing.T) {
	m := newManager(t, func(c *Config) { c.StopTimeout = time.Hour })
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("job cancelled")) })
	_, err := m.Start(ctx, Spec{Environment: processEnv(t, self(t), "mute")})
	wantCode(t, err, fault.Environment, "harness-start")
	if !strings.Contains(err.Error(), "job cancelled") {
		t.Fatalf("got %v", err)
	}
}

func TestStubbornProcessIsKilled(t *testing.T) {
	m := newManager(t, func(c *Config) { c.StopTimeout = 20 * time.Millisecond })
	p := start(t, m, Spec{Environment: processEnv(t, self(t), "stubborn")})
	p.Close(context.Background()) // returns, which goleak holds it to
	m = newManager(t, func(c *Config) { c.StopTimeout = time.Hour })
	p = start(t, m, Spec{Environment: processEnv(t, self(t), "stubborn")})
	hurry, cancel := context.WithCancel(context.Background())
	cancel()
	p.Close(hurry)
}

// TestCrashingProcess: it connects and crashes again and again, until the pool gives up.
func TestCrashingProcess(t *testing.T) {
	changed := make(chan struct{}, 100)
	m := newManager(t, func(c *Config) { c.RestartsMax = 3 })
	env, crash := crashEnv(t)
	p := start(t, m, Spec{Environment: env, OnChange: func() { changed <- struct{}{} }})
	crash()
	for p.Err() == nil {
		select {
		case <-changed:
		case <-testContext(t).Done():
			t.Fatal("the pool does not give up")
		}
	}
	wantCode(t, p.Err(), fault.Environment, "harness-unstable")
	if !strings.Contains(p.Err().Error(), "boot says hello") {
		t.Fatalf("no log lines in %v", p.Err())
	}
}

func TestLostProcessComesBack(t *testing.T) {
	changed := make(chan struct{}, 100)
	m := newManager(t, nil)
	p := start(t, m, Spec{Environment: processEnv(t, symlink(t, "python3"), "run"), OnChange: func() { changed <- struct{}{} }})
	w := p.Workers()[0]
	<-changed // ready
	w.Disconnect("test")
	for len(p.Workers()) == 0 || w.Generation() < 2 {
		select {
		case <-changed:
		case <-testContext(t).Done():
			t.Fatal("the worker does not come back")
		}
	}
	if p.Workers()[0].ID() != w.ID() {
		t.Fatal("another id")
	}
	echo(t, m, w, "d")
	p.Progressed()
}

// TestBootThatRespawns: the program lives on and its worker comes back by itself; no second program is started.
func TestBootThatRespawns(t *testing.T) {
	changed := make(chan struct{}, 100)
	m := newManager(t, func(c *Config) { c.LossWait = 100 * time.Millisecond }) // the program does not end
	p := start(t, m, Spec{Environment: processEnv(t, self(t), "phoenix"), OnChange: func() { changed <- struct{}{} }})
	w := p.Workers()[0]
	w.Disconnect("test")
	for w.Generation() < 2 || len(p.Workers()) == 0 {
		select {
		case <-changed:
		case <-testContext(t).Done():
			t.Fatal("the worker does not come back")
		}
	}
	echo(t, m, w, "d")
	p.Close(context.Background())
	if n := strings.Count(strings.Join(p.LastLogs(), "\n"), "hello"); n != 1 {
		t.Fatalf("%d programs were started", n)
	}
}

// symlink makes the test binary available under another name.
func symlink(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// artifacts is a retrieval service with one content.
type artifacts struct {
	jobpb.UnimplementedArtifactRetrievalServiceServer
	content []byte
}

func (a *artifacts) ResolveArtifacts(_ context.Context, req *jobpb.ResolveArtifactsRequest) (*jobpb.ResolveArtifactsResponse, error) {
	return &jobpb.ResolveArtifactsResponse{Replacements: req.GetArtifacts()}, nil
}

func (a *artifacts) GetArtifact(_ *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer) error {
	for i := range a.content {
		if err := stream.Send(&jobpb.GetArtifactResponse{Data: a.content[i : i+1]}); err != nil {
			return err
		}
	}
	return nil
}

func serveArtifacts(t *testing.T, content string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	jobpb.RegisterArtifactRetrievalServiceServer(s, &artifacts{content: []byte(content)})
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-served })
	return lis.Addr().String()
}

// dependency is a file with a digest and the name that it is staged under.
func dependency(t *testing.T, name, content string) *pipepb.ArtifactInformation {
	t.Helper()
	digest := sha256.Sum256([]byte(content))
	return &pipepb.ArtifactInformation{
		TypeUrn: typeFile, TypePayload: marshal(t, &pipepb.ArtifactFilePayload{Path: "/x/y", Sha256: hex.EncodeToString(digest[:])}),
		RoleUrn: roleStagingTo, RolePayload: marshal(t, &pipepb.ArtifactStagingToRolePayload{StagedName: name}),
	}
}

func TestDirectPython(t *testing.T) {
	m := newManager(t, nil)
	options, err := structpb.NewStruct(map[string]any{"beam:option:runner:v1": "Portable"})
	if err != nil {
		t.Fatal(err)
	}
	env := processEnv(t, symlink(t, "python3.12"), "python")
	env.Dependencies = []*pipepb.ArtifactInformation{dependency(t, "pickled_main_session", "pickle")}
	logs := make(chan fnapi.LogEntry, 100)
	p := start(t, m, Spec{
		Environment: env, Options: options, ArtifactEndpoint: serveArtifacts(t, "pickle"), Processes: 2,
		Log: func(e fnapi.LogEntry) { logs <- e },
	})
	for _, w := range p.Workers() {
		echo(t, m, w, "d-"+string(w.ID()))
	}
	p.Close(context.Background())
	text := strings.Join(p.LastLogs(), "\n")
	for _, want := range []string{
		`"beam:option:runner:v1":`, "staged pickle <nil>", "args [-m apache_beam.runners.worker.sdk_worker_main]",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %s", want, text)
		}
	}
	if e := <-logs; e.Worker == "" || e.Message == "" {
		t.Errorf("log entry %+v", e)
	}
}

func TestArtifactsAreChecked(t *testing.T) {
	endpoint := serveArtifacts(t, "tampered")
	for name, dep := range map[string]*pipepb.ArtifactInformation{
		"digest": dependency(t, "pickled_main_session", "original"),
		"escape": dependency(t, "../../etc/passwd", "tampered"),
	} {
		err := fetchArtifacts(testContext(t), endpoint, "w", []*pipepb.ArtifactInformation{dep}, t.TempDir())
		wantCode(t, err, fault.Environment, "harness-artifact")
		if name == "escape" && !strings.Contains(err.Error(), "leaves its directory") {
			t.Fatal(err)
		}
	}
	err := fetchArtifacts(testContext(t), "", "w", []*pipepb.ArtifactInformation{dependency(t, "a", "a")}, t.TempDir())
	wantCode(t, err, fault.Internal, "harness-artifact")
}
