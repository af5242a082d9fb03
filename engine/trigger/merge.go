package trigger

import (
	"padstone/engine/element"
	"padstone/engine/plan"
)

// Merge returns the state of a window that several windows merge into. The trigger has finished in none of them. c.WindowMax is
// that of the merged window. Call OnElements for what brought the merge about afterwards.
func (p *Program) Merge(from []*State, c Clock) State {
	var s State
	p.merge(&s, 0, from, c)
	return s
}

func (p *Program) merge(s *State, i int, from []*State, c Clock) {
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerAfterCount:
		p.mergeCount(s, i, from)
	case plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		p.mergeDelay(s, i, from)
	case plan.TriggerAfterEndOfWindow:
		p.mergeEndOfWindow(s, i, from, c)
	case plan.TriggerAfterEach:
		// A child that is unfinished again takes part again; those behind it have not begun.
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			p.merge(s, j, from, c)
			if !s.done(j) {
				return
			}
		}
		p.finish(s, i)
	default:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			p.merge(s, j, from, c)
		}
		p.settle(s, i)
	}
}

// settle sets the finished bit of a composite by those of its children.
func (p *Program) settle(s *State, i int) {
	switch p.nodes[i].kind {
	case plan.TriggerAfterAll:
		if p.current(s, i) < 0 {
			p.finish(s, i)
		}
	case plan.TriggerAfterAny, plan.TriggerOrFinally:
		p.finishIfAny(s, i)
	case plan.TriggerRepeat:
		if s.done(i + 1) {
			p.reset(s, i+1)
		}
	}
}

func (p *Program) mergeCount(s *State, i int, from []*State) {
	slot, sum := p.nodes[i].slot, int64(0)
	for _, f := range from {
		if f.done(i) {
			p.finish(s, i)
			return
		}
		sum += f.slot(slot)
	}
	p.setSlot(s, slot, sum)
}

func (p *Program) mergeDelay(s *State, i int, from []*State) {
	slot, earliest, all := p.nodes[i].slot, packTime(element.MaxTime), len(from) > 0
	found := false
	for _, f := range from {
		all = all && f.done(i)
		if v := f.slot(slot); v != 0 {
			earliest, found = min(earliest, v), true
		}
	}
	switch {
	case all:
		p.finish(s, i)
	case found:
		p.setSlot(s, slot, earliest)
	}
}

// mergeEndOfWindow stays in the late phase only if every window is in it and the end of the merged window has passed. Else the
// early phase begins again, with what the windows that are still in it have seen.
func (p *Program) mergeEndOfWindow(s *State, i int, from []*State, c Clock) {
	early, late := i+1, p.nodes[i].late
	var open []*State
	for _, f := range from {
		if !f.done(early) {
			open = append(open, f)
		}
	}
	switch {
	case len(open) > 0 || !c.endReached():
		p.merge(s, early, open, c)
		if s.done(early) { // the early child repeats
			p.reset(s, early)
		}
	case late == 0:
		p.finish(s, i)
	default:
		p.finish(s, early)
		p.merge(s, late, from, c)
		if s.done(late) {
			p.reset(s, late)
		}
	}
}
