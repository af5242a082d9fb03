package engine

import (
	"context"
	"errors"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/checkpoint"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/jobserver"
)

// quietEvery is how often a stop looks whether the job is at rest.
const quietEvery = 5 * time.Millisecond

// errReplaced is the reason of a job that ended with a savepoint.
var errReplaced = errors.New("the job was stopped with a savepoint")

// pause holds a job up. Driver only.
type pause struct {
	on     bool               // no bundle starts
	flow   bool               // but those of stages that bring nothing new into the job
	frozen bool               // no bundle is committed: what a sink could publish later would not be in the savepoint
	starts []*scheduler.Start // when it is over
	ended  []func()           // likewise
}

// hold keeps a bundle of a stage from starting while the job pauses.
func (p *pause) hold(start *scheduler.Start, def *plan.Stage) bool {
	if !p.on || p.flow && !brings(def) {
		return false
	}
	p.starts = append(p.starts, start)
	return true
}

// brings reports whether a stage brings something new into the job: a root, or a splittable DoFn that reads without end.
func brings(def *plan.Stage) bool {
	switch def.Kind {
	case plan.Source, plan.Impulse, plan.TestStream:
		return true
	case plan.Harness:
		return def.Splittable != nil && !def.Splittable.Bounded
	}
	return false
}

// keep keeps the end of a bundle while the job is frozen.
func (p *pause) keep(ended func()) bool {
	if p.frozen {
		p.ended = append(p.ended, ended)
	}
	return p.frozen
}

// lift ends the pause and returns what it held up.
func (p *pause) lift() (starts []*scheduler.Start, ended []func()) {
	starts, ended = p.starts, p.ended
	*p = pause{}
	return starts, ended
}

// goOn lifts the pause: bundles that have ended are committed, then those that were to start do. On the driver.
func (j *job) goOn() {
	settled := j.pause.on
	starts, ended := j.pause.lift()
	for _, end := range ended {
		end()
	}
	for _, s := range starts {
		if !j.over {
			j.startBundle(s)
		}
	}
	if settled && !j.over {
		j.tell(scheduler.Settle{})
	}
}

// stop takes a savepoint of the job at rest and ends it. After an error the job goes on.
func (c *checkpoints) stop(ctx context.Context, to string) (*jobserver.Checkpoint, error) {
	j := c.job
	taken, err := c.atRest(ctx, to)
	ok, derr := j.do(context.WithoutCancel(ctx), func() {
		if err != nil || j.over {
			j.goOn()
			return
		}
		j.end(errReplaced)
	})
	if err == nil && derr == nil && !ok {
		err = jobOver(j)
	}
	return taken, errors.Join(err, derr)
}

// atRest brings the job to rest and takes a savepoint. The job is paused when it returns.
func (c *checkpoints) atRest(ctx context.Context, to string) (*jobserver.Checkpoint, error) {
	j := c.job
	ok, err := j.do(ctx, func() {
		j.pause.on, j.pause.flow = true, true
		j.tell(scheduler.Settle{On: true})
	})
	if err == nil && !ok {
		err = jobOver(j)
	}
	if err != nil {
		return nil, err
	}
	j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "the job stops with a savepoint: nothing is read any more")
	// What has been read flows on as far as it goes: the less is on its way, the less a changed pipeline must have a place for.
	if _, err := j.awaitQuiet(ctx, func() bool { return j.running == 0 }); err != nil {
		return nil, err
	}
	if ok, err = j.do(ctx, func() { j.pause.flow = false }); err == nil && !ok {
		err = jobOver(j)
	}
	if err != nil {
		return nil, err
	}
	// Then bundles in flight: they bring what is to be published.
	if _, err := j.awaitQuiet(ctx, func() bool { return j.running == 0 }); err != nil {
		return nil, err
	}
	if ok, err = j.do(ctx, func() { j.pause.frozen = true }); err == nil && !ok {
		err = jobOver(j)
	}
	if err != nil {
		return nil, err
	}
	published, err := j.awaitQuiet(ctx, func() bool { return !j.effects.pending() && !j.publishing() })
	if err != nil {
		return nil, err
	}
	if !published {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
			"not everything could be published before the savepoint; the job that is started from it does it")
	}
	return c.take(ctx, to, checkpoint.Savepoint)
}

// publishing says whether a sink has something to publish or to forget. On the driver.
func (j *job) publishing() bool {
	for _, p := range j.sinks {
		if p.pending() {
			return true
		}
	}
	return false
}

// awaitQuiet asks the driver until quiet holds, as long as a stop waits. There is no event to wait for.
func (j *job) awaitQuiet(ctx context.Context, quiet func() bool) (bool, error) {
	for deadline := time.Now().Add(j.cfg.QuiesceFor); ; {
		done := false
		ok, err := j.do(ctx, func() { done = quiet() })
		if err == nil && !ok {
			err = jobOver(j)
		}
		if err != nil || done || time.Now().After(deadline) {
			return done, err
		}
		select {
		case <-time.After(quietEvery):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}
