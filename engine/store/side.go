package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/internal/fault"
)

// SideRow is a run of encoded values of a side input. Key begins with the window, as rows.AppendBytes writes it; it is the suffix
// under which package bundle reads the row back. Commit adds a sequence number, so that rows of one key keep their order.
type SideRow struct {
	Edge  uint32
	Key   []byte
	Value []byte
	// End is the maximum timestamp of the window, by which Commit.SideExpired finds it; MaxTime for a window that never expires.
	End element.Time
}

// SidePane says that the rows under Scope and Pane replace those under Scope and an earlier pane: the keys of both have the pane,
// 8 bytes big endian, behind the scope. Rows of a pane that comes behind a later one are dropped.
type SidePane struct {
	Edge  uint32
	Scope []byte
	Pane  uint64
	Mixed bool // the same commit has rows of earlier panes of the scope
}

// SideExpiry says that the windows of a side input that end before a time will not be read any more.
type SideExpiry struct {
	Edge   uint32
	Before element.Time
}

// A stored row begins with whether a commit brought it, or it was written ahead of one: then the run follows that it belongs to.
const (
	sideCommitted = iota
	sideAhead
)

const runLen = 8

// sideIndex is what the committing goroutine knows of the windows of a side input that expire.
type sideIndex struct {
	windows map[string]element.Time
	next    element.Time // the earliest end among them
}

// sideRun is what a bundle has written of side inputs ahead of its commit. A row of table SideRun marks it until then, and who reads
// passes over its rows for as long.
type sideRun struct {
	id      uint64
	rows    uint64
	windows map[sideWindow]element.Time
}

type sideWindow struct {
	edge   uint32
	window string
}

// Side writes rows ahead of the commit. The first call begins the bundle's run.
func (a *Ahead) Side(rs []SideRow) error {
	batch := a.store.db.NewBatch()
	defer batch.Close()
	w := batchWriter{batch: batch}
	if a.side == nil {
		a.side = &sideRun{id: a.store.contentSeq.Add(1), windows: make(map[sideWindow]element.Time)}
		w.note(batch.Set(runKey(a.side.id), nil, nil))
	}
	for _, r := range rs {
		key := a.store.sideKey(r.Edge, r.Key)
		key = binary.BigEndian.AppendUint64(key, math.MaxUint64) // behind the rows that commits bring, whose sequence stands here
		key = binary.BigEndian.AppendUint64(key, a.side.id)
		key = binary.BigEndian.AppendUint64(key, a.side.rows)
		a.side.rows++
		value := binary.BigEndian.AppendUint64([]byte{sideAhead}, a.side.id)
		w.note(batch.Set(key, append(value, r.Value...), nil))
		a.side.windows[sideWindow{r.Edge, string(windowOf(r.Key))}] = r.End
	}
	w.note(batch.Commit(pebble.NoSync))
	if w.err != nil {
		a.store.fail(w.err)
		return fault.New(fault.Environment, "store-write", "cannot write ahead of a commit: %w", w.err)
	}
	return nil
}

// windowOf returns the beginning of a row's key that names its window.
func windowOf(key []byte) []byte {
	_, rest, ok := rows.TakeBytes(key)
	if !ok {
		return nil
	}
	return key[:len(key)-len(rest)]
}

// SideEdges lists the side inputs that the commit brings elements, or a pane without elements.
func (c *Commit) SideEdges() (edges []uint32) {
	note := func(edge uint32) {
		if !slices.Contains(edges, edge) {
			edges = append(edges, edge)
		}
	}
	for _, r := range c.Side {
		note(r.Edge)
	}
	for _, p := range c.SidePanes {
		note(p.Edge)
	}
	if c.Ahead != nil && c.Ahead.side != nil {
		for _, at := range sortedWindows(c.Ahead.side.windows) {
			note(at.edge)
		}
	}
	return edges
}

// fillSide writes what a commit does to side inputs.
func (s *Store) fillSide(w *batchWriter, c *Commit) {
	for _, r := range c.Side {
		s.sideWindow(w, s.numbers.edge(r.Edge), string(windowOf(r.Key)), r.End)
		key := s.sideKey(r.Edge, r.Key)
		w.buf = append(append(w.buf[:0], sideCommitted), r.Value...)
		w.note(w.batch.Set(binary.BigEndian.AppendUint64(key, s.nextSeq()), w.buf, nil))
	}
	if c.Ahead != nil && c.Ahead.side != nil {
		for _, at := range sortedWindows(c.Ahead.side.windows) {
			s.sideWindow(w, s.numbers.edge(at.edge), at.window, c.Ahead.side.windows[at])
		}
		w.note(w.batch.Delete(runKey(c.Ahead.side.id), nil))
	}
	for _, p := range c.SidePanes {
		w.note(s.replacePane(w.batch, p))
	}
	for _, e := range c.SideExpired {
		s.expireSide(w, e)
	}
}

// replacePane drops the rows of earlier panes, or those of the pane itself if there are rows of a later one.
func (s *Store) replacePane(batch *pebble.Batch, p SidePane) error {
	scope := s.sideKey(p.Edge, p.Scope)
	at := func(pane uint64) []byte { return binary.BigEndian.AppendUint64(scope[:len(scope):len(scope)], pane) }
	first, last := false, false
	err := scan(s.db, scope, at(p.Pane), func(_, _ []byte) (bool, error) { first = true; return false, nil })
	if err == nil && p.Pane < math.MaxUint64 {
		err = scan(s.db, at(p.Pane+1), after(scope), func(_, _ []byte) (bool, error) { last = true; return false, nil })
	}
	switch {
	case err != nil:
		return err
	case last:
		return batch.DeleteRange(scope, at(p.Pane+1), nil)
	case first || p.Mixed:
		return batch.DeleteRange(scope, at(p.Pane), nil)
	}
	return nil
}

// sideWindow makes a window known that may expire.
func (s *Store) sideWindow(w *batchWriter, number uint32, window string, end element.Time) {
	if end >= element.MaxTime {
		return
	}
	x := s.side[number]
	if x == nil {
		x = &sideIndex{windows: make(map[string]element.Time), next: element.MaxTime}
		s.side[number] = x
	}
	if _, known := x.windows[window]; known {
		return
	}
	x.windows[window] = end
	x.next = min(x.next, end)
	w.note(w.batch.Set(sideWindowKey(number, end, window), nil, nil))
}

// expireSide drops the windows that end before a time.
func (s *Store) expireSide(w *batchWriter, e SideExpiry) {
	x := s.side[s.numbers.edge(e.Edge)]
	if x == nil || x.next >= e.Before {
		return
	}
	x.next = element.MaxTime
	for window, end := range x.windows {
		if end >= e.Before {
			x.next = min(x.next, end)
			continue
		}
		delete(x.windows, window)
		from := s.sideKey(e.Edge, []byte(window))
		w.note(w.batch.DeleteRange(from, after(from), nil))
		w.note(w.batch.Delete(sideWindowKey(s.numbers.edge(e.Edge), end, window), nil))
	}
}

// NextSideExpiry returns the end of the earliest window of a side input that is kept; MaxTime when there is none. Not to be called
// while Commit runs.
func (s *Store) NextSideExpiry(edge uint32) element.Time {
	if x := s.side[s.numbers.edge(edge)]; x != nil {
		return x.next
	}
	return element.MaxTime
}

// loadSide reads which windows are kept, and removes what was written ahead of commits that did not come.
func (s *Store) loadSide() error {
	s.side = make(map[uint32]*sideIndex)
	w := batchWriter{batch: s.db.NewBatch()}
	defer w.batch.Close()
	err := s.scanTable(rows.SideWindow, func(number uint32, _ uint16, suffix, _ []byte) error {
		if len(suffix) < 8 {
			return fault.New(fault.Corruption, "store-corrupt", "a window of side input %d is malformed", number)
		}
		s.sideWindow(&w, number, string(suffix[8:]), rows.Time(suffix))
		return nil
	})
	if err != nil {
		return err
	}
	lost := make(map[uint64]bool)
	err = s.scanTable(rows.SideRun, func(_ uint32, _ uint16, suffix, _ []byte) error {
		if len(suffix) != runLen {
			return fault.New(fault.Corruption, "store-corrupt", "the mark of a run of side input rows is malformed")
		}
		lost[binary.BigEndian.Uint64(suffix)] = true
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	from, marks := []byte{byte(rows.Side)}, []byte{byte(rows.SideRun)}
	if err := s.dropRuns(lost, from, after(from)); err != nil {
		return err
	}
	return s.db.DeleteRange(marks, after(marks), pebble.NoSync)
}

// discardSide removes what a bundle has written ahead that failed.
func (a *Ahead) discardSide() error {
	if a.side == nil {
		return nil
	}
	lost := map[uint64]bool{a.side.id: true}
	for _, at := range sortedWindows(a.side.windows) {
		from := a.store.sideKey(at.edge, []byte(at.window))
		if err := a.store.dropRuns(lost, from, after(from)); err != nil {
			return err
		}
	}
	return a.store.db.Delete(runKey(a.side.id), pebble.NoSync)
}

// dropRuns deletes the rows of runs.
func (s *Store) dropRuns(lost map[uint64]bool, from, to []byte) error {
	const batchMax = 4 << 20
	batch := s.db.NewBatch()
	defer func() { _ = batch.Close() }() // whatever it holds has been committed, or nobody wants it
	err := scan(s.db, from, to, func(k, v []byte) (bool, error) {
		if run, _, ok := takeRun(v); !ok || !lost[run] {
			return true, nil
		}
		err := batch.Delete(k, nil)
		if err == nil && batch.Len() > batchMax {
			err = errors.Join(batch.Commit(pebble.NoSync), batch.Close())
			batch = s.db.NewBatch()
		}
		return true, err
	})
	if err == nil {
		err = batch.Commit(pebble.NoSync)
	}
	return err
}

// takeRun takes apart the value of a row that was written ahead; ok is false for one that a commit brought.
func takeRun(v []byte) (run uint64, values []byte, ok bool) {
	if len(v) < 1+runLen || v[0] != sideAhead {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(v[1:]), v[1+runLen:], true
}

// sortedWindows lists the windows in an order that does not change from run to run.
func sortedWindows(m map[sideWindow]element.Time) []sideWindow {
	return slices.SortedFunc(maps.Keys(m), func(a, b sideWindow) int {
		return cmp.Or(cmp.Compare(a.edge, b.edge), cmp.Compare(a.window, b.window))
	})
}

func runKey(run uint64) []byte {
	return binary.BigEndian.AppendUint64(rows.Prefix(rows.SideRun, 0, 0), run)
}

func sideWindowKey(number uint32, end element.Time, window string) []byte {
	return append(rows.AppendTime(rows.Prefix(rows.SideWindow, number, 0), end), window...)
}
