package coder

import (
	"encoding/binary"
	"fmt"
)

// Timing says where a pane stands relative to the watermark. Spec: PaneInfo.Timing (Java core), encoded in two bits.
type Timing uint8

const (
	Early Timing = iota
	OnTime
	Late
	Unknown
)

// String returns the lower-case name with dashes.
func (t Timing) String() string {
	return [...]string{"early", "on-time", "late", "unknown"}[t&3]
}

// Pane is the pane of an element. Spec: PaneInfo (Java core, Python windowed_value).
type Pane struct {
	First, Last bool
	Timing      Timing
	Index       int64 // counts the panes of a key and window from 0
	// NonSpeculative counts those that are not early from 0, and is -1 for an early one.
	NonSpeculative int64
}

// NoFiring is the encoded pane of an element that no trigger produced: timing unknown, first and last.
const NoFiring byte = 0x0f

// OnlyFiring is the encoded pane of the only, on-time firing of a window: first and last, both indices 0.
const OnlyFiring byte = 0x07

// Append appends the encoded pane: one byte, or with one or two indices behind it.
func (p Pane) Append(dst []byte) []byte {
	flags := byte(p.Timing&3) << 2
	if p.First {
		flags |= 1
	}
	if p.Last {
		flags |= 2
	}
	switch {
	case p.Index == 0 && p.NonSpeculative == 0 || p.Timing == Unknown:
		return append(dst, flags)
	case p.Index == p.NonSpeculative || p.Timing == Early:
		return binary.AppendUvarint(append(dst, flags|1<<4), uint64(p.Index))
	default:
		dst = binary.AppendUvarint(append(dst, flags|2<<4), uint64(p.Index))
		return binary.AppendUvarint(dst, uint64(p.NonSpeculative))
	}
}

// DecodePane decodes the pane at the beginning of b and returns what follows it; ElementMetadata is skipped.
func DecodePane(b []byte) (p Pane, rest []byte, err error) {
	end := endPane(b, 0)
	if end < 0 {
		return Pane{}, nil, fmt.Errorf("%w: pane", ErrMalformed)
	}
	first := b[0]
	p = Pane{First: first&1 != 0, Last: first&2 != 0, Timing: Timing(first >> 2 & 3)}
	switch first >> 4 & 7 {
	case 0:
		if !p.First {
			p.Index = -1 // not told: only a first pane may leave its index out
		}
		if p.Timing == Early {
			p.NonSpeculative = -1
		}
	case 1:
		index, _ := binary.Uvarint(b[1:])
		p.Index, p.NonSpeculative = int64(index), int64(index)
		if p.Timing == Early {
			p.NonSpeculative = -1
		}
	default:
		index, w := binary.Uvarint(b[1:])
		nonSpeculative, _ := binary.Uvarint(b[1+max(w, 1):])
		p.Index, p.NonSpeculative = int64(index), int64(nonSpeculative)
	}
	return p, b[end:], nil
}
