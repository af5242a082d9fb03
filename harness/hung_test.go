//go:build linux

package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"padstone/fnapi"
)

// TestStoppedProcess stops a harness with SIGSTOP: it is found, killed without another chance, and another one comes.
func TestStoppedProcess(t *testing.T) {
	m := newManagerOn(t, fnapi.Config{SilenceMax: 2 * fnapi.SilenceMin}, func(c *Config) { c.StopTimeout = time.Hour })
	messages := make(chan fnapi.LogEntry, 10000)
	p := start(t, m, Spec{Environment: processEnv(t, self(t), "run"), Log: func(e fnapi.LogEntry) { messages <- e }})
	hurry, cancel := context.WithCancel(t.Context())
	cancel()
	defer p.Close(hurry) // or it would give what is left its hour
	w := p.Workers()[0]
	echo(t, m, w, "d0")
	lost := w.Done()
	pid := childOf(t, os.Getpid())
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Fatal("the worker that was stopped is not given up")
	}
	if err := w.Ready(testContext(t)); err != nil || w.Generation() != 2 {
		t.Fatalf("generation %d, %v", w.Generation(), err)
	}
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the process that was stopped is still there")
	}
	echo(t, m, w, "d1")
	for len(messages) > 0 {
		if e := <-messages; e.Severity == fnapi.SeverityWarn && strings.Contains(e.Message, "does not answer") {
			return
		}
	}
	t.Error("nobody was told")
}

// childOf returns the only child process of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err == nil && len(strings.Fields(string(text))) == 0 { // another thread has started it
		matches, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, m := range matches {
			more, _ := os.ReadFile(m)
			text = append(text, more...)
		}
	}
	fields := strings.Fields(string(text))
	if err != nil || len(fields) != 1 {
		t.Skipf("children %q, %v", fields, err)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
