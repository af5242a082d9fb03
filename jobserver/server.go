package jobserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"padstone/internal/streamend"
	"padstone/jobserver/artifact"
)

// Config configures a Server.
type Config struct {
	// DataDir holds everything that survives a restart: jobs/ and artifacts/. Required; one server at a time.
	DataDir string
	// ArtifactEndpoint is the address (host:port) of the artifact services that harnesses are told, and clients unless StagingEndpoint
	// knows better. Required.
	ArtifactEndpoint string
	// StagingEndpoint tells a client another one, by the authority of its call: host:port as the client wrote it. Nil: ArtifactEndpoint.
	StagingEndpoint func(called string) string
	// Executor runs the jobs. Required.
	Executor Executor
	// Recover takes up a job that was running when an earlier server stopped. Its contract is Executor.Start's, with the engine's
	// state in Spec.Dir. Nil: such jobs are failed with server-restarted.
	Recover func(ctx context.Context, spec Spec, reporter Reporter) (Running, error)
	// Restorer takes up copies of jobs; nil: jobs cannot be restored. It needs Recover.
	Restorer Restorer
	// Options are the pipeline options that the executor reads, under their Beam names; Python's client passes on only options that
	// it knows itself or finds here.
	Options []*jobpb.PipelineOptionDescriptor
	// Overrides have environments run in the place of others, for all jobs, behind those that a job names itself.
	Overrides []EnvironmentOverride
	Log       *zap.Logger      // required
	Now       func() time.Time // default time.Now

	// JobsKept is how many jobs that are over are kept, newest first; default 1000.
	JobsKept int
	// MessagesMax and MessageBytesMax bound the messages of one job; defaults 10 000 and 2 MiB. A note stands for what was dropped.
	MessagesMax     int
	MessageBytesMax int64
	// PreparationsMax and PreparationFor bound what was prepared and not run: past either, the oldest is forgotten. Defaults 100, 1 h.
	PreparationsMax int
	PreparationFor  time.Duration
	// AcceptFor bounds how long the executor may take to accept a job; default 5 min.
	AcceptFor time.Duration
	// PictureFor bounds each of the calls for a job's final metrics and description; default 10 s.
	PictureFor time.Duration
	// Artifacts passes limits to the artifact service; Store and Log in it are set by the server.
	Artifacts artifact.Config
}

// Validate lists everything that is missing.
func (c Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("no data directory"))
	}
	if c.ArtifactEndpoint == "" {
		errs = append(errs, errors.New("no artifact endpoint"))
	}
	if c.Executor == nil {
		errs = append(errs, errors.New("no executor"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("no logger"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.JobsKept <= 0 {
		c.JobsKept = 1000
	}
	if c.MessagesMax <= 0 {
		c.MessagesMax = 10_000
	}
	if c.MessageBytesMax <= 0 {
		c.MessageBytesMax = 2 << 20
	}
	if c.PreparationsMax <= 0 {
		c.PreparationsMax = 100
	}
	if c.PreparationFor <= 0 {
		c.PreparationFor = time.Hour
	}
	if c.AcceptFor <= 0 {
		c.AcceptFor = 5 * time.Minute
	}
	if c.PictureFor <= 0 {
		c.PictureFor = 10 * time.Second
	}
	return c
}

// Server is the job service with its registry. All methods are safe for concurrent use.
type Server struct {
	cfg       Config
	lock      *os.File
	registry  *registry
	store     *artifact.Store
	artifacts *artifact.Service

	// ctx ends with Close: it ends streams and the waiting of supervisors, not jobs. A server is a root of goroutines that outlive
	// every request, hence the field.
	ctx         context.Context //nolint:containedctx // see above
	cancel      context.CancelCauseFunc
	supervisors sync.WaitGroup

	mu struct {
		sync.Mutex
		closed        bool
		prepared      map[string]*preparation // by preparation id, not run yet
		jobs          map[string]*job         // by job id
		byPreparation map[string]*job
		restoring     map[string]bool // ids of jobs that are about to be taken up from a checkpoint
	}
}

// New takes the data directory and loads its jobs. Jobs that an earlier server left unfinished are listed as they were; Recover takes
// them up. Errors: data-dir-locked, data-dir-unusable. The caller ends the server with Close.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("job server: %w", err)
	}
	cfg = cfg.withDefaults()
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("job server: %w", err)
	}
	cfg.DataDir, cfg.Log = dir, cfg.Log.Named("jobserver")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *Server) open() (err error) {
	if s.registry, err = openRegistry(filepath.Join(s.cfg.DataDir, "jobs"), s.cfg.Log); err != nil {
		return err
	}
	if s.store, err = artifact.OpenStore(filepath.Join(s.cfg.DataDir, "artifacts")); err != nil {
		return err
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.mu.prepared = make(map[string]*preparation)
	s.mu.jobs = make(map[string]*job)
	s.mu.byPreparation = make(map[string]*job)
	s.mu.restoring = make(map[string]bool)
	if err := s.load(); err != nil {
		return err
	}
	if _, err := s.store.Sweep(); err != nil {
		return err
	}
	limits := s.cfg.Artifacts
	limits.Store, limits.Log = s.store, s.cfg.Log.Named("artifact")
	s.artifacts = artifact.NewService(limits)
	s.prune()
	return nil
}

// load reads all jobs of the registry.
func (s *Server) load() error {
	records, err := s.registry.list()
	if err != nil {
		return err
	}
	for _, rec := range records {
		j, err := s.loadJob(rec)
		if err != nil {
			return fmt.Errorf("load job %s: %w", rec.ID, err)
		}
		s.store.Retain(rec.Artifacts...)
		s.mu.jobs[rec.ID] = j
		s.mu.byPreparation[rec.PreparationID] = j
	}
	return nil
}

// loadJob reads one job. The log of a job that is not over stays open for what follows.
func (s *Server) loadJob(rec record) (*job, error) {
	log, events, lost, err := openEventLog(s.eventLogPath(rec.ID))
	if err != nil {
		return nil, err
	}
	if n := len(events); n > 0 && events[n-1].state != nil && IsTerminal(events[n-1].state.GetState()) {
		if err := log.close(); err != nil {
			return nil, err
		}
		j := s.newJob(rec, nil, events)
		j.released = true
		close(j.accepted)
		return j, nil
	}
	j := s.newJob(rec, log, events)
	j.State(jobpb.JobState_STOPPED) // for a crash before the first record; refused otherwise
	if lost > 0 {
		j.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
			fmt.Sprintf("%d bytes at the end of the job's event log did not read back after a crash; the last messages may be missing.", lost))
	}
	return j, nil
}

func (s *Server) eventLogPath(id string) string {
	return filepath.Join(s.registry.jobDir(id), fileEvents)
}

func (s *Server) eventLimits() eventLimits {
	return eventLimits{messagesMax: s.cfg.MessagesMax, bytesMax: s.cfg.MessageBytesMax}
}

// Register serves the job service and the artifact services on a gRPC server made with ServerOptions.
func (s *Server) Register(g *grpc.Server) {
	jobpb.RegisterJobServiceServer(g, &jobService{server: s})
	s.RegisterArtifacts(g)
}

// RegisterArtifacts serves the artifact services alone, for an artifact port of their own.
func (s *Server) RegisterArtifacts(g *grpc.Server) { s.artifacts.Register(g) }

// ServerOptions returns what Beam's clients need of a gRPC server: messages of any size, since a pipeline may embed megabytes, and no
// penalty for keep-alive pings of an idle client. A job's streams end in the order that lets Python's client exit.
func ServerOptions() []grpc.ServerOption {
	return append(streamend.Options(streamend.ByJob),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	)
}

// Close ends streams and supervision, waits for all goroutines and gives the data directory back. Jobs are the executor's: those that
// it has not ended stay unfinished in the registry, to be recovered. Stop the executor after Close, so that its shutdown is not
// taken for the jobs' end; stop the gRPC servers after Close, too.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	jobs := make([]*job, 0, len(s.mu.jobs))
	for _, j := range s.mu.jobs {
		jobs = append(jobs, j)
	}
	s.mu.Unlock()

	s.cancel(errClosing())
	s.artifacts.Close()
	s.supervisors.Wait()
	var errs []error
	for _, j := range jobs {
		errs = append(errs, j.suspend())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// suspend closes the log of a job that is not over; what it reports from here on is dropped.
func (j *job) suspend() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.eventLog == nil {
		return nil
	}
	log := j.mu.eventLog
	j.mu.eventLog = nil
	if log.broken != nil {
		return errors.Join(log.mend(j.mu.events.events), log.close())
	}
	return errors.Join(log.sync(), log.close())
}

// prune deletes the oldest jobs that are over, beyond the number kept, and the artifacts that only they refer to.
func (s *Server) prune() {
	s.mu.Lock()
	var over []*job
	for _, j := range s.mu.jobs {
		if j.released {
			over = append(over, j)
		}
	}
	slices.SortFunc(over, byAge)
	over = over[:max(0, len(over)-s.cfg.JobsKept)]
	for _, j := range over {
		delete(s.mu.jobs, j.rec.ID)
		delete(s.mu.byPreparation, j.rec.PreparationID)
	}
	s.mu.Unlock()
	for _, j := range over {
		if err := errors.Join(s.registry.remove(j.rec.ID), s.store.Release(j.rec.Artifacts...)); err != nil {
			s.cfg.Log.Warn("a job that is no longer kept is left on disk in part", zap.String("job", j.rec.ID), zap.Error(err))
		}
	}
}

// byAge orders jobs, oldest first.
func byAge(a, b *job) int {
	if c := a.rec.CreatedAt.Compare(b.rec.CreatedAt); c != 0 {
		return c
	}
	if a.rec.ID < b.rec.ID {
		return -1
	}
	return 1
}
