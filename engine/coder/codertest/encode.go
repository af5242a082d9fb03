package codertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Pick chooses a number from 0 to n-1. A nil one chooses 0.
type Pick func(n int) int

func (p Pick) of(n int) int {
	if p == nil || n < 2 {
		return 0
	}
	return p(n)
}

// Encode appends the encoding of a value. Where the format leaves a choice, pick makes it: an iterable in chunks, of lengths that it
// chooses, or, with a nil pick, with its count in front.
func (c *Coder) Encode(dst []byte, v Value, nested bool, pick Pick) (out []byte, err error) {
	e := &encoder{dst: dst, pick: pick}
	e.write(c, v, nested)
	return e.dst, e.err
}

type encoder struct {
	dst  []byte
	pick Pick
	err  error
}

func (e *encoder) fail(err error) { e.err = errors.Join(e.err, err) }

func (e *encoder) bytes(b string, nested bool) {
	if nested {
		e.varint(uint64(len(b)))
	}
	e.dst = append(e.dst, b...)
}

func (e *encoder) varint(n uint64) { e.dst = binary.AppendUvarint(e.dst, n) }

func (e *encoder) time(t int64) { e.dst = binary.BigEndian.AppendUint64(e.dst, uint64(t)^(1<<63)) }

func (e *encoder) count(n int32) { e.dst = binary.BigEndian.AppendUint32(e.dst, uint32(n)) }

func (e *encoder) flag(b bool) {
	if b {
		e.dst = append(e.dst, 1)
	} else {
		e.dst = append(e.dst, 0)
	}
}

// as returns the value as a T, or fails.
func as[T any](e *encoder, v Value) T {
	t, ok := v.(T)
	if !ok {
		e.fail(fmt.Errorf("%T is not %T", v, t))
	}
	return t
}

func (e *encoder) write(c *Coder, v Value, nested bool) {
	switch c.URN {
	case StringUTF8:
		e.bytes(as[string](e, v), nested)
	case Bool:
		e.flag(as[bool](e, v))
	case Varint:
		e.varint(uint64(as[int64](e, v)))
	case Double:
		e.dst = binary.BigEndian.AppendUint64(e.dst, math.Float64bits(as[float64](e, v)))
	case KVs:
		kv := as[KV](e, v)
		e.write(c.Parts[0], kv.Key, true)
		e.write(c.Parts[1], kv.Value, nested)
	case Iterable, StateBacked:
		e.iterable(c, as[[]any](e, v))
	case Nullable:
		e.flag(v != nil)
		if v != nil {
			e.write(c.Parts[0], v, nested)
		}
	case LengthPrefix:
		if !c.Parts[0].Framed() {
			e.bytes(string(as[Raw](e, v)), true)
			return
		}
		inner := &encoder{pick: e.pick}
		inner.write(c.Parts[0], v, false)
		e.fail(inner.err)
		e.bytes(string(inner.dst), true)
	case ShardedKey:
		s := as[Sharded](e, v)
		e.bytes(string(s.ShardID), true)
		e.write(c.Parts[0], s.Key, true)
	case Rows:
		e.row(c.schema, v)
	case GlobalWindow, Interval, CustomWindow:
		e.window(c, v)
	case WindowedValue:
		w := as[Windowed](e, v)
		e.time(w.Timestamp)
		e.windows(c.Parts[1], w.Windows)
		e.pane(w.Pane)
		e.write(c.Parts[0], w.Value, nested)
	case ParamWindowed:
		e.write(c.Parts[0], as[Windowed](e, v).Value, nested)
	case Timers:
		e.timer(c, as[Timer](e, v))
	default: // Bytes, and what nobody knows
		e.bytes(string(as[Raw](e, v)), nested)
	}
}

func (e *encoder) iterable(c *Coder, values []any) {
	style := e.pick.of(3) // 0: with a count, 1: in chunks, 2: in chunks, with a token at the end
	if style == 0 {
		e.count(int32(len(values)))
		e.run(c, values)
		return
	}
	e.count(-1)
	for len(values) > 0 {
		n := 1 + e.pick.of(len(values))
		e.varint(uint64(n))
		e.run(c, values[:n])
		values = values[n:]
	}
	if style == 2 && c.URN == StateBacked && c.State[""] != nil {
		e.varint(math.MaxUint64)
		e.bytes("", true)
		return
	}
	e.varint(0)
}

func (e *encoder) run(c *Coder, values []any) {
	for _, v := range values {
		e.write(c.Parts[0], v, true)
	}
}

func (e *encoder) window(c *Coder, v Value) {
	switch c.URN {
	case GlobalWindow:
		as[Global](e, v)
	case Interval:
		w := as[IntervalWindow](e, v)
		e.time(w.End)
		e.varint(w.Span)
	default:
		w := as[Custom](e, v)
		e.time(w.MaxTimestamp)
		e.write(c.Parts[0], w.Window, true)
	}
}

func (e *encoder) windows(c *Coder, windows []Value) {
	e.count(int32(len(windows)))
	for _, w := range windows {
		e.write(c, w, true)
	}
}

// pane writes the shortest form that holds the indices. Spec: PaneInfoCoder (Java core).
func (e *encoder) pane(p Pane) {
	b := p.Timing << 2
	if p.First {
		b |= 1
	}
	if p.Last {
		b |= 2
	}
	if p.Metadata != "" {
		b |= 0x80
	}
	switch {
	case p.OnTime != 0:
		e.dst = append(e.dst, b|0x20)
		e.varint(uint64(p.Index))
		e.varint(uint64(p.OnTime))
	case p.Index != 0:
		e.dst = append(e.dst, b|0x10)
		e.varint(uint64(p.Index))
	default:
		e.dst = append(e.dst, b)
	}
	if p.Metadata != "" {
		e.bytes(string(p.Metadata), true)
	}
}

func (e *encoder) timer(c *Coder, t Timer) {
	e.write(c.Parts[0], t.Key, true)
	e.bytes(t.Tag, true)
	e.windows(c.Parts[1], t.Windows)
	e.flag(t.Clear)
	if t.Clear {
		return
	}
	e.time(t.Fire)
	e.time(t.Hold)
	e.pane(t.Pane)
}
