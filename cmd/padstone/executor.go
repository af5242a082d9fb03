package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/connector"
	"padstone/connector/kafka"
	"padstone/engine"
	"padstone/engine/bundle"
	"padstone/engine/sizing"
	"padstone/fnapi"
	"padstone/harness"
	"padstone/harness/docker"
	"padstone/internal/memory"
	"padstone/jobserver"
)

// executor is what the wiring needs of the engine.
type executor struct {
	jobserver.Executor
	jobserver.Previewer
	// recover takes up jobs of an earlier server on the same data directory.
	recover func(ctx context.Context, spec jobserver.Spec, reporter jobserver.Reporter) (jobserver.Running, error)
	// restorer takes up jobs from checkpoints.
	restorer jobserver.Restorer
	// options are the pipeline options that the engine reads.
	options []*jobpb.PipelineOptionDescriptor
	// memory is what the engine may hold.
	memory *memory.Budget
	// reap removes what harnesses an earlier server on the same data directory has left; the directory must be locked by now.
	reap func(ctx context.Context)
	// removeLost removes what servers on temporary directories have left that were killed.
	removeLost func(ctx context.Context)
	// close suspends running jobs, durably, and waits for all of the engine's goroutines and harnesses.
	close func(ctx context.Context) error
}

// newExecutor starts the runner's half of the Fn API and opens the engine on it.
func newExecutor(cfg Config, log *zap.Logger) (*executor, error) {
	return newExecutorOn(cfg, log, kafka.Registry(log.Named("kafka")))
}

// newExecutorOn does the same with other native transforms.
func newExecutorOn(cfg Config, log *zap.Logger, natives connector.Registry) (*executor, error) {
	limit, from := memory.Detect(int64(cfg.MemoryLimit))
	budget := memory.Share(limit)
	memory.Apply(limit, engine.OutsideHeap(budget))
	log.Info("memory limit", zap.String("limit", sizeText(limit)), zap.String("from", string(from)))
	server, err := fnapi.New(fnapi.Config{
		Logger: log.Named("fnapi"), SilenceMax: cfg.HarnessTimeout,
		Address: cfg.WorkerEndpoint, AdvertisedHost: cfg.AdvertisedWorkerHost,
	})
	if err != nil {
		return nil, err
	}
	containers, err := newDocker(cfg, log.Named("docker"))
	if err != nil {
		return nil, errors.Join(err, closed(server))
	}
	warm, err := cfg.warm()
	if err != nil {
		return nil, errors.Join(err, closed(server), containers.Close())
	}
	staged, err := newStaging(cfg.DataDir)
	if err != nil {
		return nil, errors.Join(err, closed(server), containers.Close())
	}
	manager, err := harness.New(harness.Config{
		Logger: log.Named("harness"), Server: server, Docker: containers, Warm: warm, TempDir: staged.dir,
	})
	if err != nil {
		return nil, errors.Join(err, closed(server), containers.Close())
	}
	var serving sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	serving.Go(func() {
		if err := server.Run(ctx); err != nil && ctx.Err() == nil {
			log.Error("the Fn API server stopped", zap.Error(err))
		}
	})
	serving.Go(func() { manager.KeepWarm(ctx) })
	eng := engine.New(engine.Config{
		Logger: log.Named("engine"), Natives: natives, Harnesses: &harnesses{manager: manager, server: server},
		Durability:   engine.Durability(cfg.Durability),
		Settings:     cfg.jobSettings(),
		Sizing:       sizing.Config{Every: cfg.AutoscalingInterval, IdleFor: cfg.AutoscalingIdleTime},
		HideElements: cfg.HideElements,
		StalledAfter: cfg.DiskTimeout,
		Checkpoints:  engine.Checkpoints{Dir: cfg.CheckpointDir, Interval: cfg.CheckpointInterval, Keep: cfg.CheckpointKeep},
		Version:      readVersion().Version,
		Memory:       budget,
	})
	return &executor{
		Executor: eng, Previewer: eng, recover: eng.Recover, restorer: eng, memory: budget,
		options:    slices.Concat(engine.Options(), harness.Options()),
		reap:       func(ctx context.Context) { reap(ctx, containers, staged, log) },
		removeLost: func(ctx context.Context) { removeLost(ctx, containers, os.Getenv(envDockerHost), log) },
		close: func(ctx context.Context) error {
			err := eng.Close(ctx)
			stop()
			server.Close()
			serving.Wait()
			_ = os.Remove(staged.dir) // not there, or not empty, because a harness does not end
			return errors.Join(err, containers.Close())
		},
	}, nil
}

// envDockerHost is the environment variable of the Docker Engine's address.
const envDockerHost = "DOCKER_HOST"

// newDocker prepares for containers; an Engine is asked for nothing before a job wants one.
func newDocker(cfg Config, log *zap.Logger) (*docker.Engine, error) {
	owner, err := identity(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	return docker.New(docker.Config{
		Logger: log, Owner: owner, Options: cfg.Docker.options(os.LookupEnv), Allow: cfg.Docker.Allow,
	})
}

// reap removes containers and staged files of an earlier server. That they are left is no reason not to serve.
func reap(ctx context.Context, containers *docker.Engine, staged staging, log *zap.Logger) {
	if err := staged.reap(); err != nil {
		log.Warn("staged files of a former server may be left", zap.Error(err))
	}
	n, err := containers.Reap(ctx)
	if err != nil {
		log.Warn("containers of a former server may be left", zap.Error(err))
	}
	if n > 0 {
		log.Info("containers of a former server removed", zap.Int("count", n))
	}
}

func closed(s *fnapi.Server) error { s.Close(); return nil }

// harnesses implements engine.Harnesses over package harness.
type harnesses struct {
	manager *harness.Manager
	server  *fnapi.Server
}

func (h *harnesses) Supported(env *pipepb.Environment) error { return h.manager.Supported(env) }

func (h *harnesses) Check(ctx context.Context, env *pipepb.Environment, options *structpb.Struct) error {
	return h.manager.Check(ctx, env, options)
}

func (h *harnesses) Fleet(job *bundle.Job, prefix string) (*bundle.Fleet, error) {
	return bundle.NewFleet(h.server, job, prefix)
}

func (h *harnesses) Start(ctx context.Context, spec engine.HarnessSpec) (engine.HarnessPool, error) {
	p, err := h.manager.Start(ctx, harness.Spec{
		JobID: spec.Job.ID, JobName: spec.Job.Name, EnvID: string(spec.EnvID), Environment: spec.Environment, Options: spec.Job.Options,
		ArtifactEndpoint: spec.Job.ArtifactEndpoint, RetrievalToken: spec.Job.RetrievalToken, Processes: spec.Processes,
		ProcessesOf: spec.ProcessesOf,
		OnChange:    spec.OnChange,
		Log: func(e fnapi.LogEntry) {
			text := e.Message
			if e.Trace != "" {
				text += "\n" + e.Trace
			}
			spec.Log(logLevel(e.Severity), e.TransformID, text)
		},
	})
	if err != nil {
		return nil, err
	}
	return &harnessPool{Pool: p, env: string(spec.EnvID)}, nil
}

func logLevel(s fnapi.Severity) engine.LogLevel {
	switch {
	case s >= fnapi.SeverityError:
		return engine.LogError
	case s >= fnapi.SeverityWarn:
		return engine.LogWarning
	case s >= fnapi.SeverityNotice:
		return engine.LogNotice
	case s >= fnapi.SeverityInfo:
		return engine.LogInfo
	default:
		return engine.LogDebug
	}
}

// harnessPool adds to a pool what the engine shows of it.
type harnessPool struct {
	*harness.Pool
	env string
}

func (p *harnessPool) Describe() []jobserver.WorkerDescription {
	var out []jobserver.WorkerDescription
	for _, w := range p.Workers() {
		out = append(out, jobserver.WorkerDescription{
			ID: string(w.ID()), Environment: p.env, Bundles: w.Bundles(), Generation: w.Generation(),
			WorkerPool: p.WorkerPool(w.ID()),
		})
	}
	return out
}

// Status implements engine.Inspected.
func (p *harnessPool) Status(ctx context.Context, worker string) (string, error) {
	return p.Pool.Status(ctx, fnapi.WorkerID(worker))
}

// Size implements engine.HarnessPool.
func (p *harnessPool) Size() engine.PoolSize { return engine.PoolSize(p.Pool.Size()) }

// Usage implements engine.HarnessPool.
func (p *harnessPool) Usage() []engine.HarnessUsage {
	var out []engine.HarnessUsage
	for _, u := range p.Pool.Usage() {
		out = append(out, engine.HarnessUsage{Worker: string(u.Worker), Generation: u.Generation, CPU: u.CPU, Memory: u.Memory})
	}
	return out
}

// endsInPortZero tells whether an address asks for any free port.
func endsInPortZero(address string) bool { return strings.HasSuffix(address, ":0") }
