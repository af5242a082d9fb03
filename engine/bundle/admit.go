package bundle

import (
	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// admit lets the elements of a stateful stage in: it drops those whose window has been collected, and sets the timer that will
// collect the window of the others. Restrictions that came back from a bundle are not dropped: their elements have been let in.
func (h *harnessBundle) admit(data []byte, residual bool) ([]byte, error) {
	var kept []byte // the elements to process, once one had to be dropped
	dropped := false
	pos := 0
	seen := make(map[string]bool)
	err := h.stage.input.scanner.Scan(data, func(el *coder.Elem) error {
		live, err := h.admitWindows(el, residual, seen)
		if err != nil {
			return err
		}
		end := pos + len(el.Raw)
		if live < el.NWin && !dropped {
			dropped = true
			kept = append(kept, data[:pos]...)
		}
		if dropped && live == el.NWin {
			kept = append(kept, el.Raw...)
		} else if dropped && live > 0 {
			kept = h.withoutLate(kept, el)
		}
		pos = end
		return nil
	})
	if err != nil {
		return nil, fault.New(fault.Corruption, "corrupt-block", "elements of %q: %w", h.stage.Def.Name, err)
	}
	if dropped {
		return kept, nil
	}
	return data, nil
}

// admitWindows returns how many windows of the element are live, and makes sure that each of them will be collected.
func (h *harnessBundle) admitWindows(el *coder.Elem, residual bool, seen map[string]bool) (live int, err error) {
	rest := el.Windows
	for i := 0; i < el.NWin; i++ {
		var w []byte
		if w, rest, err = coder.NextWindow(h.stage.input.def.Window, rest); err != nil {
			return 0, err
		}
		collectAt, maxTS, err := h.collectAt(w)
		if err != nil {
			return 0, err
		}
		if collectAt < h.watermark && !residual {
			h.result.DroppedLate++
			continue
		}
		live++
		if err := h.expect(el.Key, w, collectAt, maxTS, seen); err != nil {
			return 0, err
		}
	}
	return live, nil
}

// withoutLate appends the element in its live windows only.
func (h *harnessBundle) withoutLate(dst []byte, el *coder.Elem) []byte {
	var live []byte
	n := 0
	rest := el.Windows
	for i := 0; i < el.NWin; i++ {
		w, r, err := coder.NextWindow(h.stage.input.def.Window, rest)
		if err != nil {
			return dst // cannot be: admitWindows has read the same windows
		}
		rest = r
		if at, _, err := h.collectAt(w); err == nil && at >= h.watermark {
			live = append(live, w...)
			n++
		}
	}
	dst = coder.AppendHeader(dst, el.TS, n, live, el.Pane)
	return append(dst, el.Value...)
}

// collectAt returns the watermark up to which the window keeps its state, and its maximum timestamp.
func (h *harnessBundle) collectAt(w []byte) (at, maxTS element.Time, err error) {
	if maxTS, err = window.Max(h.stage.input.def.Window, w); err != nil {
		return 0, 0, err
	}
	return window.CollectAt(maxTS, h.latenessMs()), maxTS, nil
}

// expect sets the expiry timer of a key and window unless it is set. State in the global window is not collected before the job
// ends, so it needs one only for a user's OnWindowExpiration. That one holds the watermark at the end of the window, so that what
// it puts out is not late.
func (h *harnessBundle) expect(key, w []byte, collectAt, maxTS element.Time, seen map[string]bool) error {
	if h.stage.expiry < 0 && h.stage.input.def.Window == plan.GlobalWindow {
		return nil
	}
	id := string(rows.AppendBytes(rows.AppendBytes(nil, w), key))
	if seen[id] {
		return nil
	}
	seen[id] = true
	tx, err := h.txs.of(key)
	if err != nil {
		return err
	}
	tid := timer.ID{Family: expiryFamily, Key: key, Window: w}
	if _, found, err := timer.Get(tx, tid); err != nil || found {
		return err
	}
	hold := element.Time(timer.NoHold)
	if h.stage.expiry >= 0 {
		hold = maxTS
	}
	// Strictly after collectAt: an element that comes at this very watermark is still let in.
	return timer.Set(tx, tid, timer.Timer{Domain: plan.EventTime, Fire: collectAt.Add(1), Hold: hold, Pane: []byte{coder.NoFiring}})
}
