package scheduler

import "padstone/engine/plan"

// slowFirst bounds the elements, or timers, of the first bundles of a stage that is restored with work. As bundles commit the bound
// doubles up to that of any bundle: a job that has lain still gets on soon, and the rest of what waits goes in bundles of the usual size.
//
// Likewise of one whose first bundle tells how the others are to run: whether combines are lifted. That is known when it has committed.
const slowFirst = 500

// startSlowly bounds the first bundles of a stage. What an event of a script brings about is not cut.
func (s *Scheduler) startSlowly(st *stage) {
	if !s.scripted {
		st.few = slowFirst
	}
}

// quicken notes that a bundle of the stage has committed.
func (s *Scheduler) quicken(st *stage) {
	if st.few *= 2; st.few >= s.bundleElementsMax() || st.def.Unlifted != nil {
		st.few = 0
	}
}

// divisibleBlocks says that a bundle of the stage may take the beginning of a block. Where elements go to user code that reads state they
// are slow enough for that to be worth a block that is written again.
func (st *stage) divisibleBlocks() bool {
	return st.def.Kind == plan.Harness && st.keyed && !st.def.TimeSorted && st.def.Splittable == nil
}

// elementsMax bounds the elements of a bundle of the stage.
func (s *Scheduler) elementsMax(st *stage) int {
	if st.few > 0 {
		return min(st.few, s.bundleElementsMax())
	}
	return s.bundleElementsMax()
}
