package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/coder"
	"padstone/engine/plan"
	"padstone/internal/bench/saturate"
	"padstone/internal/fault"
	"padstone/jobserver"
	"padstone/translate"
)

// Config says what to capture.
type Config struct {
	Engine  jobserver.Executor // of a server with Natives
	Natives *Registry
	Compile translate.Options
	Stage   string // a transform of the stage; "": the first stage that can be taken and is fed by elements
	// ElementsMax and BytesMax say how many elements are enough, For how long they are waited for.
	ElementsMax, BytesMax int
	For                   time.Duration
}

// stopFor is how long a job of ours may take to be cancelled.
const stopFor = 30 * time.Second

// Executor implements jobserver.Executor: the first job that is started is the one that is captured.
type Executor struct {
	cfg      Config
	outcome  chan outcome
	released chan struct{}
	once     sync.Once
	running  sync.WaitGroup

	mu struct {
		sync.Mutex
		started bool
	}
}

// Captured is what a job came to: one of the two ways to measure its stage.
type Captured struct {
	Name   string
	Others []string // the first transforms of other stages that could be measured
	Stage  *saturate.Stage
	// Needs says what the stage takes besides elements, if anything; then Through has the engine run it.
	Needs   string
	Through *Through
}

type outcome struct {
	captured *Captured
	err      error
}

// New returns an executor.
func New(cfg Config) *Executor {
	return &Executor{cfg: cfg, outcome: make(chan outcome, 1), released: make(chan struct{})}
}

// Captured waits for the stage, and its elements if it is fed by them alone.
func (e *Executor) Captured(ctx context.Context) (*Captured, error) {
	select {
	case o := <-e.outcome:
		return o.captured, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Release ends the job for its client, and waits for all that was started for it. Idempotent.
func (e *Executor) Release() {
	e.once.Do(func() { close(e.released) })
	e.running.Wait()
}

// Check implements jobserver.Executor.
func (e *Executor) Check(ctx context.Context, spec jobserver.Spec) error {
	return e.cfg.Engine.Check(ctx, spec)
}

// Start implements jobserver.Executor.
func (e *Executor) Start(_ context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.started {
		return nil, fault.New(fault.Pipeline, codeStage, "the script submits more than one pipeline; the first one is being measured").
			WithHint("let it submit the one to be measured alone")
	}
	e.mu.started = true
	j := &job{executor: e, spec: spec, ended: make(chan struct{})}
	e.running.Go(func() { j.run(reporter) })
	return j, nil
}

// job is the one that is captured; to its client it runs until it is released.
type job struct {
	executor *Executor
	spec     jobserver.Spec
	ended    chan struct{}
}

func (j *job) run(reporter jobserver.Reporter) {
	defer close(j.ended)
	ctx, cancel := context.WithTimeout(context.Background(), j.executor.cfg.For)
	defer cancel()
	go func() {
		select {
		case <-j.executor.released:
			cancel()
		case <-j.ended:
		}
	}()
	reporter.State(jobpb.JobState_RUNNING)
	captured, err := j.capture(ctx)
	j.executor.outcome <- outcome{captured, err}
	<-j.executor.released
	if err != nil {
		reporter.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, err.Error())
		reporter.State(jobpb.JobState_FAILED)
		return
	}
	reporter.State(jobpb.JobState_DONE)
}

// capture compiles the pipeline and chooses the stage.
func (j *job) capture(ctx context.Context) (*Captured, error) {
	cfg := &j.executor.cfg
	compiled, err := translate.Compile(j.spec.Pipeline, cfg.Compile)
	if err != nil {
		return nil, err
	}
	c, err := choose(j.spec.Pipeline, compiled, cfg.Stage)
	if err != nil {
		return nil, err
	}
	captured := &Captured{Name: c.stage.Name, Others: c.others(), Needs: c.needs}
	captured.Stage, err = j.withElements(ctx, compiled, c.stage)
	if err != nil || c.needs == "" {
		return captured, err
	}
	captured.Through, err = j.through(compiled, captured.Stage)
	return captured, err
}

// through has an engine run the stage, on the same elements.
func (j *job) through(compiled *plan.Plan, s *saturate.Stage) (*Through, error) {
	input := compiled.Edge(s.Plan.Input)
	var transforms []string
	for _, t := range s.Plan.Transforms {
		transforms = append(transforms, t.ID)
	}
	part, err := fedBy(j.spec.Pipeline, transforms, input.PCollection, sourceURN)
	if err != nil {
		return nil, fmt.Errorf("stage %q: %w", s.Name, err)
	}
	j.executor.cfg.Natives.source.sample, j.executor.cfg.Natives.source.scanner = s.Sample, j.executor.cfg.Natives.sink.framing()
	return &Through{executor: j.executor, spec: j.spec, part: part, root: s.Plan.Root, name: s.Name}, nil
}

// withElements gets elements for a stage.
func (j *job) withElements(ctx context.Context, compiled *plan.Plan, s *plan.Stage) (*saturate.Stage, error) {
	cfg := &j.executor.cfg
	input := compiled.Edge(s.Input)
	cut, err := upstream(j.spec.Pipeline, input.PCollection, sinkURN)
	if err != nil {
		return nil, fmt.Errorf("stage %q: %w", s.Name, err)
	}
	spec := j.spec
	spec.Pipeline, spec.ID, spec.Files = cut, j.spec.ID+"-sample", nil
	spec.Dir = filepath.Join(j.spec.Dir, "sample")
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := j.expect(cut, s, input); err != nil {
		return nil, err
	}
	if err := j.sample(ctx, spec, s); err != nil {
		return nil, err
	}
	env, err := saturate.EnvironmentOf(compiled, s)
	if err != nil {
		return nil, err
	}
	return &saturate.Stage{
		Name: s.Name, Plan: s, Environment: env, Sample: saturate.NewSample(cfg.Natives.sink.taken()), Options: j.spec.Options, JobID: j.spec.ID,
		ArtifactEndpoint: j.spec.ArtifactEndpoint, RetrievalToken: j.spec.RetrievalToken,
	}, nil
}

// expect tells the sink how the elements come, which is how the stage gets them.
func (j *job) expect(cut *pipepb.Pipeline, s *plan.Stage, input *plan.Edge) error {
	cfg := &j.executor.cfg
	part, err := translate.Compile(cut, cfg.Compile)
	if err != nil {
		return fmt.Errorf("the part of the pipeline before stage %q: %w", s.Name, err)
	}
	for _, other := range part.Stages {
		if other.Native == nil || other.Native.URN != sinkURN {
			continue
		}
		e := part.Edge(other.Input)
		if e.Element != input.Element || e.Window != input.Window {
			return fault.New(fault.Internal, codeStage, "stage %q reads %s in %s windows, a sink in its place %s in %s windows",
				s.Name, input.Element, input.Window, e.Element, e.Window)
		}
		program, err := coder.Compile(e.Element)
		if err != nil {
			return err
		}
		cfg.Natives.sink.expect(coder.NewScanner(program, e.Window), cfg.ElementsMax, cfg.BytesMax)
		return nil
	}
	return fault.New(fault.Internal, codeStage, "the part of the pipeline before stage %q has no sink", s.Name)
}

// sample runs the part before the stage until there are enough elements, it has ended, or time is up.
func (j *job) sample(ctx context.Context, spec jobserver.Spec, s *plan.Stage) error {
	cfg := &j.executor.cfg
	end := &ending{over: make(chan struct{})}
	running, err := cfg.Engine.Start(ctx, spec, end)
	if err != nil {
		return fmt.Errorf("elements for stage %q: %w", s.Name, err)
	}
	select {
	case <-cfg.Natives.sink.full:
	case <-end.over:
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopFor)
	defer cancel()
	if err := errors.Join(running.Cancel(stopping), running.Wait(stopping)); err != nil {
		return fmt.Errorf("ending the job that made elements for stage %q: %w", s.Name, err)
	}
	if len(cfg.Natives.sink.taken()) > 0 {
		return nil
	}
	why := end.text()
	if why == "" {
		why = "none came within " + cfg.For.String()
	}
	return fault.New(fault.Pipeline, codeStage, "there are no elements for stage %q: %s", s.Name, why).
		WithHint("the pipeline must have input that reaches the stage")
}
