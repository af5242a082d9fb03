package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/enginetest"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// TestDrainAfterRestart has the server restart while a job drains: its source reads nothing more, or what it reads then would come after
// the windows were closed, and be dropped as late.
func TestDrainAfterRestart(t *testing.T) {
	r := newRig(t, nil)
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("k=a@1"), Watermark: 5}, {Elements: pairs("k=b@2"), Gate: gate},
	}}
	away := atomic.Bool{}
	away.Store(true)
	p := r.Pipeline()
	in := p.WindowInto("windows", p.Read("in", src, textPair), enginetest.Fixed(10))
	out := p.Write("out", p.GroupByKey("group", in))
	out.OnPublish = func(int) error {
		if away.Load() {
			return fault.New(fault.Environment, "kafka-write", "%w", errors.New("the broker is away"))
		}
		return nil
	}
	j := r.Start(p, nil)
	j.AwaitOutput("in", 1)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.AwaitOutput("group", 1) // the pane waits for the broker
	close(gate)
	r.Restart()
	away.Store(false)
	j = r.Recover(j)
	j.End(jobpb.JobState_DRAINED)
	if got := out.Texts(); !slices.Equal(got, []string{"k=[a]@10"}) {
		t.Errorf("%q", got)
	}
	if n := j.Counter("group", "dropped_due_to_lateness"); n != 0 || src.Durable() != 1 {
		t.Errorf("%d elements were dropped as late, %d batches were read", n, src.Durable())
	}
}

// TestDrainInCheckpoint restores a job from a checkpoint that was taken after a drain was answered and before anything else was committed: it
// drains, and reads nothing more.
func TestDrainInCheckpoint(t *testing.T) {
	for _, restart := range []bool{false, true} {
		r := newRig(t, nil)
		src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b")}}}
		stuck, elsewhere := make(chan struct{}), atomic.Bool{}
		src.OnPoll = func(ctx context.Context, n int) error {
			if n == 0 || elsewhere.Load() {
				return nil
			}
			if n == 1 {
				close(stuck)
			}
			<-ctx.Done() // brokers are away
			return context.Cause(ctx)
		}
		p := r.Pipeline()
		out := p.Write("out", p.Read("in", src, "bytes"))
		out.OnPublish = func(int) error {
			if !elsewhere.Load() {
				return fault.New(fault.Environment, "kafka-write", "%w", errors.New("the broker is away"))
			}
			return nil
		}
		j := r.Start(p, nil)
		<-stuck
		if err := j.Drain(r.Context()); err != nil {
			t.Fatal(err)
		}
		if restart {
			r.Restart()
			j = r.Recover(j)
			if err := j.Await(r.Context(), func(rec *enginetest.Recorder) bool { return rec.Last() == jobpb.JobState_DRAINING }); err != nil {
				t.Fatal(err)
			}
		}
		place := t.TempDir()
		taken := j.Checkpoint(jobserver.CheckpointRequest{To: place})
		r.Restart()
		elsewhere.Store(true)
		src.Rewind(0)
		j, _, err := r.Restore(j, jobserver.RestoreRequest{From: place, ID: taken.ID, AllowRewind: true})
		if err != nil {
			t.Fatal(err)
		}
		j.End(jobpb.JobState_DRAINED)
		if got := slices.Compact(out.Texts()); !slices.Equal(got, []string{"a"}) {
			t.Errorf("%q", got)
		}
	}
}
