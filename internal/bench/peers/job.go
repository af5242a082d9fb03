package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"padstone/internal/bench"
	"padstone/internal/bench/proc"
	"padstone/internal/fault"
)

const (
	// graceFor is how long the client may take over the time-out of its job: it cancels it.
	graceFor = 20 * time.Second
	// cancelFor is how long the client may take to cancel its job when it is told to end.
	cancelFor = 12 * time.Second
	// settleFor is how long a runner goes on working on a job that is over, as far as it counts.
	settleFor = 200 * time.Millisecond
)

// job is one case on one peer.
type job struct {
	cfg *Config
	kit string
	// versions takes those of the client.
	versions func(said outcome)
	peer     bench.Peer
	kind     Case
}

// outcome is what the client says.
type outcome struct {
	OK      bool    `json:"ok"`
	Error   string  `json:"error"`
	Seconds float64 `json:"run_s"`
	Python  string  `json:"python"`
	Beam    string  `json:"apache_beam"`
}

// run runs the job. A job that fails is a result; the error is for what is no fault of the peer.
func (j *job) run(ctx context.Context) (bench.Run, error) {
	run := bench.Run{Peer: j.peer.Name, Case: j.kind.Name, Elements: j.cfg.Size.elements(j.kind)}
	dir, err := os.MkdirTemp("", "padstone-bench-job-")
	if err != nil {
		return run, fmt.Errorf("directory of a job: %w", err)
	}
	defer os.RemoveAll(dir)
	p, err := startPool(j.cfg.Python, j.kit, dir)
	if err != nil {
		return run, err
	}
	peakKnown := j.peer.PID != 0 && proc.ForgetPeak(j.peer.PID) == nil
	before := runnerUsage(j.peer)
	said, err := j.client(ctx, p, dir, run.Elements)
	if err == nil {
		time.Sleep(settleFor)
	}
	after := runnerUsage(j.peer)
	harness := p.close()
	if err != nil {
		return run, err
	}
	j.versions(said)
	run.Seconds, run.Error = said.Seconds, said.Error
	if !said.OK && run.Error == "" {
		run.Error = "the client did not say why"
	}
	if harness.Processes > 0 {
		seconds := harness.CPU.Seconds()
		run.HarnessSeconds, run.HarnessPeak = &seconds, &harness.PeakBytes
	}
	switch {
	case before != nil && after == nil:
		run.Error = strings.TrimSpace("the runner's process has ended; " + run.Error)
	case before != nil:
		seconds := (after.CPU - before.CPU).Seconds()
		run.RunnerSeconds = &seconds
		if peakKnown {
			run.RunnerPeak = &after.PeakBytes
		}
	}
	if run.Error == "" && j.kind.Name == Latency {
		if run.Latencies, err = latencies(filepath.Join(dir, "latencies")); err != nil {
			return run, err
		}
	}
	return run, nil
}

// client runs the kit's client, which submits the job and waits for its end.
func (j *job) client(ctx context.Context, p *pool, dir string, elements int) (said outcome, err error) {
	waiting, cancel := context.WithTimeout(ctx, j.cfg.Timeout+graceFor)
	defer cancel()
	cmd := exec.CommandContext(waiting, j.cfg.Python, "-m", "padstone_load", "--case="+j.kind.Name, "--elements="+strconv.Itoa(elements),
		fmt.Sprintf("--seconds=%g", j.cfg.Size.latencySeconds()), "--job_endpoint="+j.peer.Endpoint, "--pool="+p.address,
		"--directory="+dir, fmt.Sprintf("--timeout=%g", j.cfg.Timeout.Seconds()))
	cmd.Env = append(os.Environ(), "PYTHONPATH="+j.kit)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, cancelFor
	// Ctrl-C is ours to deal with: on SIGTERM the client cancels its job.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	failure := cmd.Run()
	if ctx.Err() != nil {
		return said, context.Cause(ctx)
	}
	if waiting.Err() != nil {
		return outcome{Error: fmt.Sprintf("not done after %s, nor could it be cancelled", j.cfg.Timeout)}, nil
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil {
		why := lastLine(stderr.String())
		return said, fault.New(fault.Environment, codePython, "the load kit's client: %w: %s", errors.Join(failure, err), why).
			WithHint("name an interpreter that has apache-beam with --python")
	}
	said.Error = lastLine(said.Error)
	return said, nil
}

// lastLine is the last line that says something: the end of a traceback.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const charsMax = 400
	last := strings.TrimSpace(lines[len(lines)-1])
	if r := []rune(last); len(r) > charsMax {
		return string(r[:charsMax]) + "…"
	}
	return last
}
