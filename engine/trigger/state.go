package trigger

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"padstone/engine/element"
)

// State is what a trigger remembers of one key and window. The zero State is that of a new window.
type State struct {
	finished uint64  // bit i: node i has finished, and with it its subtree
	slots    []int64 // counts; ends of delays as 1 + milliseconds since MinTime, 0 when no element has come yet
}

var errState = errors.New("trigger state does not read back")

// AppendState appends the encoded state: finished bits and slots as uvarints.
func (p *Program) AppendState(dst []byte, s *State) []byte {
	dst = binary.AppendUvarint(dst, s.finished)
	for i := range p.slots {
		dst = binary.AppendUvarint(dst, uint64(s.slot(i)))
	}
	return dst
}

// ParseState decodes a state of this program into s and returns what follows it.
func (p *Program) ParseState(b []byte, s *State) (rest []byte, err error) {
	finished, n := binary.Uvarint(b)
	if n <= 0 || bits.Len64(finished) > len(p.nodes) {
		return nil, errState
	}
	b = b[n:]
	*s = State{finished: finished}
	if p.slots == 0 {
		return b, nil
	}
	s.slots = make([]int64, p.slots)
	for i := range s.slots {
		v, n := binary.Uvarint(b)
		if n <= 0 || int64(v) < 0 {
			return nil, errState
		}
		s.slots[i], b = int64(v), b[n:]
	}
	return b, nil
}

func (s *State) slot(i int) int64 {
	if i >= len(s.slots) {
		return 0
	}
	return s.slots[i]
}

func (p *Program) setSlot(s *State, i int, v int64) {
	if len(s.slots) < p.slots {
		s.slots = append(s.slots, make([]int64, p.slots-len(s.slots))...)
	}
	s.slots[i] = v
}

// done reports whether node i has finished; no node (-1) has.
func (s *State) done(i int) bool { return i < 0 || s.finished>>i&1 != 0 }

func packTime(t element.Time) int64 { return int64(t-element.MinTime) + 1 }

func unpackTime(v int64) element.Time { return element.Time(v-1) + element.MinTime }

// reset makes the subtree of node i as new.
func (p *Program) reset(s *State, i int) {
	for j := i; j < p.nodes[i].end; j++ {
		s.finished &^= 1 << j
		if slot := p.nodes[j].slot; slot >= 0 && s.slot(slot) != 0 {
			p.setSlot(s, slot, 0)
		}
	}
}

// finish marks the subtree of node i as finished. Marking all of it lets a merge see a child as finished in a window where its
// parent has.
func (p *Program) finish(s *State, i int) {
	p.reset(s, i)
	for j := i; j < p.nodes[i].end; j++ {
		s.finished |= 1 << j
	}
}

// current returns the first child of node i that has not finished, or -1.
func (p *Program) current(s *State, i int) int {
	for j := i + 1; j < p.nodes[i].end; j = p.nodes[j].end {
		if !s.done(j) {
			return j
		}
	}
	return -1
}
