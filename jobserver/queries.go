package jobserver

import (
	"context"
	"fmt"
	"slices"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/internal/fault"
)

// JobInfo is what the registry knows of a job.
type JobInfo struct {
	ID        string
	Name      string // the user's, for people
	State     jobpb.JobState_Enum
	CreatedAt time.Time
	History   []StateChange // oldest first, ends with State
	LastError string        // the latest error message, or ""
}

// StateChange is one entry of a job's history.
type StateChange struct {
	State jobpb.JobState_Enum
	At    time.Time
}

// Message is one message of a job.
type Message struct {
	Seq        int64 // ascending; not without gaps
	Time       string
	Importance jobpb.JobMessage_MessageImportance
	Text       string
}

// Jobs returns all jobs, oldest first.
func (s *Server) Jobs() []JobInfo {
	s.mu.Lock()
	jobs := make([]*job, 0, len(s.mu.jobs))
	for _, j := range s.mu.jobs {
		jobs = append(jobs, j)
	}
	s.mu.Unlock()
	slices.SortFunc(jobs, byAge)
	infos := make([]JobInfo, len(jobs))
	for i, j := range jobs {
		infos[i] = j.info()
	}
	return infos
}

// Job returns one job. Errors: job-not-found.
func (s *Server) Job(id string) (JobInfo, error) {
	j, err := s.find(id)
	if err != nil {
		return JobInfo{}, err
	}
	return j.info(), nil
}

func (j *job) info() JobInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	info := JobInfo{
		ID: j.rec.ID, Name: j.rec.Name, State: j.stateLocked(), CreatedAt: j.rec.CreatedAt, LastError: j.mu.lastError,
	}
	for _, state := range j.mu.states {
		info.History = append(info.History, StateChange{State: state.GetState(), At: state.GetTimestamp().AsTime()})
	}
	return info
}

// Messages returns the kept messages of a job that are numbered above after, oldest first. Errors: job-not-found.
func (s *Server) Messages(id string, after int64) ([]Message, error) {
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	v, err := j.read(seqNum(after))
	if err != nil {
		return nil, err
	}
	var messages []Message
	for _, e := range v.events {
		if m := e.message; m != nil {
			messages = append(messages, Message{
				Seq: int64(e.seq), Time: m.GetTime(), Importance: m.GetImportance(), Text: m.GetMessageText(),
			})
		}
	}
	return messages, nil
}

// Metrics returns a job's metrics: the executor's while it runs, the stored ones after the end. Never nil without an error: TypeScript's
// client reads the field unasked.
func (s *Server) Metrics(ctx context.Context, id string) (*jobpb.MetricResults, error) {
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	running := j.run()
	if running == nil {
		return s.registry.metrics(id)
	}
	metrics, err := running.Metrics(ctx)
	if err != nil {
		return nil, fmt.Errorf("metrics of job %s: %w", id, err)
	}
	if metrics == nil {
		metrics = &jobpb.MetricResults{}
	}
	return metrics, nil
}

// Describe returns the picture of a job: the executor's while it runs, the last one after the end. Errors: job-not-found.
func (s *Server) Describe(ctx context.Context, id string) (*Description, error) {
	j, err := s.find(id)
	if err != nil {
		return nil, err
	}
	running := j.run()
	if running == nil {
		return s.registry.description(id)
	}
	description, err := running.Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe job %s: %w", id, err)
	}
	if description == nil {
		description = &Description{}
	}
	return description, nil
}

// Cancel asks for CANCELLED and returns the state after the request was accepted. A job that is over stays as it is.
// Errors: job-not-found.
func (s *Server) Cancel(ctx context.Context, id string) (jobpb.JobState_Enum, error) {
	return s.ask(ctx, id, jobpb.JobState_CANCELLING, Running.Cancel)
}

// Drain asks for DRAINED: sources stop, what is in flight is finished. It returns the state after the request was accepted and does
// not wait for the end. Errors: job-not-found, job-cancelling.
func (s *Server) Drain(ctx context.Context, id string) (jobpb.JobState_Enum, error) {
	return s.ask(ctx, id, jobpb.JobState_DRAINING, Running.Drain)
}

func (s *Server) ask(
	ctx context.Context, id string, toward jobpb.JobState_Enum, request func(Running, context.Context) error,
) (jobpb.JobState_Enum, error) {
	j, err := s.find(id)
	if err != nil {
		return 0, err
	}
	select {
	case <-j.accepted:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
	state, running := j.state().GetState(), j.run()
	if running == nil || IsTerminal(state) {
		return state, nil
	}
	if state == jobpb.JobState_CANCELLING && toward == jobpb.JobState_DRAINING {
		return 0, fault.New(fault.Pipeline, "job-cancelling", "job %s is being cancelled and cannot be drained any more", id)
	}
	if err := request(running, ctx); err != nil && !IsTerminal(j.state().GetState()) {
		return 0, fmt.Errorf("job %s: %w", id, err)
	}
	j.State(toward)
	return j.state().GetState(), nil
}

// find returns a job by the id that a caller sent; ids are looked up, never made into paths.
func (s *Server) find(id string) (*job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j, ok := s.mu.jobs[id]; ok {
		return j, nil
	}
	return nil, fault.New(fault.Pipeline, "job-not-found", "no job %.100q", id).
		WithHint("list the jobs; a preparation id is not a job id, and only the last %d jobs that are over are kept", s.cfg.JobsKept)
}

// follow sends a job's events, those so far and those to come, until the last one. A closing server ends it with server-closing.
func (s *Server) follow(ctx context.Context, id string, send func(event) error) error {
	j, err := s.find(id)
	if err != nil {
		return err
	}
	for cursor := seqNum(0); ; {
		v, err := j.read(cursor)
		if err != nil {
			return err
		}
		for _, e := range v.events {
			if err := send(e); err != nil {
				return fmt.Errorf("send to the client: %w", err)
			}
			cursor = e.seq
		}
		if v.over {
			return nil
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}
