package group

import (
	"cmp"
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
type Spare struct {
	chunks [][]byte
	size   int // of a chunk; 0: chunkBytes
}

// parts are the elements of a key group, spread by their keys: part by part they are grouped in the cache. An element is copied
// for it, once, from one end of a block to the other, which costs a tenth of the misses.
type parts struct {
	m     *Machine
	spare *Spare
	parts [partsMax][][]byte // chunks; the last one is written to
	bytes int                // room of the chunks
}

func newParts(m *Machine, spare *Spare) *parts {
	if spare == nil {
		spare = &Spare{}
	}
	return &parts{m: m, spare: spare}
}

// worthSpreading says whether the grouper has become large with short elements.
func (g *grouper) worthSpreading(from int) bool {
	return g.bytes >= from && g.bytes <= partsLong*len(g.entries)
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
		last := len(*q) - 1
		if last < 0 || cap((*q)[last])-len((*q)[last]) < len(e.Raw) {
			*q = append(*q, p.spare.take(len(e.Raw)))
			last++
			p.bytes += cap((*q)[last])
		}
		(*q)[last] = append((*q)[last], e.Raw...)
	}
	return nil
}

func (s *Spare) chunkBytes() int { return cmp.Or(s.size, chunkBytes) }

// take returns room for so many bytes, and some more if they are few.
func (s *Spare) take(atLeast int) []byte {
	last := len(s.chunks) - 1
	if last < 0 || atLeast > s.chunkBytes() {
		return make([]byte, 0, max(atLeast, s.chunkBytes()))
	}
	chunk := s.chunks[last]
	s.chunks = s.chunks[:last]
	return chunk
}

// give takes back what take has returned, if it has the size of others.
func (s *Spare) give(chunk []byte) {
	if cap(chunk) == s.chunkBytes() {
		s.chunks = append(s.chunks, chunk[:0])
	}
}

// drain gives the chunks of each part to fn, which is done with them when it returns.
func (p *parts) drain(fn func(chunks [][]byte) error) error {
	for i, chunks := range p.parts {
		if err := fn(chunks); err != nil {
			return err
		}
		for _, chunk := range chunks {
			p.spare.give(chunk)
		}
		p.parts[i] = nil
	}
	return nil
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
