package trigger

import (
	"padstone/engine/element"
	"padstone/engine/plan"
)

// OnElements tells of n elements that arrived now. Call it before ShouldFire, once for a key and window in a bundle.
func (p *Program) OnElements(s *State, n int, c Clock) { p.elements(s, 0, int64(n), c) }

func (p *Program) elements(s *State, i int, n int64, c Clock) {
	if s.done(i) {
		return
	}
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerAfterCount:
		p.setSlot(s, nd.slot, s.slot(nd.slot)+n)
	case plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		if s.slot(nd.slot) == 0 {
			p.setSlot(s, nd.slot, packTime(delayed(c.Now, nd.shifts)))
		}
	case plan.TriggerAfterEach:
		p.elements(s, p.current(s, i), n, c)
	case plan.TriggerAfterEndOfWindow:
		if active := p.active(s, i); active > 0 {
			p.elements(s, active, n, c)
		}
	default:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			p.elements(s, j, n, c)
		}
	}
}

// active returns the child of an after_end_of_window whose phase it is, or 0 when it has no late child and the late phase began.
func (p *Program) active(s *State, i int) int {
	if early := i + 1; !s.done(early) {
		return early
	}
	return p.nodes[i].late
}

// ShouldFire reports whether the trigger is ready. It is false for a finished trigger.
func (p *Program) ShouldFire(s *State, c Clock) bool { return p.ready(s, 0, c) }

func (p *Program) ready(s *State, i int, c Clock) bool {
	if s.done(i) {
		return false
	}
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerDefault:
		return c.endReached()
	case plan.TriggerAlways:
		return true
	case plan.TriggerAfterCount:
		return s.slot(nd.slot) >= nd.count
	case plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		return s.slot(nd.slot) != 0 && c.Now >= unpackTime(s.slot(nd.slot))
	case plan.TriggerAfterEndOfWindow:
		active := p.active(s, i)
		return active == i+1 && c.endReached() || active > 0 && p.ready(s, active, c)
	case plan.TriggerAfterAll:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			if !s.done(j) && !p.ready(s, j, c) {
				return false
			}
		}
		return true
	case plan.TriggerAfterEach:
		return p.ready(s, p.current(s, i), c)
	case plan.TriggerAfterAny, plan.TriggerOrFinally, plan.TriggerRepeat:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			if p.ready(s, j, c) {
				return true
			}
		}
	}
	return false // also never
}

// OnFire tells that a pane fires because ShouldFire said so.
func (p *Program) OnFire(s *State, c Clock) { p.fire(s, 0, c) }

func (p *Program) fire(s *State, i int, c Clock) {
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerAfterCount, plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		p.finish(s, i)
	case plan.TriggerAfterEndOfWindow:
		p.fireEndOfWindow(s, i, c)
	case plan.TriggerRepeat:
		p.fireRepeated(s, i+1, c)
	case plan.TriggerAfterEach:
		p.fire(s, p.current(s, i), c)
		if p.current(s, i) < 0 {
			p.finish(s, i)
		}
	case plan.TriggerAfterAll:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			if !s.done(j) {
				p.fire(s, j, c)
			}
		}
		if p.current(s, i) < 0 {
			p.finish(s, i)
		}
	case plan.TriggerAfterAny:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			if p.ready(s, j, c) {
				p.fire(s, j, c)
			}
		}
		p.finishIfAny(s, i)
	case plan.TriggerOrFinally:
		until := p.nodes[i+1].end
		if p.ready(s, until, c) {
			p.finish(s, i)
			return
		}
		p.fire(s, i+1, c)
		p.finishIfAny(s, i)
	}
}

func (p *Program) finishIfAny(s *State, i int) {
	for j := i + 1; j < p.nodes[i].end; j = p.nodes[j].end {
		if s.done(j) {
			p.finish(s, i)
			return
		}
	}
}

// fireRepeated fires a child that its parent repeats.
func (p *Program) fireRepeated(s *State, child int, c Clock) {
	p.fire(s, child, c)
	if s.done(child) {
		p.reset(s, child)
	}
}

// fireEndOfWindow fires early, on time or late. The on-time firing is also that of an early pane that is due: it ends the early
// phase, and the trigger if there is no late child.
func (p *Program) fireEndOfWindow(s *State, i int, c Clock) {
	early, late := i+1, p.nodes[i].late
	switch {
	case s.done(early):
		p.fireRepeated(s, late, c)
	case !c.endReached():
		p.fireRepeated(s, early, c)
	case late == 0:
		p.finish(s, i)
	default:
		p.finish(s, early)
	}
}

// Finished reports whether the trigger will never fire again: the window is closed.
func (p *Program) Finished(s *State) bool { return s.done(0) }

// Wake returns the next processing time at which the trigger may become ready by itself; ok is false when there is none. What is
// ready or overdue needs no wake-up: ShouldFire has told.
func (p *Program) Wake(s *State, c Clock) (at element.Time, ok bool) {
	at = p.wake(s, 0, c)
	return at, at < element.MaxTime
}

func (p *Program) wake(s *State, i int, c Clock) element.Time {
	at := element.MaxTime
	if s.done(i) {
		return at
	}
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		if v := s.slot(nd.slot); v != 0 && unpackTime(v) > c.Now {
			at = unpackTime(v)
		}
	case plan.TriggerAfterEndOfWindow:
		if active := p.active(s, i); active > 0 {
			at = p.wake(s, active, c)
		}
	case plan.TriggerAfterEach:
		at = p.wake(s, p.current(s, i), c)
	default:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			at = min(at, p.wake(s, j, c))
		}
	}
	return at
}
