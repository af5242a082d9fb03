package harness

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/harness/docker"
	"padstone/internal/option"
)

// containerLauncher starts harnesses as containers, one a worker.
type containerLauncher struct {
	engine   *docker.Engine
	spec     Spec
	image    string
	options  docker.Options
	endpoint string        // of the Fn API server, as the containers reach it
	entry    docker.Entry  // of the image
	silence  time.Duration // that boot may keep
	timeout  time.Duration // of each step of a stop
	lossWait time.Duration
	logTo    func(fnapi.LogEntry)
	started  atomic.Int64
}

// newContainerLauncher provides the image and the route, so that what is wrong with them is told before a worker is expected.
func newContainerLauncher(ctx context.Context, p *Pool) (*containerLauncher, error) {
	cfg := &p.manager.cfg
	l := &containerLauncher{
		engine: cfg.Docker, spec: p.spec, image: p.target.docker.GetContainerImage(), timeout: cfg.StopTimeout, logTo: p.logEntry,
		silence: cfg.BootSilence, lossWait: cfg.LossWait,
	}
	var err error
	if l.options, err = l.engine.ForJob(dockerOptions(p.spec.Options)); err != nil {
		return nil, err
	}
	if err := l.engine.Ping(ctx); err != nil {
		return nil, err
	}
	tell := func(text string) {
		p.logEntry(fnapi.LogEntry{Severity: fnapi.SeverityNotice, Time: time.Now(), Message: text})
	}
	if err := l.engine.Provide(ctx, l.image, l.options.Pull, tell); err != nil {
		return nil, err
	}
	if l.endpoint, err = l.engine.Route(ctx, l.options.Network, cfg.Server); err != nil {
		return nil, err
	}
	if l.entry, err = l.engine.Entry(ctx, l.image); err != nil {
		return nil, err
	}
	return l, nil
}

// dockerOptions returns the pipeline options that are about containers.
func dockerOptions(options *structpb.Struct) map[string][]string {
	chosen := make(map[string][]string)
	for _, name := range docker.OptionNames {
		if values := option.Texts(options, name); len(values) > 0 {
			chosen[name] = values
		}
	}
	return chosen
}

func (l *containerLauncher) reachedBy() string { return l.endpoint }

// respawns: boot starts a crashed worker again.
func (l *containerLauncher) respawns() bool { return true }

func (l *containerLauncher) manyPrograms() bool { return true }

// doubt says what is odd about the image of a container that has never called; "" if nothing is.
func (l *containerLauncher) doubt() string {
	if l.entry == nil || l.entry.Boots() {
		return ""
	}
	return fmt.Sprintf(
		"the entry point of the image is %q, and not Beam's boot program: if it is to start that, it must pass its arguments on", l.entry)
}

func (l *containerLauncher) close() error { return nil }

func (l *containerLauncher) launch(ctx context.Context, w *fnapi.Worker) (launched, error) {
	r := &runningContainer{worker: w, launcher: l, unreached: make(chan error, 1), killsBefore: memoryKills()}
	r.stdout = &lineWriter{worker: w.ID(), severity: printed, log: l.logTo}
	r.stderr = copied(w, l.logTo)
	c, err := l.engine.Start(ctx, docker.Spec{
		Image: l.image, Args: bootEndpoints(w), Endpoint: l.endpoint, Options: l.options,
		JobID: l.spec.JobID, JobName: l.spec.JobName, EnvID: l.spec.EnvID, Number: int(l.started.Add(1)),
		Stdout: r.stdout, Stderr: r.stderr,
	})
	if err != nil {
		return nil, err
	}
	r.Container = c
	var testing context.Context
	testing, r.tested = context.WithCancel(context.Background())
	if !r.hasCalled() { // else the route has been used already
		r.testing.Go(func() { r.selfTest(testing) })
	}
	return r, nil
}

// runningContainer is a harness that runs as a container.
type runningContainer struct {
	*docker.Container
	worker         *fnapi.Worker
	launcher       *containerLauncher
	stdout, stderr *lineWriter
	tested         context.CancelFunc // ends the self-test
	testing        sync.WaitGroup
	unreached      chan error
	killsBefore    int64 // processes that the kernel had killed for memory when it was started
}

func (r *runningContainer) exited() <-chan struct{} { return r.Done() }

func (r *runningContainer) broken() <-chan error { return r.unreached }

func (r *runningContainer) outcome() string {
	r.stdout.flush()
	r.stderr.flush()
	text := r.Exit().String()
	switch {
	case !r.Exit().Killed():
		return text
	case memoryKills() > r.killsBefore:
		return text + "; the kernel has killed a process for memory meanwhile, most likely this one"
	}
	return text + "; the Docker Engine knows of no lack of memory, so somebody has killed it"
}

// ended waits for the container's end, which may come a moment after that of its connection. The kernel may kill the worker and leave boot,
// which the container lives by.
func (r *runningContainer) ended(ctx context.Context) string {
	ended := func() string { return "its container " + r.Name() + " ended: " + r.outcome() }
	select {
	case <-r.Done():
		return ended()
	case <-ctx.Done():
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*r.launcher.lossWait/2)
	defer cancel()
	if !r.Runs(asking) { // Podman takes its time to tell
		select {
		case <-r.Done():
			return ended()
		case <-asking.Done():
		}
		return "its connection broke; what has become of its container " + r.Name() + " is not known yet"
	}
	if why := r.Starved(asking); why != "" {
		return "its connection broke, and its container " + r.Name() + " runs on: " + why
	}
	return "its connection broke; Beam's boot program in the container " + r.Name() + ", which knows how it ended, runs on"
}

func (r *runningContainer) usage(ctx context.Context) (Usage, bool) {
	cpu, memory, known := r.Usage(ctx)
	return Usage{CPU: cpu, Memory: memory}, known
}

func (r *runningContainer) stop(hurry <-chan struct{}) {
	r.tested()
	r.testing.Wait()
	r.Stop(r.launcher.timeout, hurry)
	r.stdout.flush()
	r.stderr.flush()
}

// Times of the self-test.
const (
	testAfter   = 1500 * time.Millisecond // boot asks within a fraction of it
	testEvery   = time.Second
	testsFailed = 2 // in a row: a network may need a moment
)

// selfTest finds out whether the container reaches the server. The first act of Beam's boot program is a call to it; it dials for minutes
// and says nothing meanwhile. So one that has not called yet is looked into: a connection is tried from inside.
func (r *runningContainer) selfTest(ctx context.Context) {
	begun, failed := time.Now(), 0
	for wait := testAfter; ; wait = testEvery {
		select {
		case <-ctx.Done():
			return
		case <-r.Done():
			return
		case <-time.After(wait):
		}
		if r.hasCalled() {
			return
		}
		result, why := r.Probe(ctx)
		if ctx.Err() != nil || r.hasCalled() {
			return
		}
		switch result {
		case docker.Reached:
			failed = 0
		case docker.Unreachable:
			failed++
		case docker.Unknown:
			if r.launcher.entry.Boots() && time.Since(begun) > r.launcher.silence {
				failed, why = testsFailed, "nothing came within "+r.launcher.silence.String()
			}
		}
		if failed >= testsFailed {
			r.unreached <- r.launcher.engine.NoRoute(r.launcher.options.Network, r.launcher.endpoint, why)
			return
		}
	}
}

// hasCalled says whether the worker's harness has reached the server.
func (r *runningContainer) hasCalled() bool {
	return r.worker.Provisioned() || r.worker.Generation() > 0
}

// bootEndpoints are the arguments that tell a boot program whose harness it starts and where the server is.
// Spec: s.apache.org/beam-fn-api-container-contract; boot.go of each SDK.
func bootEndpoints(w *fnapi.Worker) []string {
	return []string{
		"--id=" + string(w.ID()),
		"--logging_endpoint=" + w.Endpoint(),
		"--artifact_endpoint=" + w.Endpoint(),
		"--provision_endpoint=" + w.Endpoint(),
		"--control_endpoint=" + w.Endpoint(),
	}
}
