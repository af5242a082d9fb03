package trigger

import (
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// nodesMax bounds a trigger tree: one bit a node says that it has finished.
const nodesMax = 64

// node is a node of the tree in pre-order: its children begin at the next node, and each child's end is where the next one begins.
type node struct {
	kind   plan.TriggerKind
	end    int // index behind the subtree
	slot   int // of a count or a delay; else -1
	count  int64
	shifts []plan.TimeShift
	late   int // after_end_of_window: index of the late child, or 0
}

// Program is a compiled trigger. Immutable.
type Program struct {
	nodes []node
	slots int
}

// Compile compiles a trigger tree. What it refuses is a fault of kind Pipeline, code invalid-trigger: a count below 1, a missing
// or superfluous child, an unknown kind, more than 64 nodes.
func Compile(t *plan.Trigger) (*Program, error) {
	p := &Program{}
	if err := p.add(t); err != nil {
		return nil, err
	}
	return p, nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Pipeline, "invalid-trigger", format, args...).WithHint("check the trigger of the windowing strategy")
}

// add appends the subtree of t.
func (p *Program) add(t *plan.Trigger) error {
	if t == nil {
		return invalid("a trigger is missing")
	}
	i := len(p.nodes)
	if i >= nodesMax {
		return invalid("the trigger has more than %d nodes", nodesMax)
	}
	p.nodes = append(p.nodes, node{kind: t.Kind, slot: -1})
	var err error
	switch t.Kind {
	case plan.TriggerDefault, plan.TriggerAlways, plan.TriggerNever:
		err = p.children(t, 0, 0)
	case plan.TriggerAfterCount:
		if t.Count < 1 {
			return invalid("an element count of %d never makes sense: it must be 1 or more", t.Count)
		}
		p.nodes[i].count = int64(t.Count)
		p.nodes[i].slot = p.slot()
		err = p.children(t, 0, 0)
	case plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		for _, s := range t.Delays {
			if s.PeriodMs < 0 || s.DelayMs < 0 {
				return invalid("a processing-time delay of %d ms, period %d ms", s.DelayMs, s.PeriodMs)
			}
		}
		if t.Kind == plan.TriggerAfterProcessing {
			p.nodes[i].shifts = t.Delays
		}
		p.nodes[i].slot = p.slot()
		err = p.children(t, 0, 0)
	case plan.TriggerAfterAll, plan.TriggerAfterAny, plan.TriggerAfterEach:
		err = p.children(t, 1, nodesMax)
	case plan.TriggerOrFinally:
		err = p.children(t, 2, 2)
	case plan.TriggerRepeat:
		err = p.children(t, 1, 1)
	case plan.TriggerAfterEndOfWindow:
		err = p.endOfWindow(t, i)
	default:
		return invalid("trigger kind %q is unknown", t.Kind)
	}
	p.nodes[i].end = len(p.nodes)
	return err
}

func (p *Program) slot() int {
	p.slots++
	return p.slots - 1
}

func (p *Program) children(t *plan.Trigger, least, most int) error {
	if len(t.Children) < least || len(t.Children) > most {
		return invalid("trigger %s has %d children", t.Kind, len(t.Children))
	}
	for _, child := range t.Children {
		if err := p.add(child); err != nil {
			return err
		}
	}
	return nil
}

// endOfWindow adds the early child, never when there is none, and the late child if there is one. The finished bit of the early
// child says that the on-time firing is over.
func (p *Program) endOfWindow(t *plan.Trigger, i int) error {
	if len(t.Children) > 2 {
		return invalid("trigger %s has %d children", t.Kind, len(t.Children))
	}
	early := &plan.Trigger{Kind: plan.TriggerNever}
	if len(t.Children) > 0 && t.Children[0] != nil {
		early = t.Children[0]
	}
	if err := p.add(early); err != nil {
		return err
	}
	if len(t.Children) < 2 || t.Children[1] == nil {
		return nil
	}
	p.nodes[i].late = len(p.nodes)
	return p.add(t.Children[1])
}

// HasOnTime reports whether the trigger fires at the end of the window even without elements since the last pane, so that an
// empty on-time pane may be due. Spec: TriggerFn.has_ontime_pane (Python transforms/trigger.py).
func (p *Program) HasOnTime() bool {
	for _, n := range p.nodes {
		if n.kind == plan.TriggerDefault || n.kind == plan.TriggerAfterEndOfWindow {
			return true
		}
	}
	return false
}

// ByElement reports whether evaluating the trigger after each element makes a difference that users see: for a count above one, whose
// pane is of n elements and not of as many as came together, and for always, which has a pane for each element however they came. At a
// count of one, it is enough that something came.
func (p *Program) ByElement() bool {
	for _, n := range p.nodes {
		if n.kind == plan.TriggerAlways || n.kind == plan.TriggerAfterCount && n.count > 1 {
			return true
		}
	}
	return false
}

// OnlyEndOfWindow reports whether, without late data, the trigger fires exactly once, at the end of the window.
func (p *Program) OnlyEndOfWindow() bool {
	i := 0
	for p.nodes[i].kind == plan.TriggerRepeat {
		i++
	}
	switch p.nodes[i].kind {
	case plan.TriggerDefault:
		return true
	case plan.TriggerAfterEndOfWindow:
		return p.nodes[i+1].kind == plan.TriggerNever
	}
	return false
}

// WaitsForEnd reports whether elements alone never set the trigger off: it needs the watermark at the end of the window, or time to pass.
// If neither moves while the elements of a window come in, one firing has them all.
func (p *Program) WaitsForEnd() bool { return p.waits(0) }

func (p *Program) waits(i int) bool {
	nd := &p.nodes[i]
	switch nd.kind {
	case plan.TriggerDefault, plan.TriggerNever:
		return true
	case plan.TriggerAfterProcessing:
		return slices.ContainsFunc(nd.shifts, func(s plan.TimeShift) bool { return s.DelayMs > 0 })
	case plan.TriggerAfterEndOfWindow, plan.TriggerAfterEach: // the early child, or the first
		return p.waits(i + 1)
	case plan.TriggerAfterAll, plan.TriggerAfterAny, plan.TriggerOrFinally, plan.TriggerRepeat:
		for j := i + 1; j < nd.end; j = p.nodes[j].end {
			if !p.waits(j) {
				return false
			}
		}
		return true
	}
	return false
}

// Clock is what a trigger sees of time.
type Clock struct {
	Now       element.Time // processing time
	Watermark element.Time // input watermark of the grouping stage
	WindowMax element.Time // maximum timestamp of the window
}

// endReached reports whether the watermark has passed the end of the window.
func (c Clock) endReached() bool { return c.Watermark > c.WindowMax }

// delayed returns when a delay that begins at t ends. Alignment leaves a time that is aligned already.
// Spec: TimestampTransform.AlignTo (Java core).
func delayed(t element.Time, shifts []plan.TimeShift) element.Time {
	for _, s := range shifts {
		t = t.Add(s.DelayMs)
		if s.PeriodMs > 0 {
			rest := (int64(t) - s.OffsetMs) % s.PeriodMs
			if rest < 0 {
				rest += s.PeriodMs
			}
			if rest > 0 {
				t = t.Add(s.PeriodMs - rest)
			}
		}
	}
	return t
}
