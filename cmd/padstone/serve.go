package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"padstone/connector/kafka"
	"padstone/connector/kafka/broker"
	"padstone/internal/fault"
	"padstone/internal/memory"
	"padstone/jobserver"
	"padstone/jobserver/expansion"
	"padstone/jobserver/httpapi"
)

func newServe(term *terminal) *cobra.Command {
	flags := defaultConfig(term.getenv)
	path := ""
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a server",
		Long: "Run a server until SIGTERM or Ctrl-C. Once it is ready, server.json in the data directory has its process id and\n" +
			"its endpoints. Jobs that run when it stops go on when a server is started on the same data directory again.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(defaultConfig(term.getenv), path, cmd.Flags())
			if err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			log, err := newLogger(term.err, cfg.LogLevel, cfg.LogFormat)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// Once the graceful end has begun a second signal ends the process at once.
			context.AfterFunc(ctx, stop)
			return serve(ctx, cfg, log, nil)
		},
	}
	flags.bind(cmd.Flags())
	cmd.Flags().StringVar(&path, "config", "", "YAML file with the same keys as the flags; flags win")
	return cmd
}

// serve runs a server until ctx is done; ready, if not nil, is called once everything listens and server.json is written.
func serve(ctx context.Context, cfg Config, log *zap.Logger, ready func(Endpoints)) error {
	return serveOn(ctx, cfg, log, newExecutor, ready)
}

// opener makes what runs the jobs of a server.
type opener func(cfg Config, log *zap.Logger) (*executor, error)

// serveOn runs a server whose jobs another executor runs.
func serveOn(ctx context.Context, cfg Config, log *zap.Logger, open opener, ready func(Endpoints)) error {
	started := watchStart(cfg, log)
	defer started()
	s, err := buildServer(ctx, cfg, log, open)
	if err != nil {
		return err
	}
	err = s.run(ctx, os.Getpid(), func(e Endpoints) {
		started()
		log.Info("ready", zap.String("job", e.Job), zap.String("artifact", e.Artifact), zap.String("expansion", e.Expansion),
			zap.String("http", "http://"+e.HTTP), zap.String("dataDir", cfg.DataDir))
		if ready != nil {
			ready(e)
		}
	})
	log.Info("stopped", zap.Error(err))
	return err
}

// watchStart has the log say that a start takes longer than the disk of the data directory may take to answer; nothing else in it takes
// long. It is waited for all the same: what a disk was asked cannot be taken back. The caller calls started when the start is over.
func watchStart(cfg Config, log *zap.Logger) (started func()) {
	timer := time.AfterFunc(cfg.DiskTimeout, func() {
		log.Error("the server waits for its disk to start", zap.Error(fault.New(fault.Environment, "disk-stalled",
			"the disk of the data directory %s does not answer: the start has taken %v", cfg.DataDir, cfg.DiskTimeout).
			WithHint("check the disk, or the network to it; the server starts when it answers")))
	})
	return func() { timer.Stop() }
}

// buildServer wires a server in data-flow order. Everything listens when it returns; nothing is served before stack.run. Parts stop
// in the reverse order: the HTTP API and the job server first, so that the engine's own end is not taken for that of its jobs.
func buildServer(ctx context.Context, cfg Config, log *zap.Logger, open opener) (_ *stack, err error) {
	s := &stack{log: log, dataDir: cfg.DataDir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, configFault("data-dir: %w", err)
	}
	executor, err := open(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	s.addCloser("engine", executor.close)

	jobListener, err := s.listen(ctx, "job-endpoint", cfg.JobEndpoint)
	if err != nil {
		return nil, err
	}
	s.endpoints.Job = jobListener.Addr().String()
	artifactListener := jobListener
	if cfg.ArtifactEndpoint != cfg.JobEndpoint || endsInPortZero(cfg.JobEndpoint) {
		if artifactListener, err = s.listen(ctx, "artifact-endpoint", cfg.ArtifactEndpoint); err != nil {
			return nil, err
		}
	}
	s.endpoints.Artifact = artifactListener.Addr().String()

	overrides, err := cfg.overrides()
	if err != nil {
		return nil, err
	}
	jobs, err := jobserver.New(jobserver.Config{
		Overrides: overrides,
		DataDir:   cfg.DataDir, ArtifactEndpoint: dialable(s.endpoints.Artifact, "localhost"),
		StagingEndpoint: stagingEndpoint(s.endpoints.Job, s.endpoints.Artifact),
		Executor:        executor, Recover: executor.recover, Restorer: executor.restorer, Options: executor.options, Log: log,
	})
	if err != nil {
		return nil, err
	}
	jobServer := grpc.NewServer(jobserver.ServerOptions()...)
	jobs.Register(jobServer)
	s.addGRPC("job service", jobServer, jobListener)
	if artifactListener != jobListener {
		artifactServer := grpc.NewServer(jobserver.ServerOptions()...)
		jobs.RegisterArtifacts(artifactServer)
		s.addGRPC("artifact service", artifactServer, artifactListener)
	}
	s.addCloser("job server", func(context.Context) error { return jobs.Close() })
	// From here on the data directory is locked: it is ours.
	if err := s.addBroker(cfg); err != nil {
		return nil, err
	}
	if err := s.addExpansion(ctx, cfg, log); err != nil {
		return nil, err
	}
	s.addTask("recovery", func(ctx context.Context) error {
		if executor.reap != nil {
			executor.reap(ctx)
		}
		return jobs.Recover(ctx)
	})
	s.addTask("leftovers", func(ctx context.Context) error {
		if executor.removeLost != nil {
			executor.removeLost(ctx)
		}
		return nil
	})
	return s, s.addHTTPAPI(ctx, cfg, jobs, memory.NewCollector(executor.memory))
}

// addBroker starts the embedded Kafka broker, if one is wanted. Its topics are kept like everything else in the data directory: a
// job that goes on after a restart must find the records behind its positions.
func (s *stack) addBroker(cfg Config) error {
	if cfg.EmbeddedKafka == "" {
		return nil
	}
	b, err := broker.StartKept(cfg.EmbeddedKafka, cfg.EmbeddedKafkaTopics, filepath.Join(cfg.DataDir, "embedded-kafka"))
	if err != nil {
		return err
	}
	s.endpoints.EmbeddedKafka = b.Addr()
	// First in, last out: the engine's sources and sinks end before what they talk to.
	s.parts = slices.Insert(s.parts, 0, part{name: "embedded Kafka", stop: func(context.Context) error { return b.Close() }})
	return nil
}

// addExpansion answers for the transforms that run natively, and passes requests for others on to the services of the configuration.
func (s *stack) addExpansion(ctx context.Context, cfg Config, log *zap.Logger) error {
	l, err := s.listen(ctx, "expansion-endpoint", cfg.ExpansionEndpoint)
	if err != nil {
		return err
	}
	s.endpoints.Expansion = l.Addr().String()
	var routes []expansion.Route
	for _, text := range cfg.ExpansionServices {
		route, err := expansion.ParseRoute(text)
		if err != nil {
			return configFault("expansion-service: %w", err)
		}
		routes = append(routes, route)
	}
	forward, err := expansion.NewForwarder(routes, log)
	if err != nil {
		return configFault("expansion-service: %w", err)
	}
	s.addCloser("connections to expansion services", func(context.Context) error { return forward.Close() })
	server := grpc.NewServer(jobserver.ServerOptions()...)
	expansion.New(kafka.Registry(log), forward, log).Register(server)
	s.addGRPC("expansion service", server, l)
	return nil
}

// addHTTPAPI serves the UI, the API and /metrics.
func (s *stack) addHTTPAPI(ctx context.Context, cfg Config, jobs *jobserver.Server, collectors ...prometheus.Collector) error {
	l, err := s.listen(ctx, "http", cfg.HTTP)
	if err != nil {
		return err
	}
	s.endpoints.HTTP = l.Addr().String()
	api, err := httpapi.New(httpapi.Config{
		Server: jobs, Log: s.log, Version: readVersion().Version,
		// Only who listens beyond this machine is known under names that cannot be foreseen.
		AnyHost: cfg.AllowRemoteHTTP && !isLoopbackAddress(cfg.HTTP), Collectors: collectors,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/server", s.describe)
	mux.Handle("/", api)
	s.addHTTP("http", mux, l)
	return nil
}

// describe answers GET /api/v1/server: who answers here and where the other endpoints are.
func (s *stack) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(ServerInfo{PID: os.Getpid(), Endpoints: s.endpoints}); err != nil {
		s.log.Debug("answering a client that left", zap.Error(err))
	}
}
