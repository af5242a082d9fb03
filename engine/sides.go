package engine

import (
	"go.uber.org/zap"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// expireSides adds to a commit what can be dropped of side inputs.
func (j *job) expireSides(c *store.Commit) {
	for i, e := range j.plan.Edges {
		if e.Kind != plan.Side {
			continue
		}
		next := j.store.NextSideExpiry(uint32(i))
		if next >= element.MaxTime {
			continue
		}
		if needed := j.sched.SideNeeded(i); next < needed {
			c.SideExpired = append(c.SideExpired, store.SideExpiry{Edge: uint32(i), Before: needed})
		}
	}
}

// mapWindows asks the SDK which windows of its side inputs a block needs, until it answers.
func (j *job) mapWindows(a scheduler.MapWindows) {
	j.tasks.Go(func() {
		select {
		case j.mapping <- struct{}{}: // one block in memory at a time
			defer func() { <-j.mapping }()
		case <-j.ctx.Done():
			return
		}
		wait := backoffMin
		for failures := 1; ; {
			ends, err := j.fleet.Map(j.ctx, j.runner, a.Stage, a.Block)
			if err == nil {
				j.postLive(func() { j.tell(scheduler.Mapped{Stage: a.Stage, Block: a.Block, SideEnds: ends}) })
				return
			}
			user := codesUser[codeOf(err)] && failures < attemptsMax
			if user {
				failures++
			}
			if fault.KindOf(err) != fault.Environment && !user {
				j.postLive(func() { j.end(named(err, j.plan.Stages[a.Stage])) })
				return
			}
			j.log.Info("mapping windows failed", zap.Duration("again_in", wait), zap.Error(err))
			if rest(j.ctx, wait) != nil {
				return
			}
			wait = min(2*wait, backoffMax)
		}
	})
}
