package group

import (
	"encoding/binary"
	"errors"

	"padstone/engine/coder"
	"padstone/engine/rows"
)

// chunkBytesMax bounds a row of values: a longer one begins a new row.
const chunkBytesMax = 64 << 10

// call is one call of the machine.
type call struct {
	*Machine
	tx  rows.Tx
	env Env
	out *Output
	g   *grouper // nil when only timers are handled
	row []byte   // scratch for the encoding of a row
}

// place names a key and window: where its cell's values are kept and what stands in its panes.
type place struct {
	key    []byte
	win    []byte
	bounds bounds
	stores [][]byte // prefixes of the rows of its values; values are appended to the first
}

// take adds the values of a run to the cell and fires what they make ready.
func (x *call) take(c *cell, p *place, r *run) error {
	if x.env.Deferred {
		x.arrive(c, r, p.bounds, x.env)
		x.store(c, p, r)
		return nil
	}
	if !x.byElement {
		x.arrive(c, r, p.bounds, x.env)
		return x.evaluate(c, p, r)
	}
	var pending run // values that have arrived and are neither fired nor stored
	for i, left := r.head, r.count; left > 0; left-- {
		next, ts := x.g.entries[i].next, x.g.arrived[i].ts
		var one run
		x.g.push(&one, i, ts)
		x.arrive(c, &one, p.bounds, x.env)
		x.g.push(&pending, i, ts)
		if x.trigger.ShouldFire(&c.trig, p.bounds.clock(x.env)) {
			if err := x.evaluate(c, p, &pending); err != nil {
				return err
			}
			pending = run{}
		}
		if c.closed {
			x.out.DroppedClosed += left - 1
			return nil
		}
		i = next
	}
	if pending.count == 0 {
		return nil
	}
	return x.evaluate(c, p, &pending)
}

// evaluate fires a pane if the trigger is ready. pending are values that are not stored yet, or nil; it stores what has to stay.
func (x *call) evaluate(c *cell, p *place, pending *run) error {
	c.ended = c.ended || p.bounds.ended(x.env)
	if clock := p.bounds.clock(x.env); x.trigger.ShouldFire(&c.trig, clock) {
		x.trigger.OnFire(&c.trig, clock)
		finished := x.trigger.Finished(&c.trig)
		if err := x.emit(c, p, pending, finished); err != nil {
			return err
		}
		if finished || !x.windowing.Accumulating {
			x.discard(c, p)
			pending = nil
		}
		c.closed = finished
	}
	if pending != nil {
		x.store(c, p, pending)
	}
	return nil
}

// evaluateDeferred evaluates a trigger that was put off, as if all elements had just come.
func (x *call) evaluateDeferred(c *cell, p *place) error {
	if !x.env.Deferred || c.closed {
		return nil
	}
	end := x.env
	x.env = Collecting()
	defer func() { x.env = end }()
	return x.evaluate(c, p, nil)
}

// emit emits a pane if it has values, or if an empty one is asked for, and makes the cell's values old.
// Spec: ReduceFnRunner.needToEmit (Java runners-core).
func (x *call) emit(c *cell, p *place, pending *run, last bool) error {
	pane := c.nextPane(p.bounds, x.env, last)
	wanted := c.fresh > 0 ||
		pane.Timing == coder.OnTime && (x.onTime || x.windowing.OnTimeAlways) ||
		last && x.windowing.EmptyOnClose
	ts := p.bounds.max
	if c.timed {
		ts = c.at
	}
	c.fresh, c.timed, c.at = 0, false, 0
	if !wanted {
		return nil
	}
	c.panes++
	c.fired = x.compacts
	if pane.Timing != coder.Early {
		c.nonSpeculative++
	}
	count := c.stored
	if pending != nil {
		count += pending.count
	}
	x.out.begin()
	if c.stored > 0 {
		if err := x.emitStored(p.stores); err != nil {
			return err
		}
	}
	if pending != nil {
		if err := x.g.emit(x.out, pending); err != nil {
			return err
		}
	}
	return x.out.end(ts, p.win, pane, p.key, count)
}

// emitStored adds the values at the prefixes to the pane in hand. They are copied: a pane outlives its rows.
func (x *call) emitStored(stores [][]byte) error { return x.eachStored(stores, x.out.add) }

// eachStored calls fn with the rows of values at the prefixes.
func (x *call) eachStored(stores [][]byte, fn func(values []byte) error) error {
	for _, prefix := range stores {
		var failed error
		err := x.tx.Scan(rows.Group, prefix, nil, func(_, value []byte) bool {
			failed = fn(value)
			return failed == nil
		})
		if err != nil || failed != nil {
			return errors.Join(err, failed)
		}
	}
	return nil
}

// store appends values to the cell's rows, none of which is longer than chunkBytesMax but for the sake of a single value.
func (x *call) store(c *cell, p *place, r *run) {
	x.row = x.row[:0]
	for i := r.head; r.count > 0 && i >= 0; i = x.g.entries[i].next {
		v := x.g.value(i)
		if full := c.chunkBytes + int64(len(x.row)); full > 0 && full+int64(len(v)) > chunkBytesMax {
			x.storeRow(c, p)
			c.chunk++
			c.chunkBytes = 0
		}
		x.row = append(x.row, v...)
	}
	x.storeRow(c, p)
	c.stored += r.count
	c.bytes += int64(r.bytes)
}

// storeRow appends the values in x.row to the cell's last row.
func (x *call) storeRow(c *cell, p *place) {
	if len(x.row) == 0 {
		return
	}
	key := chunkRow(p.stores[0], c.chunk)
	if c.chunkBytes == 0 {
		x.tx.Set(rows.Group, key, x.row)
	} else {
		x.tx.Merge(rows.Group, key, x.row)
	}
	c.chunkBytes += int64(len(x.row))
	x.row = x.row[:0]
}

// chunkRow returns the suffix of a row of values. The result may share memory with the store's prefix and the next result.
func chunkRow(store []byte, chunk int64) []byte {
	return binary.BigEndian.AppendUint64(store, uint64(chunk))
}

// discard deletes the cell's values: row by row while they are few, as a store pays dearly for many small deleted ranges.
func (x *call) discard(c *cell, p *place) {
	const rowsMax = 16
	switch {
	case c.stored == 0:
		return
	case len(p.stores) == 1 && c.chunk < rowsMax:
		for chunk := range c.chunk + 1 {
			x.tx.Delete(rows.Group, chunkRow(p.stores[0], chunk))
		}
	default:
		for _, prefix := range p.stores {
			x.tx.DeletePrefix(rows.Group, prefix)
		}
	}
	c.stored, c.chunk, c.chunkBytes = 0, 0, 0
	c.bytes, c.baseCount, c.baseBytes, c.fired = 0, 0, 0, false
}

// final emits what is left when a window expires, as its last pane. The caller deletes the rows.
func (x *call) final(c *cell, p *place) error {
	if c.closed {
		return nil
	}
	return x.emit(c, p, nil, true)
}
