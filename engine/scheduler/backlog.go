package scheduler

import (
	"maps"
	"slices"

	"padstone/engine/plan"
)

// leftMax bounds what a bundle is taken to go on for, in milliseconds: one that has just begun may tell of next to nothing.
const leftMax = 24 * 60 * 60 * 1000

// BacklogMs is how long one process of the environment would take for what waits for it and what it is at, in milliseconds, as far as what
// elements cost is known. Timers that are due, and restrictions without an end, count for nothing.
func (s *Scheduler) BacklogMs(env plan.EnvID) (ms float64) {
	for _, st := range s.stages {
		if st.def.Kind == plan.Harness && st.def.Env == env && st.running+int(st.pending.count) > 0 &&
			(st.def.Splittable == nil || st.def.Splittable.Bounded) {
			ms += s.backlogOf(st)
		}
	}
	return ms
}

func (s *Scheduler) backlogOf(st *stage) (ms float64) {
	each := st.cost.each
	waiting := st.pending.count
	for _, b := range st.delayed {
		waiting -= int64(b.Count)
	}
	for _, id := range slices.Sorted(maps.Keys(s.bundles)) { // in order, as sums of fractions depend on it
		b := s.bundles[id]
		if b.Stage != st.index {
			continue
		}
		n := items(b.Blocks)
		waiting -= int64(n)
		p := s.paces[id]
		if p == nil || p.done <= 0 || b.Open {
			ms += max(0, float64(n)*st.cost.each-float64(s.now-b.Now))
			continue
		}
		ms += float64(min(p.leftMs(b.Now), leftMax))
		if st.cost.bundles == 0 { // nothing is known but what the first bundles tell
			each = max(each, float64(p.at-b.Now)/(p.done*float64(max(1, n))))
		}
	}
	return ms + float64(max(0, waiting))*each
}
