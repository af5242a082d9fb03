package harness

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// processLauncher starts harnesses as programs on this machine. A pool has one directory for their files; directly started Python
// workers share what is staged in it.
type processLauncher struct {
	log     *zap.Logger
	target  *target
	spec    Spec
	server  string // Fn API endpoint
	tempDir string
	dir     string // semi-persistent directory, made at the first launch
	staged  bool
	timeout time.Duration // of each step of a stop
	logTo   func(fnapi.LogEntry)
}

func newProcessLauncher(m *Manager, t *target, spec Spec, logTo func(fnapi.LogEntry)) *processLauncher {
	return &processLauncher{
		log: m.cfg.Logger, target: t, spec: spec, server: m.cfg.Server.Endpoint(), tempDir: m.cfg.TempDir,
		timeout: m.cfg.StopTimeout, logTo: logTo,
	}
}

// prepare makes the pool's directory and, for a Python interpreter that is started directly, stages the files that boot would stage.
func (l *processLauncher) prepare(ctx context.Context, w *fnapi.Worker) error {
	if l.dir == "" {
		err := os.MkdirAll(l.tempDir, 0o700) // whoever clears temporary files may have taken it
		var dir string
		if err == nil {
			dir, err = os.MkdirTemp(l.tempDir, "padstone-harness-")
		}
		if err != nil {
			return fault.New(fault.Environment, codeStart, "directory for staged files: %w", err)
		}
		l.dir = dir
	}
	if !l.target.python || l.staged {
		return nil
	}
	staged := filepath.Join(l.dir, "staged")
	if err := os.MkdirAll(staged, 0o755); err != nil {
		return fault.New(fault.Environment, codeStart, "directory for staged files: %w", err)
	}
	if err := fetchArtifacts(ctx, l.spec.ArtifactEndpoint, w.ID(), l.target.env.GetDependencies(), staged); err != nil {
		return err
	}
	l.staged = true
	return nil
}

func (l *processLauncher) launch(ctx context.Context, w *fnapi.Worker) (launched, error) {
	if err := l.prepare(ctx, w); err != nil {
		return nil, err
	}
	command := l.target.process.GetCommand()
	var cmd *exec.Cmd
	if l.target.python {
		var err error
		if cmd, err = l.pythonWorker(w); err != nil {
			return nil, err
		}
	} else {
		flags, err := l.bootFlags(w)
		if err != nil {
			return nil, err
		}
		cmd = exec.Command(command, flags...)
		cmd.Env = os.Environ()
	}
	for k, v := range l.target.process.GetEnv() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	setProcessGroup(cmd)
	p := &process{cmd: cmd, log: l.log, timeout: l.timeout, done: make(chan struct{}), respawns: l.respawns(), killsBefore: memoryKills()}
	p.stdout = &lineWriter{worker: w.ID(), severity: printed, log: l.logTo}
	p.stderr = copied(w, l.logTo)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	// A grandchild may hold the output open after the harness has ended; it is killed with the group, but must not be waited for.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fault.New(fault.Environment, codeStart, "start %s: %w", command, err).
			WithHint("the command must be a program on the server's machine, without arguments")
	}
	l.log.Info("harness process started",
		zap.String("worker", string(w.ID())), zap.String("command", command), zap.Int("pid", cmd.Process.Pid))
	go p.wait()
	return p, nil
}

// printed is the severity of what a harness prints to its standard output: DoFns print there.
func printed() fnapi.Severity { return fnapi.SeverityInfo }

// copied takes what a harness prints to its standard error, where SDKs copy what they log.
func copied(w *fnapi.Worker, log func(fnapi.LogEntry)) *lineWriter {
	return &lineWriter{worker: w.ID(), log: log, severity: func() fnapi.Severity {
		if w.Logs() {
			return fnapi.SeverityDebug
		}
		return fnapi.SeverityInfo
	}}
}

// bootFlags are the arguments of a boot program that runs on this machine. Each stages its files in a directory of its own.
func (l *processLauncher) bootFlags(w *fnapi.Worker) ([]string, error) {
	dir := filepath.Join(l.dir, string(w.ID()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fault.New(fault.Environment, codeStart, "directory for staged files: %w", err)
	}
	return append(bootEndpoints(w), "--semi_persist_dir="+dir), nil
}

func (l *processLauncher) reachedBy() string { return l.server }

// respawns: boot starts a crashed worker again, an interpreter does not.
func (l *processLauncher) respawns() bool { return !l.target.python }

func (l *processLauncher) manyPrograms() bool { return true }

// close removes the staged files.
func (l *processLauncher) close() error {
	if l.dir == "" {
		return nil
	}
	return os.RemoveAll(l.dir)
}

// process is a harness that runs as a program of ours, in a process group of its own.
type process struct {
	cmd            *exec.Cmd
	log            *zap.Logger
	timeout        time.Duration
	stdout, stderr *lineWriter
	done           chan struct{} // closed after err and kills are set
	err            error
	respawns       bool  // it is Beam's boot program, whose worker may be lost without it
	killsBefore    int64 // processes that the kernel had killed for memory when it started
	kills          int64 // that it has killed until it ended
}

// wait reaps the program. stop waits for it.
func (p *process) wait() {
	err := p.cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.kills = memoryKills() - p.killsBefore
	p.stdout.flush()
	p.stderr.flush()
	killGroup(p.cmd.Process.Pid) // whoever of the group is left
	p.err = err
	close(p.done)
}

func (p *process) exited() <-chan struct{} { return p.done }

func (p *process) broken() <-chan error { return nil }

func (p *process) outcome() string {
	state := p.cmd.ProcessState
	if state == nil { // it could not be waited for
		return p.err.Error()
	}
	text := state.String() // "exit status 3", "signal: killed"
	if peak := peakMemory(state); peak > 0 {
		text += ", with up to " + megabytes(peak) + " of memory"
	}
	if !killed(state) {
		return text
	}
	if p.kills > 0 {
		return text + "; the kernel has killed a process for memory meanwhile, most likely this one"
	}
	return text + "; not for the memory of this machine or of the server's control group, so somebody else has killed it"
}

// ended waits for the program's end, which may come a moment after that of its connection.
func (p *process) ended(ctx context.Context) string {
	select {
	case <-p.done:
		return "its process ended: " + p.outcome()
	case <-ctx.Done():
	}
	if p.respawns {
		return "its connection broke; Beam's boot program, which knows how it ended, runs on"
	}
	return "its connection broke, and its process runs on"
}

// stop gives the harness time to end by itself, since its control stream is closed, then SIGTERM, then SIGKILL.
func (p *process) stop(hurry <-chan struct{}) {
	pid := p.cmd.Process.Pid
	for _, insist := range []func(int){func(int) {}, terminateGroup, killGroup} {
		insist(pid)
		timer := time.NewTimer(p.timeout)
		select {
		case <-p.done:
			timer.Stop()
			return
		case <-hurry:
			timer.Stop()
			killGroup(pid)
			<-p.done
			return
		case <-timer.C:
		}
		p.log.Debug("harness process does not end", zap.Int("pid", pid))
	}
	<-p.done
}
