package enginetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/coder"
	"padstone/fnapi/fakesdk"
)

// shape is a coder expression taken apart: bytes, varint, kv(A,B), iter(A).
type shape struct {
	name  string
	parts []shape
}

// leaves are the coders without components: their URN and framing program.
var leaves = map[string][2]string{
	"bytes":  {"beam:coder:bytes:v1", "lp"},
	"varint": {"beam:coder:varint:v1", "varint"},
	"double": {"beam:coder:double:v1", "fixed(8)"},
	"window": {"beam:coder:interval_window:v1", "window(interval)"},
}

// composites are the URNs of the others; their framing program has the same name.
var composites = map[string]string{"kv": "beam:coder:kv:v1", "iter": "beam:coder:iterable:v1"}

// parseShape panics on an expression that does not parse: it stands in a test.
func parseShape(expr string) shape {
	s, rest := takeShape(expr)
	if rest != "" {
		panic(fmt.Sprintf("coder expression %q: %q is left over", expr, rest))
	}
	return s
}

func takeShape(expr string) (shape, string) {
	end := strings.IndexAny(expr, "(),")
	if end < 0 {
		end = len(expr)
	}
	s, rest := shape{name: expr[:end]}, expr[end:]
	for sep := "("; strings.HasPrefix(rest, sep); sep = "," {
		var part shape
		part, rest = takeShape(rest[1:])
		s.parts = append(s.parts, part)
	}
	return s, strings.TrimPrefix(rest, closing(s))
}

func closing(s shape) string {
	if len(s.parts) > 0 {
		return ")"
	}
	return "\x00"
}

func (s shape) String() string {
	if len(s.parts) == 0 {
		return s.name
	}
	parts := make([]string, len(s.parts))
	for i, p := range s.parts {
		parts[i] = p.String()
	}
	return s.name + "(" + strings.Join(parts, ",") + ")"
}

// program is the framing program of the shape.
func (s shape) program() string {
	if leaf, ok := leaves[s.name]; ok {
		return leaf[1]
	}
	parts := make([]string, len(s.parts))
	for i, p := range s.parts {
		parts[i] = p.program()
	}
	return s.name + "(" + strings.Join(parts, ",") + ")"
}

// intern adds the shape's coders to the table and returns the id: the expression.
func (s shape) intern(coders map[string]*pipepb.Coder) string {
	urn := composites[s.name]
	if leaf, ok := leaves[s.name]; ok {
		urn = leaf[0]
	}
	c := &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn}}
	for _, p := range s.parts {
		c.ComponentCoderIds = append(c.ComponentCoderIds, p.intern(coders))
	}
	coders[s.String()] = c
	return s.String()
}

// cut returns the encoding of the first value in b, and the rest.
func (s shape) cut(b []byte) (value, rest []byte, err error) {
	p, err := coder.Compile(s.program())
	if err != nil {
		return nil, nil, err
	}
	n, err := p.Len(b)
	if err != nil {
		return nil, nil, err
	}
	return b[:n], b[n:], nil
}

// show prints a value: bytes as text, KVs as k=v, iterables sorted in brackets, for their order means nothing.
func (s shape) show(b []byte) (text string, rest []byte, err error) {
	value, rest, err := s.cut(b)
	if err != nil {
		return "", nil, err
	}
	switch s.name {
	case "varint":
		n, _ := binary.Uvarint(value)
		return strconv.FormatInt(int64(n), 10), rest, nil
	case "kv":
		key, tail, err := s.parts[0].show(value)
		if err != nil {
			return "", nil, err
		}
		val, _, err := s.parts[1].show(tail)
		return key + "=" + val, rest, err
	case "iter":
		parts, err := s.values(value)
		if err != nil {
			return "", nil, err
		}
		texts := make([]string, len(parts))
		for i, p := range parts {
			if texts[i], _, err = s.parts[0].show(p); err != nil {
				return "", nil, err
			}
		}
		slices.Sort(texts)
		return "[" + strings.Join(texts, " ") + "]", rest, nil
	default:
		return string(fakesdk.Bytes(value)), rest, nil
	}
}

// values returns the encoded values of an iterable of known length, as the runner writes it.
func (s shape) values(b []byte) ([][]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("iterable %x is too short", b)
	}
	n := int32(binary.BigEndian.Uint32(b))
	out := make([][]byte, 0, max(n, 0))
	for b = b[4:]; n > 0; n-- {
		value, rest, err := s.parts[0].cut(b)
		if err != nil {
			return nil, err
		}
		out, b = append(out, value), rest
	}
	return out, nil
}

// Iter encodes an iterable of known length.
func Iter(values ...[]byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(values))), bytes.Join(values, nil)...)
}

// Text encodes a string as a value of coder bytes.
func Text(s string) []byte { return fakesdk.Nested([]byte(s)) }

// Int encodes a value of coder varint.
func Int(n int64) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// KV encodes a pair of encoded values.
func KV(key, value []byte) []byte { return append(slices.Clone(key), value...) }

// Pair encodes a pair of strings.
func Pair(key, value string) []byte { return KV(Text(key), Text(value)) }

// Show prints an encoded value of the coder: bytes as text, KVs as k=v, iterables sorted in brackets. It panics on bytes that are none.
func Show(coderExpr string, b []byte) string {
	text, _, err := parseShape(coderExpr).show(b)
	if err != nil {
		panic(fmt.Sprintf("%s: %x: %v", coderExpr, b, err))
	}
	return text
}

// Values returns the encoded values of an encoded iterable, and the key before it: b is of coder kv(bytes,iter(value)).
func Values(value string, b []byte) (key []byte, values [][]byte, err error) {
	key, rest, err := parseShape("bytes").cut(b)
	if err != nil {
		return nil, nil, err
	}
	values, err = parseShape("iter(" + value + ")").values(rest)
	return key, values, err
}
