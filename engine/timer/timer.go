package timer

import (
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/internal/fault"
)

// NoHold as the hold time of a timer says that it does not hold the watermark.
const NoHold = element.MaxTime

// ID identifies a timer within a stage. Slices are read only during a call.
type ID struct {
	Family string // whoever sets a timer chooses its families apart
	Key    []byte // nested encoding of the key
	Window []byte // encoded window
	Tag    []byte // dynamic timer tag
}

// Timer is a set timer.
type Timer struct {
	Domain plan.TimeDomain
	Fire   element.Time
	Hold   element.Time // the output timestamp, or NoHold
	Pane   []byte       // encoded pane of the element that set it
}

// Fired is a timer that is due. It owns its bytes.
type Fired struct {
	ID
	Timer
}

// Set sets or moves the timer. A hold of NoHold does not hold the watermark.
func Set(tx rows.Tx, id ID, t Timer) error {
	key := appendID(nil, id)
	old, found, err := load(tx, key)
	if err != nil {
		return err
	}
	if found {
		if old.Domain != t.Domain || old.Fire != t.Fire {
			tx.Delete(rows.TimerTS, appendOrder(nil, old.Domain, old.Fire, key))
		}
	}
	if !found || old.Hold != t.Hold {
		if found {
			hold(tx, old.Hold, -1)
		}
		hold(tx, t.Hold, +1)
	}
	tx.Set(rows.TimerID, key, appendTimer(nil, t))
	tx.Set(rows.TimerTS, appendOrder(nil, t.Domain, t.Fire, key), nil)
	return nil
}

// Clear removes the timer if it is set.
func Clear(tx rows.Tx, id ID) error {
	key := appendID(nil, id)
	old, found, err := load(tx, key)
	if err != nil || !found {
		return err
	}
	remove(tx, key, old)
	return nil
}

// Get returns the timer; found is false when it is not set.
func Get(tx rows.Tx, id ID) (t Timer, found bool, err error) {
	return load(tx, appendID(nil, id))
}

// Due returns up to limit timers of the domain that fire at or before upTo, in order of firing time, then key. It removes
// nothing: see Remove.
func Due(tx rows.Tx, domain plan.TimeDomain, upTo element.Time, limit int) ([]Fired, error) {
	var keys [][]byte
	prefix := appendDomain(nil, domain)
	err := tx.Scan(rows.TimerTS, prefix, nil, func(key, _ []byte) bool {
		if len(keys) >= limit || len(key) < orderLen || rows.Time(key[1:]) > upTo {
			return false
		}
		keys = append(keys, append([]byte(nil), key[orderLen:]...))
		return true
	})
	if err != nil {
		return nil, err
	}
	due := make([]Fired, 0, len(keys))
	for _, key := range keys {
		t, found, err := load(tx, key)
		if err != nil {
			return nil, err
		}
		id, ok := parseID(key)
		if !ok || !found {
			return nil, corrupt("timer %x has a firing time but no record", key)
		}
		due = append(due, Fired{ID: id, Timer: t})
	}
	return due, nil
}

// Remove removes a timer that was due. It reports false, and does nothing, when the timer has been cleared or set to another time
// since: then it must not fire.
func Remove(tx rows.Tx, f Fired) (removed bool, err error) {
	key := appendID(nil, f.ID)
	t, found, err := load(tx, key)
	if err != nil || !found || t.Domain != f.Domain || t.Fire != f.Fire {
		return false, err
	}
	remove(tx, key, t)
	return true, nil
}

// AnyDue says whether a timer of the key and window, other than those of the family, is due.
func AnyDue(tx rows.Tx, key, window []byte, event, processing element.Time, family string) (due bool, err error) {
	var bad []byte
	prefix := rows.AppendBytes(rows.AppendBytes(nil, key), window)
	err = tx.Scan(rows.TimerID, prefix, nil, func(key, value []byte) bool {
		id, ok := parseID(key)
		t, ok2 := parseTimer(value)
		switch {
		case !ok || !ok2:
			bad = append([]byte{}, key...)
		case id.Family == family:
		case t.Domain == plan.ProcessingTime:
			due = t.Fire <= processing
		default:
			due = t.Fire <= event
		}
		return !due && bad == nil
	})
	if err == nil && bad != nil {
		err = corrupt("timer %x", bad)
	}
	return due, err
}

// Next returns the earliest firing time of the domain; ok is false when no timer of it is set.
func Next(tx rows.Tx, domain plan.TimeDomain) (at element.Time, ok bool, err error) {
	err = tx.Scan(rows.TimerTS, appendDomain(nil, domain), nil, func(key, _ []byte) bool {
		if ok = len(key) >= orderLen; ok {
			at = rows.Time(key[1:])
		}
		return false
	})
	return at, ok, err
}

// ClearWindow removes every timer of a key and window, when the window expires.
func ClearWindow(tx rows.Tx, key, window []byte) error {
	type set struct {
		key []byte
		t   Timer
	}
	var found []set
	var bad []byte
	prefix := rows.AppendBytes(rows.AppendBytes(nil, key), window)
	err := tx.Scan(rows.TimerID, prefix, nil, func(key, value []byte) bool {
		t, ok := parseTimer(value)
		if !ok {
			bad = append([]byte{}, key...)
			return false
		}
		found = append(found, set{append([]byte(nil), key...), t})
		return true
	})
	if err != nil {
		return err
	}
	if bad != nil {
		return corrupt("timer %x", bad)
	}
	for _, s := range found {
		remove(tx, s.key, s.t)
	}
	return nil
}

// ClearFamily removes every timer of a family, whatever its key and window.
func ClearFamily(tx rows.Tx, family string) error {
	var ids []ID
	var bad []byte
	err := tx.Scan(rows.TimerID, nil, nil, func(key, _ []byte) bool {
		id, ok := parseID(append([]byte(nil), key...))
		if !ok {
			bad = append([]byte{}, key...)
		} else if id.Family == family {
			ids = append(ids, id)
		}
		return ok
	})
	if err == nil && bad != nil {
		err = corrupt("timer %x", bad)
	}
	for _, id := range ids {
		if err == nil {
			err = Clear(tx, id)
		}
	}
	return err
}

func remove(tx rows.Tx, key []byte, t Timer) {
	tx.Delete(rows.TimerID, key)
	tx.Delete(rows.TimerTS, appendOrder(nil, t.Domain, t.Fire, key))
	hold(tx, t.Hold, -1)
}

func hold(tx rows.Tx, at element.Time, delta int) {
	if at < NoHold {
		tx.Hold(at, delta)
	}
}

func load(tx rows.Tx, key []byte) (t Timer, found bool, err error) {
	value, err := tx.Get(rows.TimerID, key)
	if err != nil || value == nil {
		return Timer{}, false, err
	}
	t, ok := parseTimer(value)
	if !ok {
		return Timer{}, false, corrupt("timer %x: %x", key, value)
	}
	return t, true, nil
}

func corrupt(format string, args ...any) error {
	return fault.New(fault.Corruption, "corrupt-row", format, args...)
}
