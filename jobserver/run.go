package jobserver

import (
	"context"
	"errors"
	"slices"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
)

// acceptFunc is Executor.Start or Config.Recover.
type acceptFunc func(ctx context.Context, spec Spec, reporter Reporter) (Running, error)

// runPrepared starts the job of a preparation and returns its id once the executor has answered. It is idempotent: a client that lost
// the answer asks again and gets the same job, also after a restart. A job that the executor refuses at this point exists and is
// FAILED, with the reason as its error message.
func (s *Server) runPrepared(ctx context.Context, preparationID string) (string, error) {
	j, err := s.admit(preparationID)
	if err != nil {
		return "", err
	}
	select {
	case <-j.accepted:
		return j.rec.ID, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case <-s.ctx.Done():
		return "", context.Cause(s.ctx)
	}
}

// admit returns the job of a preparation, made now if this is the first time.
func (s *Server) admit(preparationID string) (*job, error) {
	s.mu.Lock()
	p, ran := s.mu.prepared[preparationID], s.mu.byPreparation[preparationID]
	if p != nil {
		p.claims++
		defer s.unclaim(p)
	}
	s.mu.Unlock()
	switch {
	case ran != nil:
		return ran, nil
	case p == nil:
		return nil, fault.New(fault.Pipeline, "preparation-not-found", "no preparation %.100q", preparationID).
			WithHint("it expired or the server restarted; submit the pipeline again")
	}
	// Two Runs of one preparation may both have come this far: the second waits here and then finds the first one's job.
	p.running.Lock()
	defer p.running.Unlock()
	s.mu.Lock()
	ran = s.mu.byPreparation[preparationID]
	s.mu.Unlock()
	if ran != nil {
		return ran, nil
	}
	return s.create(p)
}

func (s *Server) unclaim(p *preparation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.claims--
}

// create puts the job on disk, lists it and starts its supervisor. After an error nothing has happened, and Run may be tried again.
func (s *Server) create(p *preparation) (*job, error) {
	staged, err := s.artifacts.Staged(p.token)
	if err != nil {
		return nil, err
	}
	for id, dependencies := range staged.Dependencies {
		p.pipeline.GetComponents().GetEnvironments()[string(id)].Dependencies = dependencies
	}
	rec := record{
		Format: recordFormat, ID: p.jobID, Name: p.name, PreparationID: p.id, CreatedAt: s.cfg.Now().UTC(), Artifacts: staged.Digests,
	}
	if err := s.registry.create(rec, p.pipeline, p.options); err != nil {
		return nil, err
	}
	j, err := s.loadJob(rec)
	if err != nil {
		return nil, errors.Join(err, s.registry.remove(rec.ID))
	}
	for _, note := range p.notes {
		j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, note)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, errors.Join(errClosing(), j.suspend(), s.registry.remove(rec.ID))
	}
	s.artifacts.Adopt(p.token)
	delete(s.mu.prepared, p.id)
	s.mu.jobs[rec.ID], s.mu.byPreparation[p.id] = j, j
	s.startLocked(j, s.spec(rec.ID, rec.Name, p.pipeline, p.options), s.cfg.Executor.Start)
	return j, nil
}

// Recover takes up the jobs that an earlier server left unfinished and returns when the executor has answered for each of them. Call
// it once, when the endpoints that harnesses need are being served. Without Config.Recover the jobs are failed with server-restarted.
func (s *Server) Recover(ctx context.Context) error {
	accept := s.cfg.Recover
	if accept == nil {
		accept = func(context.Context, Spec, Reporter) (Running, error) {
			return nil, fault.New(fault.Environment, "server-restarted", "the server stopped while the job ran").
				WithHint("submit the pipeline again")
		}
	}
	s.mu.Lock()
	var unfinished []*job
	for _, j := range s.mu.jobs {
		select {
		case <-j.accepted:
		default:
			if !j.supervised {
				unfinished = append(unfinished, j)
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(unfinished, byAge)
	for _, j := range unfinished {
		if err := s.recoverJob(j, accept); err != nil {
			return err
		}
	}
	for _, j := range unfinished {
		select {
		case <-j.accepted:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *Server) recoverJob(j *job, accept acceptFunc) error {
	pipeline, err := s.registry.pipeline(j.rec.ID)
	var options *structpb.Struct
	if err == nil {
		options, err = s.registry.options(j.rec.ID)
	}
	if err != nil {
		// What the job is cannot be read: it can only be failed, with the reason.
		unreadable := err
		accept = func(context.Context, Spec, Reporter) (Running, error) { return nil, unreadable }
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return errClosing()
	}
	s.startLocked(j, s.spec(j.rec.ID, j.rec.Name, pipeline, options), accept)
	return nil
}

// startLocked starts the job's supervisor. Under Server.mu, so that Close either sees it or prevents it.
func (s *Server) startLocked(j *job, spec Spec, accept acceptFunc) {
	j.supervised = true
	spec.Files = func() ([]SpecFile, error) { return s.files(j.rec), nil }
	s.supervisors.Go(func() { s.supervise(j, spec, accept) })
}

// supervise has the executor take the job, waits for its end and publishes it.
func (s *Server) supervise(j *job, spec Spec, accept acceptFunc) {
	before := j.state().GetState()
	j.State(jobpb.JobState_STARTING)
	running, err := s.accept(j, spec, accept)
	if err != nil {
		if s.ctx.Err() == nil {
			j.fail(err)
			s.finish(j, nil)
			s.release(j)
		}
		close(j.accepted)
		return
	}
	close(j.accepted)
	s.askAgain(j, running, before)

	waited := make(chan error, 1)
	s.supervisors.Go(func() { waited <- running.Wait(s.ctx) })
	select {
	case <-s.ctx.Done():
		return // the server closes; the job is not over
	case err := <-waited:
		if s.ctx.Err() != nil {
			return
		}
		if errors.Is(err, context.Canceled) && !j.isAsked() {
			j.log.Warn("the executor let go of the job before its end; a restart takes it up again", zap.Error(err))
			return
		}
		j.fail(endedSilently(err)) // without effect on a job that has reported its end
		s.finish(j, running)
		j.logLeftovers(err)
	case <-j.asked:
		s.finish(j, running)
		select {
		case err := <-waited:
			j.logLeftovers(err)
		case <-s.ctx.Done():
			return
		}
	}
	s.release(j)
}

// release lets a job that is over be pruned, now that nobody uses its directory.
func (s *Server) release(j *job) {
	s.mu.Lock()
	j.released = true
	s.mu.Unlock()
	s.prune()
}

// accept calls the executor within its time and hands what it returns to the job.
func (s *Server) accept(j *job, spec Spec, accept acceptFunc) (Running, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.AcceptFor)
	defer cancel()
	running, err := accept(ctx, spec, j)
	if err == nil && running == nil {
		err = fault.New(fault.Internal, "executor-ended-silently", "the executor took the job and returned no handle for it")
	}
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.running = running
	return running, nil
}

// askAgain repeats a Cancel or Drain that was asked for before the server restarted.
func (s *Server) askAgain(j *job, running Running, before jobpb.JobState_Enum) {
	var err error
	switch before {
	case jobpb.JobState_CANCELLING:
		err = running.Cancel(s.ctx)
	case jobpb.JobState_DRAINING:
		err = running.Drain(s.ctx)
	default:
		return
	}
	if err != nil {
		j.log.Warn("a request from before the restart could not be repeated", zap.Stringer("state", before), zap.Error(err))
	}
}

// finish puts the final metrics and the last Description on disk, then publishes the terminal state. What cannot be had or stored is
// left out: the job's end must reach its clients. running is nil for a job that was never taken.
func (s *Server) finish(j *job, running Running) {
	if running != nil {
		if err := s.saveMetrics(j, running); err != nil {
			j.log.Warn("the job's final metrics are lost", zap.Error(err))
		}
		if err := s.saveDescription(j, running); err != nil {
			j.log.Warn("the job's last description is lost", zap.Error(err))
		}
	}
	j.publish()
}

func (s *Server) saveMetrics(j *job, running Running) error {
	// Not cut short by Close: the job is over, and this is its only picture.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.cfg.PictureFor)
	defer cancel()
	metrics, err := running.Metrics(ctx)
	if err != nil || metrics == nil {
		return err
	}
	return s.registry.saveMetrics(j.rec.ID, metrics)
}

func (s *Server) saveDescription(j *job, running Running) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.cfg.PictureFor)
	defer cancel()
	description, err := running.Describe(ctx)
	if err != nil || description == nil {
		return err
	}
	return s.registry.saveDescription(j.rec.ID, description)
}

// fail reports err as the job's error message and FAILED.
func (j *job) fail(err error) {
	j.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, err.Error())
	j.State(jobpb.JobState_FAILED)
}

func (j *job) isAsked() bool {
	select {
	case <-j.asked:
		return true
	default:
		return false
	}
}

func (j *job) logLeftovers(err error) {
	if err != nil {
		j.log.Warn("the job is over but left something behind", zap.Error(err))
	}
}

func endedSilently(err error) error {
	if err == nil {
		return fault.New(fault.Internal, "executor-ended-silently", "the executor ended without saying how the job ended")
	}
	return fault.New(fault.Internal, "executor-ended-silently", "the executor ended without saying how the job ended: %w", err)
}
