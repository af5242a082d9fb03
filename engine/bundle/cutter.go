package bundle

import (
	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/store"
)

// Elements of a message that any process may take are cut into blocks no larger than this: a harness is sent messages of that size without
// a copy, and a block is what processes share. A message of the Python SDK has up to 10 MB.
const (
	blockBytes = 1 << 20
	blockCount = 25_000 // about a hundred milliseconds of the Python SDK's time
	// sampleCount is that of a stage whose first bundles tell how the others are to run.
	sampleCount = 4_000
)

func (e *edge) blockCount() int {
	if e.sampled {
		return sampleCount
	}
	return blockCount
}

// addInParts adds what is too much for a bundle as several blocks. Each of them refers to all contents.
func (r *router) addInParts(e *edge, group uint16, data []byte, refs []rows.ContentID) error {
	c := cutter{router: r, edge: e, group: group, data: data, refs: refs, countMax: r.most}
	_, err := c.cut()
	return err
}

// cutter makes blocks of a message of restrictions, or of a block.
type cutter struct {
	router   *router
	edge     *edge
	group    uint16
	data     []byte
	refs     []rows.ContentID
	countMax int
	sizeMax  float64 // 0: no bound
	from, at int     // of the block in the making
	header   store.Header
	count    int // of all blocks
}

// share cuts a message into blocks that processes share; count is that of its elements, or more.
func (r *router) share(e *edge, data []byte, count int) (int, error) {
	most := e.blockCount()
	if e.def.Spread {
		most = min(most, (count+piecesAim-1)/piecesAim)
	}
	type piece struct {
		end int
		h   store.Header
	}
	var all []piece
	for end := 0; end < len(data); { // nothing is taken before all of it is framed: the end of the last element may be missing
		n, count, lo, hi, err := e.scanner.StatUpTo(data[end:], blockBytes, most)
		if err != nil {
			return 0, err
		}
		end += n
		all = append(all, piece{end, store.Header{Count: count, MinTS: lo, MaxTS: hi, MaxWindow: element.MinTime}})
	}
	from, taken := 0, 0
	for _, p := range all {
		if err := r.add(e, 0, p.h, data[from:p.end:p.end], nil); err != nil {
			return 0, err
		}
		from = p.end
		taken += p.h.Count
	}
	return taken, nil
}

// cut makes the blocks and returns how many elements they hold.
func (c *cutter) cut() (int, error) {
	c.begin()
	if err := c.edge.scanner.Scan(c.data, c.add); err != nil {
		return 0, err
	}
	return c.count, c.flush()
}

func (c *cutter) begin() {
	c.from = c.at
	c.header = store.Header{MinTS: element.MaxTime, MaxTS: element.MinTime, MaxWindow: element.MinTime}
}

func (c *cutter) add(el *coder.Elem) error {
	size := c.edge.sizeOf(el.Raw)
	large := c.sizeMax > 0 && size >= c.sizeMax
	if large {
		if err := c.flush(); err != nil {
			return err
		}
	}
	h := &c.header
	h.Count++
	c.count++
	h.Size += size
	h.MinTS, h.MaxTS = min(h.MinTS, el.TS), max(h.MaxTS, el.TS)
	if c.edge.needWindow {
		w, err := latestWindow(c.edge.def.Window, el)
		if err != nil {
			return err
		}
		h.MaxWindow = max(h.MaxWindow, w)
	}
	c.at += len(el.Raw)
	if large || h.Count >= c.countMax || c.sizeMax > 0 && h.Size >= c.sizeMax {
		return c.flush()
	}
	return nil
}

// flush ends the block in the making.
func (c *cutter) flush() error {
	if c.header.Count == 0 {
		return nil
	}
	err := c.router.add(c.edge, c.group, c.header, c.data[c.from:c.at:c.at], c.refs)
	c.begin()
	return err
}
