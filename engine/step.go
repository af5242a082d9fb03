package engine

import (
	"context"
	"time"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/internal/fault"
)

// step waits for the next event and handles it.
func (j *job) step() {
	var wake <-chan time.Time
	at := j.sched.NextWake()
	if !j.over && at != scheduler.NoTimer && !j.replay.still() {
		// No longer than that at a time: the clock may jump forward meanwhile.
		t := time.NewTimer(min(time.Duration(max(at-j.now(), 1))*time.Millisecond, tickMax))
		defer t.Stop()
		wake = t.C
	}
	done := j.ctx.Done()
	if j.over {
		done = nil
	}
	select {
	case fn := <-j.events:
		fn()
	case <-wake:
		j.tick(at)
	case <-done:
		j.end(context.Cause(j.ctx))
	}
}

// tick tells the scheduler that it is time. Where the job's clock stands still, no bundle is kept open: it would never be closed.
func (j *job) tick(at element.Time) {
	j.tell(scheduler.Tick{})
	if j.now() < at && j.sched.OpenUntil() <= at && !j.pause.on {
		j.tell(scheduler.Settle{On: true})
		j.tell(scheduler.Settle{On: false})
	}
}

// tell passes an event to the scheduler and does what it answers.
func (j *job) tell(ev scheduler.Event) {
	actions, err := j.sched.Step(j.now(), ev)
	if err != nil {
		j.end(fault.New(fault.Internal, "scheduler-state", "%w", err))
		return
	}
	if j.over {
		return // bundles that the scheduler would start now are not run
	}
	var cuts []scheduler.Cut
	for _, a := range actions {
		switch a := a.(type) {
		case scheduler.Start:
			if j.plan.Stages[a.Stage].Kind == plan.TestStream {
				j.replay.held = &a
				continue
			}
			j.startBundle(&a)
		case scheduler.Drop:
			j.dropBlocks(a)
		case scheduler.MapWindows:
			j.mapWindows(a)
		case scheduler.Split:
			j.askSplit(a)
		case scheduler.Cut:
			cuts = append(cuts, a)
		case scheduler.Extend:
			j.extend(a)
		case scheduler.Close:
			j.closeBundle(a.Bundle)
		}
	}
	for _, c := range cuts { // what comes of them is told in its turn
		if !j.over {
			j.cut(c)
		}
	}
	j.settle()
}
