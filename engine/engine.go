package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/connector"
	"padstone/engine/bundle"
	"padstone/engine/checkpoint"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/engine/sizing"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/internal/memory"
	"padstone/internal/option"
	"padstone/jobserver"
	"padstone/translate"
)

// Harnesses starts the harness processes of a job. Implemented in cmd over package harness, so that the engine does not know how
// processes are started.
type Harnesses interface {
	// Supported says whether environments like this one can be started, without starting anything.
	Supported(env *pipepb.Environment) error
	// Check says whether the processes of an environment could be started now, by a job with the options, without starting any, in a second
	// or so.
	Check(ctx context.Context, env *pipepb.Environment, options *structpb.Struct) error
	// Start starts the processes of one environment and returns once they are connected.
	Start(ctx context.Context, spec HarnessSpec) (HarnessPool, error)
	// Fleet makes a fleet for the job's bundles. prefix is unique among all runs.
	Fleet(job *bundle.Job, prefix string) (*bundle.Fleet, error)
}

// HarnessSpec describes the harness processes of one environment of a job.
type HarnessSpec struct {
	Job         jobserver.Spec
	EnvID       plan.EnvID
	Environment *pipepb.Environment
	Processes   int
	// ProcessesOf says how many there are where several worker pools start them.
	ProcessesOf func(pools int) int
	// Log takes what the harness logs at warning level and above, or prints. transform is a transform id, or "".
	Log func(level LogLevel, transform, text string)
	// OnChange is called when a process has become ready, was lost, or the pool has given up.
	OnChange func()
}

// LogLevel is the level of a harness's log line.
type LogLevel uint8

// The levels, in rising order.
const (
	LogDebug LogLevel = iota
	LogInfo
	LogNotice // what the user is to see although nothing is wrong
	LogWarning
	LogError
)

// Config configures an Engine.
type Config struct {
	Logger    *zap.Logger
	Harnesses Harnesses
	Natives   connector.Registry
	// FS holds the jobs' stores; default the disk.
	FS store.FS
	// Durability of the jobs' stores; default store.Frontier.
	Durability store.Durability
	// KeyGroups of new jobs; a power of two, default 64. A keyed stage runs at most so many bundles at a time.
	KeyGroups int
	// Scheduler bounds bundles; zero fields take the scheduler's defaults.
	Scheduler scheduler.Config
	// Settings of jobs that do not choose, by name; see CheckSetting. What is left out is Padstone's own.
	Settings map[string]int64
	// Cores is how many harness processes are worth while; default GOMAXPROCS, which knows of a container's share.
	Cores int
	// Sizing says when the processes of an environment become more and fewer, where they are sized.
	Sizing sizing.Config
	// BundlesPerProcess is how many bundles a harness process has in flight; default 3.
	BundlesPerProcess int
	// Memory is what all jobs together may hold; default a share of memory.LimitDefault.
	Memory *memory.Budget
	// ProgressEvery is how often harnesses are asked for the progress of a bundle in flight, from the half of it on; default 1 s.
	ProgressEvery time.Duration
	// HideElements keeps elements out of messages about what failed, for all jobs.
	HideElements bool
	// Checkpoints says where checkpoints of jobs go, and when.
	Checkpoints Checkpoints
	// Version of the binary, for people who read a checkpoint.
	Version string
	// Now is the clock; default the wall clock.
	Now func() element.Time
	// Elapsed is a clock that does not jump when Now does. Default, for the default of Now: that of the machine; else none.
	Elapsed func() time.Duration
	// Stopwatch takes times for the profile, and for the sizes of pools that are sized. It must not go back; default the machine's.
	Stopwatch func() time.Duration
	// Turn is called by the goroutine of each bundle before it begins, and again before it hands over what it brings. It may make the
	// bundle wait: a simulation lets one thing happen at a time. May be nil.
	Turn func(job string, at Turn, b scheduler.BundleID)
	// QuiesceFor bounds the wait of a stop for bundles in flight, and then for sinks; default 30 s. What is not done by then is in the
	// savepoint, as input of a bundle that runs again or in the outbox.
	QuiesceFor time.Duration
	// StopTimeout bounds the end of a job's harnesses; default 18 s.
	StopTimeout time.Duration
	// StalledAfter is how long an operation of the disk may take before the job says that it waits for it; default 10 s.
	StalledAfter time.Duration
}

// Turn is a point at which a bundle may be made to wait.
type Turn string

// The points.
const (
	TurnBegin Turn = "begin"
	TurnEnd   Turn = "end"
)

func (c Config) withDefaults() Config {
	if c.KeyGroups == 0 {
		c.KeyGroups = 64
	}
	if c.BundlesPerProcess == 0 {
		c.BundlesPerProcess = 3
	}
	if c.Cores == 0 {
		c.Cores = runtime.GOMAXPROCS(0)
	}
	c.Sizing = c.Sizing.WithDefaults()
	if c.Memory == nil {
		c.Memory = memory.Share(memory.LimitDefault)
	}
	if c.ProgressEvery == 0 {
		c.ProgressEvery = time.Second
	}
	if c.Durability == "" {
		c.Durability = store.Frontier
	}
	if c.Now == nil && c.Elapsed == nil {
		started := time.Now()
		c.Elapsed = func() time.Duration { return time.Since(started) }
	}
	if c.Now == nil {
		c.Now = func() element.Time { return element.Time(time.Now().UnixMilli()) }
	}
	if c.Stopwatch == nil {
		started := time.Now()
		c.Stopwatch = func() time.Duration { return time.Since(started) }
	}
	if c.Turn == nil {
		c.Turn = func(string, Turn, scheduler.BundleID) {}
	}
	if c.Checkpoints.Open == nil {
		c.Checkpoints.Open = checkpoint.Open
	}
	if c.QuiesceFor == 0 {
		c.QuiesceFor = 30 * time.Second
	}
	if c.StalledAfter == 0 {
		c.StalledAfter = StalledAfterDefault
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 18 * time.Second // less than what a server has to stop
	}
	return c
}

// Engine runs jobs. Safe for concurrent use.
type Engine struct {
	cfg   Config
	cache *store.Cache // of all jobs' stores
	mu    struct {
		sync.Mutex
		jobs   map[*lasting]bool
		closed bool
	}
}

// New returns an engine.
func New(c Config) *Engine {
	e := &Engine{cfg: c.withDefaults()}
	e.cache = store.NewCache(e.cfg.Memory.StoreCache, memTable(e.cfg.Memory))
	e.mu.jobs = make(map[*lasting]bool)
	return e
}

// errSuspended ends the jobs of a server that stops: they are not terminal and go on with the next server.
var errSuspended = fmt.Errorf("the server stops; the job goes on with the next one: %w", context.Canceled)

// Close suspends running jobs and waits until their stores are closed and their harnesses have ended.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if !e.mu.closed {
		defer e.cache.Close()
	}
	e.mu.closed = true
	jobs := make([]*lasting, 0, len(e.mu.jobs))
	for j := range e.mu.jobs {
		jobs = append(jobs, j)
	}
	e.mu.Unlock()
	var errs []error
	for _, j := range jobs {
		j.stop(errSuspended)
	}
	for _, j := range jobs {
		if err := j.Wait(ctx); !errors.Is(err, errSuspended) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Check compiles the pipeline and throws the result away, matches it with the savepoint that it is to start from, chooses among the
// alternatives of environments, and says whether those that it uses can be had.
func (e *Engine) Check(ctx context.Context, spec jobserver.Spec) error {
	settings, err := settingsOf(e.cfg, spec.Options)
	if err != nil {
		return err
	}
	checks := &preflight{harnesses: e.cfg.Harnesses, options: spec.Options, waits: settings.waits()}
	checks.settle(ctx, spec.Pipeline)
	if location := option.Text(spec.Options, optionSavepoint); location != "" {
		if err := e.checkSavepoint(ctx, spec, location); err != nil {
			return err
		}
	}
	compiled, err := e.compile(spec, 0, nil)
	if err != nil {
		return err
	}
	return checks.check(ctx, compiled.Plan.Environments)
}

// Start runs a new job.
func (e *Engine) Start(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error) {
	return e.start(ctx, spec, reporter, false)
}

// Recover takes up a job that an earlier server left, from its store. One that had ended already reports its outcome again.
func (e *Engine) Recover(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error) {
	ended, err := loadOutcome(engineDir(spec))
	if err != nil {
		return nil, err
	}
	if ended == nil {
		ended, err = e.endedOnSlip(spec)
	}
	switch {
	case err != nil:
		return nil, err
	case ended == nil:
		return e.start(ctx, spec, reporter, true)
	}
	ended.report(reporter)
	return finishedJob{ended}, nil
}

// endedOnSlip returns the outcome of a job that has ended, or was cancelled, when nothing but its slip could be written.
func (e *Engine) endedOnSlip(spec jobserver.Spec) (*outcome, error) {
	read, err := store.ReadSlip(e.cfg.FS, filepath.Join(engineDir(spec), slipFile))
	if err != nil || read == nil {
		return nil, err
	}
	h := e.home(spec, nil)
	h.slip = &slip{s: read}
	if o := h.slip.ended(); o != nil {
		return o, nil
	}
	if h.slip.asked() != askedCancel {
		return nil, nil
	}
	o := &outcome{State: jobpb.JobState_CANCELLED}
	o.keep(&jobpb.MetricResults{}, h)
	return o, nil
}

func (e *Engine) home(spec jobserver.Spec, reporter jobserver.Reporter) home {
	return home{fs: e.cfg.FS, dir: engineDir(spec), reporter: reporter, log: e.cfg.Logger.With(zap.String("job", spec.ID))}
}

// start makes a job and runs it.
func (e *Engine) start(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter, recovered bool) (jobserver.Running, error) {
	compiled, err := e.compile(spec, 0, nil)
	if err != nil {
		return nil, err
	}
	if err := e.takeUp(ctx, spec, reporter); err != nil {
		return nil, err
	}
	l := &lasting{
		engine: e, cfg: e.cfg, spec: spec, compiled: compiled, home: e.home(spec, reporter), recovered: recovered,
		over: make(chan struct{}), again: make(chan struct{}, 1),
	}
	if l.cfg.Durability, err = durability(spec.Options, e.cfg.Durability); err != nil {
		return nil, err
	}
	l.disk = watchDisk(e.cfg.StalledAfter, l.home)
	l.home.waiting = l.disk.waiting
	lives := false
	defer func() {
		if !lives {
			close(l.disk.quit)
		}
	}()
	if err := l.begin(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.closed {
		stopping := fault.New(fault.Environment, "server-stopping", "the server is stopping")
		if run, _ := l.present(); run != nil {
			return nil, errors.Join(stopping, run.abandon())
		}
		return nil, stopping
	}
	e.mu.jobs[l], lives = true, true
	go func() {
		l.live()
		close(l.disk.quit)
		e.mu.Lock()
		delete(e.mu.jobs, l)
		e.mu.Unlock()
	}()
	return l, nil
}

// compile makes a job ready to run, with a number of key groups, 0 for that of new jobs, and with collections cut.
func (e *Engine) compile(spec jobserver.Spec, groups int, cut []string) (*bundle.Job, error) {
	if _, err := checkpointsOf(e.cfg.Checkpoints, spec.Options); err != nil {
		return nil, err
	}
	settings, err := settingsOf(e.cfg, spec.Options)
	if err != nil {
		return nil, err
	}
	p, err := translate.Compile(spec.Pipeline, translate.Options{
		KeyGroups:    cmp.Or(groups, e.cfg.KeyGroups),
		Cut:          cut,
		NoFusion:     experiment(spec.Options, ExperimentNoFusion),
		NoLifting:    experiment(spec.Options, ExperimentNoLifting),
		NoAssignment: experiment(spec.Options, ExperimentNoAssignment),
		Spread:       settings.processes(e.cfg.Cores, false, severalPools(spec.Pipeline)).Max > 1,
		Natives: func(urn string) bool {
			_, source := e.cfg.Natives.Source(connector.URN(urn))
			_, sink := e.cfg.Natives.Sink(connector.URN(urn))
			return source || sink
		},
		ValidateNative: func(urn string, config []byte) error {
			if s, ok := e.cfg.Natives.Source(connector.URN(urn)); ok {
				return s.Validate(config)
			}
			if s, ok := e.cfg.Natives.Sink(connector.URN(urn)); ok {
				return s.Validate(config)
			}
			return nil
		},
		Opaque:               func(urn string) bool { return connector.IsOpaque(e.cfg.Natives, connector.URN(urn)) },
		EnvironmentSupported: e.cfg.Harnesses.Supported,
	})
	if err != nil {
		return nil, err
	}
	d, err := durability(spec.Options, e.cfg.Durability)
	if err != nil {
		return nil, err
	}
	if err := checkDurability(d, e.cfg.Natives, p); err != nil {
		return nil, err
	}
	if err := connector.Fit(e.cfg.Natives, p); err != nil {
		return nil, err
	}
	compiled, err := bundle.Compile(p)
	if err != nil {
		return nil, fault.New(fault.Internal, "bad-plan", "the compiled plan cannot be run: %w", err)
	}
	if _, err := bundle.NewMachines(compiled); err != nil {
		return nil, fmt.Errorf("grouping: %w", err)
	}
	return compiled, nil
}
