package capture

import (
	"context"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/jobserver"
)

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
