package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"padstone/internal/fault"
)

// runTest runs a script that performs acts against the fake, and returns the exit code and what was printed.
func runTest(t *testing.T, f *fakeServer, acts string, args []string, signals <-chan os.Signal, stderr *syncBuffer) (int, string, string) {
	t.Helper()
	t.Setenv(scriptVariable, acts)
	t.Setenv(overridesVariable, "")
	term, out, err := testTerminal(map[string]string{"PADSTONE_SERVER": f.endpoints.HTTP})
	if stderr != nil {
		term.err, err = stderr, stderr
	}
	o := runOptions{python: os.Args[0], dataDir: t.TempDir(), logLevel: "error"}
	code, text := exitCode(runScript(context.Background(), term, o, append([]string{"script.py"}, args...), signals))
	return code, out.String(), err.String() + text
}

func TestRunExitCodes(t *testing.T) {
	cases := []struct {
		acts string
		code int
		says []string
	}{
		{"done", 0, []string{"job done-a: RUNNING", "job done-a: three stages", "job done-a: DONE"}},
		{"drained", 0, []string{"job drained-a: DRAINED", "the job itself ended well"}},
		{"failed", 1, []string{`error: transform "Parse" failed`, "ValueError: no number"}},
		{"cancelled", 2, []string{"job cancelled-a: CANCELLED"}},
		{"done exit:3", 3, nil},
		{"exit:5", 5, []string{"ended with code 5 before it submitted a job"}},
		{"exit:0", 0, []string{"submitted no job"}},
		{"refused", 1, []string{`the server refused the pipeline: unsupported-thing: transform "Parse"`}},
		{"done done", 0, []string{"job done-a: DONE", "job done-b: DONE", "2 jobs: 0 failed"}},
		{"leave:done failed", 1, []string{"2 jobs: 1 failed"}},
		{"leave:done", 0, []string{"job done-a: DONE"}},
		{"breaks", 0, []string{"job breaks-a: DONE"}},
	}
	for _, c := range cases {
		t.Run(c.acts, func(t *testing.T) {
			code, _, text := runTest(t, startFake(t), c.acts, nil, nil, nil)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, part := range c.says {
				if !strings.Contains(text, part) {
					t.Errorf("does not say %q", part)
				}
			}
			if strings.Count(text, "three stages") != strings.Count(text, ": RUNNING") {
				t.Error("a message is repeated or missing")
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

func TestRunGivesTheScriptItsEndpoints(t *testing.T) {
	f := startFake(t)
	code, out, text := runTest(t, f, "args done", []string{"in.txt", "--environment_type=PROCESS"}, nil, nil)
	if code != 0 {
		t.Fatal(text)
	}
	var seen struct {
		Args      []string
		Overrides string
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatal(err)
	}
	endpoint, _ := option(seen.Args, "job_endpoint")
	want := []string{"script.py", "in.txt", "--environment_type=PROCESS", "--runner=PortableRunner", "--job_endpoint=" + endpoint,
		"--sdk_worker_parallelism=0"}
	if !slices.Equal(seen.Args, want) {
		t.Errorf("arguments %q, want %q", seen.Args, want)
	}
	if !strings.Contains(seen.Overrides, `"sdks:java:io:expansion-service:shadowJar":"localhost:8097"`) {
		t.Errorf("overrides %s", seen.Overrides)
	}
	if prepared, _ := f.calls(); prepared != 1 {
		t.Errorf("%d pipelines reached the server, want 1", prepared)
	}
}

func TestRunCancelsJobsThatTheScriptLeaves(t *testing.T) {
	f := startFake(t)
	code, _, text := runTest(t, f, "leave:until-cancelled", nil, nil, nil)
	if code != exitCancelled || !strings.Contains(text, "took its LOOPBACK workers along") {
		t.Errorf("exit code %d: %s", code, text)
	}
	if _, cancelled := f.calls(); !slices.Equal(cancelled, []string{"until-cancelled-a"}) {
		t.Errorf("cancelled %v", cancelled)
	}
}

// signalsOn returns a channel that gets one signal for each of parts, once it was printed, and the stderr to print to.
func signalsOn(parts ...string) (<-chan os.Signal, *syncBuffer) {
	signals := make(chan os.Signal, len(parts))
	var mu sync.Mutex
	return signals, &syncBuffer{onWrite: func(all string) {
		mu.Lock()
		defer mu.Unlock()
		for len(parts) > 0 && strings.Contains(all, parts[0]) {
			parts = parts[1:]
			signals <- syscall.SIGINT
		}
	}}
}

func TestRunInterrupted(t *testing.T) {
	cases := []struct {
		name, acts string
		args       []string
		on         []string // what is printed when a signal comes
		code       int
		says       string
		cancelled  int
	}{
		{"cancels the job", "until-cancelled", nil, []string{"three stages"}, exitCancelled, "cancelling 1 job", 1},
		{"interrupts a script without jobs", "sleep", nil, []string{"asleep"}, 130, "interrupting the script", 0},
		{"kills a deaf script", "deaf sleep", nil, []string{"asleep", "interrupting"}, 137, "killing the script", 0},
		{"cancels what outlives the script", "leave:until-cancelled", []string{"--environment_type=PROCESS"},
			[]string{"waiting for its jobs"}, exitCancelled, "waiting for its jobs", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := startFake(t)
			signals, stderr := signalsOn(c.on...)
			code, _, text := runTest(t, f, c.acts, c.args, signals, stderr)
			if code != c.code || !strings.Contains(text, c.says) {
				t.Errorf("exit code %d, want %d: %s", code, c.code, text)
			}
			if _, cancelled := f.calls(); len(cancelled) != c.cancelled {
				t.Errorf("cancelled %v, want %d", cancelled, c.cancelled)
			}
		})
	}
}

// TestRunOutlivesItsServer: a server that goes away and comes back is no end for who waits for a job; nothing is told twice.
func TestRunOutlivesItsServer(t *testing.T) {
	f := startFake(t)
	var once sync.Once
	restarted := make(chan struct{})
	stderr := &syncBuffer{onWrite: func(all string) {
		if strings.Contains(all, "sees RUNNING") && strings.Contains(all, "three stages") {
			once.Do(func() {
				go func() {
					defer close(restarted)
					f.restart(t)
				}()
			})
		}
	}}
	t.Setenv(scriptVariable, "outlives")
	t.Setenv(overridesVariable, "")
	term, _, _ := testTerminal(map[string]string{"PADSTONE_SERVER": f.endpoints.HTTP})
	term.err = stderr
	o := runOptions{python: os.Args[0], dataDir: t.TempDir(), logLevel: "error", reconnectFor: 10 * time.Minute}
	code, text := exitCode(runScript(context.Background(), term, o, []string{"script.py"}, nil))
	<-restarted
	text = stderr.String() + text
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for part, times := range map[string]int{
		"does not answer; its jobs are kept": 1, "answers again, after": 1, "the script sees RUNNING": 1, "the script sees DONE": 1,
		": three stages": 1, "outlives-a: RUNNING": 1, "outlives-a: DONE": 1,
	} {
		if got := strings.Count(text, part); got != times {
			t.Errorf("%q is there %d times, not %d", part, got, times)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestRunGivesUpAServer: one that does not come back is waited for only so long.
func TestRunGivesUpAServer(t *testing.T) {
	f := startFake(t)
	var once sync.Once
	stderr := &syncBuffer{onWrite: func(all string) {
		if strings.Contains(all, "sees RUNNING") && strings.Contains(all, "three stages") {
			once.Do(func() { go f.stop() })
		}
	}}
	t.Setenv(scriptVariable, "until-cancelled")
	term, _, _ := testTerminal(map[string]string{"PADSTONE_SERVER": f.endpoints.HTTP})
	term.err = stderr
	o := runOptions{python: os.Args[0], dataDir: t.TempDir(), logLevel: "error", reconnectFor: time.Second}
	code, _ := exitCode(runScript(context.Background(), term, o, []string{"script.py", "--environment_type=PROCESS"}, nil))
	if text := stderr.String(); code != exitFailed || !strings.Contains(text, "was away for 1s") || !strings.Contains(text, "lost sight of it") {
		t.Errorf("exit code %d: %s", code, text)
	}
}

func TestRunNamedServerMustAnswer(t *testing.T) {
	term, _, _ := testTerminal(map[string]string{"PADSTONE_SERVER": "localhost:1"})
	o := runOptions{python: os.Args[0], dataDir: t.TempDir()}
	err := runScript(context.Background(), term, o, []string{"script.py"}, nil)
	if f := fault.Of(err); f == nil || f.Code != codeServer {
		t.Fatalf("error %v", err)
	}
	if code, _ := exitCode(err); code != exitUnavailable {
		t.Errorf("exit code %d", code)
	}
}

func TestRunStartsAServer(t *testing.T) {
	t.Setenv(scriptVariable, "args refused exit:0")
	term, out, stderr := testTerminal(map[string]string{"PADSTONE_DATA_DIR": t.TempDir()})
	t.Setenv("TMPDIR", t.TempDir())
	o := runOptions{python: os.Args[0], logLevel: "error"}
	err := runScript(context.Background(), term, o, []string{"script.py"}, nil)
	if code, text := exitCode(err); code != 1 || text != "" {
		t.Errorf("exit code %d, %s", code, text)
	}
	if !strings.Contains(stderr.String(), "started a server") || !strings.Contains(stderr.String(), "refused the pipeline") {
		t.Error(stderr.String())
	}
	if !strings.Contains(out.String(), "job_endpoint") {
		t.Error(out.String())
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
