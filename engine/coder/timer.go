package coder

import (
	"encoding/binary"
	"fmt"

	"padstone/engine/element"
)

// Timer is one timer as it crosses the data plane, taken apart. Slices alias the data.
type Timer struct {
	Key     []byte // nested encoding of the key
	Tag     []byte // dynamic timer tag, without its length
	NWin    int
	Windows []byte // encoded windows, one after another; in practice one
	Clear   bool   // the timer is to be cleared: nothing of what follows is on the wire
	Fire    element.Time
	Hold    element.Time // the timer's output timestamp
	Pane    []byte       // encoded
}

// NextTimer takes the first timer of data apart into t; p must be a program timer(P,W). An error wraps ErrMalformed.
// Spec: beam_runner_api.proto StandardCoders.TIMER.
func (p *Program) NextTimer(data []byte, t *Timer) (rest []byte, err error) {
	n := p.root
	if n.op != opTimer {
		return nil, fmt.Errorf("framing program %s is not a timer", p.src)
	}
	end := n.end(data, 0)
	if end < 0 {
		return nil, p.bad(end, data)
	}
	// The whole record has framed, so its parts do.
	key := n.a.end(data, 0)
	tag := endLP(data, key)
	tagSize, w := binary.Uvarint(data[key:tag])
	clearAt := endWindows(n.win, data, tag)
	*t = Timer{
		Key:     data[:key:key],
		Tag:     data[key+w : key+w+int(tagSize)],
		NWin:    int(binary.BigEndian.Uint32(data[tag:])),
		Windows: data[tag+countLen : clearAt : clearAt],
		Clear:   data[clearAt] == 1,
	}
	if !t.Clear {
		t.Fire = decodeTime(data[clearAt+1:])
		t.Hold = decodeTime(data[clearAt+1+timeLen:])
		t.Pane = data[clearAt+1+2*timeLen : end : end]
	}
	return data[end:], nil
}

// Append appends the encoded timer.
func (t *Timer) Append(dst []byte) []byte {
	dst = append(dst, t.Key...)
	dst = binary.AppendUvarint(dst, uint64(len(t.Tag)))
	dst = append(dst, t.Tag...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.NWin))
	dst = append(dst, t.Windows...)
	if t.Clear {
		return append(dst, 1)
	}
	dst = append(dst, 0)
	dst = AppendTime(dst, t.Fire)
	dst = AppendTime(dst, t.Hold)
	return append(dst, t.Pane...)
}
