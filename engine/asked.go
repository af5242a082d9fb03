package engine

import (
	"context"
	"errors"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/scheduler"
)

// errCanceled is the reason of a job that its user has cancelled.
var errCanceled = errors.New("the job was cancelled")

// Cancel asks for CANCELLED.
func (j *job) Cancel(ctx context.Context) error {
	_, err := j.do(ctx, func() {
		if j.over {
			return
		}
		j.canceled = true
		j.reporter.State(jobpb.JobState_CANCELLING)
		j.end(errCanceled)
	})
	return err
}

// Drain asks for DRAINED: sources stop, what is read is processed, windows close.
func (j *job) Drain(ctx context.Context) error {
	_, err := j.do(ctx, func() {
		if j.over || j.draining {
			return
		}
		j.draining = true
		j.reporter.State(jobpb.JobState_DRAINING)
		if j.fleet != nil {
			j.fleet.Drain()
		}
		if j.replay != nil {
			j.replay.drain()
		}
		j.tell(scheduler.Drain{})
	})
	return err
}
