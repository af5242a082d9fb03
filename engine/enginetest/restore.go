package enginetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"padstone/connector"
	"padstone/jobserver"
)

// Restore takes the job up from a checkpoint in another directory, as another machine would. The engine must not run the job.
func (r *Rig) Restore(j *Job, from jobserver.RestoreRequest) (next *Job, givenUp []string, err error) {
	r.T.Helper()
	r.jobs++
	next = &Job{Recorder: &Recorder{}, rig: r, Spec: j.Spec}
	next.Spec.Dir = filepath.Join(r.dir, fmt.Sprint("restored-", r.jobs))
	if err := os.Mkdir(next.Spec.Dir, 0o700); err != nil {
		r.T.Fatal(err)
	}
	if _, err := r.Engine.Fetch(r.Context(), from, next.Spec.Dir); err != nil {
		return nil, nil, err
	}
	if givenUp, err = r.Engine.Ready(r.Context(), next.Spec, from.AllowRewind); err != nil {
		return nil, nil, err
	}
	next.Running, err = r.Engine.Recover(r.Context(), next.Spec, next.Recorder)
	return next, givenUp, err
}

// Checkpoint takes a checkpoint, which must succeed.
func (j *Job) Checkpoint(r jobserver.CheckpointRequest) *jobserver.Checkpoint {
	j.rig.T.Helper()
	taken, err := j.Running.(jobserver.Checkpointing).Checkpoint(j.rig.Context(), r)
	if err != nil {
		j.rig.T.Fatalf("Checkpoint: %v", err)
	}
	return taken
}

// Stop stops the job with a savepoint.
func (j *Job) Stop(to string) (*jobserver.Checkpoint, error) {
	return j.Running.(jobserver.Checkpointing).Stop(j.rig.Context(), to)
}

// Mark implements connector.Marker.
func (s sinks) Mark(_ context.Context, config []byte, _ connector.Identity) (connector.Mark, error) {
	sink, c, err := s.find(config)
	if err != nil {
		return connector.Mark{}, err
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	m := connector.Mark{Kept: sink.Marked, Target: "memory " + c.Name}
	if n := len(sink.mu.marks); n > 0 {
		m.Seq, m.Records = sink.mu.marks[n-1].seq, int64(sink.mu.marks[n-1].texts)
	}
	return m, nil
}
