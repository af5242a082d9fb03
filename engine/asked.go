package engine

import (
	"context"
	"errors"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/scheduler"
	"padstone/engine/store"
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
		j.keepDrain()
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

// keepDrain has the store say that the job drains, for who goes on from a copy of it: the slip, which says so as well, stays here. The
// driver calls it. Bundles say it again, so that a commit that fails here is not lost; the disk that has failed ends the run elsewhere.
func (j *job) keepDrain() {
	_, err := j.store.Commit(&store.Commit{Meta: []store.Entry{{Name: metaDrain, Value: []byte{1}}}})
	j.warn(err, "keeping that the job drains")
}
