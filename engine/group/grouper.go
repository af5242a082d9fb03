package group

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/window"
)

// grouper gathers the values of elements by key and window (by key alone when windows merge) without copying them: a value is an
// index into the blocks, the values of a bucket are a linked list of such indices, and buckets are found by an open hash table.
type grouper struct {
	m      *Machine
	floor  element.Time // timestamps before it do not count towards a run's
	blocks [][]byte
	bytes  int // of the blocks

	entries []entry
	arrived []arrival // parallel to entries, when windows merge or elements are counted
	buckets []bucket
	table   []int32 // index of a bucket + 1; 0 is free; a power of two long

	windows    [][]byte // by id
	windowMax  []element.Time
	windowIDs  map[string]int32
	lastWindow int32

	spans []window.Span // scratch of sessions
	found []session
}

// entry is one value.
type entry struct {
	block, off, size uint32
	next             int32 // of the same run, or -1
}

// arrival is what a value needs to be looked at alone.
type arrival struct {
	span window.Span // of a session
	win  int32       // of a window that a function of the user's merges
	ts   element.Time
}

// run is a list of values, in order of arrival.
type run struct {
	head, tail int32
	count      int64
	bytes      int
	ts         element.Time // combined by the timestamp combiner
	timed      bool         // ts is set: some timestamp was at or after the floor
}

// bucket is the values of one key and window.
type bucket struct {
	run
	hash uint64
	key  []byte
	win  int32
}

const tableMin = 256

func newGrouper(m *Machine, floor element.Time) *grouper {
	return &grouper{m: m, floor: floor, table: make([]int32, tableMin), windowIDs: map[string]int32{}, lastWindow: -1}
}

// add gathers the elements of a block, which must stay unchanged.
func (g *grouper) add(block []byte) error {
	if len(block) > math.MaxUint32 {
		return fmt.Errorf("group: a block of %d bytes is too large", len(block))
	}
	g.blocks = append(g.blocks, block)
	g.bytes += len(block)
	var e coder.Elem
	for rest := block; len(rest) > 0; {
		at := len(block) - len(rest)
		var err error
		if rest, err = g.m.scanner.Next(rest, &e); err != nil {
			return fmt.Errorf("element at byte %d of %d: %w", at, len(block), err)
		}
		size := len(e.Value) - len(e.Key)
		v := entry{block: uint32(len(g.blocks) - 1), off: uint32(at + len(e.Raw) - size), size: uint32(size), next: -1}
		hash := coder.Hash(e.Key)
		windows := e.Windows
		for range e.NWin {
			var win []byte
			if win, windows, err = coder.NextWindow(g.m.windowing.Coding, windows); err != nil {
				return err
			}
			if err = g.place(&e, hash, win, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// place puts a value into the bucket of its key and window.
func (g *grouper) place(e *coder.Elem, hash uint64, win []byte, v entry) error {
	var id int32
	var span window.Span
	var err error
	if g.m.merging && !g.m.custom {
		span, err = window.ParseSpan(win)
	} else {
		id, err = g.intern(win)
	}
	if err != nil {
		return err
	}
	if g.m.merging || g.m.byElement {
		g.arrived = append(room(g.arrived), arrival{span, id, e.TS})
	}
	if g.m.merging {
		id = 0 // one bucket a key
	}
	g.entries = append(room(g.entries), v)
	b := g.bucket(e.Key, hash, id)
	g.push(&b.run, int32(len(g.entries)-1), e.TS)
	return nil
}

// push appends an entry to a run.
func (g *grouper) push(r *run, i int32, ts element.Time) {
	if r.count == 0 {
		r.head = i
	} else {
		g.entries[r.tail].next = i
	}
	r.tail = i
	g.entries[i].next = -1
	r.count++
	r.bytes += int(g.entries[i].size)
	if ts >= g.floor {
		r.combine(g.m.windowing.OutputTime, ts)
	}
}

// combine adds a timestamp to those of the run.
func (r *run) combine(how plan.OutputTime, ts element.Time) {
	r.ts = combine(how, r.ts, r.timed, ts)
	r.timed = true
}

// combine is the timestamp combiner; the end of a window is its caller's business.
func combine(how plan.OutputTime, old element.Time, timed bool, ts element.Time) element.Time {
	switch {
	case !timed:
		return ts
	case how == plan.Latest:
		return max(old, ts)
	default:
		return min(old, ts)
	}
}

// intern returns the id of a window.
func (g *grouper) intern(win []byte) (int32, error) {
	if g.lastWindow >= 0 && bytes.Equal(g.windows[g.lastWindow], win) {
		return g.lastWindow, nil
	}
	id, ok := g.windowIDs[string(win)]
	if !ok {
		maxTS, err := window.Max(g.m.windowing.Coding, win)
		if err != nil {
			return 0, err
		}
		id = int32(len(g.windows))
		g.windows = append(g.windows, win)
		g.windowMax = append(g.windowMax, maxTS)
		g.windowIDs[string(win)] = id
	}
	g.lastWindow = id
	return id, nil
}

// bucket finds or adds the bucket of a key and window. The pointer is valid until the next call.
func (g *grouper) bucket(key []byte, hash uint64, win int32) *bucket {
	hash ^= uint64(win) * 0x9e3779b97f4a7c15 // the golden ratio spreads the windows of a key
	mask := uint64(len(g.table) - 1)
	for slot := hash & mask; ; slot = (slot + 1) & mask {
		i := g.table[slot] - 1
		if i < 0 {
			g.buckets = append(room(g.buckets), bucket{hash: hash, key: key, win: win})
			g.table[slot] = int32(len(g.buckets))
			if len(g.buckets) > len(g.table)/2 {
				g.grow()
			}
			return &g.buckets[len(g.buckets)-1]
		}
		if b := &g.buckets[i]; b.hash == hash && b.win == win && bytes.Equal(b.key, key) {
			return b
		}
	}
}

// room doubles a full slice: append's growth by a quarter copies a long one four times.
func room[T any](s []T) []T {
	if len(s) < cap(s) {
		return s
	}
	return slices.Grow(s, max(64, cap(s)))
}

// footprint estimates the memory that the grouper holds on to.
func (g *grouper) footprint() int {
	const entrySize, arrivalSize, bucketSize, windowSize = 16, 32, 80, 160
	return g.bytes + cap(g.entries)*entrySize + cap(g.arrived)*arrivalSize + cap(g.buckets)*bucketSize +
		len(g.windows)*windowSize + len(g.table)*4
}

func (g *grouper) grow() {
	g.table = make([]int32, 4*len(g.table))
	mask := uint64(len(g.table) - 1)
	for i := range g.buckets {
		slot := g.buckets[i].hash & mask
		for g.table[slot] != 0 {
			slot = (slot + 1) & mask
		}
		g.table[slot] = int32(i + 1)
	}
}

// value returns the value of an entry.
func (g *grouper) value(i int32) []byte {
	e := &g.entries[i]
	return g.blocks[e.block][e.off : e.off+e.size]
}

// emit adds the values of a run to the pane in hand.
func (g *grouper) emit(out *Output, r *run) error {
	for i := r.head; r.count > 0 && i >= 0; i = g.entries[i].next {
		if err := out.add(g.value(i)); err != nil {
			return err
		}
	}
	return nil
}

// session is the values of one key that went into one merged window.
type session struct {
	run
	win []byte
	max element.Time
}

// sessions splits the values of a bucket by merged span, in order of their starts. known are spans that take part without values:
// into maps each of them to its session. The bucket's run is used up; found is valid until the next call.
func (g *grouper) sessions(b *bucket, known []window.Span) (found []session, into []int) {
	spans := append(g.spans[:0], known...)
	for i := b.head; b.count > 0 && i >= 0; i = g.entries[i].next {
		spans = append(spans, g.arrived[i].span)
	}
	g.spans = spans
	merged, into := window.Merge(spans)
	found = g.found[:0]
	for _, span := range merged {
		found = append(found, session{win: span.Append(nil), max: span.Max()})
	}
	g.found = found
	next := b.head
	for _, s := range into[len(known):] {
		i := next
		next = g.entries[i].next
		g.push(&found[s].run, i, g.arrived[i].ts)
	}
	return found, into[:len(known)]
}
