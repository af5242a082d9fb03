package group

import (
	"bytes"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// When accumulators are merged. A cell that puts out panes again and again does so with what it keeps, so it is worth a merge as soon
// as it has put out one and has got some more; the merge costs about what the pane did. A cell that only gathers is merged when it
// has doubled: merging all of it then costs, over its life, a small multiple of what it got, even if accumulators do not get smaller.
var usual = thresholds{count: 16, bytes: 1 << 20}

// thresholds say when a cell is stale.
type thresholds struct{ count, bytes int64 }

const (
	// compactBytesMax bounds the accumulators of a key and window that are merged: they are one element to the SDK. What has more,
	// after merging, is of a combine that keeps everything; its values are put out as they came.
	compactBytesMax = 64 << 20
	// compactBatchBytes is the size from which accumulators are merged before more of them are read.
	compactBatchBytes = 8 << 20
)

// Accumulators are those of one key and window.
type Accumulators struct {
	Key    []byte // encoded nested
	Count  int64
	Values []byte // encoded nested, one after the other
}

// Combiner merges the accumulators of each set, and returns one accumulator for each.
type Combiner func(sets []Accumulators) ([][]byte, error)

// Stale is a key and window with more accumulators than is good.
type Stale struct {
	tx       rows.Tx
	key, win []byte
}

// stale reports whether the cell's accumulators should be merged.
func (m *Machine) stale(c *cell) bool {
	added, grown := c.stored-c.baseCount, c.bytes-c.baseBytes
	return !c.closed && added > 0 && c.stored > 1 && c.bytes <= compactBytesMax &&
		(c.fired && added >= m.staleAt.count || grown >= max(m.staleAt.bytes, c.baseBytes))
}

func (x *call) noteStale(c *cell, key, win []byte) {
	if x.compacts && x.stale(c) {
		x.out.Stale = append(x.out.Stale, Stale{x.tx, bytes.Clone(key), bytes.Clone(win)})
	}
}

// Compact replaces the accumulators of each stale key and window by one that merge makes of them. It is called once for a bundle,
// after all calls of Process and Timers, with what their outputs have noted. What a window keeps, and puts out if it accumulates, then
// hangs on the size of an accumulator and not on how many elements it has seen.
func (m *Machine) Compact(stale []Stale, merge Combiner) error {
	for len(stale) > 0 {
		var cells []compacted
		var sets []Accumulators
		for size := 0; len(stale) > 0 && size < compactBatchBytes; stale = stale[1:] {
			x := &compacted{call{Machine: m, tx: stale[0].tx}, stale[0].key, stale[0].win}
			values, count, err := x.read()
			if err != nil {
				return err
			}
			if count < 2 {
				continue // it has gone, or stands in the list twice
			}
			cells = append(cells, *x)
			sets = append(sets, Accumulators{Key: x.key, Count: count, Values: values})
			size += len(values)
		}
		if len(sets) == 0 {
			continue
		}
		merged, err := merge(sets)
		if err == nil && len(merged) != len(sets) {
			err = fault.New(fault.Internal, "accumulator-merge", "%d sets of accumulators were merged, not %d", len(merged), len(sets))
		}
		if err != nil {
			return err
		}
		for i := range cells {
			if err := cells[i].replace(merged[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// compacted is a cell whose accumulators are being merged.
type compacted struct {
	call
	key, win []byte
}

// with calls fn with the cell, if it is there, and, when fn changes it, writes its row.
func (x *compacted) with(fn func(c *cell, p *place) (changed bool, err error)) error {
	if x.merging {
		return x.withSession(fn)
	}
	row := cellRow(x.key, x.win)
	c, err := x.loadCell(row)
	if err != nil || c == nil {
		return err
	}
	changed, err := fn(c, x.placeOf(x.key, x.win, bounds{}))
	if err == nil && changed {
		x.saveCell(c, row)
	}
	return err
}

func (x *compacted) withSession(fn func(c *cell, p *place) (changed bool, err error)) error {
	ks, err := x.loadSessions(x.key)
	if err != nil {
		return err
	}
	for i := range ks.live {
		l := &ks.live[i]
		if !bytes.Equal(l.win, x.win) {
			continue
		}
		changed, err := fn(l.cell, x.placeOfSession(x.key, l))
		if err != nil || !changed {
			return err
		}
		l.addresses = l.addresses[:1]
		return x.saveSessions(x.key, ks)
	}
	return nil
}

// read returns the accumulators of the cell, or none when they need not be merged.
func (x *compacted) read() (values []byte, count int64, err error) {
	err = x.with(func(c *cell, p *place) (bool, error) {
		if !x.stale(c) {
			return false, nil
		}
		count = c.stored
		values = make([]byte, 0, c.bytes)
		return false, x.eachStored(p.stores, func(value []byte) error {
			values = append(values, value...)
			return nil
		})
	})
	return values, count, err
}

// replace puts one accumulator in the place of all.
func (x *compacted) replace(value []byte) error {
	return x.with(func(c *cell, p *place) (bool, error) {
		x.discard(c, p)
		if len(value) > 0 {
			x.tx.Set(rows.Group, chunkRow(p.stores[0], 0), value)
		}
		c.stored, c.baseCount = 1, 1
		c.chunkBytes, c.bytes, c.baseBytes = int64(len(value)), int64(len(value)), int64(len(value))
		return true, nil
	})
}
