package bundle

import (
	"fmt"
	"math"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/window"
	"padstone/internal/buffers"
	"padstone/internal/fault"
)

// router takes what a stage puts out and turns it into blocks for the consumers' inboxes and rows of side inputs. It scans each
// message once for each consumer that needs more than its bytes.
type router struct {
	groups int
	added  []store.Added
	sides  sideRows
	count  int64        // elements put out, counted once however many consumers there are
	bytes  int          // of the blocks in added
	held   *held        // of them; nil: no bound
	ahead  *store.Ahead // takes blocks that are large, or many; nil: they are kept, however many
	kept   bool         // set when something is kept of what was given to write
	most   int          // elements of a block for a harness, as bundles take blocks whole; 0: no bound
	aside  *aside       // of the bundle
	// counted are elements by collection that no harness counts, and unmerged those that a table might have merged.
	counted  map[string]int64
	unmerged unmerged

	// Scratch of keyed splitting, reused between messages.
	marks []mark
	sizes []groupSize
}

// unmerged is what a bundle without tables has put out that other bundles would have merged.
type unmerged struct{ count, bytes int64 }

// mark is where one element of a message goes.
type mark struct {
	end   int
	group uint16
}

// groupSize collects what one key group receives of a message.
type groupSize struct {
	bytes, at, count int
	work             float64 // sizes of restrictions
	min, max, window element.Time
}

func (s *groupSize) header() store.Header {
	return store.Header{Count: s.count, MinTS: s.min, MaxTS: s.max, MaxWindow: s.window, Size: s.work}
}

func newRouter(groups int) *router { return &router{groups: groups} }

// newRouter returns the router of a bundle. What comes of one event of a script stays together.
func (r *Runner) newRouter() *router {
	rt := newRouter(r.Job.Plan.KeyGroups)
	if scripted := r.Wall != nil; !scripted {
		rt.most = int(r.ElementsMax.Load())
	}
	return rt
}

// writeAhead has the router write ahead what is too much to keep until the commit.
func (r *router) writeAhead(ahead *store.Ahead, h *held) {
	r.ahead, r.held = ahead, h
}

// write routes one message: whole encoded elements of an output. It keeps data if it sets kept; the caller must not change it then.
func (r *router) write(o *output, data []byte) error { return r.writeBacked(o, data, nil) }

// writeBacked is write for elements some of which have their values in contents. Consumers that cannot read those get them inline.
func (r *router) writeBacked(o *output, data []byte, backed []group.Backed) error {
	if len(data) == 0 {
		return nil
	}
	for i, e := range o.edges {
		n, err := r.send(e, data, backed)
		if err != nil && fault.Of(err) == nil {
			err = fault.New(fault.Internal, "bad-element-encoding", "output %q does not follow its coder: %w", e.def.Name, err)
		}
		if err != nil {
			return err
		}
		if i == 0 {
			r.count += int64(n)
		}
	}
	return nil
}

// send routes one message to one consumer and returns the number of its elements.
func (r *router) send(e *edge, data []byte, backed []group.Backed) (int, error) {
	if e.assigner != nil { // compiled for no output that has values in contents
		return r.assign(e, data)
	}
	return r.sendOn(e, data, backed)
}

// sendOn sends a message in its windows.
func (r *router) sendOn(e *edge, data []byte, backed []group.Backed) (int, error) {
	if len(backed) > 0 && !e.def.StateBacked && !e.def.Grouped {
		var err error
		if data, err = r.inline(e, data, backed); err != nil {
			return 0, err
		}
		backed = nil
	}
	switch e.def.Kind {
	case plan.FIFO:
		return r.fifo(e, data, backed)
	case plan.Keyed:
		return r.keyed(e, data, backed)
	case plan.Side:
		r.kept = true
		return r.sideInput(e, data, backed)
	default:
		return 0, fmt.Errorf("edge %q has the unknown kind %q", e.def.Name, e.def.Kind)
	}
}

// fifo keeps the message as one block.
func (r *router) fifo(e *edge, data []byte, backed []group.Backed) (int, error) {
	if e.sized && len(backed) == 0 {
		return r.restrictions(e, data)
	}
	if e.needWindow {
		return r.windowed(e, data, backed)
	}
	shared := e.shared && len(backed) == 0
	if shared && len(data) > 2*blockBytes && !e.def.Spread {
		return r.share(e, data, math.MaxInt)
	}
	count, lo, hi, err := e.scanner.Stat(data)
	if err != nil {
		return 0, err
	}
	if shared && (e.def.Spread || count > e.blockCount()) {
		return r.share(e, data, count)
	}
	h := store.Header{Count: count, MinTS: lo, MaxTS: hi, MaxWindow: element.MinTime}
	var refs []rows.ContentID
	for _, b := range backed {
		refs = append(refs, b.Content)
	}
	return h.Count, r.add(e, 0, h, data, refs)
}

// holdOf returns the watermark that elements hold of which minTS is the earliest timestamp. The Python SDK rounds microseconds towards
// zero: before 1970 the last moment of a window becomes the first one behind it, and the window would seem to be over before its elements.
// Spec: python coder_impl.py TimestampCoderImpl; WindowedValueCoderImpl.
func holdOf(minTS element.Time) element.Time {
	if minTS <= 0 {
		return minTS.Add(-1)
	}
	return minTS
}

// Blocks that a bundle keeps until its commit go through the log and the tables of the store, which is quickest for small ones. Others are
// written ahead.
const (
	bulkBytesMin   = 256 << 10 // a block of such a length is written ahead
	keptBytesMin   = 1 << 20   // of a bundle that keeps so much already
	mediumBytesMin = 16 << 10  // also a block of this length is
	blocksBytesMax = 16 << 20  // a bundle keeps no more than this
)

// isAhead says whether a block is to be written ahead.
func (r *router) isAhead(n int) bool {
	return r.ahead != nil &&
		(n >= bulkBytesMin || n >= mediumBytesMin && r.bytes >= keptBytesMin || r.bytes+n > blocksBytesMax || !r.held.try(n))
}

func (r *router) add(e *edge, group uint16, h store.Header, data []byte, refs []rows.ContentID) error {
	switch {
	case h.Count == 0:
		return nil
	case e.bundled && r.most > 0 && h.Count > r.most:
		return r.addInParts(e, group, data, refs)
	}
	h.Bytes, h.Hold, h.AvailableAt = len(data), holdOf(h.MinTS), element.MinTime
	b := store.Block{Header: h, Data: data, Refs: refs}
	if r.isAhead(len(data)) {
		from := r.aside.now()
		body := r.ahead.New()
		err := body.Append(data)
		if r.aside.add(toAhead, from); err != nil {
			return err
		}
		b.Data, b.Body = nil, body.ID()
	} else {
		r.bytes += len(data)
		r.kept = true
	}
	r.added = append(r.added, store.Added{Stage: uint32(e.consumer), Group: group, Edge: uint32(e.index), Block: b})
	return nil
}

// inline returns the elements with all values inline.
func (r *router) inline(e *edge, data []byte, backed []group.Backed) ([]byte, error) {
	size := int64(len(data))
	for _, b := range backed {
		if size += b.Bytes; b.Bytes > group.InlineBytesLimit {
			return nil, group.TooLong()
		}
	}
	out := make([]byte, 0, size)
	at := 0
	for _, b := range backed {
		var el coder.Elem
		rest, err := e.scanner.Next(data[b.At:], &el)
		if err != nil {
			return nil, err
		}
		out = append(out, data[at:b.At+len(el.Raw)-len(el.Rest())]...)
		out = group.AppendIterable(out, nil, b.Count) // so many bytes hold no more values than a length can tell
		for page := range b.Pages {
			values, err := r.ahead.Page(b.Content, page)
			if err != nil {
				return nil, err
			}
			out = append(out, values...)
		}
		at = len(data) - len(rest)
	}
	return append(out, data[at:]...), nil
}

// keyed splits the message by key group, in two passes over one arena: measure, then copy.
func (r *router) keyed(e *edge, data []byte, backed []group.Backed) (int, error) {
	if r.sizes == nil {
		r.sizes = make([]groupSize, r.groups)
	}
	for i := range r.sizes {
		r.sizes[i] = groupSize{min: element.MaxTime, max: element.MinTime, window: element.MinTime}
	}
	r.marks = r.marks[:0]
	var refs map[uint16][]rows.ContentID
	if len(backed) > 0 {
		refs = make(map[uint16][]rows.ContentID)
	}
	pos := 0
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		g := coder.KeyGroup(el.Key, r.groups)
		if len(backed) > 0 && backed[0].At == pos {
			refs[g] = append(refs[g], backed[0].Content)
			backed = backed[1:]
		}
		s := &r.sizes[g]
		s.bytes += len(el.Raw)
		s.count++
		s.work += e.sizeOf(el.Raw)
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
	if g := r.marks; len(g) > 0 && r.sizes[g[0].group].count == len(g) { // a large element comes alone
		return len(g), r.add(e, g[0].group, r.sizes[g[0].group].header(), data, refs[g[0].group])
	}
	lent := buffers.Get(len(data))
	arena := lent.Bytes()
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
	kept := r.kept
	r.kept = false
	for g := range r.sizes {
		s := &r.sizes[g]
		if err := r.add(e, uint16(g), s.header(), arena[s.at-s.bytes:s.at:s.at], refs[uint16(g)]); err != nil {
			return 0, err
		}
	}
	if !r.kept {
		lent.Release()
	}
	r.kept = kept
	return len(r.marks), nil
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
