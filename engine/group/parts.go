package group

import (
	"fmt"

	"padstone/engine/coder"
)

const (
	// partsFrom is the size from which elements are spread before they are grouped: a hash table of more, with its keys and values, lies
	// outside of a processor core's own cache, and each element would miss it several times.
	partsFrom = 256 << 10
	// partsLong is the mean size of elements that are not spread: to copy them would cost more than it saves.
	partsLong  = 256
	partsMax   = 32 // a power of two
	chunkBytes = 32 << 10
)

// Spare is memory of one call of GroupAll that the next one uses again.
type Spare struct{ chunks [][]byte }

// parts are the elements of a key group, spread by their keys: part by part they are grouped in the cache. An element is copied
// for it, once, from one end of a block to the other, which costs a tenth of the misses.
type parts struct {
	m     *Machine
	spare *Spare
	parts [partsMax]part
	bytes int
	most  int64 // elements of the part that has most
}

type part struct {
	full  [][]byte // those that are no longer written to, and the one that is
	count int64
	runs  sorter
}

// spread takes over the elements of a grouper that has become large, if they are short ones; nil if not.
func (g *grouper) spread(from int, spare *Spare) (*parts, error) {
	if g.bytes < from || g.bytes > partsLong*len(g.entries) {
		return nil, nil
	}
	if spare == nil {
		spare = &Spare{}
	}
	p := &parts{m: g.m, spare: spare}
	for _, block := range g.blocks {
		if err := p.add(block); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *parts) add(block []byte) error {
	var e coder.Elem
	for rest := block; len(rest) > 0; {
		at := len(block) - len(rest)
		var err error
		if rest, err = p.m.scanner.Next(rest, &e); err != nil {
			return fmt.Errorf("element at byte %d of %d: %w", at, len(block), err)
		}
		// Low bits choose the slot in the hash table, and the key group.
		q := &p.parts[coder.Hash(e.Key)>>40%partsMax]
		last := len(q.full) - 1
		if last < 0 || cap(q.full[last])-len(q.full[last]) < len(e.Raw) {
			q.full = append(q.full, p.spare.chunk(len(e.Raw)))
			last++
			p.bytes += cap(q.full[last])
		}
		q.full[last] = append(q.full[last], e.Raw...)
		q.count++
		p.most = max(p.most, q.count)
	}
	return nil
}

// chunk returns room for so many bytes, and some more if they are few.
func (s *Spare) chunk(atLeast int) []byte {
	if atLeast > chunkBytes {
		return make([]byte, 0, atLeast)
	}
	last := len(s.chunks) - 1
	if last < 0 {
		return make([]byte, 0, chunkBytes)
	}
	chunk := s.chunks[last]
	s.chunks = s.chunks[:last]
	return chunk
}

// footprint estimates the memory that the parts take, with what the grouper needs for one of them.
func (p *parts) footprint() int {
	const elementSize = 136 // an entry, an arrival, a bucket and its slot
	return p.bytes + int(p.most)*elementSize
}

// each has fn group each part. The parts are empty afterwards.
func (p *parts) each(g *grouper, fn func(q *part) error) error {
	for i := range p.parts {
		q := &p.parts[i]
		g.reset()
		for _, chunk := range q.full {
			if err := g.add(chunk); err != nil {
				return err
			}
		}
		if err := fn(q); err != nil {
			return err
		}
		for _, chunk := range q.full {
			if cap(chunk) == chunkBytes {
				p.spare.chunks = append(p.spare.chunks, chunk[:0])
			}
		}
		q.full, q.count = q.full[:0], 0
	}
	g.reset()
	p.bytes, p.most = 0, 0
	return nil
}

// spill writes a run of each part.
func (p *parts) spill(g *grouper, budget Budget) error {
	return p.each(g, func(q *part) error {
		if len(g.buckets) == 0 {
			return nil
		}
		q.runs.m, q.runs.scratch = p.m, budget.Scratch
		return q.runs.spill(g)
	})
}

// emit emits part by part.
func (p *parts) emit(g *grouper, out *Output) error {
	return p.each(g, func(q *part) error {
		if len(q.runs.runs) == 0 {
			return g.emitAll(out)
		}
		if err := q.runs.spill(g); err != nil {
			return err
		}
		return q.runs.emit(out)
	})
}

// reset empties the grouper, whose memory is used again.
func (g *grouper) reset() {
	clear(g.blocks)
	clear(g.windows)
	clear(g.windowIDs)
	clear(g.table)
	g.blocks, g.bytes, g.entries, g.arrived, g.buckets = g.blocks[:0], 0, g.entries[:0], g.arrived[:0], g.buckets[:0]
	g.windows, g.windowMax, g.lastWindow = g.windows[:0], g.windowMax[:0], -1
}
