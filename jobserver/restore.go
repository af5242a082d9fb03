package jobserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/internal/option"
	"padstone/jobserver/artifact"
)

// Restored is a job that was taken up from a checkpoint.
type Restored struct {
	Job        JobInfo
	Checkpoint Checkpoint
	// GivenUp says what will, or may, be written again.
	GivenUp []string
}

// Checkpoint copies a running job and returns once the copy can be restored. Errors: job-not-found, job-over, checkpoints-unsupported, and
// those of docs/errors/checkpoint.md.
func (s *Server) Checkpoint(ctx context.Context, id string, r CheckpointRequest) (*Checkpoint, error) {
	running, err := s.checkpointing(ctx, id)
	if err != nil {
		return nil, err
	}
	return running.Checkpoint(ctx, r)
}

// Stop ends a running job with a savepoint and returns once it is over. After an error the job goes on. Errors: as Checkpoint.
func (s *Server) Stop(ctx context.Context, id, to string) (*Checkpoint, error) {
	running, err := s.checkpointing(ctx, id)
	if err != nil {
		return nil, err
	}
	taken, err := running.Stop(ctx, to)
	if err != nil {
		return nil, err
	}
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return taken, j.awaitEnd(ctx)
}

// awaitEnd waits until the terminal state is published.
func (j *job) awaitEnd(ctx context.Context) error {
	for {
		j.mu.Lock()
		over, changed := IsTerminal(j.stateLocked()), j.mu.changed
		j.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// checkpointing finds a job that runs under an executor that can copy it.
func (s *Server) checkpointing(ctx context.Context, id string) (Checkpointing, error) {
	running, err := s.present(ctx, id)
	if err != nil {
		return nil, err
	}
	c, ok := running.(Checkpointing)
	if !ok {
		return nil, errNoCheckpoints()
	}
	return c, nil
}

// present finds a job that runs. Errors: job-not-found, job-over.
func (s *Server) present(ctx context.Context, id string) (Running, error) {
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-j.accepted:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
	running := j.run()
	if running == nil || IsTerminal(j.state().GetState()) {
		return nil, fault.New(fault.Pipeline, "job-over", "job %s is %s: it does not run any more",
			id, j.state().GetState())
	}
	return running, nil
}

func errNoCheckpoints() error {
	return fault.New(fault.Pipeline, "checkpoints-unsupported", "what runs the jobs of this server takes no checkpoints")
}

// Restore takes up a job from a checkpoint, under its own id, and returns once the executor has it. The job must not run here. It
// replaces a job of that id that is over. After an error nothing has changed. Errors: job-exists, environment-override,
// outbox-behind, and those of docs/errors/checkpoint.md.
func (s *Server) Restore(ctx context.Context, r RestoreRequest) (_ *Restored, err error) {
	restorer := s.cfg.Restorer
	if restorer == nil || s.cfg.Recover == nil {
		return nil, errNoCheckpoints()
	}
	if err := s.free(r.Job); err != nil {
		return nil, err // before anything is fetched
	}
	dir := filepath.Join(s.registry.dir, prefixNew+randomID())
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create job directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	taken, err := restorer.Fetch(ctx, r, dir)
	if err != nil {
		return nil, err
	}
	rec, err := readRecordFile(dir, taken.Job)
	if err != nil {
		return nil, err
	}
	release, err := s.reserve(rec.ID)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.adoptArtifacts(filepath.Join(dir, specFilesArtifacts), rec); err != nil {
		return nil, err
	}
	givenUp, err := s.makeReady(ctx, restorer, r, dir, rec)
	if err == nil {
		err = s.placeRestored(dir, rec, *taken, givenUp)
	}
	if err != nil {
		return nil, errors.Join(err, s.store.Release(rec.Artifacts...))
	}
	j, err := s.find(rec.ID)
	if err != nil {
		return nil, err
	}
	select {
	case <-j.accepted:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return &Restored{Job: j.info(), Checkpoint: *taken, GivenUp: givenUp}, nil
}

// free refuses the id of a job that is here and not over, or whose directory is in use yet.
func (s *Server) free(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freeLocked(id)
}

func (s *Server) freeLocked(id string) error {
	j := s.mu.jobs[id]
	if j != nil && !j.released || s.mu.restoring[id] {
		return fault.New(fault.Pipeline, "job-exists", "job %s is on this server already, and not over", id).
			WithHint("cancel it first, or stop it with a savepoint and restore that")
	}
	return nil
}

// reserve keeps others from restoring the same job.
func (s *Server) reserve(id string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.freeLocked(id); err != nil {
		return nil, err
	}
	s.mu.restoring[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.mu.restoring, id)
	}, nil
}

// jobID is what a job's id looks like: it is a directory's name.
var jobID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,199}$`)

// readRecordFile reads the record of a job that was fetched. Its id becomes a path, so it must be one that a server makes.
func readRecordFile(dir, id string) (record, error) {
	rec := record{}
	data, err := os.ReadFile(filepath.Join(dir, fileRecord))
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	if err != nil || rec.Format != recordFormat || rec.ID != id || !jobID.MatchString(rec.ID) {
		return rec, fault.New(fault.Corruption, "registry-corrupt", "the checkpoint has a job record of format %d and id %.100q, %v",
			rec.Format, rec.ID, err)
	}
	return rec, nil
}

// adoptArtifacts puts the job's artifacts where all are, each with a reference of the job's.
func (s *Server) adoptArtifacts(dir string, rec record) error {
	for i, d := range rec.Artifacts {
		if err := s.adoptArtifact(filepath.Join(dir, string(d)), d); err != nil {
			return errors.Join(err, s.store.Release(rec.Artifacts[:i]...))
		}
	}
	return os.RemoveAll(dir)
}

func (s *Server) adoptArtifact(path string, want artifact.Digest) error {
	in, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Corruption, "registry-corrupt", "the checkpoint has no artifact %s: %w", want, err)
	}
	out, err := s.store.Create()
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, in.Close()); err != nil {
		return errors.Join(err, out.Abort())
	}
	got, err := out.Commit()
	if err == nil && got != want {
		err = errors.Join(fault.New(fault.Corruption, "registry-corrupt", "the checkpoint's artifact %s is another one", want),
			s.store.Release(got))
	}
	return err
}

// makeReady has the executor look at what was fetched.
func (s *Server) makeReady(ctx context.Context, restorer Restorer, r RestoreRequest, dir string, rec record) ([]string, error) {
	fetched := &registry{dir: filepath.Dir(dir), log: s.registry.log}
	pipeline, err := fetched.pipeline(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	options, err := fetched.options(filepath.Base(dir))
	if err != nil {
		return nil, err
	}
	if r.EnvironmentType != "" || r.EnvironmentConfig != "" {
		if err := overrideEnvironment(pipeline, r.EnvironmentType, r.EnvironmentConfig); err != nil {
			return nil, err
		}
		option.Set(options, "environment_type", strings.ToUpper(r.EnvironmentType)) // what is done about a pool that is not there rests on it
		option.Set(options, "environment_config", r.EnvironmentConfig)
		err := errors.Join(writeProto(filepath.Join(dir, filePipeline), pipeline), writeProto(filepath.Join(dir, fileOptions), options))
		if err != nil {
			return nil, err
		}
	}
	spec := s.spec(rec.ID, rec.Name, pipeline, options)
	spec.Dir = dir
	return restorer.Ready(ctx, spec, r.AllowRewind)
}

// placeRestored makes the job one of this server's and starts it. From the moment at which its directory has its name the job is here,
// whatever happens.
func (s *Server) placeRestored(dir string, rec record, taken Checkpoint, givenUp []string) error {
	if err := s.removeOver(rec.ID); err != nil {
		return err
	}
	if err := os.Rename(dir, s.registry.jobDir(rec.ID)); err != nil {
		return fmt.Errorf("place job directory: %w", err)
	}
	err := durable.SyncDir(s.registry.dir)
	var j *job
	if err == nil {
		j, err = s.loadJob(rec)
	}
	if err != nil {
		return errors.Join(err, s.registry.remove(rec.ID))
	}
	j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf("restored from %s %s in %s: the job goes on as it was at %s",
		taken.Kind, taken.ID, taken.Repository, taken.CreatedAt.Format(time.RFC3339)))
	for _, text := range givenUp {
		j.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, "given up by going back to the checkpoint: "+text)
	}
	s.mu.Lock()
	s.mu.jobs[rec.ID], s.mu.byPreparation[rec.PreparationID] = j, j
	s.mu.Unlock()
	s.cfg.Log.Info("a job was restored", zap.String("job", rec.ID), zap.String("checkpoint", taken.ID), zap.Strings("given_up", givenUp))
	if err := s.recoverJob(j, s.cfg.Recover); err != nil {
		s.cfg.Log.Info("the restored job starts with the next server", zap.String("job", rec.ID), zap.Error(err))
	}
	return nil
}

// removeOver removes the job of an id that is over; the caller has reserved the id.
func (s *Server) removeOver(id string) error {
	s.mu.Lock()
	old := s.mu.jobs[id]
	if old != nil {
		delete(s.mu.jobs, id)
		delete(s.mu.byPreparation, old.rec.PreparationID)
	}
	s.mu.Unlock()
	if old == nil {
		return nil
	}
	return errors.Join(s.registry.remove(id), s.store.Release(old.rec.Artifacts...))
}
