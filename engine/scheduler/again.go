package scheduler

import (
	"slices"

	"padstone/engine/plan"
)

// startSuspect starts a bundle of a suspect whose time has come, or returns nil.
func (s *Scheduler) startSuspect(st *stage) *Start {
	for _, sp := range slices.Clone(st.suspects) {
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
			if s.runner >= s.cfg.RunnerSlots {
				continue
			}
			s.runner++
		case plan.Harness:
			e := s.envs[st.def.Env]
			process, ok := s.suspectProcess(st, sp, b)
			if !ok {
				continue
			}
			b.Process = process
			e.load[process]++
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
	if sp.running || sp.retryAt > s.now || st.retryAt > s.now {
		return nil
	}
	t := sp.totals()
	b := &Start{
		Stage: st.index, InputWatermark: st.in, OutputWatermark: st.out, Now: s.now, Limit: sp.limit(),
		Failures: t.raised + t.wrong, Losses: t.losses, Tries: sp.tries(),
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

// tries is how often the very input that comes next has failed.
func (sp *suspect) tries() int {
	if sp.last != sp.limit() {
		return 0
	}
	return sp.times
}

// suspectProcess returns the process that a bundle of a suspect should run on: the one of its key groups, or the emptiest. A lonely one
// must be without anything else.
func (s *Scheduler) suspectProcess(st *stage, sp *suspect, b *Start) (process int, ok bool) {
	e := s.envs[st.def.Env]
	if e == nil || len(e.load) == 0 {
		return 0, false
	}
	if st.keyed {
		for _, to := keyGroupRange(process, len(e.load), len(st.queues)); int(b.Groups[0]) >= to; {
			process++
			_, to = keyGroupRange(process, len(e.load), len(st.queues))
		}
	} else {
		for p, n := range e.load {
			if !e.alone[p] && (n < e.load[process] || e.alone[process]) {
				process = p
			}
		}
	}
	return process, !e.alone[process] && e.load[process] < e.perProcess && (e.load[process] == 0 || !sp.lonely())
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
