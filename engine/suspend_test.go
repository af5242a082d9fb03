package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestSuspendIsNoFailure has the driver learn of a failure that the suspension has caused before it learns of the suspension.
func TestSuspendIsNoFailure(t *testing.T) {
	for range 6 { // the driver takes either news first
		armed, blocked, release := atomic.Bool{}, make(chan struct{}), make(chan struct{})
		r := newRig(t, func(c *engine.Config) {
			c.Now = func() element.Time {
				if armed.CompareAndSwap(true, false) {
					close(blocked)
					<-release
				}
				return element.Time(time.Now().UnixMilli())
			}
		})
		failing := make(chan struct{})
		r.Harnesses.OnStart = func(ctx context.Context) error {
			<-ctx.Done()
			close(failing)
			return errors.New("the start was interrupted")
		}
		p := r.Pipeline()
		gate := make(chan struct{})
		src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}}}
		out := p.Write("out", p.Map("pass", p.Read("in", src, "bytes"), "",
			func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
		j := r.Start(p, nil)
		j.AwaitOutput("in", 1)
		armed.Store(true)
		close(gate)
		<-blocked
		go func() {
			<-failing
			time.Sleep(10 * time.Millisecond) // until the failure has been queued
			close(release)
		}()
		r.Suspend()
		if s := j.Last(); s != jobpb.JobState_STARTING {
			t.Fatalf("states %v, errors %q", j.States(), j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR))
		}
		r.Harnesses.OnStart = nil
		r.Restart()
		r.Recover(j).End(jobpb.JobState_DONE)
		want(t, out, "a", "b")
	}
}

// TestSuspendedBefore1970 suspends a job whose windows lie before 1970: they are not over when it goes on.
func TestSuspendedBefore1970(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{
		{Elements: pairs("k=a@-900"), Watermark: -950}, {Elements: pairs("k=b@-800"), Gate: gate},
	}}
	in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(1000))
	out := p.Write("out", p.GroupByKey("group", in))
	j := r.Start(p, nil)
	j.AwaitInput("group", 1)
	r.Restart()
	j = r.Recover(j)
	close(gate)
	j.End(jobpb.JobState_DONE)
	want(t, out, "k=[a b]@0")
}
