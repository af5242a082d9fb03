package scheduler

import "cmp"

// What the user has chosen wins over the configuration, and may change at any time: bounds are asked for here, and kept nowhere.

// bundleElementsMax bounds the elements of any bundle.
func (s *Scheduler) bundleElementsMax() int {
	return cmp.Or(s.tuning.BundleElementsMax, s.cfg.BundleElementsMax)
}

// bundleTimeMax bounds the quantum of any stage, in milliseconds.
func (s *Scheduler) bundleTimeMax() int64 {
	return cmp.Or(s.tuning.BundleTimeMaxMs, s.cfg.BundleTimeMaxMs)
}

// latencyBudget is what open bundles may add to the way of an element through the whole job, in milliseconds; 0: no bound.
func (s *Scheduler) latencyBudget() int64 {
	return cmp.Or(s.tuning.LatencyBudgetMs, s.cfg.LatencyBudgetMs)
}

// runnerSlots bounds the grouping bundles at a time.
func (s *Scheduler) runnerSlots() int { return cmp.Or(s.tuning.RunnerSlots, s.cfg.RunnerSlots) }
