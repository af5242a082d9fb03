package jobtest

import (
	"context"
	"maps"
	"slices"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/internal/fault"
	"padstone/jobserver"
)

// Executor is a jobserver.Executor that runs Script. The zero value runs every job to DONE.
type Executor struct {
	// CheckErr and StartErr, where set, are what Check and Start answer.
	CheckErr func(jobserver.Spec) error
	StartErr func(jobserver.Spec) error
	// Script is the life of a job, up to its terminal state; nil is RUNNING, DONE.
	Script func(*Run)

	mu   sync.Mutex
	runs []*Run
}

// Check implements jobserver.Executor.
func (e *Executor) Check(_ context.Context, spec jobserver.Spec) error {
	if e.CheckErr != nil {
		return e.CheckErr(spec)
	}
	return nil
}

// Start implements jobserver.Executor; it serves as Config.Recover, too.
func (e *Executor) Start(_ context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error) {
	if e.StartErr != nil {
		if err := e.StartErr(spec); err != nil {
			return nil, err
		}
	}
	run := &Run{
		Spec: spec, Reporter: reporter, Cancelled: make(chan struct{}), Drained: make(chan struct{}), Stopped: make(chan struct{}),
		ended: make(chan struct{}),
	}
	script := e.Script
	if script == nil {
		script = func(r *Run) {
			r.State(jobpb.JobState_RUNNING)
			r.State(jobpb.JobState_DONE)
		}
	}
	e.mu.Lock()
	e.runs = append(e.runs, run)
	e.mu.Unlock()
	go func() {
		defer close(run.ended)
		script(run)
	}()
	return run, nil
}

// Runs returns the jobs started so far.
func (e *Executor) Runs() []*Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]*Run(nil), e.runs...)
}

// Run is one started job.
type Run struct {
	Spec jobserver.Spec
	jobserver.Reporter
	// Closed by Cancel, Drain and Stop.
	Cancelled, Drained, Stopped chan struct{}
	ended                       chan struct{}

	mu          sync.Mutex
	cancelOnce  sync.Once
	drainOnce   sync.Once
	stopOnce    sync.Once
	metrics     *jobpb.MetricResults
	description *jobserver.Description
}

// SetMetrics is what Metrics answers from now on.
func (r *Run) SetMetrics(metrics *jobpb.MetricResults) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics = metrics
}

// SetDescription is what Describe answers from now on.
func (r *Run) SetDescription(description *jobserver.Description) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.description = description
}

// Cancel implements jobserver.Running.
func (r *Run) Cancel(context.Context) error {
	r.cancelOnce.Do(func() { close(r.Cancelled) })
	return nil
}

// Drain implements jobserver.Running.
func (r *Run) Drain(context.Context) error {
	r.drainOnce.Do(func() { close(r.Drained) })
	return nil
}

// Checkpoint implements jobserver.Checkpointing. It fails where To is "broken".
func (r *Run) Checkpoint(_ context.Context, request jobserver.CheckpointRequest) (*jobserver.Checkpoint, error) {
	if request.To == "broken" {
		return nil, fault.New(fault.Environment, "checkpoint-repository", "it is broken")
	}
	kind := "checkpoint"
	if request.Savepoint {
		kind = "savepoint"
	}
	return &jobserver.Checkpoint{ID: "1-1-test", Kind: kind, Repository: request.To, Job: r.Spec.ID}, nil
}

// Stop implements jobserver.Checkpointing. The script ends the job.
func (r *Run) Stop(ctx context.Context, to string) (*jobserver.Checkpoint, error) {
	taken, err := r.Checkpoint(ctx, jobserver.CheckpointRequest{To: to, Savepoint: true})
	if err != nil {
		return nil, err
	}
	r.stopOnce.Do(func() { close(r.Stopped) })
	return taken, r.Wait(ctx)
}

// Set implements jobserver.Adjustable. It fails where the setting "broken" is among them, and answers with what was asked for.
func (r *Run) Set(_ context.Context, values map[string]string) ([]jobserver.SettingDescription, error) {
	var now []jobserver.SettingDescription
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == "broken" {
			return nil, fault.New(fault.Pipeline, "setting-fixed", "it is broken")
		}
		now = append(now, jobserver.SettingDescription{Name: name, Note: values[name]})
	}
	return now, nil
}

// Threads implements jobserver.Inspectable: of two workers, one of which does not answer.
func (r *Run) Threads(_ context.Context, worker string) ([]jobserver.WorkerThreads, error) {
	all := []jobserver.WorkerThreads{
		{Worker: "w-1", Environment: "python", Generation: 1, Status: "all <threads>", Bundles: []jobserver.ActiveBundle{
			{Stage: "s1", Name: "Slow", Instruction: "i", Seconds: 65, IdleSeconds: 12.5, Thread: "<Thread-1>", Stack: "in <module>"},
		}},
		{Worker: "w-2", Environment: "python", Generation: 2, Bundles: []jobserver.ActiveBundle{}, Error: "it does not answer"},
	}
	if worker == "" {
		return all, nil
	}
	of := slices.DeleteFunc(all, func(t jobserver.WorkerThreads) bool { return t.Worker != worker })
	if len(of) == 0 {
		return nil, fault.New(fault.Pipeline, "worker-not-found", "no worker %q", worker)
	}
	return of, nil
}

// Metrics implements jobserver.Running.
func (r *Run) Metrics(context.Context) (*jobpb.MetricResults, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metrics, nil
}

// Describe implements jobserver.Running.
func (r *Run) Describe(context.Context) (*jobserver.Description, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.description, nil
}

// Wait implements jobserver.Running.
func (r *Run) Wait(ctx context.Context) error {
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
