package group

import (
	"iter"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
)

// GroupAll groups all elements of one key group of a bounded input and emits each key and window once, in order of first arrival,
// with a pane that is first, last and on time. Nothing is late. It may stand in for Process only if BatchEligible.
//
// blocks yields the input; its slices must stay unchanged until GroupAll returns: they are held, not copied. Memory beyond them is
// about 16 bytes an element and window and 100 a key and window. An error of blocks ends the call.
func (m *Machine) GroupAll(blocks iter.Seq2[[]byte, error], out *Output) error {
	g := newGrouper(m, element.MinTime)
	for block, err := range blocks {
		if err != nil {
			return err
		}
		if err := g.add(block); err != nil {
			return err
		}
	}
	var win []byte
	for i := range g.buckets {
		b := &g.buckets[i]
		if !m.merging {
			if err := g.emitOnly(out, b.key, g.windows[b.win], g.windowMax[b.win], &b.run); err != nil {
				return err
			}
			continue
		}
		found, _ := g.sessions(b, nil)
		for j := range found {
			s := &found[j]
			win = s.span.Append(win[:0])
			if err := g.emitOnly(out, b.key, win, s.span.Max(), &s.run); err != nil {
				return err
			}
		}
	}
	return nil
}

// emitOnly emits the only pane of a key and window.
func (g *grouper) emitOnly(out *Output, key, win []byte, maxTS element.Time, r *run) error {
	ts := maxTS
	if g.m.windowing.OutputTime != plan.EndOfWindow {
		ts = min(r.ts, maxTS)
	}
	out.begin(ts, win, coder.Pane{First: true, Last: true, Timing: coder.OnTime}, key, r.count)
	out.Block.Data = g.appendValues(out.Block.Data, r)
	return out.end(r.count)
}
