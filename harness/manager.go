package harness

import (
	"context"
	"fmt"
	"net"
	"sync"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// Manager starts pools of harnesses. Safe for concurrent use.
type Manager struct {
	cfg     Config
	resolve func(ctx context.Context, host string) ([]net.IP, error) // names of worker pools
	warm    *warm
}

// New returns a manager. Errors: a configuration that is not valid.
func New(cfg Config) (*Manager, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{cfg: cfg.withDefaults(), resolve: lookup}
	m.warm = newWarm(&m.cfg)
	return m, nil
}

// Spec describes the harnesses of one environment of one job.
type Spec struct {
	JobID, JobName   string
	EnvID            string // of the pipeline proto
	Environment      *pipepb.Environment
	Options          *structpb.Struct // as submitted
	ArtifactEndpoint string
	RetrievalToken   string
	// Log takes what the harnesses log and print; it must not block for long. A last entry may come after Close. Once a harness logs
	// to the server, what it prints to stderr, mostly a copy of that, is of debug severity. nil: nowhere but to LastLogs.
	Log func(fnapi.LogEntry)
	// OnChange is called after a worker has become ready or was lost, and when the pool has failed. It must not block for long and
	// must not call Close. May be nil.
	OnChange func()
	// Processes is how many harnesses to start; at least 1. A worker pool gets more than one only if it is known to start a process
	// each: LOOPBACK workers are threads of one Python process, and a second one would only share its lock.
	Processes int
	// ProcessesOf says how many harnesses to start where the environment has several worker pools; nil: Processes.
	ProcessesOf func(pools int) int
	// ProcessPool says that the environment's worker pool starts a process a worker. Without it a pool whose workers run Beam's boot
	// program is recognised, and any other is taken for LOOPBACK.
	ProcessPool bool
	// MemoryMax is how much memory a harness may have before another one takes its place; 0: no bound. See Pool.SetMemoryMax.
	MemoryMax int64
}

// Supported says whether environments like this one can be started, without starting anything. The error is what Start would return.
func (m *Manager) Supported(env *pipepb.Environment) error {
	_, err := m.cfg.resolve(env)
	return err
}

// Check says whether harnesses of the environment could be started now, without starting one, in a second or so: whether one of its worker
// pools can be reached, whether its program is there, whether a container's options are allowed, an Engine has the image or could pull it,
// and containers have a route to the server. Errors are those of Start.
func (m *Manager) Check(ctx context.Context, env *pipepb.Environment, options *structpb.Struct) error {
	t, err := m.cfg.resolve(env)
	switch {
	case err != nil:
		return err
	case t.external != nil:
		return m.checkExternal(ctx, t)
	case t.process != nil:
		return checkProcess(t)
	}
	chosen, err := m.cfg.Docker.ForJob(dockerOptions(options))
	if err != nil {
		return err
	}
	return m.cfg.Docker.Check(ctx, t.docker.GetContainerImage(), chosen, m.cfg.Server)
}

// Start launches the harnesses of one environment and returns once all are connected. Errors name the environment, what was started
// and how it ended, with the last log lines; then nothing is left running.
func (m *Manager) Start(ctx context.Context, spec Spec) (*Pool, error) {
	t, err := m.cfg.resolve(spec.Environment)
	if err != nil {
		return nil, err
	}
	if spec.Processes < 1 {
		spec.Processes = 1
	}
	life, cancel := context.WithCancel(context.Background()) // not ctx: the pool outlives its start
	p := newPool(m, t, spec, life, cancel)
	switch {
	case t.external != nil:
		p.launcher = newExternalLauncher(m, t, p)
	case t.docker != nil:
		p.launcher, err = newContainerLauncher(ctx, p)
	default:
		p.launcher = newProcessLauncher(m, t, spec, p.logEntry)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	if e, ok := p.launcher.(*externalLauncher); ok && spec.ProcessesOf != nil {
		if pools := len(e.sites.now(ctx)); pools > 1 {
			spec.Processes = spec.ProcessesOf(pools)
		}
	}
	if err := p.startAll(ctx, spec.Processes); err != nil {
		p.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	p.SetMemoryMax(spec.MemoryMax)
	if e, ok := p.launcher.(*externalLauncher); ok {
		p.running.Go(func() { p.followNames(e.sites) })
	}
	return p, nil
}

// startAll starts the first worker and then, since by then staged files are there and the kind of a worker pool is known, the others.
// Containers have nothing in common that the first one would make.
func (p *Pool) startAll(ctx context.Context, n int) error {
	if p.target.docker != nil {
		return p.startSlots(ctx, n)
	}
	if err := p.startSlots(ctx, 1); err != nil {
		return err
	}
	if l, ok := p.launcher.(*externalLauncher); ok && !p.spec.ProcessPool && !p.slotsInService()[0].worker.Provisioned() && !l.manyPrograms() {
		most := len(l.sites.now(ctx))
		p.most.Store(int64(most))
		if n > most {
			p.log.Info("one worker a pool: these worker pools run their workers in one process each", zap.Int("pools", most))
			n = most
		}
	}
	return p.startSlots(ctx, n-1)
}

// startSlots starts n workers, which are supervised until the pool's life ends, and waits for them.
func (p *Pool) startSlots(ctx context.Context, n int) error {
	var starting sync.WaitGroup
	slots, results := make([]*slot, n), make([]error, n)
	for i := range n {
		s, first, err := p.launchSlot()
		if err != nil {
			return err
		}
		slots[i] = s
		starting.Go(func() {
			select {
			case results[i] = <-first:
			case <-ctx.Done():
				results[i] = fault.New(fault.Environment, codeStart, "environment %q: start given up: %w", p.spec.EnvID, context.Cause(ctx))
			}
		})
	}
	starting.Wait()
	for _, err := range results {
		if err != nil { // the others are hardly about something else
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.places = append(p.mu.places, slots...)
	p.mu.wanted = len(p.mu.places)
	return nil
}

// describe names the pool in errors.
func (p *Pool) describe() string { return fmt.Sprintf("environment %q (%s)", p.spec.EnvID, p.target) }
