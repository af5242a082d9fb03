package harness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"padstone/fnapi"
)

// pidOf is the process id that a harness program has written in its directory.
func pidOf(t *testing.T, p *Pool) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.launcher.(*processLauncher).dir, "*", "pid"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestLossOfProcess says how a process ended, and what it said last.
func TestLossOfProcess(t *testing.T) {
	for signal, want := range map[syscall.Signal]string{
		syscall.SIGKILL: "signal: killed", syscall.SIGTERM: "signal: terminated",
	} {
		m := newManager(t, nil)
		p := start(t, m, Spec{Environment: processEnv(t, symlink(t, "boot"), "tells")})
		w := p.Workers()[0]
		if err := syscall.Kill(pidOf(t, p), signal); err != nil {
			t.Fatal(err)
		}
		why := p.Loss(testContext(t), w.ID(), 1)
		for _, want := range []string{want, "MiB of memory", "boot says hello"} {
			if !strings.Contains(why, want) {
				t.Errorf("%q does not say %q", why, want)
			}
		}
		if by := "somebody else has killed it"; strings.Contains(why, by) != (signal == syscall.SIGKILL) {
			t.Errorf("%v: %q", signal, why)
		}
		p.Close(t.Context())
	}
}

// TestLossOfIdleHarness has the pool's user hear why a harness was lost that nobody held, once for several; of one that is held the
// bundles tell.
func TestLossOfIdleHarness(t *testing.T) {
	var told []string
	var mu sync.Mutex
	m := newManager(t, nil)
	p := start(t, m, Spec{Environment: processEnv(t, symlink(t, "boot"), "tells"), Log: func(e fnapi.LogEntry) {
		mu.Lock()
		defer mu.Unlock()
		if e.Severity == fnapi.SeverityWarn && strings.Contains(e.Message, "was lost") {
			told = append(told, e.Message)
		}
	}})
	kill := func() {
		w := p.Workers()[0]
		generation := w.Generation()
		if err := syscall.Kill(pidOf(t, p), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.Loss(testContext(t), w.ID(), generation)
		for ctx := testContext(t); w.Generation() == generation || len(p.Workers()) == 0; {
			if !rest(ctx, time.Millisecond) {
				t.Fatal("the harness does not come back")
			}
		}
	}
	p.Progressed()
	_, release := p.Acquire(0)
	kill()
	mu.Lock()
	if len(told) > 0 {
		t.Errorf("of a harness that was held is told: %q", told)
	}
	mu.Unlock()
	release()
	began := time.Now()
	kill()
	kill()
	mu.Lock()
	defer mu.Unlock()
	if once := len(told) == 1 || len(told) > 1 && time.Since(began) > toldEvery; !once || !strings.Contains(told[0], "while it had nothing to do") || !strings.Contains(told[0], "signal: killed") {
		t.Errorf("%q", told)
	}
}

// TestLossIsToldOnce of a generation that is not the last any more nothing is known.
func TestLossIsToldOnce(t *testing.T) {
	var l loss
	l.set(2, "two")
	for generation, want := range []string{"", "", "two"} {
		if why := l.wait(testContext(t), generation); why != want {
			t.Errorf("generation %d: %q", generation, why)
		}
	}
	told := make(chan string)
	go func() { told <- l.wait(testContext(t), 3) }()
	l.set(3, "three")
	if why := <-told; why != "three" {
		t.Errorf("%q", why)
	}
}

// TestKilledForMemory takes the kernel's count for the reason.
func TestKilledForMemory(t *testing.T) {
	silent := &lineWriter{severity: printed, log: func(fnapi.LogEntry) {}}
	p := &process{cmd: exec.Command("sleep", "60"), done: make(chan struct{}), stdout: silent, stderr: silent}
	p.killsBefore = memoryKills() - 1 // as if one had been killed since
	setProcessGroup(p.cmd)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.wait()
	killGroup(p.cmd.Process.Pid)
	if why := p.ended(testContext(t)); !strings.Contains(why, "signal: killed") || !strings.Contains(why, "has killed a process for memory") {
		t.Errorf("%q", why)
	}
}

// TestLossOfPoolWorker says what can be known of it.
func TestLossOfPoolWorker(t *testing.T) {
	pool := &workerPool{}
	env, server := pool.serve(t)
	m := newManager(t, nil)
	p := start(t, m, Spec{Environment: env})
	w := p.Workers()[0]
	w.Disconnect("test")
	if why := p.Loss(testContext(t), w.ID(), 1); !strings.Contains(why, "which is there") {
		t.Errorf("%q", why)
	}
	ctx := testContext(t)
	for len(p.Workers()) == 0 { // its supervisor, too, has to know that it is back
		select {
		case <-ctx.Done():
			t.Fatal("the worker does not come back")
		case <-time.After(time.Millisecond):
		}
	}
	server.Stop()
	generation := w.Generation()
	w.Disconnect("test")
	if why := p.Loss(testContext(t), w.ID(), generation); !strings.Contains(why, "cannot be reached") {
		t.Errorf("%q", why)
	}
}

// TestPoolThatHasWorkedLasts: harnesses that have got work done are started again however often they are lost, others are not.
func TestPoolThatHasWorkedLasts(t *testing.T) {
	changed := make(chan struct{}, 1000)
	m := newManager(t, func(c *Config) { c.RestartsMax = 2 })
	env, crash := crashEnv(t)
	p := start(t, m, Spec{Environment: env, OnChange: func() { changed <- struct{}{} }})
	p.Progressed()
	crash()
	for p.Workers(); p.slotsInService()[0].worker.Generation() < 7; {
		select {
		case <-changed:
		case <-testContext(t).Done():
			t.Fatalf("the harness does not come back: %v", p.Err())
		}
	}
	if err := p.Err(); err != nil {
		t.Errorf("the pool gives up: %v", err)
	}
}
