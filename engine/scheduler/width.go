package scheduler

import (
	"padstone/engine/plan"
)

// widthOn is how many bundles of the stage a process of the environment has in flight at most.
func (st *stage) widthOn(e *environment) int { return e.perProcess }

// room says whether a process has a free slot for a bundle of the stage. One that is kept open takes none before it is closed: it waits
// more than it works, and there is one of each stage at most.
func (s *Scheduler) room(e *environment, st *stage, process int) bool {
	if e.perProcess == 0 {
		return false
	}
	const all = 1 + 1e-9 // the sum of thirds is not quite 1
	used := 0.0
	for _, o := range s.stages {
		if o.def.Env == st.def.Env && o.def.Kind == plan.Harness && process < len(o.on) {
			used += float64(o.on[process]) / float64(o.widthOn(e))
		}
	}
	return used+1/float64(st.widthOn(e)) <= all
}

// occupy counts a bundle against the process that it runs on.
func (s *Scheduler) occupy(st *stage, b *Start, n int) {
	if b.Process >= len(st.on) {
		st.on = append(st.on, make([]int, b.Process+1-len(st.on))...)
	}
	st.on[b.Process] += n
}
