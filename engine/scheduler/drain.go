package scheduler

import (
	"slices"

	"padstone/engine/plan"
)

// drain ends every source: what is read is processed, what is unread stays unread.
func (s *Scheduler) drain() {
	s.draining = true
	for _, st := range s.stages {
		if st.def.Kind == plan.Source || st.def.Kind == plan.TestStream {
			st.done = true
		}
	}
}

// dropUntruncatable discards waiting restrictions of unbounded splittable DoFns whose SDK cannot truncate them.
func (s *Scheduler) dropUntruncatable(actions []Action) []Action {
	for _, st := range s.stages {
		sp := st.def.Splittable
		if sp == nil || sp.Bounded || sp.DrainDescriptor != nil {
			continue
		}
		var dropped []Block
		for i := range st.queues {
			for st.queues[i].len() > 0 {
				dropped = append(dropped, st.queues[i].pop())
			}
		}
		for _, sp := range slices.Clone(st.suspects) {
			if !sp.running {
				dropped = append(dropped, sp.blocks...)
				sp.blocks = nil // before it lets go of them
				s.acquit(st, sp)
			}
		}
		if len(dropped) > 0 {
			st.consumed(dropped)
			actions = append(actions, Drop{Stage: st.index, Blocks: dropped})
		}
	}
	return actions
}
