package row

import (
	"encoding/binary"
	"fmt"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// Logical types whose coders are not those of their representations. An instant is 8 bytes big endian, offset by 2^63; a decimal is a
// scale and the digits' two's complement; any object of Python's has a coder that only Python reads.
// Spec: row_coder.py _nonnull_coder_from_type.
const (
	millisInstant = "beam:logical_type:millis_instant:v1"
	decimal       = "beam:logical_type:decimal:v1"
	pythonAny     = "beam:logical:pythonsdk_any:v1"
)

func compileType(t *pipepb.FieldType, depth int) (decoder, error) {
	switch info := t.GetTypeInfo().(type) {
	case *pipepb.FieldType_AtomicType:
		return atomic(info.AtomicType)
	case *pipepb.FieldType_ArrayType:
		return list(info.ArrayType.GetElementType(), depth)
	case *pipepb.FieldType_IterableType:
		return list(info.IterableType.GetElementType(), depth)
	case *pipepb.FieldType_MapType:
		return mapping(info.MapType, depth)
	case *pipepb.FieldType_RowType:
		c, err := compile(info.RowType.GetSchema(), depth+1)
		if err != nil {
			return nil, err
		}
		return func(b []byte) (any, []byte, error) {
			r, rest, err := c.Decode(b)
			return r, rest, err
		}, nil
	case *pipepb.FieldType_LogicalType:
		return logical(info.LogicalType, depth)
	}
	return nil, fmt.Errorf("type %v is not supported", t)
}

func logical(t *pipepb.LogicalType, depth int) (decoder, error) {
	switch t.GetUrn() {
	case millisInstant:
		return fixed(8, func(b []byte) any { return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)) }), nil
	case decimal:
		return readDecimal, nil
	case pythonAny:
		return nil, fmt.Errorf("logical type %q is not supported", t.GetUrn())
	}
	if t.GetRepresentation() == nil || depth > depthMax {
		return nil, fmt.Errorf("logical type %q is not supported", t.GetUrn())
	}
	return compileElement(t.GetRepresentation(), depth+1)
}

func fixed(n int, read func([]byte) any) decoder {
	return func(b []byte) (any, []byte, error) {
		head, rest, err := take(b, n)
		if err != nil {
			return nil, nil, err
		}
		return read(head), rest, nil
	}
}

func atomic(t pipepb.AtomicType) (decoder, error) {
	switch t {
	case pipepb.AtomicType_BYTE:
		return fixed(1, func(b []byte) any { return int64(int8(b[0])) }), nil
	case pipepb.AtomicType_INT16:
		return fixed(2, func(b []byte) any { return int64(int16(binary.BigEndian.Uint16(b))) }), nil
	case pipepb.AtomicType_INT32:
		// A negative value is written as the unsigned 32 bits of its two's complement.
		return varint(func(v uint64) any { return int64(int32(uint32(v))) }), nil
	case pipepb.AtomicType_INT64:
		return varint(func(v uint64) any { return int64(v) }), nil
	case pipepb.AtomicType_FLOAT:
		return fixed(4, func(b []byte) any { return float32At(b) }), nil
	case pipepb.AtomicType_DOUBLE:
		return fixed(8, func(b []byte) any { return float64At(b) }), nil
	case pipepb.AtomicType_BOOLEAN:
		return fixed(1, func(b []byte) any { return b[0] != 0 }), nil
	case pipepb.AtomicType_STRING:
		return func(b []byte) (any, []byte, error) {
			s, rest, err := takeBytes(b)
			return string(s), rest, err
		}, nil
	case pipepb.AtomicType_BYTES:
		return func(b []byte) (any, []byte, error) {
			s, rest, err := takeBytes(b)
			return s, rest, err
		}, nil
	}
	return nil, fmt.Errorf("type %v is not supported", t)
}

func varint(read func(uint64) any) decoder {
	return func(b []byte) (any, []byte, error) {
		v, rest, err := uvarint(b)
		if err != nil {
			return nil, nil, err
		}
		return read(v), rest, nil
	}
}

// compileElement returns the decoder of a list element, a map key or a map value: there, null is a byte in front.
func compileElement(t *pipepb.FieldType, depth int) (decoder, error) {
	if depth > depthMax {
		return nil, fmt.Errorf("schema nests deeper than %d", depthMax)
	}
	d, err := compileType(t, depth)
	if err != nil || !t.GetNullable() {
		return d, err
	}
	return func(b []byte) (any, []byte, error) {
		present, rest, err := take(b, 1)
		if err != nil || present[0] == 0 {
			return nil, rest, err
		}
		return d(rest)
	}, nil
}

// list decodes an iterable: a known length, or -1 and then chunks of {varint count, elements} up to an empty one.
func list(t *pipepb.FieldType, depth int) (decoder, error) {
	elem, err := compileElement(t, depth+1)
	if err != nil {
		return nil, err
	}
	return func(b []byte) (any, []byte, error) {
		n, b, err := count(b)
		if err != nil {
			return nil, nil, err
		}
		out := []any{}
		if n >= 0 {
			return repeat(elem, out, n, b)
		}
		for {
			var chunk uint64
			if chunk, b, err = uvarint(b); err != nil {
				return nil, nil, err
			}
			if chunk == 0 {
				return out, b, nil
			}
			if chunk > uint64(len(b)) {
				return nil, nil, fmt.Errorf("%d entries with %d bytes left", chunk, len(b))
			}
			if out, b, err = repeat(elem, out, int(chunk), b); err != nil {
				return nil, nil, err
			}
		}
	}, nil
}

func repeat(elem decoder, out []any, n int, b []byte) ([]any, []byte, error) {
	for range n {
		v, rest, err := elem(b)
		if err != nil {
			return nil, nil, err
		}
		out, b = append(out, v), rest
	}
	return out, b, nil
}

// entriesHint bounds what is allocated for a map before its entries have been seen.
const entriesHint = 1024

// mapping decodes a map: to one of Go's when the keys are strings, else to its entries.
func mapping(t *pipepb.MapType, depth int) (decoder, error) {
	elem, err := compileElement(t.GetValueType(), depth+1)
	if err != nil {
		return nil, err
	}
	if t.GetKeyType().GetAtomicType() != pipepb.AtomicType_STRING || t.GetKeyType().GetNullable() {
		key, err := compileElement(t.GetKeyType(), depth+1)
		return entries(key, elem), err
	}
	return func(b []byte) (any, []byte, error) {
		n, b, err := count(b)
		if err != nil {
			return nil, nil, err
		}
		if n < 0 {
			return nil, nil, fmt.Errorf("a map of %d entries", n)
		}
		out := make(map[string]any, min(n, entriesHint))
		for range n {
			key, rest, err := takeBytes(b)
			if err != nil {
				return nil, nil, err
			}
			if out[string(key)], b, err = elem(rest); err != nil {
				return nil, nil, fmt.Errorf("key %q: %w", key, err)
			}
		}
		return out, b, nil
	}, nil
}

// entries decodes a map whose keys are not strings, in the order of its encoding.
func entries(key, elem decoder) decoder {
	return func(b []byte) (any, []byte, error) {
		n, b, err := count(b)
		if err != nil {
			return nil, nil, err
		}
		if n < 0 {
			return nil, nil, fmt.Errorf("a map of %d entries", n)
		}
		out := []Entry{}
		for range n {
			var e Entry
			if e.Key, b, err = key(b); err != nil {
				return nil, nil, fmt.Errorf("key: %w", err)
			}
			if e.Value, b, err = elem(b); err != nil {
				return nil, nil, fmt.Errorf("key %v: %w", e.Key, err)
			}
			out = append(out, e)
		}
		return out, b, nil
	}
}
