package codertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// Decode reads one value. In the nested context what follows it is left over; in the outer one it must take all of b.
func (c *Coder) Decode(b []byte, nested bool) (v Value, rest []byte, err error) {
	r := newReader(b)
	v, err = c.read(r, nested)
	if err == nil && !nested && r.Len() > 0 {
		err = fmt.Errorf("%d bytes are left over", r.Len())
	}
	return v, b[len(b)-r.Len():], err
}

var errInvalid = errors.New("not a valid encoding")

type reader struct{ bytes.Reader }

func newReader(b []byte) *reader { return &reader{*bytes.NewReader(b)} }

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(r.Len()) {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

func (r *reader) varint() (uint64, error) { return binary.ReadUvarint(r) }

// prefixed reads bytes with their length in front; in the outer context it reads what there is.
func (r *reader) prefixed(nested bool) ([]byte, error) {
	if !nested {
		return r.take(uint64(r.Len()))
	}
	n, err := r.varint()
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

func (r *reader) time() (int64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)), nil
}

func (r *reader) count() (int32, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return int32(binary.BigEndian.Uint32(b)), nil
}

func (r *reader) flag() (bool, error) {
	b, err := r.take(1)
	if err == nil && b[0] > 1 {
		err = errInvalid
	}
	return err == nil && b[0] == 1, err
}

func (c *Coder) read(r *reader, nested bool) (Value, error) {
	switch c.URN {
	case Bytes:
		b, err := r.prefixed(nested)
		return Raw(b), err
	case StringUTF8:
		b, err := r.prefixed(nested)
		if err == nil && !utf8.Valid(b) {
			err = errInvalid
		}
		return string(b), err
	case Bool:
		return r.flag()
	case Varint:
		n, err := r.varint()
		return int64(n), err
	case Double:
		b, err := r.take(8)
		if err != nil {
			return nil, err
		}
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case KVs:
		key, err := c.Parts[0].read(r, true)
		if err != nil {
			return nil, err
		}
		value, err := c.Parts[1].read(r, nested)
		return KV{key, value}, err
	case Iterable, StateBacked:
		return c.readIterable(r)
	case Nullable:
		present, err := r.flag()
		if err != nil || !present {
			return nil, err
		}
		return c.Parts[0].read(r, nested)
	case LengthPrefix:
		b, err := r.prefixed(true)
		if err != nil || !c.Parts[0].Framed() {
			return Raw(b), err
		}
		v, _, err := c.Parts[0].Decode(b, false)
		return v, err
	case ShardedKey:
		shard, err := r.prefixed(true)
		if err != nil {
			return nil, err
		}
		key, err := c.Parts[0].read(r, true)
		return Sharded{Raw(shard), key}, err
	case Rows:
		rest, err := r.take(uint64(r.Len()))
		if err != nil {
			return nil, err
		}
		v, after, err := c.rows.Decode(rest)
		r.Reset(after)
		return v, err
	default:
		return c.readOther(r, nested)
	}
}

// readOther reads what has to do with windows, and what is not known.
func (c *Coder) readOther(r *reader, nested bool) (Value, error) {
	switch c.URN {
	case GlobalWindow:
		return Global{}, nil
	case Interval:
		end, err := r.time()
		if err != nil {
			return nil, err
		}
		span, err := r.varint()
		return IntervalWindow{end, span}, err
	case CustomWindow:
		last, err := r.time()
		if err != nil {
			return nil, err
		}
		w, err := c.Parts[0].read(r, true)
		return Custom{last, w}, err
	case WindowedValue:
		v, err := c.readHeader(r)
		if err != nil {
			return nil, err
		}
		v.Value, err = c.Parts[0].read(r, nested)
		return v, err
	case ParamWindowed:
		// The header is in the payload, with an empty value behind it that nobody needs.
		v, err := c.readHeader(newReader(c.Payload))
		if err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
		v.Value, err = c.Parts[0].read(r, nested)
		return v, err
	case Timers:
		return c.readTimer(r)
	}
	if nested {
		return nil, fmt.Errorf("nobody knows where a value of %s ends", c.URN)
	}
	b, err := r.take(uint64(r.Len()))
	return Raw(b), err
}

// readIterable reads a count and so many values; or -1 and chunks, until one of 0, or until one of -1 with a token for the others.
func (c *Coder) readIterable(r *reader) (Value, error) {
	n, err := r.count()
	if err != nil {
		return nil, err
	}
	values := []any{}
	if n >= 0 {
		return c.readRun(r, values, uint64(n))
	}
	for n == -1 {
		chunk, err := r.varint()
		switch {
		case err != nil:
			return nil, err
		case chunk == 0:
			return values, nil
		case int64(chunk) == -1 && c.URN == StateBacked:
			token, err := r.prefixed(true)
			if err != nil {
				return nil, err
			}
			return c.readState(string(token), values)
		case int64(chunk) < 0:
			return nil, errInvalid
		}
		if values, err = c.readRun(r, values, chunk); err != nil {
			return nil, err
		}
	}
	return nil, errInvalid
}

// elementsMax bounds iterables of values without bytes, of which a few bytes may announce any number.
const elementsMax = 1 << 16

func (c *Coder) readRun(r *reader, values []any, n uint64) ([]any, error) {
	for ; n > 0; n-- {
		v, err := c.Parts[0].read(r, true)
		if err != nil {
			return nil, err
		}
		if values = append(values, v); len(values) > elementsMax {
			return nil, errInvalid
		}
	}
	return values, nil
}

// readState reads what a token stands for: elements, one after another.
func (c *Coder) readState(token string, values []any) (Value, error) {
	content, ok := c.State[token]
	if !ok {
		return nil, fmt.Errorf("there is no state %q", token)
	}
	for len(content) > 0 {
		v, rest, err := c.Parts[0].Decode(content, true)
		if err != nil {
			return nil, err
		}
		values, content = append(values, v), rest
	}
	return values, nil
}

func (c *Coder) readWindows(r *reader) ([]Value, error) {
	n, err := r.count()
	if err != nil || n < 0 || c.Parts[1].URN == GlobalWindow && n > 1 {
		return nil, errors.Join(err, errInvalid)
	}
	windows := []Value{}
	for ; n > 0; n-- {
		w, err := c.Parts[1].read(r, true)
		if err != nil {
			return nil, err
		}
		windows = append(windows, w)
	}
	return windows, nil
}

func (c *Coder) readHeader(r *reader) (v Windowed, err error) {
	if v.Timestamp, err = r.time(); err != nil {
		return v, err
	}
	if v.Windows, err = c.readWindows(r); err != nil {
		return v, err
	}
	v.Pane, err = readPane(r)
	return v, err
}

func readPane(r *reader) (p Pane, err error) {
	b, err := r.ReadByte()
	if err != nil {
		return p, err
	}
	p = Pane{First: b&1 != 0, Last: b&2 != 0, Timing: b >> 2 & 3}
	indices := []*int64{&p.Index, &p.OnTime}
	form := int(b >> 4 & 7)
	if form > len(indices) {
		return p, errInvalid
	}
	for _, index := range indices[:form] {
		n, err := r.varint()
		if err != nil {
			return p, err
		}
		*index = int64(n)
	}
	if b&0x80 != 0 {
		metadata, err := r.prefixed(true)
		p.Metadata = Raw(metadata)
		return p, err
	}
	return p, nil
}

func (c *Coder) readTimer(r *reader) (Value, error) {
	var t Timer
	var err error
	if t.Key, err = c.Parts[0].read(r, true); err != nil {
		return nil, err
	}
	tag, err := r.prefixed(true)
	if err != nil {
		return nil, err
	}
	t.Tag = string(tag)
	if t.Windows, err = c.readWindows(r); err != nil {
		return nil, err
	}
	if t.Clear, err = r.flag(); err != nil || t.Clear {
		return t, err
	}
	if t.Fire, err = r.time(); err != nil {
		return nil, err
	}
	if t.Hold, err = r.time(); err != nil {
		return nil, err
	}
	t.Pane, err = readPane(r)
	return t, err
}
