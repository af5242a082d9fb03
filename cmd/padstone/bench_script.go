package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"padstone/connector/kafka"
	"padstone/internal/bench/capture"
	"padstone/internal/fault"
)

const (
	// sampleFor is how long elements for the stage are waited for.
	sampleFor = 2 * time.Minute
	// sampleElements and sampleBytes are enough of them.
	sampleElements, sampleBytes = 20_000, 32 << 20
	// scriptEndFor is how long the script may take to end once its job is over.
	scriptEndFor = 10 * time.Second
)

// noSubmissionLog keeps the SDK from running `pip freeze`, which takes longer than a measurement. Spec: python pipeline.py.
const noSubmissionLog = "--experiments=disable_logging_submission_environment"

// benchScript is a user's script whose pipeline waits on a server of ours while a stage of it is measured.
type benchScript struct {
	term     *terminal
	console  *console
	executor *capture.Executor
	server   *runServer
	script   *exec.Cmd
	exited   chan struct{} // closed once the script has ended
}

// startBenchScript starts a server and the script on it.
func startBenchScript(ctx context.Context, term *terminal, o *bundlesOptions, python string, args []string) (_ *benchScript, err error) {
	if _, chosen := option(args, "environment_type"); chosen {
		return nil, usageError(errors.New("--environment_type: the harness is the one that is measured, and is started for that"))
	}
	b := &benchScript{term: term, console: newConsole(term.err, func() int { return 0 }), exited: make(chan struct{})}
	b.server, err = startServerOn(ctx, term, runOptions{logLevel: o.logLevel}, b.console, b.open(o))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.server.stop())
		}
	}()
	environment, err := o.environment(python)
	if err != nil {
		return nil, err
	}
	env, err := planEnv(os.Environ(), b.server.info.Endpoints.Expansion)
	if err != nil {
		return nil, err
	}
	own := append(environment, noSubmissionLog)
	if _, chosen := option(args, "sdk_worker_parallelism"); !chosen {
		own = append(own, "--sdk_worker_parallelism=1") // one is measured
	}
	plan := planArgs(slices.Concat(args, own), b.server.info.Endpoints.Job)
	b.script = exec.Command(python, append([]string{o.script}, plan.args...)...)
	// What it prints is not the result.
	b.script.Env, b.script.Stdout, b.script.Stderr, b.script.WaitDelay = env, b.console, b.console, pipesFor
	b.script.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.script.Start(); err != nil {
		return nil, fault.New(fault.Environment, codeScript, "starting %s: %w", python, err)
	}
	go func() {
		_ = b.script.Wait() // how it ended its state says
		close(b.exited)
	}()
	return b, nil
}

// environment are the options that have the harness run in the image, or in the interpreter.
func (o *bundlesOptions) environment(python string) ([]string, error) {
	if o.image != "" {
		return []string{"--environment_type=DOCKER", "--environment_config=" + o.image}, nil
	}
	command, err := json.Marshal(map[string]string{"command": python})
	return []string{"--environment_type=PROCESS", "--environment_config=" + string(command)}, err
}

// open makes the executor that takes the stage out of the job.
func (b *benchScript) open(o *bundlesOptions) opener {
	return func(cfg Config, log *zap.Logger) (*executor, error) {
		natives := capture.NewRegistry(kafka.Registry(log.Named("kafka")))
		e, err := newExecutorOn(cfg, log, natives)
		if err != nil {
			return nil, err
		}
		b.executor = capture.New(capture.Config{
			Engine: e.Executor, Natives: natives, Compile: compileOptions(natives, "bench"), Stage: o.stage,
			ElementsMax: sampleElements, BytesMax: sampleBytes, For: sampleFor,
		})
		e.Executor = b.executor
		return e, nil
	}
}

// captured waits for the stage.
func (b *benchScript) captured(ctx context.Context) (*capture.Captured, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.exited:
			cancel(fault.New(fault.Pipeline, codeBenchScript, "the script has ended (%s) before a pipeline of it could be measured",
				b.script.ProcessState).WithHint("it must submit a pipeline with the options of its command line, and wait for its end"))
		case <-ctx.Done():
		}
	}()
	return b.executor.Captured(ctx)
}

// kill ends the script, before it hears of a failure that is told in its place, too.
func (b *benchScript) kill() {
	_ = syscall.Kill(-b.script.Process.Pid, syscall.SIGKILL) // it may have ended, which is as well
	<-b.exited
}

// close ends the job, the script and the server.
func (b *benchScript) close() error {
	b.executor.Release()
	timer := time.NewTimer(scriptEndFor)
	defer timer.Stop()
	select {
	case <-b.exited:
	case <-timer.C:
	}
	b.kill() // whoever of its process group is left
	if err := b.server.stop(); err != nil {
		return fmt.Errorf("stopping the server: %w", err)
	}
	return nil
}
