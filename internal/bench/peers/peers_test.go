package peers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"padstone/internal/bench"
	"padstone/internal/fault"
)

func TestSelect(t *testing.T) {
	cases := []struct{ names, want string }{
		{"gbk,chain", "empty chain gbk"},
		{"latency", "latency"},
		{"latency,state", "empty state latency"},
		{"empty", "empty"},
		{strings.Join(Names(), ","), strings.Join(Names(), " ")},
	}
	for _, c := range cases {
		selected, _, ok := Select(strings.Split(c.names, ","))
		var names []string
		for _, one := range selected {
			names = append(names, one.Name)
		}
		if got := strings.Join(names, " "); got != c.want || !ok {
			t.Errorf("%s: %s, %v; want %s", c.names, got, ok, c.want)
		}
	}
	if _, unknown, ok := Select([]string{"gbk", "gkb"}); ok || unknown != "gkb" {
		t.Errorf("gkb is a case: %q", unknown)
	}
}

// TestKitHasTheCases holds that the names here are those of the kit.
func TestKitHasTheCases(t *testing.T) {
	text, err := kitFiles.ReadFile("load/padstone_load/cases.py")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\nCASES:")
	var there []string
	for line := range strings.Lines(table) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), `": `); ok {
			there = append(there, strings.TrimPrefix(name, `"`))
		}
	}
	if !slices.Equal(there, Names()) {
		t.Errorf("the kit has %q, this package %q", there, Names())
	}
	dir := t.TempDir()
	if err := unpack(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "load", "padstone_load", "__main__.py")); err != nil {
		t.Error(err)
	}
}

func TestLatencies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "latencies")
	if err := os.WriteFile(path, []byte("0.001500\n0.25\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := latencies(path); err != nil || !slices.Equal(all, []float64{1.5, 250}) {
		t.Errorf("%v, %v", all, err)
	}
	if err := os.WriteFile(path, []byte("0.0015\nhalf a li"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := latencies(path); err == nil {
		t.Errorf("%v of a damaged file", all)
	}
}

// script writes a program that stands for Python.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPool holds that a harness is started once for an id, with what it is to know, and that what it has used is counted.
func TestPool(t *testing.T) {
	logs := t.TempDir()
	python := script(t, `echo "$WORKER_ID at $CONTROL_API_SERVICE_DESCRIPTOR from $PYTHONPATH: $*"
i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done
exec sleep 60`)
	p, err := startPool(python, "the-kit", logs)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := fnpb.NewBeamFnExternalWorkerPoolClient(conn)
	req := &fnpb.StartWorkerRequest{WorkerId: "w-1", ControlEndpoint: &pipepb.ApiServiceDescriptor{Url: "runner:7"}}
	for range 2 { // a runner may ask again
		resp, err := client.StartWorker(t.Context(), req)
		if err != nil || resp.GetError() != "" {
			t.Fatalf("%v, %q", err, resp.GetError())
		}
	}
	log := filepath.Join(logs, "harness-0.log")
	const want = `w-1 at url: "runner:7" from the-kit: -m apache_beam.runners.worker.sdk_worker_main`
	for range 6000 {
		if text, _ := os.ReadFile(log); strings.Contains(string(text), want) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if text, _ := os.ReadFile(log); !strings.Contains(string(text), want) {
		t.Errorf("the harness says %q, not %q", text, want)
	}
	if _, err := client.StopWorker(t.Context(), &fnpb.StopWorkerRequest{WorkerId: "w-1"}); err != nil {
		t.Error(err)
	}
	used := p.close()
	if used.Processes != 1 || used.CPU <= 0 || used.PeakBytes <= 0 {
		t.Errorf("used: %+v", used)
	}
}

func TestPoolWithoutPython(t *testing.T) {
	p, err := startPool("/nowhere/python", "", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.StartWorker(t.Context(), &fnpb.StartWorkerRequest{WorkerId: "w"})
	if err != nil || !strings.Contains(resp.GetError(), "/nowhere/python") {
		t.Errorf("%v, %q", err, resp.GetError())
	}
	if used := p.close(); used.Processes != 0 {
		t.Errorf("used: %+v", used)
	}
}

// TestClient holds what is made of what the kit's client says, and of its silence.
func TestClient(t *testing.T) {
	run := func(ctx context.Context, text string, timeout time.Duration) (bench.Run, error) {
		j := &job{
			cfg: &Config{Python: script(t, text), Size: Small, Timeout: timeout}, peer: bench.Peer{Name: "p", Endpoint: "localhost:1"},
			kind: Case{Name: "gbk", Elements: 40}, versions: func(outcome) {},
		}
		return j.run(ctx)
	}
	got, err := run(t.Context(), `echo noise; echo '{"ok": true, "run_s": 1.5}'`, time.Minute)
	if err != nil || got.Error != "" || got.Seconds != 1.5 || got.Elements != 2 || got.HarnessSeconds != nil || got.RunnerSeconds != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = run(t.Context(), `printf '%s\n' '{"ok": false, "error": "Traceback\nValueError: wrong result: 1 instead of 2\n"}'`, time.Minute)
	if err != nil || got.Error != "ValueError: wrong result: 1 instead of 2" {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = run(t.Context(), `echo "No module named apache_beam" >&2; exit 1`, time.Minute)
	if f := fault.Of(err); f == nil || f.Code != codePython || !strings.Contains(err.Error(), "No module named apache_beam") {
		t.Errorf("%v", err)
	}
	// One that is interrupted is told to end.
	interrupted, cancel := context.WithCancelCause(t.Context())
	why := errors.New("Ctrl-C")
	time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
	if _, err = run(interrupted, `exec sleep 60`, time.Minute); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	err := locate(&bench.Peer{Name: "gone", Endpoint: "localhost:1"})
	if f := fault.Of(err); f == nil || f.Code != codePeer || !strings.Contains(err.Error(), `"gone"`) {
		t.Errorf("%v", err)
	}
}
