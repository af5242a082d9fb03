package scheduler

import (
	"slices"

	"padstone/engine/plan"
)

// startSuspect starts a bundle of a suspect whose time has come, or returns nil.
func (s *Scheduler) startSuspect(st *stage) *Start {
	suspects := slices.Clone(st.suspects)
	slices.SortStableFunc(suspects, func(a, b *suspect) int { return a.totals().losses - b.totals().losses })
	for _, sp := range suspects {
		if sp.timers && !sp.running && !slices.ContainsFunc(sp.groups, func(g uint16) bool { return s.due(st, int(g)) }) {
			s.acquit(st, sp)
			continue
		}
		b := s.suspectStart(st, sp)
		if b == nil {
			continue
		}
		switch st.def.Kind {
		case plan.Group:
			if s.runner >= s.runnerSlots() {
				continue
			}
			s.runner++
		case plan.Harness:
			e := s.envs[st.def.Env]
			process, ok := s.suspectProcess(st, sp, b)
			if !ok {
				continue
			}
			b.Process, b.Worker = process, e.workers[process]
			s.count(st, b, 1)
			e.alone[process] = sp.lonely()
		}
		sp.running = true
		s.begin(st, b)
		s.again[b.Bundle] = sp
		return b
	}
	return nil
}

// suspectStart returns the next bundle of a suspect; nil when it has to wait.
func (s *Scheduler) suspectStart(st *stage, sp *suspect) *Start {
	if sp.running || sp.retryAt > s.now || st.retryAt > s.now || sp.lonely() && s.othersFirst(st, sp) {
		return nil
	}
	return s.nextOf(st, sp)
}

// nextOf returns the next bundle of a suspect that does not run; nil when its key groups are not free.
func (s *Scheduler) nextOf(st *stage, sp *suspect) *Start {
	t := sp.totals()
	tries, raised := sp.tries()
	b := &Start{
		Stage: st.index, InputWatermark: st.in, OutputWatermark: st.out, Now: s.now, Limit: sp.limit(),
		Failures: t.raised + t.wrong, Losses: t.losses, Tries: tries, Raised: raised,
		Final: st.batch, Deferred: st.deferred, Timers: sp.timers, AllTimers: sp.timers && s.allTimers(st),
		Truncate: !sp.timers && st.def.Splittable != nil && s.draining && st.def.Splittable.DrainDescriptor != nil,
	}
	if sp.timers {
		for _, g := range sp.groups {
			if s.due(st, int(g)) {
				b.Groups = append(b.Groups, g)
			}
		}
	} else {
		b.Blocks = slices.Clone(sp.blocks[:sp.taken(b)])
		if st.keyed {
			b.Groups = groupsOf(b.Blocks)
		}
	}
	for _, g := range b.Groups {
		if st.busy[g] || !sp.timers && s.due(st, int(g)) {
			return nil
		}
	}
	return b
}

// othersFirst says that a lonely suspect, which may well take the harness along, waits for others of its environment: for whatever could
// run, until something has been committed since it failed last, and for lonely suspects that have lost their harness less often. Else a
// harness that takes long to start would never do anything else than to be lost.
func (s *Scheduler) othersFirst(st *stage, sp *suspect) bool {
	for _, other := range s.stages {
		if other.def.Kind != plan.Harness || other.def.Env != st.def.Env {
			continue
		}
		if !sp.proved && s.couldRun(other) {
			return true
		}
		for _, o := range other.suspects {
			if o != sp && o.lonely() && !o.running && o.totals().losses < sp.totals().losses && s.nextOf(other, o) != nil {
				return true
			}
		}
	}
	return false
}

// couldRun says whether the stage has something to do for an ordinary bundle.
func (s *Scheduler) couldRun(st *stage) bool {
	data := !st.crowded() && s.backPressure(st) == nil
	if !st.keyed {
		return data && s.anyReady(st, &st.queues[0])
	}
	for g := range st.queues {
		if due := s.due(st, g); !st.busy[g] && (due && !st.heldTimers[g] ||
			!due && data && !st.heldData[g] && st.queues[g].len() > 0 && s.sideBlocking(st, st.queues[g].first()) == nil) {
			return true
		}
	}
	return false
}

// proved lets the lonely suspects of an environment wait anew, as its harnesses work again.
func (s *Scheduler) proved(env plan.EnvID) {
	for _, st := range s.stages {
		for _, sp := range st.suspects {
			if st.def.Env == env && !sp.proved && !sp.running && sp.lonely() {
				sp.proved, sp.retryAt = true, max(sp.retryAt, s.now.Add(sp.wait))
			}
		}
	}
}

// tries is how often the very input that comes next has failed, and how often of these in user code.
func (sp *suspect) tries() (tries, raised int) {
	if sp.last != sp.limit() {
		return 0, 0
	}
	return sp.times, sp.raised
}

// suspectProcess returns the process that a bundle of a suspect should run on: the one of its key groups, or the emptiest. A lonely one
// must be without anything else.
func (s *Scheduler) suspectProcess(st *stage, sp *suspect, b *Start) (process int, ok bool) {
	e := s.envs[st.def.Env]
	if e == nil || len(e.load) == 0 {
		return 0, false
	}
	if st.keyed {
		for _, to := e.groups(process, len(st.queues)); int(b.Groups[0]) >= to; {
			process++
			_, to = e.groups(process, len(st.queues))
		}
	} else {
		for p, n := range e.load {
			taken := e.alone[process] || e.away(process)
			if !e.alone[p] && !e.away(p) && (n < e.load[process] || taken) {
				process = p
			}
		}
	}
	return process, !e.alone[process] && s.room(e, st, process) && (e.load[process] == 0 || !sp.lonely())
}

// reserve keeps processes free for lonely suspects that wait for them.
func (s *Scheduler) reserve() {
	for _, e := range s.envs {
		clear(e.reserved)
	}
	for _, st := range s.stages {
		for _, sp := range st.suspects {
			if st.def.Kind != plan.Harness || !sp.lonely() {
				continue
			}
			if b := s.suspectStart(st, sp); b != nil && (!st.keyed || len(b.Groups) > 0) {
				if e := s.envs[st.def.Env]; e != nil && len(e.load) > 0 {
					process, _ := s.suspectProcess(st, sp, b)
					e.reserved[process] = true
				}
			}
		}
	}
}
