package bundle

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/window"
)

const (
	// sideBytesMax bounds the side input rows that a bundle keeps until its commit. They are written ahead beyond that.
	sideBytesMax = 4 << 20
	// sideRowBytes is the size from which values go into a new row: a page of a state response ends between rows.
	sideRowBytes = 256 << 10
)

// sideRows collects what a bundle puts into side inputs, as rows: values by window, and by key where readers look up keys.
//
// The key of a row is window, pane, key: the key only where readers look up keys, the pane only where readers see the newest one,
// and behind the key where it is the newest of each key.
type sideRows struct {
	rows  []store.SideRow
	open  map[sideKey]int // the row that takes more values
	bytes int
	panes map[sideKey]*store.SidePane // the newest of each scope
	key   []byte                      // scratch: of the row in hand
}

// sideKey is a row's key, or a scope of panes, of an edge.
type sideKey struct {
	edge uint32
	key  string
}

// sideInput takes one message for a side input.
func (r *router) sideInput(e *edge, data []byte, backed []group.Backed) (int, error) {
	if r.sides.open == nil {
		r.sides.open, r.sides.panes = make(map[sideKey]int), make(map[sideKey]*store.SidePane)
	}
	count, pos := 0, 0
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		count++
		var in *group.Backed
		if len(backed) > 0 && backed[0].At == pos {
			in, backed = &backed[0], backed[1:]
		}
		pos += len(el.Raw)
		pane, err := sidePane(e, el)
		if err != nil {
			return err
		}
		windows := el.Windows
		for range el.NWin {
			w, rest, err := coder.NextWindow(e.def.Window, windows)
			if err != nil {
				return err
			}
			windows = rest
			if err := r.sideElement(e, el, w, pane, in); err != nil {
				return err
			}
		}
		return nil
	})
	return count, err
}

// sidePane returns the index of an element's pane where it matters.
func sidePane(e *edge, el *coder.Elem) (uint64, error) {
	if e.def.Panes == plan.AllPanes {
		return 0, nil
	}
	pane, _, err := coder.DecodePane(el.Pane)
	return uint64(max(pane.Index, 0)), err
}

// sideElement takes an element in one of its windows: a value, or, from a grouping that the compiler has put there, many of them.
func (r *router) sideElement(e *edge, el *coder.Elem, w []byte, pane uint64, backed *group.Backed) error {
	named, err := window.Key(e.def.Window, w)
	if err != nil {
		return err
	}
	end := element.MaxTime
	if e.def.Window == plan.IntervalWindow { // a global window does not end, and of a custom one the mapping is not known
		if end, err = window.Max(e.def.Window, w); err != nil {
			return err
		}
	}
	if !e.def.Grouped {
		return r.sideValue(e, named, end, pane, el.Value, el.Key)
	}
	if e.def.Panes == plan.WindowPane { // also of a pane without values
		r.sides.key = rows.AppendBytes(r.sides.key[:0], named)
		r.sides.newest(e, r.sides.key, pane)
	}
	_, iterable, _ := e.value.KV()
	value := iterable.Element()
	if backed == nil {
		return eachValue(value, el.Rest(), func(v []byte) error { return r.sideValue(e, named, end, pane, v, e.keyOf(v)) })
	}
	for page := range backed.Pages {
		values, err := r.ahead.Page(backed.Content, page)
		if err != nil {
			return err
		}
		for len(values) > 0 {
			n, err := value.Len(values)
			if err != nil {
				return err
			}
			v := values[:n]
			if err := r.sideValue(e, named, end, pane, v, e.keyOf(v)); err != nil {
				return err
			}
			values = values[n:]
		}
	}
	return nil
}

// keyOf returns the key of a grouped value where readers look up keys.
func (e *edge) keyOf(v []byte) []byte {
	if e.sideKey == nil {
		return nil
	}
	n, err := e.sideKey.Len(v)
	if err != nil {
		return nil // the value has been framed already
	}
	return v[:n]
}

// eachValue calls fn for the values of an iterable, with or without a length.
func eachValue(value *coder.Program, b []byte, fn func(v []byte) error) error {
	if len(b) < 4 {
		return fmt.Errorf("%w: iterable", coder.ErrMalformed)
	}
	count := int64(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	for chunked := count < 0; ; {
		if chunked {
			chunk, n := binary.Uvarint(b)
			if n <= 0 {
				return fmt.Errorf("%w: iterable", coder.ErrMalformed)
			}
			count, b = int64(chunk), b[n:]
		}
		for range count {
			n, err := value.Len(b)
			if err != nil {
				return err
			}
			if err := fn(b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		if !chunked || count <= 0 {
			return nil
		}
	}
}

// sideValue appends a value to its row. key is a prefix of it where readers look up keys.
func (r *router) sideValue(e *edge, window []byte, end element.Time, pane uint64, value, key []byte) error {
	s := &r.sides
	s.key = rows.AppendBytes(s.key[:0], window)
	if e.def.Panes == plan.WindowPane {
		if !s.newest(e, s.key, pane) {
			return nil
		}
		s.key = binary.BigEndian.AppendUint64(s.key, pane)
	}
	if e.access == plan.Multimap {
		s.key = rows.AppendBytes(s.key, key)
		value = value[len(key):]
	}
	if e.def.Panes == plan.KeyPane {
		if !s.newest(e, s.key, pane) {
			return nil
		}
		s.key = binary.BigEndian.AppendUint64(s.key, pane)
	}
	s.append(uint32(e.index), end, value)
	if r.ahead == nil || s.bytes <= sideBytesMax {
		return nil
	}
	err := r.ahead.Side(s.rows)
	s.rows, s.bytes = nil, 0
	clear(s.open)
	return err
}

// append appends a value to the row of the key in hand.
func (s *sideRows) append(edge uint32, end element.Time, value []byte) {
	const overhead = 128 // of a row that is kept
	n, ok := s.open[sideKey{edge, string(s.key)}]
	if !ok {
		n = len(s.rows)
		id := sideKey{edge, string(s.key)}
		s.open[id] = n
		s.rows = append(s.rows, store.SideRow{Edge: edge, Key: []byte(id.key), End: end})
		s.bytes += 2*len(id.key) + overhead
	}
	row := &s.rows[n]
	if need := len(row.Value) + len(value); need > cap(row.Value) && need > sideRowBytes/16 && need < sideRowBytes { // it becomes a full one
		row.Value = append(make([]byte, 0, sideRowBytes+2*len(value)), row.Value...)
	}
	row.Value = append(row.Value, value...)
	s.bytes += len(value)
	if len(row.Value) >= sideRowBytes {
		delete(s.open, sideKey{edge, string(s.key)})
	}
}

// newest notes a pane of a scope, and says whether no later one has been seen.
func (s *sideRows) newest(e *edge, scope []byte, pane uint64) bool {
	p := s.panes[sideKey{uint32(e.index), string(scope)}]
	switch {
	case p == nil:
		id := sideKey{uint32(e.index), string(scope)}
		s.panes[id] = &store.SidePane{Edge: id.edge, Scope: []byte(id.key), Pane: pane}
	case pane < p.Pane:
		return false
	case pane > p.Pane:
		p.Pane, p.Mixed = pane, true
	}
	return true
}

// fill puts what was routed into the bundle's commit.
func (r *router) fill(c *store.Commit) {
	c.Added, c.Side = append(c.Added, r.added...), r.sides.rows
	for _, p := range r.sides.panes {
		c.SidePanes = append(c.SidePanes, *p)
	}
}

// windowRuns bounds the blocks that a message is cut into by window.
const windowRuns = 32

// windowed makes blocks of a message for a consumer that waits for side inputs by window. Where the windows do not become ready all at
// once, elements of early windows do not share a block with those of later ones, which they would have to wait for.
func (r *router) windowed(e *edge, data []byte, backed []group.Backed) (int, error) {
	var all []windowedElement
	distinct := make(map[element.Time]bool)
	pos := 0
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		w, err := latestWindow(e.def.Window, el)
		x := windowedElement{from: pos, to: pos + len(el.Raw), at: el.TS, window: w}
		if pos = x.to; len(backed) > 0 && backed[0].At == x.from {
			x.refs = []rows.ContentID{backed[0].Content}
			backed = backed[1:]
		}
		distinct[w] = true
		all = append(all, x)
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(distinct) == 1 || !e.byWindow {
		return len(all), r.addRun(e, data, all, true)
	}
	slices.SortStableFunc(all, func(a, b windowedElement) int { return cmp.Compare(a.window, b.window) })
	most := len(all) / windowRuns // a run ends between windows, and is not short for nothing where there are many
	if len(distinct) <= windowRuns {
		most = 0
	}
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && (all[to].window == all[to-1].window || to-from < most) {
			to++
		}
		if err := r.addRun(e, data, all[from:to], false); err != nil {
			return 0, err
		}
		from = to
	}
	return len(all), nil
}

// windowedElement is an element of a message, with its latest window.
type windowedElement struct {
	from, to   int
	at, window element.Time
	refs       []rows.ContentID
}

// addRun adds a block of some elements of a message, or of the whole of it.
func (r *router) addRun(e *edge, data []byte, run []windowedElement, whole bool) error {
	h := store.Header{Count: len(run), MinTS: element.MaxTime, MaxTS: element.MinTime, MaxWindow: element.MinTime}
	var part []byte
	var refs []rows.ContentID
	for _, x := range run {
		h.MinTS, h.MaxTS, h.MaxWindow = min(h.MinTS, x.at), max(h.MaxTS, x.at), max(h.MaxWindow, x.window)
		refs = append(refs, x.refs...)
		if !whole {
			part = append(part, data[x.from:x.to]...)
		}
	}
	if whole {
		part = data
	}
	return r.add(e, 0, h, part, refs)
}
