package bundle

import (
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// router takes what a stage puts out and turns it into blocks for the consumers' inboxes and rows of side inputs. It scans each
// message once for each consumer that needs more than its bytes.
type router struct {
	groups int
	added  []store.Added
	side   []store.SideRow
	count  int64 // elements put out, counted once however many consumers there are

	// Scratch of keyed splitting, reused between messages.
	marks []mark
	sizes []groupSize
}

// mark is where one element of a message goes.
type mark struct {
	end   int
	group uint16
}

// groupSize collects what one key group receives of a message.
type groupSize struct {
	bytes, at, count int
	min, max, window element.Time
}

func newRouter(groups int) *router { return &router{groups: groups} }

// write routes one message: whole encoded elements of an output. It keeps data; the caller must not change it.
func (r *router) write(o *output, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	counted := false
	for _, e := range o.edges {
		var n int
		var err error
		switch e.def.Kind {
		case plan.FIFO:
			n, err = r.fifo(e, data)
		case plan.Keyed:
			n, err = r.keyed(e, data)
		case plan.Side:
			n, err = r.sideInput(e, data)
		default:
			err = fmt.Errorf("edge %q has the unknown kind %q", e.def.Name, e.def.Kind)
		}
		if err != nil {
			return fault.New(fault.Internal, "bad-element-encoding", "output %q does not follow its coder: %w", e.def.Name, err)
		}
		if !counted {
			r.count += int64(n)
			counted = true
		}
	}
	return nil
}

// fifo keeps the message as one block.
func (r *router) fifo(e *edge, data []byte) (int, error) {
	var h store.Header
	if e.needWindow {
		h.MaxWindow = element.MinTime
		h.MinTS, h.MaxTS = element.MaxTime, element.MinTime
		err := e.scanner.Scan(data, func(el *coder.Elem) error {
			h.Count++
			h.MinTS, h.MaxTS = min(h.MinTS, el.TS), max(h.MaxTS, el.TS)
			w, err := latestWindow(e.def.Window, el)
			h.MaxWindow = max(h.MaxWindow, w)
			return err
		})
		if err != nil {
			return 0, err
		}
	} else {
		count, lo, hi, err := e.scanner.Stat(data)
		if err != nil {
			return 0, err
		}
		h = store.Header{Count: count, MinTS: lo, MaxTS: hi, MaxWindow: element.MinTime}
	}
	r.add(e, 0, h, data)
	return h.Count, nil
}

func (r *router) add(e *edge, group uint16, h store.Header, data []byte) {
	if h.Count == 0 {
		return
	}
	h.Bytes, h.Hold, h.AvailableAt = len(data), h.MinTS, element.MinTime
	r.added = append(r.added, store.Added{
		Stage: uint32(e.consumer), Group: group, Edge: uint32(e.index), Block: store.Block{Header: h, Data: data},
	})
}

// keyed splits the message by key group, in two passes over one arena: measure, then copy.
func (r *router) keyed(e *edge, data []byte) (int, error) {
	if r.sizes == nil {
		r.sizes = make([]groupSize, r.groups)
	}
	for i := range r.sizes {
		r.sizes[i] = groupSize{min: element.MaxTime, max: element.MinTime, window: element.MinTime}
	}
	r.marks = r.marks[:0]
	pos := 0
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		g := coder.KeyGroup(el.Key, r.groups)
		s := &r.sizes[g]
		s.bytes += len(el.Raw)
		s.count++
		s.min, s.max = min(s.min, el.TS), max(s.max, el.TS)
		pos += len(el.Raw)
		r.marks = append(r.marks, mark{end: pos, group: g})
		if !e.needWindow {
			return nil
		}
		w, err := latestWindow(e.def.Window, el)
		s.window = max(s.window, w)
		return err
	})
	if err != nil {
		return 0, err
	}
	arena := make([]byte, len(data))
	at := 0
	for i := range r.sizes {
		r.sizes[i].at = at
		at += r.sizes[i].bytes
	}
	from := 0
	for _, m := range r.marks {
		s := &r.sizes[m.group]
		s.at += copy(arena[s.at:], data[from:m.end])
		from = m.end
	}
	for g := range r.sizes {
		s := &r.sizes[g]
		h := store.Header{Count: s.count, MinTS: s.min, MaxTS: s.max, MaxWindow: s.window}
		r.add(e, uint16(g), h, arena[s.at-s.bytes:s.at:s.at])
	}
	return len(r.marks), nil
}

// sideInput collects the message's values by window, and by key where readers look up keys.
func (r *router) sideInput(e *edge, data []byte) (int, error) {
	at := make(map[string]int) // row key → index in r.side
	count := 0
	var key []byte
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		count++
		windows := el.Windows
		for i := 0; i < el.NWin; i++ {
			w, rest, err := coder.NextWindow(e.def.Window, windows)
			if err != nil {
				return err
			}
			windows = rest
			if w, err = window.Key(e.def.Window, w); err != nil {
				return err
			}
			key = rows.AppendBytes(key[:0], w)
			value := el.Value
			if e.access == plan.Multimap {
				key = rows.AppendBytes(key, el.Key)
				value = el.Rest()
			}
			n, ok := at[string(key)]
			if !ok {
				n = len(r.side)
				at[string(key)] = n
				r.side = append(r.side, store.SideRow{Edge: uint32(e.index), Key: append([]byte(nil), key...)})
			}
			r.side[n].Value = append(r.side[n].Value, value...)
		}
		return nil
	})
	return count, err
}

// latestWindow returns the largest maximum timestamp of an element's windows.
func latestWindow(c plan.WindowCoding, el *coder.Elem) (element.Time, error) {
	latest := element.MinTime
	rest := el.Windows
	for i := 0; i < el.NWin; i++ {
		var w []byte
		var err error
		if w, rest, err = coder.NextWindow(c, rest); err != nil {
			return 0, err
		}
		t, err := window.Max(c, w)
		if err != nil {
			return 0, err
		}
		latest = max(latest, t)
	}
	return latest, nil
}
