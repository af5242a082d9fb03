package fakesdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// Element is one windowed value. The bytes are those of the wire, nested encoding.
type Element struct {
	Timestamp int64  // milliseconds since the epoch
	Windows   []byte // count (4 bytes) and the encoded windows
	Pane      []byte
	Value     []byte
}

// Window returns the first window's encoding: what follows the count, for elements in one window.
func (e Element) Window() []byte {
	if len(e.Windows) < 4 {
		return nil
	}
	return e.Windows[4:]
}

// Timer is one timer in either direction.
type Timer struct {
	Key     []byte // nested encoding
	Tag     string
	Windows []byte // as in Element
	Clear   bool
	Fire    int64
	Hold    int64
	Pane    []byte
}

var errShort = errors.New("encoding ends early")

// frame returns what follows one encoded value.
type frame func(b []byte) ([]byte, error)

// coders makes frames of the coders of a descriptor.
type coders map[string]*pipepb.Coder

// frame compiles a coder. Spec: beam_runner_api.proto StandardCoders.
func (cs coders) frame(id string) (frame, error) {
	return cs.compile(id, 0)
}

func (cs coders) compile(id string, depth int) (frame, error) {
	const depthMax = 50
	c := cs[id]
	if c == nil || depth > depthMax {
		return nil, fmt.Errorf("coder %q is missing or nested too deeply", id)
	}
	var parts []frame
	for _, part := range c.GetComponentCoderIds() {
		f, err := cs.compile(part, depth+1)
		if err != nil && c.GetSpec().GetUrn() != "beam:coder:length_prefix:v1" {
			return nil, err
		}
		parts = append(parts, f)
	}
	switch urn := c.GetSpec().GetUrn(); urn {
	case "beam:coder:bytes:v1", "beam:coder:string_utf8:v1", "beam:coder:length_prefix:v1":
		return lengthPrefixed, nil
	case "beam:coder:varint:v1":
		return varint, nil
	case "beam:coder:double:v1":
		return fixed(8), nil
	case "beam:coder:bool:v1":
		return fixed(1), nil
	case "beam:coder:global_window:v1":
		return fixed(0), nil
	case "beam:coder:interval_window:v1":
		return sequence(fixed(8), varint), nil
	case "beam:coder:kv:v1":
		return sequence(parts...), nil
	case "beam:coder:iterable:v1":
		return iterable(parts[0]), nil
	case urnStateBacked:
		return stateBacked(parts[0]), nil
	case "beam:coder:custom_window:v1":
		return sequence(fixed(8), lengthPrefixed), nil
	default:
		return nil, fmt.Errorf("coder %q is not known", urn)
	}
}

func fixed(n int) frame {
	return func(b []byte) ([]byte, error) {
		if len(b) < n {
			return nil, errShort
		}
		return b[n:], nil
	}
}

func varint(b []byte) ([]byte, error) {
	_, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, errShort
	}
	return b[n:], nil
}

func lengthPrefixed(b []byte) ([]byte, error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, errShort
	}
	return b[n+int(size):], nil
}

func sequence(parts ...frame) frame {
	return func(b []byte) ([]byte, error) {
		var err error
		for _, part := range parts {
			if b, err = part(b); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
}

// iterable frames both forms: a count, or -1 and chunks that end with an empty one.
func iterable(part frame) frame {
	return func(b []byte) ([]byte, error) {
		if len(b) < 4 {
			return nil, errShort
		}
		count := int64(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		chunked := count < 0
		for {
			if chunked {
				n, size := binary.Uvarint(b)
				if size <= 0 || n > math.MaxInt32 {
					return nil, errShort
				}
				count, b = int64(n), b[size:]
			}
			var err error
			for range count {
				if b, err = part(b); err != nil {
					return nil, err
				}
			}
			if !chunked || count == 0 {
				return b, nil
			}
		}
	}
}

const urnStateBacked = "beam:coder:state_backed_iterable:v1"

// stateBacked frames an iterable that may be a token instead of values.
func stateBacked(part frame) frame {
	plain := iterable(part)
	return func(b []byte) ([]byte, error) {
		if rest, ok := cutToken(b); ok {
			return lengthPrefixed(rest)
		}
		return plain(b)
	}
}

// cutToken cuts off what comes before the token of an iterable without values; ok is false for another one.
func cutToken(b []byte) (rest []byte, ok bool) {
	head := binary.AppendUvarint([]byte{0xff, 0xff, 0xff, 0xff}, math.MaxUint64)
	return bytes.CutPrefix(b, head)
}

// valueCoder reads and writes the elements of one PCollection.
type valueCoder struct {
	value, key frame // key is nil unless the value is a KV
	window     frame
}

// element compiles a windowed value coder.
func (cs coders) element(id string) (valueCoder, error) {
	c := cs[id]
	parts := c.GetComponentCoderIds()
	if urn := c.GetSpec().GetUrn(); urn != "beam:coder:windowed_value:v1" || len(parts) != 2 {
		return valueCoder{}, fmt.Errorf("coder %q of a data port is no windowed value coder but %q", id, urn)
	}
	var vc valueCoder
	var err error
	if vc.value, err = cs.frame(parts[0]); err != nil {
		return vc, err
	}
	if vc.window, err = cs.frame(parts[1]); err != nil {
		return vc, err
	}
	vc.key, err = cs.key(parts[0])
	return vc, err
}

// key returns the frame of the key of a KV coder, or nil.
func (cs coders) key(id string) (frame, error) {
	if c := cs[id]; c.GetSpec().GetUrn() == "beam:coder:kv:v1" && len(c.GetComponentCoderIds()) == 2 {
		return cs.frame(c.GetComponentCoderIds()[0])
	}
	return nil, nil
}

// next reads one element.
func (vc valueCoder) next(b []byte) (Element, []byte, error) {
	var e Element
	if len(b) < 12 {
		return e, nil, errShort
	}
	e.Timestamp = readInstant(b)
	rest, err := frameWindows(b[8:], vc.window)
	if err != nil {
		return e, nil, err
	}
	e.Windows = b[8 : len(b)-len(rest)]
	b = rest
	if rest, err = framePane(b); err != nil {
		return e, nil, err
	}
	e.Pane = b[:len(b)-len(rest)]
	b = rest
	if rest, err = vc.value(b); err != nil {
		return e, nil, err
	}
	e.Value = b[:len(b)-len(rest)]
	return e, rest, nil
}

// Append writes an element.
func (e Element) Append(b []byte) []byte {
	b = appendInstant(b, e.Timestamp)
	b = append(b, e.Windows...)
	b = append(b, e.Pane...)
	return append(b, e.Value...)
}

// InGlobalWindow returns an element in the global window, with the pane of elements that no trigger has fired.
func InGlobalWindow(millis int64, value []byte) Element {
	return Element{Timestamp: millis, Windows: []byte{0, 0, 0, 1}, Pane: []byte{0x0f}, Value: value}
}

func frameWindows(b []byte, window frame) ([]byte, error) {
	if len(b) < 4 {
		return nil, errShort
	}
	var err error
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	for range n {
		if b, err = window(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func framePane(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	parts := []frame{fixed(1)}
	for range (b[0] >> 4) & 7 {
		parts = append(parts, varint)
	}
	if b[0]&0x80 != 0 {
		parts = append(parts, lengthPrefixed)
	}
	return sequence(parts...)(b)
}

func readInstant(b []byte) int64 { return int64(binary.BigEndian.Uint64(b) ^ 1<<63) }

func appendInstant(b []byte, millis int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(millis)^1<<63)
}

// nextTimer reads one timer.
func nextTimer(b []byte, key, window frame) (Timer, []byte, error) {
	var t Timer
	rest, err := key(b)
	if err != nil {
		return t, nil, err
	}
	t.Key = b[:len(b)-len(rest)]
	b = rest
	if rest, err = lengthPrefixed(b); err != nil {
		return t, nil, err
	}
	t.Tag = string(Bytes(b[:len(b)-len(rest)]))
	b = rest
	if rest, err = frameWindows(b, window); err != nil {
		return t, nil, err
	}
	t.Windows = b[:len(b)-len(rest)]
	b = rest
	if len(b) < 1 {
		return t, nil, errShort
	}
	t.Clear, b = b[0] != 0, b[1:]
	if t.Clear {
		return t, b, nil
	}
	if len(b) < 17 {
		return t, nil, errShort
	}
	t.Fire, t.Hold = readInstant(b), readInstant(b[8:])
	b = b[16:]
	if rest, err = framePane(b); err != nil {
		return t, nil, err
	}
	t.Pane = b[:len(b)-len(rest)]
	return t, rest, nil
}

// Append writes a timer.
func (t Timer) Append(b []byte) []byte {
	b = append(b, t.Key...)
	b = append(b, Nested([]byte(t.Tag))...)
	b = append(b, t.Windows...)
	if t.Clear {
		return append(b, 1)
	}
	b = append(b, 0)
	b = appendInstant(b, t.Fire)
	b = appendInstant(b, t.Hold)
	return append(b, t.Pane...)
}

// Nested returns the nested encoding of a byte string: its length and itself.
func Nested(b []byte) []byte {
	return append(binary.AppendUvarint(make([]byte, 0, len(b)+2), uint64(len(b))), b...)
}

// Bytes undoes Nested; nil when that is not possible.
func Bytes(nested []byte) []byte {
	rest, err := lengthPrefixed(nested)
	if err != nil || len(rest) > 0 {
		return nil
	}
	_, n := binary.Uvarint(nested)
	return nested[n:]
}

// Values returns the byte strings of concatenated windowed values in the global window whose values are bytes.
func Values(data []byte) ([][]byte, error) {
	elements, err := Elements(data, lengthPrefixed)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(elements))
	for i, e := range elements {
		out[i] = Bytes(e.Value)
	}
	return out, nil
}

// KVs returns the concatenated windowed values in the global window whose values are KV<bytes, bytes>, each as key and value.
func KVs(data []byte) ([][2][]byte, error) {
	elements, err := Elements(data, sequence(lengthPrefixed, lengthPrefixed))
	if err != nil {
		return nil, err
	}
	out := make([][2][]byte, len(elements))
	for i, e := range elements {
		value, err := lengthPrefixed(e.Value)
		if err != nil {
			return nil, err
		}
		out[i] = [2][]byte{Bytes(e.Value[:len(e.Value)-len(value)]), Bytes(value)}
	}
	return out, nil
}

// Elements cuts concatenated windowed values in the global window.
func Elements(data []byte, value func([]byte) ([]byte, error)) ([]Element, error) {
	vc := valueCoder{value: value, window: fixed(0)}
	var out []Element
	for len(data) > 0 {
		e, rest, err := vc.next(data)
		if err != nil {
			return nil, err
		}
		out, data = append(out, e), rest
	}
	return out, nil
}
