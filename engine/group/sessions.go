package group

import (
	"bytes"
	"encoding/binary"
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/engine/trigger"
	"padstone/engine/window"
)

// keySessions are the sessions of one key, or its windows that a function of the user's merges: one row.
//
// Encoding: next address uvarint, event timer 8 bytes, wake timer 8 bytes; then for each session its encoded window, the number of
// addresses and the addresses as uvarints, and the cell with its length.
type keySessions struct {
	nextAddress uint64
	eventAt     element.Time // the timers that are set, or never
	wakeAt      element.Time
	live        []liveSession // sessions by start, no two of which overlap; windows of the user's in no order
}

// liveSession is a session that has not expired. Its values are at its addresses, oldest first.
type liveSession struct {
	win       []byte
	max       element.Time
	addresses []uint64
	cell      *cell
}

// addToSessions adds the values of all keys.
func (x *call) addToSessions() error {
	if x.custom {
		return x.addToMerged()
	}
	for i := range x.g.buckets {
		b := &x.g.buckets[i]
		ks, err := x.loadSessions(b.key)
		if err != nil {
			return err
		}
		known := make([]window.Span, len(ks.live))
		for j := range ks.live {
			if known[j], err = window.ParseSpan(ks.live[j].win); err != nil {
				return corrupt(b.key, err)
			}
		}
		merged, into := x.g.sessions(b, known)
		if err := x.addMerged(b.key, ks, merged, into); err != nil {
			return err
		}
	}
	return nil
}

// addMerged adds the values of one key, which have been distributed to the windows of the key as they are now. into tells where the
// live ones went.
func (x *call) addMerged(key []byte, ks *keySessions, merged []session, into []int) error {
	var live []liveSession
	for i := range merged {
		var from []liveSession
		for j, s := range into {
			if s == i {
				from = append(from, ks.live[j])
			}
		}
		kept, err := x.addToSession(key, ks, &merged[i], from)
		if err != nil {
			return err
		}
		live = append(live, kept...)
	}
	ks.live = live
	return x.saveSessions(key, ks)
}

// addToSession merges the sessions in from and the values in s, which have become one, and returns what is left of it: one
// session, or, when the whole is late or closed, what was there.
func (x *call) addToSession(key []byte, ks *keySessions, s *session, from []liveSession) ([]liveSession, error) {
	if s.count == 0 && len(from) == 1 && bytes.Equal(from[0].win, s.win) {
		return from, nil // nothing came: it is one live session as it was
	}
	b := x.bounds(s.max)
	if b.expired(x.env) && s.count > 0 {
		x.out.DroppedLate += s.count
		return from, nil
	}
	open := slices.DeleteFunc(slices.Clone(from), func(l liveSession) bool { return l.cell.closed })
	var l liveSession
	switch {
	case len(open) > 0:
		l = x.merge(open, s, b)
	case len(from) > 0:
		// Only closed sessions: they swallow what belongs to them, and so does the whole from now on.
		x.out.DroppedClosed += s.count
		c := newCell()
		c.closed, c.ended = true, b.ended(x.env)
		return []liveSession{{win: s.win, max: s.max, addresses: from[0].addresses, cell: c}}, nil
	default:
		l = liveSession{win: s.win, max: s.max, addresses: []uint64{ks.nextAddress}, cell: newCell()}
		ks.nextAddress++
	}
	p := x.placeOfSession(key, &l)
	var err error
	if s.count > 0 {
		err = x.take(l.cell, p, &s.run)
	} else if !x.env.Deferred { // windows have merged for the sake of others: the trigger may see that as its moment
		err = x.evaluate(l.cell, p, nil)
	}
	if err != nil {
		return nil, err
	}
	x.settleSession(key, &l, b)
	return []liveSession{l}, nil
}

// merge makes one session of open ones, at the address of the oldest. A session that swallows others without growing goes on with its
// panes; one of a new span begins its panes anew, as a window that has not been there. Spec: ReduceFnRunner.OnMergeCallback (Java
// runners-core).
func (x *call) merge(open []liveSession, s *session, b bounds) liveSession {
	if len(open) == 1 && bytes.Equal(open[0].win, s.win) {
		return open[0]
	}
	oldest, panes, nonSpeculative := 0, int64(0), int64(0)
	states := make([]*trigger.State, len(open))
	for i := range open {
		states[i] = &open[i].cell.trig
		if open[i].addresses[0] < open[oldest].addresses[0] {
			oldest = i
		}
		if bytes.Equal(open[i].win, s.win) {
			panes, nonSpeculative = open[i].cell.panes, open[i].cell.nonSpeculative
		}
	}
	l := liveSession{win: s.win, max: s.max, addresses: slices.Clone(open[oldest].addresses), cell: open[oldest].cell}
	c := l.cell
	c.panes, c.nonSpeculative = panes, nonSpeculative
	c.trig = x.trigger.Merge(states, b.clock(x.env))
	c.ended = b.ended(x.env)
	for i := range open {
		if i == oldest {
			continue
		}
		other := open[i].cell
		other.setHold(x.tx, never)
		c.stored += other.stored
		c.fresh += other.fresh
		c.bytes += other.bytes
		c.baseCount += other.baseCount
		c.baseBytes += other.baseBytes
		c.fired = c.fired || other.fired
		if other.timed {
			c.at = combine(x.windowing.OutputTime, c.at, c.timed, other.at)
			c.timed = true
		}
		l.addresses = append(l.addresses, open[i].addresses...)
	}
	if c.timed && x.windowing.OutputTime == plan.EndOfWindow {
		c.at = b.max
	}
	return l
}

func (x *call) placeOfSession(key []byte, l *liveSession) *place {
	p := &place{key: key, win: l.win, bounds: x.bounds(l.max)}
	for _, a := range l.addresses {
		p.stores = append(p.stores, binary.BigEndian.AppendUint64(rows.AppendBytes(nil, key), a))
	}
	return p
}

// settleSession moves the session's hold and notes when its trigger wants to be woken.
func (x *call) settleSession(key []byte, l *liveSession, b bounds) {
	c := l.cell
	x.noteStale(c, key, l.win)
	c.setHold(x.tx, x.holdFor(c, b, x.env))
	if c.stored == 0 {
		l.addresses = l.addresses[:1]
	}
	c.wake = never
	if c.closed || x.env.Deferred {
		return
	}
	if at, ok := x.trigger.Wake(&c.trig, b.clock(x.env)); ok {
		c.wake = at
	}
}

// visitSessions evaluates the sessions of a key that have ended, expired or wait for processing time. family is that of the
// timer that has fired, and gone.
func (x *call) visitSessions(key []byte, family string) error {
	ks, err := x.loadSessions(key)
	if err != nil {
		return err
	}
	if family == familySession {
		ks.eventAt = never
	} else {
		ks.wakeAt = never
	}
	live := ks.live[:0]
	for i := range ks.live {
		l := &ks.live[i]
		p := x.placeOfSession(key, l)
		if err := x.evaluateDeferred(l.cell, p); err != nil {
			return err
		}
		if p.bounds.expired(x.env) {
			if err := x.final(l.cell, p); err != nil {
				return err
			}
			x.discard(l.cell, p)
			l.cell.setHold(x.tx, never)
			continue
		}
		if !l.cell.closed {
			if err := x.evaluate(l.cell, p, nil); err != nil {
				return err
			}
			x.settleSession(key, l, p.bounds)
		}
		l.cell.ended = p.bounds.ended(x.env)
		live = append(live, *l)
	}
	ks.live = live
	return x.saveSessions(key, ks)
}

// saveSessions sets the key's timers and writes its row, or deletes it when no session is left.
func (x *call) saveSessions(key []byte, ks *keySessions) error {
	event, wake := never, never
	for i := range ks.live {
		b := x.bounds(ks.live[i].max)
		at := b.collect
		if c := ks.live[i].cell; !c.ended && !c.closed {
			at = min(b.max, b.collect)
		}
		event, wake = min(event, at.Add(1)), min(wake, ks.live[i].cell.wake)
	}
	if err := x.moveTimer(key, familySession, plan.EventTime, &ks.eventAt, event); err != nil {
		return err
	}
	if err := x.moveTimer(key, familySessionWake, plan.ProcessingTime, &ks.wakeAt, wake); err != nil {
		return err
	}
	if len(ks.live) == 0 {
		x.tx.Delete(rows.Trigger, key)
		return nil
	}
	x.tx.Set(rows.Trigger, key, x.appendSessions(nil, ks))
	return nil
}

// moveTimer sets or clears a timer of the key if it is not as it should be.
func (x *call) moveTimer(key []byte, family string, domain plan.TimeDomain, old *element.Time, at element.Time) error {
	if *old == at {
		return nil
	}
	*old = at
	id := timer.ID{Family: family, Key: key}
	if at == never {
		return timer.Clear(x.tx, id)
	}
	return timer.Set(x.tx, id, timer.Timer{Domain: domain, Fire: at, Hold: timer.NoHold})
}

func (x *call) loadSessions(key []byte) (*keySessions, error) {
	value, err := x.tx.Get(rows.Trigger, key)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return &keySessions{eventAt: never, wakeAt: never}, nil
	}
	ks, err := x.parseSessions(value)
	if err != nil {
		return nil, corrupt(key, err)
	}
	return ks, nil
}

func (m *Machine) appendSessions(dst []byte, ks *keySessions) []byte {
	dst = binary.AppendUvarint(dst, ks.nextAddress)
	dst = rows.AppendTime(dst, ks.eventAt)
	dst = rows.AppendTime(dst, ks.wakeAt)
	var buf []byte
	for _, l := range ks.live {
		dst = rows.AppendBytes(dst, l.win)
		dst = binary.AppendUvarint(dst, uint64(len(l.addresses)))
		for _, a := range l.addresses {
			dst = binary.AppendUvarint(dst, a)
		}
		buf = m.appendCell(buf[:0], l.cell)
		dst = rows.AppendBytes(dst, buf)
	}
	return dst
}

func (m *Machine) parseSessions(b []byte) (*keySessions, error) {
	ks := &keySessions{}
	var n int
	if ks.nextAddress, n = binary.Uvarint(b); n <= 0 || len(b) < n+16 {
		return nil, errCell
	}
	ks.eventAt, ks.wakeAt, b = rows.Time(b[n:]), rows.Time(b[n+8:]), b[n+16:]
	for len(b) > 0 {
		l, rest, err := m.parseSession(b)
		if err != nil {
			return nil, err
		}
		ks.live, b = append(ks.live, l), rest
	}
	return ks, nil
}

func (m *Machine) parseSession(b []byte) (l liveSession, rest []byte, err error) {
	win, b, ok := rows.TakeBytes(b)
	if !ok {
		return l, nil, errCell
	}
	l.win = bytes.Clone(win)
	if l.max, err = window.Max(m.windowing.Coding, l.win); err != nil {
		return l, nil, err
	}
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > uint64(len(b)) {
		return l, nil, errCell
	}
	b = b[n:]
	for range count {
		a, n := binary.Uvarint(b)
		if n <= 0 {
			return l, nil, errCell
		}
		l.addresses, b = append(l.addresses, a), b[n:]
	}
	value, b, ok := rows.TakeBytes(b)
	if !ok {
		return l, nil, errCell
	}
	l.cell, err = m.parseCell(value)
	return l, b, err
}
