package scheduler

import "padstone/engine/plan"

// Panes of a key and window come out of their grouping in order, and so does what a stateful step says of a key. A stage behind it that
// runs elements of any key has several bundles in flight: the order would be lost if they were committed as they end. Such a stage is
// ordered. Its bundles run side by side, and the engine commits them in the order in which they began; when one fails, those that
// began after it are given back as well. It is not split, as what is split off comes after what was behind it.

// followsKeyed says whether what a keyed stage has put out comes to the stage in order.
func (s *stage) followsKeyed() bool {
	if s.def.Kind != plan.Harness || s.keyed || s.def.Splittable != nil {
		return false
	}
	for _, u := range s.upstream {
		if u.keyed || u.ordered {
			return true
		}
	}
	return false
}

// Ordered says whether bundles of the stage must be committed in the order in which they began, as long as none of them fails. One
// that fails is given back by Failed, and so are all that began after it, with or without a fault of their own; until then none begins.
func (s *Scheduler) Ordered(stage int) bool { return s.stages[stage].ordered }

// InFlight says whether the scheduler waits for the end of the bundle.
func (s *Scheduler) InFlight(b BundleID) bool { return s.bundles[b] != nil }
