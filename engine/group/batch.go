package group

import (
	"cmp"
	"iter"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
)

// Budget bounds the memory of GroupAll.
type Budget struct {
	BytesMax int          // 0: no bound
	Scratch  rows.Scratch // takes what is over it; set unless BytesMax is 0
	Spare    *Spare       // of calls one after another; may be nil

	partsFrom int // of tests
}

// GroupAll groups all elements of one key group of a bounded input and emits each key and window once, with a pane that is first, last
// and on time. Nothing is late. It may stand in for Process only if BatchEligible, or, where triggers are
// put off, EndEligible.
//
// blocks yields the input; its slices must stay unchanged until GroupAll returns: they are held, not copied, but for many short elements.
// Memory beyond them is about 16 bytes an element and window and 100 a key and window. Panes of a small input come in order of first
// arrival. An input over the budget is sorted: runs that fit are written to the scratch, in order of key and window, and merged. An error
// of blocks ends the call.
func (m *Machine) GroupAll(blocks iter.Seq2[[]byte, error], budget Budget, out *Output) error {
	g := newGrouper(m, element.MinTime)
	all := &gathered{m: m, g: g, budget: budget, runs: &sorter{m: m, scratch: budget.Scratch}}
	for block, err := range blocks {
		if err == nil {
			err = all.add(block)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case all.parts != nil:
		return all.parts.emit(g, out)
	case len(all.runs.runs) == 0:
		return g.emitAll(out)
	}
	if err := all.runs.spill(g); err != nil {
		return err
	}
	return all.runs.emit(out)
}

// gathered is what GroupAll has of its input: in the grouper, in parts if it is much, and in runs if it is too much.
type gathered struct {
	m      *Machine
	g      *grouper
	parts  *parts
	runs   *sorter
	budget Budget
}

func (a *gathered) add(block []byte) (err error) {
	if a.parts != nil {
		if err := a.parts.add(block); err != nil || !a.over(a.parts.footprint()) {
			return err
		}
		return a.parts.spill(a.g, a.budget)
	}
	if err := a.g.add(block); err != nil {
		return err
	}
	if len(a.runs.runs) == 0 {
		if a.parts, err = a.g.spread(cmp.Or(a.budget.partsFrom, partsFrom), a.budget.Spare); err != nil || a.parts != nil {
			a.g.reset()
			return err
		}
	}
	if a.over(a.g.footprint()) {
		err = a.runs.spill(a.g)
		a.g.reset()
	}
	return err
}

func (a *gathered) over(bytes int) bool { return a.budget.BytesMax > 0 && bytes > a.budget.BytesMax }

// emitAll emits everything in order of first arrival.
func (g *grouper) emitAll(out *Output) error {
	for i := range g.buckets {
		b := &g.buckets[i]
		if !g.m.merging {
			if err := g.emitOnly(out, b.key, g.windows[b.win], g.windowMax[b.win], &b.run); err != nil {
				return err
			}
			continue
		}
		found, _ := g.sessions(b, nil)
		for j := range found {
			s := &found[j]
			if err := g.emitOnly(out, b.key, s.win, s.max, &s.run); err != nil {
				return err
			}
		}
	}
	return nil
}

// emitOnly emits the only pane of a key and window.
func (g *grouper) emitOnly(out *Output, key, win []byte, maxTS element.Time, r *run) error {
	out.begin()
	if err := g.emit(out, r); err != nil {
		return err
	}
	return out.end(g.m.onlyTime(maxTS, r.ts), win, onlyPane, key, r.count)
}

// onlyPane is the pane of everything that a key and window has.
var onlyPane = coder.Pane{First: true, Last: true, Timing: coder.OnTime}

// onlyTime returns the timestamp of the only pane of a window; ts is the combined one of its values.
func (m *Machine) onlyTime(maxTS, ts element.Time) element.Time {
	if m.windowing.OutputTime == plan.EndOfWindow {
		return maxTS
	}
	return min(ts, maxTS)
}
