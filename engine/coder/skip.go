package coder

import (
	"encoding/binary"
	"fmt"

	"padstone/engine/plan"
)

// Ends below 0 mark input that does not parse; positions are never negative.
const (
	truncated = -1
	malformed = -2
)

// Sizes of the fixed parts of an element.
const (
	timeLen    = 8 // event time
	countLen   = 4 // number of windows, or of an iterable's elements
	varintMax  = 10
	paneFlags  = 0x0f // pane byte: first, last, timing
	metaFlag   = 0x80 // pane byte: a length-prefixed ElementMetadata follows the pane
	paneEncMax = 2
)

// Len returns the length in bytes of the first value in b, or an error that wraps ErrMalformed.
func (p *Program) Len(b []byte) (int, error) {
	end := p.root.end(b, 0)
	if end < 0 {
		return 0, p.bad(end, b)
	}
	return end, nil
}

func (p *Program) bad(end int, b []byte) error {
	if end == truncated {
		return fmt.Errorf("%w: value of %s is cut off after %d bytes", ErrMalformed, p.src, len(b))
	}
	return fmt.Errorf("%w: %d bytes do not begin with a value of %s", ErrMalformed, len(b), p.src)
}

// end returns the position after the value that starts at b[pos], or truncated or malformed.
func (n *node) end(b []byte, pos int) int {
	switch n.op {
	case opLP:
		return endLP(b, pos)
	case opVarint:
		return endVarint(b, pos)
	case opFixed:
		return endFixed(b, pos, n.size)
	case opKV:
		if pos = n.a.end(b, pos); pos < 0 {
			return pos
		}
		return n.b.end(b, pos)
	case opNullable:
		return n.endNullable(b, pos)
	case opIter:
		return n.endIter(b, pos)
	case opSharded:
		if pos = endLP(b, pos); pos < 0 {
			return pos
		}
		return n.a.end(b, pos)
	case opWindow:
		return endWindow(n.win, b, pos)
	case opWindowed:
		return n.endWindowed(b, pos)
	default:
		return n.endTimer(b, pos)
	}
}

// endFast is end without a call for the commonest leaf.
func (n *node) endFast(b []byte, pos int) int {
	if n.op == opLP && pos < len(b) && b[pos] < 0x80 {
		if end := pos + 1 + int(b[pos]); end <= len(b) {
			return end
		}
	}
	return n.end(b, pos)
}

func endFixed(b []byte, pos, size int) int {
	if size > len(b)-pos {
		return truncated
	}
	return pos + size
}

func endVarint(b []byte, pos int) int {
	for i := pos; i < len(b); i++ {
		if b[i] < 0x80 {
			return i + 1
		}
		if i-pos == varintMax-1 {
			return malformed
		}
	}
	return truncated
}

// endLP is inlined for lengths of one byte, which are nearly all of them.
func endLP(b []byte, pos int) int {
	if pos < len(b) && b[pos] < 0x80 {
		if end := pos + 1 + int(b[pos]); end <= len(b) {
			return end
		}
		return truncated
	}
	return endLongLP(b, pos)
}

func endLongLP(b []byte, pos int) int {
	size, w := binary.Uvarint(b[pos:])
	switch {
	case w == 0:
		return truncated
	case w < 0 || size > 1<<31:
		return malformed
	case size > uint64(len(b)-pos-w):
		return truncated
	}
	return pos + w + int(size)
}

func (n *node) endNullable(b []byte, pos int) int {
	if pos >= len(b) {
		return truncated
	}
	switch b[pos] {
	case 0:
		return pos + 1
	case 1:
		return n.a.end(b, pos+1)
	}
	return malformed
}

// endRun skips count values; a program without bytes takes no time, whatever the count.
func (n *node) endRun(b []byte, pos int, count uint64) int {
	if n.size >= 0 {
		if count > 0 && n.size > 0 && count > uint64(len(b)-pos)/uint64(n.size) {
			return truncated
		}
		return pos + int(count)*n.size
	}
	for ; count > 0; count-- {
		if pos = n.end(b, pos); pos < 0 {
			return pos
		}
	}
	return pos
}

// endIter skips an iterable: a count and so many values; or -1 and chunks until a chunk of 0, or until a chunk of -1, which a
// state token follows. Spec: beam_runner_api.proto StandardCoders.ITERABLE, STATE_BACKED_ITERABLE. Python writes -1 for whatever
// has no length.
func (n *node) endIter(b []byte, pos int) int {
	if countLen > len(b)-pos {
		return truncated
	}
	count := int32(binary.BigEndian.Uint32(b[pos:]))
	pos += countLen
	if count >= 0 {
		return n.a.endRun(b, pos, uint64(count))
	}
	if count != -1 {
		return malformed
	}
	for {
		chunk, w := binary.Uvarint(b[pos:])
		pos += w
		switch {
		case w == 0:
			return truncated
		case w < 0:
			return malformed
		case chunk == 0:
			return pos
		case int64(chunk) == -1:
			return endLP(b, pos)
		case int64(chunk) < 0:
			return malformed
		}
		if pos = n.a.endRun(b, pos, chunk); pos < 0 {
			return pos
		}
	}
}

func endWindow(w plan.WindowCoding, b []byte, pos int) int {
	switch w {
	case plan.GlobalWindow:
		return pos
	case plan.IntervalWindow:
		if pos = endFixed(b, pos, timeLen); pos < 0 {
			return pos
		}
		return endVarint(b, pos)
	default:
		if pos = endFixed(b, pos, timeLen); pos < 0 {
			return pos
		}
		return endLP(b, pos)
	}
}

// endWindows skips the count and the windows.
func endWindows(w plan.WindowCoding, b []byte, pos int) int {
	if countLen > len(b)-pos {
		return truncated
	}
	count := int32(binary.BigEndian.Uint32(b[pos:]))
	pos += countLen
	if count < 0 {
		return malformed
	}
	if w == plan.GlobalWindow {
		if count > 1 { // there is but one, and it has no bytes that would bound a loop over the count
			return malformed
		}
		return pos
	}
	for ; count > 0; count-- {
		if pos = endWindow(w, b, pos); pos < 0 {
			return pos
		}
	}
	return pos
}

func (n *node) endWindowed(b []byte, pos int) int {
	if pos = endFixed(b, pos, timeLen); pos < 0 {
		return pos
	}
	if pos = endWindows(n.win, b, pos); pos < 0 {
		return pos
	}
	if pos = endPane(b, pos); pos < 0 {
		return pos
	}
	return n.a.end(b, pos)
}

// endPane skips a pane and the ElementMetadata behind it.
func endPane(b []byte, pos int) int {
	if pos >= len(b) {
		return truncated
	}
	first := b[pos]
	pos++
	enc := first >> 4 & 7
	if enc > paneEncMax {
		return malformed
	}
	for ; enc > 0; enc-- {
		if pos = endVarint(b, pos); pos < 0 {
			return pos
		}
	}
	if first&metaFlag != 0 {
		return endLP(b, pos)
	}
	return pos
}

func (n *node) endTimer(b []byte, pos int) int {
	if pos = n.a.end(b, pos); pos < 0 {
		return pos
	}
	if pos = endLP(b, pos); pos < 0 {
		return pos
	}
	if pos = endWindows(n.win, b, pos); pos < 0 {
		return pos
	}
	if pos >= len(b) {
		return truncated
	}
	switch b[pos] {
	case 1:
		return pos + 1
	case 0:
		if pos = endFixed(b, pos+1, 2*timeLen); pos < 0 {
			return pos
		}
		return endPane(b, pos)
	}
	return malformed
}
