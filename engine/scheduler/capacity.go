package scheduler

import (
	"padstone/engine/element"
	"padstone/engine/plan"
)

// environment is the capacity of the harness processes of one environment.
type environment struct {
	perProcess int
	parallel   bool
	load       []int // bundles in flight by process, those that are kept open too
	// alone marks processes whose bundle gets no company, reserved those that are kept free for such a bundle.
	alone, reserved []bool
}

// capacity sets the processes of an environment. Bundles in flight keep counting against the place of the process that they run on, also
// when it goes and another one comes there before they have ended. Key groups go to other processes as their bundles end.
func (s *Scheduler) capacity(ev Capacity) {
	e := s.envs[ev.Env]
	if e == nil {
		e = &environment{}
		s.envs[ev.Env] = e
	}
	e.perProcess, e.parallel = ev.PerProcess, ev.Parallel
	e.load, e.reserved = make([]int, ev.Processes), make([]bool, ev.Processes)
	for _, b := range s.bundles {
		if st := s.stages[b.Stage]; st.def.Env == ev.Env && st.def.Kind == plan.Harness && b.Process < ev.Processes {
			e.load[b.Process]++
		}
	}
	alone := make([]bool, ev.Processes)
	copy(alone, e.alone)
	e.alone = alone
}

// connected has the stages of an environment wait no longer for a harness.
func (s *Scheduler) connected(ev Connected) {
	for _, st := range s.stages {
		if st.def.Env == ev.Env && st.def.Env != "" {
			st.retryAt = element.MinTime
		}
	}
}
