package capture

import (
	"cmp"
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

type outcome struct {
	stage *saturate.Stage
	err   error
}

// New returns an executor.
func New(cfg Config) *Executor {
	return &Executor{cfg: cfg, outcome: make(chan outcome, 1), released: make(chan struct{})}
}

// Stage waits for the stage and its elements.
func (e *Executor) Stage(ctx context.Context) (*saturate.Stage, error) {
	select {
	case o := <-e.outcome:
		return o.stage, o.err
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
	stage, err := j.capture(ctx)
	j.executor.outcome <- outcome{stage, err}
	<-j.executor.released
	if err != nil {
		reporter.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, err.Error())
		reporter.State(jobpb.JobState_FAILED)
		return
	}
	reporter.State(jobpb.JobState_DONE)
}

// capture compiles the pipeline, chooses the stage and gets elements for it.
func (j *job) capture(ctx context.Context) (*saturate.Stage, error) {
	cfg := &j.executor.cfg
	compiled, err := translate.Compile(j.spec.Pipeline, cfg.Compile)
	if err != nil {
		return nil, err
	}
	s, err := choose(compiled, cfg.Stage)
	if err != nil {
		return nil, err
	}
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
		ArtifactEndpoint: j.spec.ArtifactEndpoint, RetrievalToken: j.spec.RetrievalToken, Others: others(compiled, s),
	}, nil
}

// others names the stages that could have been chosen, by their first transforms.
func others(p *plan.Plan, chosen *plan.Stage) (names []string) {
	for _, s := range p.Stages {
		input := p.Edge(s.Input)
		if s != chosen && fed(p, s) && saturate.Refuse(s, input) == nil {
			names = append(names, s.Root)
		}
	}
	return names
}

// fed tells whether elements come to a stage of a harness: one that an impulse starts gets one element.
func fed(p *plan.Plan, s *plan.Stage) bool {
	input := p.Edge(s.Input)
	return s.Kind == plan.Harness && input != nil && p.Stage(input.Producers[0]).Kind != plan.Impulse
}

// choose returns the stage to be measured.
func choose(p *plan.Plan, name string) (*plan.Stage, error) {
	if name != "" {
		s, err := saturate.Find(p, name)
		if err != nil {
			return nil, err
		}
		return s, saturate.Refuse(s, p.Edge(s.Input))
	}
	var first error
	for _, s := range p.Stages {
		if !fed(p, s) {
			continue
		}
		err := saturate.Refuse(s, p.Edge(s.Input))
		if err == nil {
			return s, nil
		}
		first = cmp.Or(first, err)
	}
	if first == nil {
		first = fault.New(fault.Pipeline, codeStage, "the pipeline has no stage that elements come to").
			WithHint("a stage that an impulse starts has one bundle of one element; put a Reshuffle where elements are to be shared out")
	}
	return nil, first
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
	stopping, cancel := context.WithTimeout(context.Background(), 30*time.Second)
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

// Cancel implements jobserver.Running: the job ends when it is released.
func (j *job) Cancel(context.Context) error { return nil }

// Drain implements jobserver.Running.
func (j *job) Drain(context.Context) error { return nil }

// Metrics implements jobserver.Running: nothing has been counted.
func (j *job) Metrics(context.Context) (*jobpb.MetricResults, error) {
	return &jobpb.MetricResults{}, nil
}

// Describe implements jobserver.Running.
func (j *job) Describe(context.Context) (*jobserver.Description, error) {
	return &jobserver.Description{}, nil
}

// Wait implements jobserver.Running.
func (j *job) Wait(ctx context.Context) error {
	select {
	case <-j.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ending is the reporter of the job that makes elements: it notes how that one ended.
type ending struct {
	over chan struct{}

	mu struct {
		sync.Mutex
		err   string
		state jobpb.JobState_Enum
	}
}

// State implements jobserver.Reporter.
func (e *ending) State(state jobpb.JobState_Enum) {
	switch state {
	case jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED, jobpb.JobState_DRAINED:
		e.mu.Lock()
		e.mu.state = state
		e.mu.Unlock()
		close(e.over)
	}
}

// Message implements jobserver.Reporter.
func (e *ending) Message(importance jobpb.JobMessage_MessageImportance, text string) {
	if importance == jobpb.JobMessage_JOB_MESSAGE_ERROR {
		e.mu.Lock()
		e.mu.err = text
		e.mu.Unlock()
	}
}

// text says why it ended by itself; "" if it did not.
func (e *ending) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.mu.err != "":
		return e.mu.err
	case e.mu.state == jobpb.JobState_DONE:
		return "its input has none"
	}
	return ""
}
