package group

import (
	"encoding/binary"
	"errors"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/trigger"
	"padstone/internal/fault"
)

// never marks a time that is not set: a hold or a wake-up.
const never = element.MaxTime

// cell is what is kept of one key and window besides its values.
//
// Encoding: flags u8, then as uvarints panes, nonSpeculative, stored, fresh, chunk, chunkBytes, and, if the machine compacts, bytes,
// baseCount, baseBytes; then 8 bytes for each of at, hold and wake that its flag announces; then the trigger's state. A closed cell is
// its flags alone.
type cell struct {
	trig   trigger.State
	closed bool // the trigger has finished: elements are dropped
	ended  bool // has been evaluated after the end of the window

	panes          int64 // emitted so far: the index of the next one
	nonSpeculative int64 // of them not early

	stored     int64 // values in rows
	fresh      int64 // values since the last pane, stored or not
	chunk      int64 // row that values are appended to
	chunkBytes int64

	// What the next compaction hangs on; kept by a machine that compacts.
	bytes     int64 // of the values in rows
	baseCount int64 // values that the last compaction left
	baseBytes int64
	fired     bool // a pane was put out since then

	timed bool         // at is set
	at    element.Time // combined output time of the fresh values that came in time to hold the watermark
	hold  element.Time // the hold that counts for this cell now, or never
	wake  element.Time // the processing time for which a timer is set, or never
}

func newCell() *cell { return &cell{hold: never, wake: never} }

const (
	flagClosed = 1 << iota
	flagEnded
	flagTimed
	flagHold
	flagWake
	flagFired
	flagsEnd
)

var errCell = errors.New("cell does not read back")

func (m *Machine) appendCell(dst []byte, c *cell) []byte {
	if c.closed {
		return append(dst, flagClosed|flag(c.ended, flagEnded))
	}
	dst = append(dst, flag(c.ended, flagEnded)|flag(c.timed, flagTimed)|flag(c.hold < never, flagHold)|
		flag(c.wake < never, flagWake)|flag(c.fired, flagFired))
	for _, v := range m.numbers(c) {
		dst = binary.AppendUvarint(dst, uint64(*v))
	}
	if c.timed {
		dst = rows.AppendTime(dst, c.at)
	}
	if c.hold < never {
		dst = rows.AppendTime(dst, c.hold)
	}
	if c.wake < never {
		dst = rows.AppendTime(dst, c.wake)
	}
	return m.trigger.AppendState(dst, &c.trig)
}

// numbers lists the numbers of a cell that are encoded, in order.
func (m *Machine) numbers(c *cell) []*int64 {
	n := []*int64{
		&c.panes, &c.nonSpeculative, &c.stored, &c.fresh, &c.chunk, &c.chunkBytes, &c.bytes, &c.baseCount, &c.baseBytes,
	}
	if !m.compacts {
		n = n[:6]
	}
	return n
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

// parseCell decodes all of b, of which the cell keeps nothing.
func (m *Machine) parseCell(b []byte) (*cell, error) {
	if len(b) == 0 || b[0] >= flagsEnd {
		return nil, errCell
	}
	c, flags := newCell(), b[0]
	b = b[1:]
	c.closed, c.ended, c.timed = flags&flagClosed != 0, flags&flagEnded != 0, flags&flagTimed != 0
	c.fired = flags&flagFired != 0
	if c.closed {
		if len(b) > 0 {
			return nil, errCell
		}
		return c, nil
	}
	for _, to := range m.numbers(c) {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) < 0 {
			return nil, errCell
		}
		*to, b = int64(v), b[n:]
	}
	for _, f := range [...]struct {
		bit byte
		to  *element.Time
	}{{flagTimed, &c.at}, {flagHold, &c.hold}, {flagWake, &c.wake}} {
		if flags&f.bit == 0 {
			continue
		}
		if len(b) < 8 {
			return nil, errCell
		}
		*f.to, b = rows.Time(b), b[8:]
	}
	b, err := m.trigger.ParseState(b, &c.trig)
	if err == nil && len(b) > 0 {
		err = errCell
	}
	return c, err
}

func corrupt(row []byte, err error) error {
	return fault.New(fault.Corruption, "corrupt-row", "grouping state in row %x: %w", row, err)
}

// arrive takes note of a run of values. Only what comes before the end of its window, at or after the output watermark, can hold
// that watermark. Spec: WatermarkHold.addElementHold (Java runners-core).
func (m *Machine) arrive(c *cell, r *run, b bounds, env Env) {
	c.fresh += r.count
	at, timed := r.ts, r.timed
	if m.windowing.OutputTime == plan.EndOfWindow {
		at, timed = b.max, b.max >= env.OutputWatermark
	}
	if timed && !b.ended(env) {
		c.at = combine(m.windowing.OutputTime, c.at, c.timed, min(at, b.max))
		c.timed = true
	}
	m.trigger.OnElements(&c.trig, int(r.count), b.clock(env))
}

// holdFor returns the hold that the cell needs: for values the output time of their pane, which is the end of the window when they
// came too late for their own time; or, when they came too late even for that, the time until which their window is kept, so that
// what follows does not drop them; without values the output time of an empty pane that may come. Spec: WatermarkHold (Java runners-core).
func (m *Machine) holdFor(c *cell, b bounds, env Env) element.Time {
	switch {
	case c.closed:
		return never
	case c.fresh > 0 && c.timed:
		return c.at
	case c.fresh > 0 && (!b.ended(env) || c.hold <= b.max):
		return b.max
	case c.fresh > 0:
		return b.collect
	case (m.onTime || m.windowing.OnTimeAlways && b.collect == b.max) && !b.ended(env):
		return b.max
	case m.windowing.EmptyOnClose:
		return b.collect
	}
	return never
}

// setHold moves the cell's hold.
func (c *cell) setHold(tx rows.Tx, to element.Time) {
	if c.hold == to {
		return
	}
	if c.hold < never {
		tx.Hold(c.hold, -1)
	}
	if to < never {
		tx.Hold(to, +1)
	}
	c.hold = to
}

// nextPane describes the pane that the cell fires now. Spec: PaneInfoTracker.describePane (Java runners-core).
func (c *cell) nextPane(b bounds, env Env, last bool) coder.Pane {
	p := coder.Pane{First: c.panes == 0, Last: last, Index: c.panes, NonSpeculative: c.nonSpeculative}
	switch {
	case c.nonSpeculative > 0 || b.max < env.OutputWatermark:
		p.Timing = coder.Late
	case !b.ended(env):
		p.Timing, p.NonSpeculative = coder.Early, -1
	default:
		p.Timing = coder.OnTime
	}
	return p
}
