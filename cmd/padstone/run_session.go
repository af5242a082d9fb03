package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"padstone/internal/fault"
)

const (
	// settleFor is how long a job may take to be seen as ended after its script has ended.
	settleFor = 3 * time.Second
	// cancelledFor is how long a job that lost its workers with the script may take to be cancelled.
	cancelledFor = 30 * time.Second
	// pipesFor is how long the script's stderr may stay open after the script has ended, in the hands of a child of its own.
	pipesFor = 2 * time.Second
)

// runSession is one script with its jobs. Goroutines: the proxy's, the board's, progress and the wait for the script; run waits
// for all of them.
type runSession struct {
	term    *terminal
	console *console
	options runOptions
	server  *runServer
	// Of a dry run: the pipeline was refused, as it always is, and the script has ended.
	refused, ended chan struct{}
}

// run starts the script, follows its jobs and returns how all of it ended.
func (s *runSession) run(ctx context.Context, python string, args []string, signals <-chan os.Signal) (runEnd, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	board := newJobBoard(s.console, s.options.verbose)
	defer board.close()
	defer cancel() // before board.close, which waits for what ctx ends
	job := s.server.info.Endpoints.Job
	server := &link{patience: s.options.reconnectFor, say: s.console.printf, name: job}
	proxy, err := startJobProxy(ctx, s.server.dialJob, server, func(id string) { board.add(ctx, id) }, s.onRefuse(board))
	if err != nil {
		return runEnd{}, err
	}
	// The board looks through the proxy, too, which holds its calls while the server is away.
	conn, err := dialJobs(proxy.endpoint)
	if err != nil {
		return runEnd{}, errors.Join(err, proxy.close())
	}
	defer conn.Close()
	board.connect(conn)
	end, err := s.runScript(ctx, proxy.endpoint, board, python, args, signals)
	cancel()
	board.close()
	return end, errors.Join(err, proxy.close())
}

// onRefuse notes a refusal. In a dry run that is all there was to learn: the script is ended before it is told, or it would only say the
// same with a traceback.
func (s *runSession) onRefuse(board *jobBoard) func(message string) {
	if !s.options.dryRun {
		return board.refuse
	}
	s.refused, s.ended = make(chan struct{}), make(chan struct{})
	once := sync.Once{}
	return func(message string) {
		board.refuse(message)
		once.Do(func() { close(s.refused) })
		<-s.ended
	}
}

// runScript runs the script against the proxy at jobEndpoint.
func (s *runSession) runScript(
	ctx context.Context, jobEndpoint string, board *jobBoard, python string, args []string, signals <-chan os.Signal,
) (runEnd, error) {
	var head, user []string
	if s.options.module != "" {
		head, user = []string{"-m", s.options.module}, args
	} else {
		head, user = args[:1], args[1:]
	}
	plan := planArgs(append(s.options.from.scriptArgs(s.options.dryRun), user...), jobEndpoint)
	script := exec.Command(python, append(head, plan.args...)...)
	env, err := planEnv(os.Environ(), s.server.info.Endpoints.Expansion)
	if err != nil {
		return runEnd{}, err
	}
	script.Env, script.Stdout, script.Stderr, script.WaitDelay = env, s.term.out, s.console, pipesFor
	// A terminal is not handed on: the script runs in a process group of its own, so that Ctrl-C cancels its jobs before it ends
	// the workers in it, and such a group is stopped when it reads from the terminal.
	if s.term.in != nil && !isTTY(s.term.in) {
		script.Stdin = s.term.in
	}
	script.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := script.Start(); err != nil {
		return runEnd{}, fault.New(fault.Environment, codeScript, "starting %s: %w", python, err)
	}

	var side sync.WaitGroup
	defer side.Wait()
	sideCtx, stopSide := context.WithCancel(ctx)
	defer stopSide()
	side.Go(func() { showProgress(sideCtx, board, s.server.now, s.console) })
	exited := make(chan int, 1)
	side.Go(func() {
		code := waitScript(script)
		if s.ended != nil {
			close(s.ended)
		}
		exited <- code
	})

	end := runEnd{ownEndpoint: plan.ownEndpoint, dryRun: s.options.dryRun}
	w := scriptWatch{session: s, board: board, pid: script.Process.Pid, end: &end}
	end.script = w.awaitScript(ctx, exited, signals)
	err = w.settle(ctx, plan.loopback, signals)
	end.jobs, end.refused = board.all()
	end.tail = s.console.scriptTail()
	return end, err
}

// waitScript returns the exit code of the script, 128 + n when signal n ended it.
func waitScript(script *exec.Cmd) int {
	// The error repeats the state of the process, or tells of pipes that a grandchild kept open.
	_ = script.Wait()
	if status, ok := script.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return script.ProcessState.ExitCode()
}

// scriptWatch is the part of a session in which signals count.
type scriptWatch struct {
	session *runSession
	board   *jobBoard
	pid     int
	end     *runEnd
	signals int // received so far
}

// awaitScript returns the script's exit code. The first signal cancels its jobs, or interrupts it when it has none running; the
// second kills it.
func (w *scriptWatch) awaitScript(ctx context.Context, exited <-chan int, signals <-chan os.Signal) int {
	done, refused := ctx.Done(), w.session.refused
	for {
		select {
		case code := <-exited:
			return code
		case <-done:
			done = nil
			w.kill()
		case <-refused:
			refused = nil
			w.signal(syscall.SIGKILL)
		case <-signals:
			if w.signals++; w.signals > 1 {
				w.kill()
				continue
			}
			w.interrupt(ctx)
		}
	}
}

// interrupt cancels the script's jobs; its client sees the state and ends. A script without a running job is interrupted itself.
func (w *scriptWatch) interrupt(ctx context.Context) {
	w.end.interrupted = true
	console := w.session.console
	n, err := w.board.cancel(ctx)
	switch {
	case err != nil:
		console.printf("padstone: %v; Ctrl-C again kills the script", err)
	case n > 0:
		console.printf("padstone: cancelling %s; Ctrl-C again kills the script", plural(n, "job"))
	default:
		console.printf("padstone: interrupting the script; Ctrl-C again kills it")
		w.signal(syscall.SIGINT)
	}
}

func (w *scriptWatch) kill() {
	w.session.console.printf("padstone: killing the script")
	w.signal(syscall.SIGKILL)
}

// signal goes to the script's whole process group. It may have ended meanwhile, which is as well.
func (w *scriptWatch) signal(sig syscall.Signal) { _ = syscall.Kill(-w.pid, sig) }

// settle waits for the jobs that outlive their script. Those whose workers lived in it cannot go on: they are cancelled. Others
// are waited for; the first signal cancels them, the second gives up.
func (w *scriptWatch) settle(ctx context.Context, loopback bool, signals <-chan os.Signal) error {
	short, cancel := context.WithTimeout(ctx, settleFor)
	defer cancel()
	if w.board.wait(short) == nil {
		return nil
	}
	if loopback || w.signals > 1 {
		return w.abandon(ctx)
	}
	w.session.console.printf("padstone: the script has ended; waiting for its jobs (Ctrl-C cancels them)")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	waited := make(chan error, 1)
	go func() { waited <- w.board.wait(ctx) }()
	for {
		select {
		case <-waited:
			return nil
		case <-signals:
			if w.signals++; w.signals > 1 {
				stop()
				<-waited
				return &exitError{code: exitInterrupted, err: errors.New("gave up waiting for the jobs")}
			}
			w.end.interrupted = true
			if _, err := w.board.cancel(ctx); err != nil {
				w.session.console.printf("padstone: %v; Ctrl-C again gives up", err)
			}
		}
	}
}

// abandon cancels jobs whose script has ended before them.
func (w *scriptWatch) abandon(ctx context.Context) error {
	console := w.session.console
	// After one signal the jobs are being cancelled already, and the script ended because of that.
	w.end.abandoned = w.signals != 1
	for _, id := range w.board.unfinished() {
		if !w.end.abandoned {
			break
		}
		console.printf("padstone: job %s: cancelled, because the script ended before it and took its LOOPBACK workers along; "+
			"use `with beam.Pipeline()` or result.wait_until_finish()", id)
	}
	if _, err := w.board.cancel(ctx); err != nil {
		console.printf("padstone: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, cancelledFor)
	defer cancel()
	if err := w.board.wait(ctx); err != nil {
		console.printf("padstone: not all jobs ended within %s of being cancelled", cancelledFor)
	}
	return nil
}

// plural prints a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
