package group

import (
	"cmp"
	"iter"
	"slices"

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
// and on time. Nothing is late. It may stand in for Process only if BatchEligible, or, where triggers are put off, EndEligible.
//
// blocks yields the input; its slices must stay unchanged until GroupAll returns: they are held, not copied, but for many short elements.
// Memory beyond them is about 16 bytes an element and window and 100 a key and window. Panes of a small input come in order of first
// arrival. An input over the budget is sorted: runs that fit are written to the scratch, in order of key and window, and merged. An error
// of blocks ends the call.
func (m *Machine) GroupAll(blocks iter.Seq2[[]byte, error], budget Budget, out *Output) error {
	all := &gathered{g: newGrouper(m, element.MinTime), runs: &sorter{m: m, scratch: budget.Scratch}, budget: budget}
	for block, err := range blocks {
		if err == nil {
			err = all.add(block)
		}
		if err != nil {
			return err
		}
	}
	if all.parts != nil {
		return all.parts.drain(func(chunks [][]byte) error {
			if err := all.regroup(chunks); err != nil {
				return err
			}
			return all.emit(out)
		})
	}
	return all.emit(out)
}

// gathered is what GroupAll has of its input: in the grouper, in parts if it is much, and in runs if it is too much.
type gathered struct {
	g      *grouper
	parts  *parts
	runs   *sorter
	budget Budget
}

func (a *gathered) add(block []byte) error {
	if a.parts != nil {
		return a.spread(block)
	}
	if err := a.g.add(block); err != nil {
		return err
	}
	if len(a.runs.runs) == 0 && a.g.worthSpreading(cmp.Or(a.budget.partsFrom, partsFrom)) {
		blocks := slices.Clone(a.g.blocks)
		a.g.reset()
		a.parts = newParts(a.g.m, a.budget.Spare)
		for _, block := range blocks {
			if err := a.add(block); err != nil {
				return err
			}
		}
		return nil
	}
	return a.keepWithin(a.g.footprint(), a.budget.BytesMax)
}

// spread adds a block to the parts. They get half of the budget, the grouper of one of them has the other half; if that is not enough,
// everything is sorted.
func (a *gathered) spread(block []byte) error {
	if err := a.parts.add(block); err != nil || a.budget.BytesMax == 0 || a.parts.bytes <= a.budget.BytesMax/2 {
		return err
	}
	p := a.parts
	a.parts = nil
	if err := p.drain(a.regroup); err != nil {
		return err
	}
	return a.spill()
}

// regroup has the grouper take over the chunks of a part, and writes a run when it comes to more than its half of the budget.
func (a *gathered) regroup(chunks [][]byte) error {
	for _, chunk := range chunks {
		if err := a.g.add(chunk); err != nil {
			return err
		}
		if err := a.keepWithin(a.g.footprint()-a.g.bytes, a.budget.BytesMax/2); err != nil {
			return err
		}
	}
	return nil
}

func (a *gathered) keepWithin(bytes, bytesMax int) error {
	if a.budget.BytesMax == 0 || bytes <= bytesMax {
		return nil
	}
	return a.spill()
}

// spill writes what the grouper has as a run.
func (a *gathered) spill() error {
	if len(a.g.buckets) == 0 {
		return nil
	}
	err := a.runs.spill(a.g)
	a.g = newGrouper(a.g.m, element.MinTime) // the memory of this one counts, too
	return err
}

// emit emits what is in the grouper and in runs. Both are empty afterwards.
func (a *gathered) emit(out *Output) error {
	if len(a.runs.runs) == 0 {
		err := a.g.emitAll(out)
		a.g.reset()
		return err
	}
	if err := a.spill(); err != nil {
		return err
	}
	return a.runs.emit(out)
}

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
