package engine

import (
	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/scheduler"
)

// flight is a bundle of an ordered stage, from its begin until it is committed or given back.
type flight struct {
	start  *scheduler.Start
	ended  bool
	res    *bundle.Result // of one that has ended
	cause  *failure
	failed bool // the failure has been dealt with; the scheduler may learn of it later
	behind bool // one that began before it has failed: it is given back, whatever it brings
}

// arrived takes what a bundle of an ordered stage brings. It waits for those that began before it.
func (j *job) arrived(start *scheduler.Start, res *bundle.Result, cause *failure) {
	for _, f := range j.order[start.Stage] {
		if f.start == start {
			f.ended, f.res, f.cause = true, res, cause
		}
	}
	j.inOrder(start.Stage)
}

// inOrder commits the bundles of an ordered stage, or gives them back, as far as they have ended. When one has failed, those behind it
// are given back as they end.
func (j *job) inOrder(stage int) {
	for len(j.order[stage]) > 0 && !j.over {
		f := j.order[stage][0]
		if !f.ended || f.failed && j.sched.InFlight(f.start.Bundle) {
			return
		}
		if !f.failed && !f.behind && f.cause != nil {
			f.failed = true
			j.giveBackBehind(stage)
			j.inVain(stage, f.cause.watch)
			j.bundleFailed(f.start, f.cause)
			continue
		}
		j.order[stage] = j.order[stage][1:]
		switch {
		case f.failed:
		case f.behind:
			if f.res != nil {
				j.inVain(stage, f.res.Watch)
				f.res.Discard()
			}
			j.tell(scheduler.Failed{Bundle: f.start.Bundle, RetryAt: element.MinTime})
		default:
			j.commit(f.start, f.res)
		}
	}
}

// giveBackBehind has all behind the first of a stage's bundles in flight be given back when they end.
func (j *job) giveBackBehind(stage int) {
	for i, f := range j.order[stage] {
		f.behind = f.behind || i > 0
	}
}

// discardOrdered throws away what waited for its turn when the job ended.
func (j *job) discardOrdered() {
	for _, flights := range j.order {
		for _, f := range flights {
			if f.res != nil {
				f.res.Discard()
			}
		}
	}
	j.order = nil
}
