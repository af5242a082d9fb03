package group

import (
	"bytes"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/engine/window"
)

// Families of the timers that the machine sets in its stage.
const (
	familyWindow      = "group/window"       // Window: a window of the key group ends, or expires
	familyWake        = "group/wake"         // Key, Window: processing time of a trigger
	familySession     = "group/session"      // Key: a session of the key ends, or expires
	familySessionWake = "group/session-wake" // Key: processing time of a trigger of one of its sessions
)

// Process takes a block of elements of one key group, keeps them and fires what is ready. The trigger of a key and window is
// evaluated once, after all its elements, or after each of them (trigger.Program.ByElement). block must stay
// unchanged during the call; the store keeps copies.
func (m *Machine) Process(tx rows.Tx, block []byte, env Env, out *Output) error {
	x := &call{Machine: m, tx: tx, env: env, out: out, g: newGrouper(m, env.OutputWatermark)}
	if err := x.g.add(block); err != nil {
		return err
	}
	if m.merging {
		return x.addToSessions()
	}
	for i := range x.g.buckets {
		if err := x.addToWindow(&x.g.buckets[i]); err != nil {
			return err
		}
	}
	return x.watchWindows()
}

// Timers handles due timers of the stage (see timer.Due): it removes them, and sets those that are needed next. Timers of a
// family that is not the machine's are left alone.
func (m *Machine) Timers(tx rows.Tx, fired []timer.Fired, env Env, out *Output) error {
	x := &call{Machine: m, tx: tx, env: env, out: out}
	for _, f := range fired {
		var handle func() error
		switch f.Family {
		case familyWindow:
			handle = func() error { return x.visitWindow(f.Window) }
		case familyWake:
			handle = func() error { return x.wakeUp(f.Key, f.Window) }
		case familySession, familySessionWake:
			handle = func() error { return x.visitSessions(f.Key, f.Family) }
		default:
			continue
		}
		removed, err := timer.Remove(tx, f)
		if err == nil && removed {
			err = handle()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// placeOf returns the place of a key in a window that does not merge.
func (x *call) placeOf(key, win []byte, b bounds) *place {
	store := rows.AppendBytes(append(make([]byte, 0, len(win)+len(key)+16), win...), key)
	return &place{key: key, win: win, bounds: b, stores: [][]byte{store}}
}

// cellRow returns the suffix of a cell's row: the window, then the key.
func cellRow(key, win []byte) []byte {
	return append(append(make([]byte, 0, len(win)+len(key)), win...), key...)
}

func (x *call) loadCell(row []byte) (*cell, error) {
	value, err := x.tx.Get(rows.Trigger, row)
	if err != nil || value == nil {
		return nil, err
	}
	c, err := x.parseCell(value)
	if err != nil {
		return nil, corrupt(row, err)
	}
	return c, nil
}

// addToWindow adds the values of a bucket to the cell of its key and window.
func (x *call) addToWindow(b *bucket) error {
	bounds := x.bounds(x.g.windowMax[b.win])
	if bounds.expired(x.env) {
		x.out.DroppedLate += b.count
		return nil
	}
	win := x.g.windows[b.win]
	row := cellRow(b.key, win)
	c, err := x.loadCell(row)
	switch {
	case err != nil:
		return err
	case c == nil:
		c = newCell()
	case c.closed:
		x.out.DroppedClosed += b.count
		return nil
	}
	p := x.placeOf(b.key, win, bounds)
	if err := x.take(c, p, &b.run); err != nil {
		return err
	}
	return x.settle(c, p, row)
}

// settle moves the hold and the wake-up of a cell to where they belong and writes its row.
func (x *call) settle(c *cell, p *place, row []byte) error {
	c.setHold(x.tx, x.holdFor(c, p.bounds, x.env))
	wake := never
	if !c.closed && !x.env.Deferred {
		if at, ok := x.trigger.Wake(&c.trig, p.bounds.clock(x.env)); ok {
			wake = at
		}
	}
	if err := x.setWake(c, p, wake); err != nil {
		return err
	}
	x.noteStale(c, p.key, p.win)
	x.saveCell(c, row)
	return nil
}

func (x *call) saveCell(c *cell, row []byte) {
	x.row = x.appendCell(x.row[:0], c)
	x.tx.Set(rows.Trigger, row, x.row)
}

func (x *call) setWake(c *cell, p *place, at element.Time) error {
	if c.wake == at {
		return nil
	}
	c.wake = at
	id := timer.ID{Family: familyWake, Key: p.key, Window: p.win}
	if at == never {
		return timer.Clear(x.tx, id)
	}
	return timer.Set(x.tx, id, timer.Timer{Domain: plan.ProcessingTime, Fire: at, Hold: timer.NoHold})
}

// watchWindows sees to it that every window that has got elements has a timer: one for all its keys in this key group.
func (x *call) watchWindows() error {
	for i, win := range x.g.windows {
		b := x.bounds(x.g.windowMax[i])
		if b.expired(x.env) {
			continue
		}
		id := timer.ID{Family: familyWindow, Window: win}
		if _, found, err := timer.Get(x.tx, id); err != nil || found {
			if err != nil {
				return err
			}
			continue
		}
		if err := x.watch(id, b); err != nil {
			return err
		}
	}
	return nil
}

// watch sets the timer of a window to its end or, when that is over, to when it expires.
func (x *call) watch(id timer.ID, b bounds) error {
	at := b.max
	if b.ended(x.env) || b.collect < b.max {
		at = b.collect
	}
	return timer.Set(x.tx, id, timer.Timer{Domain: plan.EventTime, Fire: at.Add(1), Hold: timer.NoHold})
}

// wakeUp evaluates a key and window because its trigger's processing time has come.
func (x *call) wakeUp(key, win []byte) error {
	maxTS, err := window.Max(x.windowing.Coding, win)
	if err != nil {
		return corrupt(win, err)
	}
	p := x.placeOf(key, win, x.bounds(maxTS))
	row := cellRow(key, win)
	c, err := x.loadCell(row)
	if err != nil || c == nil || c.closed {
		return err
	}
	c.wake = never // its timer has gone
	if !p.bounds.expired(x.env) {
		// The timer of an expired window is due too and makes its last pane.
		if err := x.evaluate(c, p, nil); err != nil {
			return err
		}
	}
	return x.settle(c, p, row)
}

// visitWindow evaluates all keys of a window because it has ended or expired.
func (x *call) visitWindow(win []byte) error {
	maxTS, err := window.Max(x.windowing.Coding, win)
	if err != nil {
		return corrupt(win, err)
	}
	b := x.bounds(maxTS)
	if !b.ended(x.env) && !b.expired(x.env) {
		return x.watch(timer.ID{Family: familyWindow, Window: win}, b)
	}
	for from := win; from != nil; {
		var page []found
		if page, from, err = x.page(win, from); err != nil {
			return err
		}
		for _, f := range page {
			if err := x.visit(f, win, b); err != nil {
				return err
			}
		}
	}
	if b.expired(x.env) {
		x.tx.DeletePrefix(rows.Group, win)
		x.tx.DeletePrefix(rows.Trigger, win)
		return nil
	}
	return x.watch(timer.ID{Family: familyWindow, Window: win}, b)
}

// visit evaluates one key of a window that has ended.
func (x *call) visit(f found, win []byte, b bounds) error {
	c, err := x.parseCell(f.value)
	if err != nil {
		return corrupt(f.row, err)
	}
	if c.closed {
		return nil
	}
	p := x.placeOf(f.row[len(win):], win, b)
	if err := x.evaluateDeferred(c, p); err != nil {
		return err
	}
	if b.expired(x.env) {
		if err := x.final(c, p); err != nil {
			return err
		}
		c.setHold(x.tx, never)
		return x.setWake(c, p, never)
	}
	if err := x.evaluate(c, p, nil); err != nil {
		return err
	}
	return x.settle(c, p, f.row)
}

// found is a row that a scan has found.
type found struct{ row, value []byte }

// pageRows bounds how many cells of a window are in memory at once.
const pageRows = 1024

// page returns some cells of a window and where to go on, or nil.
func (x *call) page(win, from []byte) (page []found, next []byte, err error) {
	err = x.tx.Scan(rows.Trigger, win, from, func(key, value []byte) bool {
		if len(page) == pageRows {
			next = bytes.Clone(key)
			return false
		}
		page = append(page, found{bytes.Clone(key), bytes.Clone(value)})
		return true
	})
	return page, next, err
}
