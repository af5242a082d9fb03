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

// expiryFamily is the timer family, not the user's, that ends a key's window: its state and timers are collected. flushFamily is due
// when elements of a time-sorted input are. Those of the user begin with userFamily; whose transform's they are, the stage tells.
const (
	userFamily   = "user/"
	expiryFamily = "\x00expiry"
	flushFamily  = "\x00sorted"
)

// prepareTimers takes the due timers out of the rows, with the elements of a time-sorted input that are due, and encodes what is for
// the harness: for each key in the order of event time.
func (h *harnessBundle) prepareTimers() (inputs, error) {
	h.sequence = newSequence()
	now := h.start.Now
	if h.start.AllTimers {
		now = element.MaxTime
	}
	left := timersLeft(h.start)
	for _, g := range h.start.Groups {
		if left <= 0 || h.full() {
			break
		}
		due, horizon, err := dueTimers(h.txs.byID[g], h.start.InputWatermark, now, left)
		if err != nil {
			return inputs{}, err
		}
		left -= len(due)
		for _, sc := range scopes(due) {
			if h.full() {
				break
			}
			if err := h.prepareScope(h.txs.byID[g], sc, horizon, now); err != nil {
				return inputs{}, err
			}
		}
	}
	channels := append([]*timerFamily{nil}, h.stage.timers...)
	return inputs{runs: h.sequence.runs(channels)}, nil
}

// full says that a limited bundle has as much for user code as it may.
func (h *harnessBundle) full() bool { return h.start.Limit > 0 && h.sequence.count >= h.start.Limit }

// scope is what is due of one key and window.
type scope struct {
	key, window   []byte
	timers        []timer.Fired // the user's: event time first, each in order
	expiry, flush *timer.Fired
}

// scopes sorts due timers by key and window.
func scopes(due []timer.Fired) []*scope {
	var all []*scope
	byName := make(map[string]*scope)
	for i := range due {
		f := &due[i]
		name := scopeName(f.Key, f.Window)
		sc := byName[name]
		if sc == nil {
			sc = &scope{key: f.Key, window: f.Window}
			byName[name] = sc
			all = append(all, sc)
		}
		switch f.Family {
		case expiryFamily:
			sc.expiry = f
		case flushFamily:
			sc.flush = f
		default:
			sc.timers = append(sc.timers, *f)
		}
	}
	return all
}

// prepareScope takes what is due of one key and window. A window expires last: not in a bundle in which something else of it is due,
// which may still set more timers.
func (h *harnessBundle) prepareScope(tx rows.Tx, sc *scope, horizon, now element.Time) error {
	if sc.expiry != nil {
		waits, err := timer.AnyDue(tx, sc.key, sc.window, h.start.InputWatermark, now, expiryFamily)
		if err != nil {
			return err
		}
		if !waits {
			return h.expire(tx, *sc.expiry)
		}
	}
	items, err := h.userTimers(sc)
	if err != nil {
		return err
	}
	rest, err := h.sorted(tx, sc, horizon)
	if err != nil {
		return err
	}
	items = rest.before(items)
	if n := h.slot.ItemsMax; n > 0 && len(items) > n {
		items, h.leftOut = items[:n], true
	}
	if n := h.start.Limit - h.sequence.count; h.start.Limit > 0 && len(items) > n {
		items, h.leftOut = items[:n], true
	}
	for _, it := range items {
		if it.family == nil {
			tx.Delete(rows.Sorted, it.row)
		} else if _, err := timer.Remove(tx, *it.fired); err != nil {
			return err
		}
	}
	h.sequence.add(sc.key, sc.window, items)
	return h.flushNext(tx, sc)
}

// userTimers encodes the due timers of user code.
func (h *harnessBundle) userTimers(sc *scope) ([]item, error) {
	items := make([]item, 0, len(sc.timers))
	for i := range sc.timers {
		f := &sc.timers[i]
		t := h.stage.family(f.Family)
		if t == nil {
			return nil, fault.New(fault.Corruption, "corrupt-row", "a stored timer names the family %q, which %q does not have",
				f.Family, h.stage.Def.Name)
		}
		it := item{at: f.Fire, rank: rankEvent, family: t, id: timerID(f.Family, f.Tag), fired: f, data: h.appendTimer(nil, *f)}
		if f.Domain == plan.ProcessingTime {
			it.rank = rankProcessing
		}
		items = append(items, it)
	}
	return items, nil
}

// expire ends a key's window: the user's OnWindowExpiration is fired with its state still there, and in the bundle after it
// everything is collected.
func (h *harnessBundle) expire(tx rows.Tx, f timer.Fired) error {
	if _, err := timer.Remove(tx, f); err != nil {
		return err
	}
	const told = "told" // tag of the second round: the user's callback has run
	if h.stage.expiry >= 0 && string(f.Tag) != told {
		t := h.stage.timers[h.stage.expiry]
		user := f
		user.Tag = nil
		user.Hold = min(f.Hold, element.MaxTime)
		h.sequence.add(f.Key, f.Window, []item{{at: f.Fire, rank: rankEvent, family: t, data: h.appendTimer(nil, user)}})
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
func (h *harnessBundle) appendTimer(dst []byte, f timer.Fired) []byte {
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
		id := timer.ID{Family: family.name, Key: t.Key, Window: w, Tag: t.Tag}
		set, live, err := h.bounded(family, t, w)
		if err == nil {
			h.checkOrder(family, t, w, live)
		}
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
	latest := element.MaxTime
	if family.def.Domain == plan.EventTime {
		latest, _, err = h.collectAt(w)
	}
	if err != nil || t.Clear {
		return set, false, err
	}
	if t.Fire > latest && latest < element.MaxTime || h.start.AllTimers && h.draining() {
		fromTimer, mixedFrom := h.setter(t.Key, w)
		if mixedFrom > 0 {
			h.holdAtMost(mixedFrom)
		}
		if fromTimer {
			return set, false, nil
		}
	}
	set = timer.Timer{Domain: family.def.Domain, Fire: min(max(t.Fire, element.MinTime), latest), Hold: t.Hold, Pane: t.Pane}
	if family.def.Domain == plan.EventTime && t.Fire > latest {
		set.Hold = min(t.Hold, latest)
	}
	return set, true, nil
}

// checkOrder notes when a timer that was set or cleared shows that the bundle held too much of its key and window.
func (h *harnessBundle) checkOrder(family *timerFamily, t *coder.Timer, w []byte, set bool) {
	if h.sequence == nil {
		return
	}
	var at *element.Time
	if set {
		at = &t.Fire
	}
	if n := h.sequence.tooMany(t.Key, w, family, t.Tag, at); n > 0 {
		h.holdAtMost(n)
	}
}

// holdAtMost has the bundle run again with no more items of each key and window.
func (h *harnessBundle) holdAtMost(items int) {
	if h.itemsMax == 0 || items < h.itemsMax {
		h.itemsMax = items
	}
}

// setter says whether a timer, no element, has set what a bundle sets for the key and window. Of a bundle that hands out both one cannot
// tell; mixedFrom is then how many of its items are of the first one's kind.
func (h *harnessBundle) setter(key, w []byte) (fromTimer bool, mixedFrom int) {
	if h.sequence == nil {
		return false, 0
	}
	return h.sequence.kind(key, w)
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
