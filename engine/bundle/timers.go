package bundle

import (
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// expiryFamily is the timer family, not the user's, that ends a key's window: its state and timers are collected. User families
// start with a transform's name, which is never empty.
const expiryFamily = "\x00expiry"

// familyName names a user timer family in the rows.
func (t *timerFamily) familyName() string { return t.def.Name + "\x00" + t.def.Family }

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
		if collectAt < h.start.InputWatermark && !residual {
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
		if at, _, err := h.collectAt(w); err == nil && at >= h.start.InputWatermark {
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
	lateness := int64(0)
	if ws := h.stage.Def.Windowing; ws != nil {
		lateness = ws.LatenessMs
	}
	return window.CollectAt(maxTS, lateness), maxTS, nil
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

// prepareTimers takes the due timers out of the rows and encodes the user's for the harness. A window expires last: not in a bundle
// that fires other timers of the same key and window, which may still set more.
func (h *harnessBundle) prepareTimers() (inputs, error) {
	in := inputs{timers: make(map[*timerFamily][]byte)}
	due, err := dueTimers(h.txs, h.start)
	if err != nil {
		return in, err
	}
	families := make(map[string]*timerFamily, len(h.stage.timers))
	for _, t := range h.stage.timers {
		families[t.familyName()] = t
	}
	for _, g := range h.start.Groups {
		tx := h.txs.byID[g]
		active := make(map[string]bool)
		for _, f := range due[g] {
			if f.Family != expiryFamily {
				active[string(rows.AppendBytes(rows.AppendBytes(nil, f.Window), f.Key))] = true
			}
		}
		for _, f := range due[g] {
			if f.Family == expiryFamily {
				err = h.expire(tx, f, active, in)
			} else if t := families[f.Family]; t != nil {
				in.timers[t] = h.appendTimer(in.timers[t], t, f)
			} else {
				err = fault.New(fault.Corruption, "corrupt-row", "a stored timer names the family %q, which %q does not have",
					f.Family, h.stage.Def.Name)
			}
			if err != nil {
				return in, err
			}
		}
	}
	return in, nil
}

// expire ends a key's window: the user's OnWindowExpiration is fired with its state still there, and in the bundle after it
// everything is collected.
func (h *harnessBundle) expire(tx rows.Tx, f timer.Fired, active map[string]bool, in inputs) error {
	if active[string(rows.AppendBytes(rows.AppendBytes(nil, f.Window), f.Key))] {
		return timer.Set(tx, f.ID, f.Timer)
	}
	const told = "told" // tag of the second round: the user's callback has run
	if h.stage.expiry >= 0 && string(f.Tag) != told {
		t := h.stage.timers[h.stage.expiry]
		user := f
		user.Tag = nil
		user.Hold = min(f.Hold, element.MaxTime)
		in.timers[t] = h.appendTimer(in.timers[t], t, user)
		again := f
		again.Tag = []byte(told)
		again.Hold = timer.NoHold
		return timer.Set(tx, again.ID, again.Timer)
	}
	w := f.Window
	var err error
	if sp := h.stage.Def.Splittable; sp == nil || !sp.FramedWindows {
		w, err = window.Key(h.stage.input.def.Window, f.Window)
	}
	if err != nil {
		return fault.New(fault.Corruption, "corrupt-row", "expiry of %q: %w", h.stage.Def.Name, err)
	}
	tx.DeletePrefix(rows.State, appendScope(nil, w, f.Key))
	return timer.ClearWindow(tx, f.Key, f.Window)
}

// appendTimer encodes a timer that fires.
func (h *harnessBundle) appendTimer(dst []byte, t *timerFamily, f timer.Fired) []byte {
	ct := coder.Timer{Key: f.Key, Tag: f.Tag, NWin: 1, Windows: f.Window, Fire: f.Fire, Hold: f.Hold, Pane: f.Pane}
	return ct.Append(dst)
}

// setTimers applies the timers that user code set or cleared, in order.
func (h *harnessBundle) setTimers(m message) error {
	var family *timerFamily
	for _, t := range h.stage.timers {
		if t.def.Transform == m.transform && t.def.Family == m.family {
			family = t
		}
	}
	if family == nil {
		return fault.New(fault.Environment, "harness-protocol", "the harness set a timer of family %q of %q, which is not known",
			m.family, m.transform)
	}
	var t coder.Timer
	for rest := m.data; len(rest) > 0; {
		var err error
		if rest, err = family.program.NextTimer(rest, &t); err != nil {
			return fault.New(fault.Internal, "bad-element-encoding", "timer %q of %q: %w", m.family, family.def.Name, err)
		}
		if family.def.Domain == plan.ProcessingTime && !t.Clear {
			t.Fire = h.onOurClock(t.Fire)
		}
		if err := h.setTimer(family, &t); err != nil {
			return fmt.Errorf("timer %q of %q: %w", m.family, family.def.Name, err)
		}
	}
	return nil
}

func (h *harnessBundle) setTimer(family *timerFamily, t *coder.Timer) error {
	tx, err := h.txs.of(t.Key)
	if err != nil {
		return err
	}
	rest := t.Windows
	for i := 0; i < t.NWin; i++ {
		var w []byte
		if w, rest, err = coder.NextWindow(family.def.Window, rest); err != nil {
			return err
		}
		id := timer.ID{Family: family.familyName(), Key: t.Key, Window: w, Tag: t.Tag}
		set, live, err := h.bounded(family, t, w)
		if err == nil && live {
			err = timer.Set(tx, id, set)
		} else if err == nil {
			err = timer.Clear(tx, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bounded returns the timer as it is kept; live is false when it is cleared or will never fire. An event time timer fires before its
// window is collected: one that an element sets for later is moved to that time, one that a timer sets is not kept, so that a timer
// which sets itself again ends with its window. And it ends with a drain: at the end of a draining job's input, timers set none.
// Spec: minTargetAndGcTime in SimpleDoFnRunner (Java runners-core) moves timers likewise.
func (h *harnessBundle) bounded(family *timerFamily, t *coder.Timer, w []byte) (set timer.Timer, live bool, err error) {
	if t.Clear || h.start.AllTimers && h.draining() {
		return set, false, nil
	}
	latest := element.MaxTime
	if family.def.Domain == plan.EventTime {
		if latest, _, err = h.collectAt(w); err != nil || h.start.Timers && t.Fire > latest {
			return set, false, err
		}
	}
	set = timer.Timer{Domain: family.def.Domain, Fire: min(max(t.Fire, element.MinTime), latest), Hold: t.Hold, Pane: t.Pane}
	if family.def.Domain == plan.EventTime && t.Fire > latest {
		set.Hold = min(t.Hold, latest)
	}
	return set, true, nil
}

// draining says whether the job drains.
func (h *harnessBundle) draining() bool {
	select {
	case <-h.slot.Drain:
		return true
	default:
		return false
	}
}
