package scheduler

import (
	"slices"
	"strconv"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// environment is the capacity of the harness processes of one environment.
type environment struct {
	perProcess int
	parallel   bool
	workers    []string // who is at each place; "" for nobody
	load       []int    // bundles in flight by place, those that are kept open too
	// alone marks places whose bundle gets no company, reserved those that are kept free for such a bundle.
	alone, reserved []bool
}

// nowhere is the place of a bundle whose worker is not in service any more.
const nowhere = -1

// away says that nobody is at a place, while there is somebody at others.
func (e *environment) away(process int) bool {
	return e.workers[process] == "" && slices.ContainsFunc(e.workers, func(w string) bool { return w != "" })
}

// closed says that the place takes no bundle that comes along.
func (e *environment) closed(process int) bool {
	return e.alone[process] || e.reserved[process] || e.away(process)
}

// groups returns the key groups [from, to) of so many that are pinned to a place: those of the places where somebody is share them.
func (e *environment) groups(process, groups int) (from, to int) {
	if process == nowhere || e.away(process) {
		return 0, 0
	}
	rank, places := 0, 0
	for p := range e.workers {
		if !e.away(p) {
			if p < process {
				rank++
			}
			places++
		}
	}
	return keyGroupRange(rank, places, groups)
}

// capacity sets the processes of an environment. Key groups go to other processes as their bundles end.
func (s *Scheduler) capacity(ev Capacity) {
	e := s.envs[ev.Env]
	if e == nil {
		e = &environment{}
		s.envs[ev.Env] = e
	}
	workers := ev.Workers
	if workers == nil {
		for i := range ev.Processes {
			workers = append(workers, strconv.Itoa(i))
		}
	}
	alone := make(map[string]bool)
	for p, is := range e.alone {
		alone[e.workers[p]] = is
	}
	e.perProcess, e.parallel, e.workers = ev.PerProcess, ev.Parallel, workers
	e.load, e.reserved, e.alone = make([]int, len(workers)), make([]bool, len(workers)), make([]bool, len(workers))
	for _, st := range s.stages {
		if st.def.Env == ev.Env {
			clear(st.on)
		}
	}
	for _, b := range s.bundles {
		if st := s.stages[b.Stage]; st.def.Env == ev.Env && st.def.Kind == plan.Harness {
			b.Process = nowhere
			if b.Worker != "" {
				b.Process = slices.Index(workers, b.Worker)
			}
			s.count(st, b, 1)
		}
	}
	for p, w := range workers {
		e.alone[p] = w != "" && alone[w] && e.load[p] > 0
	}
}

// moved has a bundle count against the place of the worker that has it.
func (s *Scheduler) moved(ev Moved) {
	b := s.bundles[ev.Bundle]
	if b == nil || b.Worker == ev.Worker {
		return
	}
	st := s.stages[b.Stage]
	s.count(st, b, -1)
	b.Worker, b.Process = ev.Worker, slices.Index(s.envs[st.def.Env].workers, ev.Worker)
	s.count(st, b, 1)
}

// count counts a bundle against the place that it is at: n is 1 when it comes, -1 when it goes.
func (s *Scheduler) count(st *stage, b *Start, n int) {
	if !b.Open {
		s.occupy(st, b, n)
	}
	e := s.envs[st.def.Env]
	if b.Process == nowhere {
		return
	}
	e.load[b.Process] += n
	e.alone[b.Process] = e.alone[b.Process] && e.load[b.Process] > 0
}

// connected has the stages of an environment wait no longer for a harness.
func (s *Scheduler) connected(ev Connected) {
	for _, st := range s.stages {
		if st.def.Env == ev.Env && st.def.Env != "" {
			st.retryAt = element.MinTime
		}
	}
}
