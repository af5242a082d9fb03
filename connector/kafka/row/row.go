package row

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// Row holds one value a schema field, in schema order: nil, bool, int64 (every integer width), float64, string, []byte (shared
// with the input), []any, map[string]any, []Entry (a map whose keys are not strings), Decimal, or Row.
type Row []any

// Entry is one entry of a map.
type Entry struct{ Key, Value any }

// Coder decodes rows of one schema. Safe for concurrent use.
type Coder struct {
	names  []string
	fields []fieldDecoder
	order  []int // schema index by encoding position
}

type fieldDecoder struct {
	decode   decoder
	nullable bool
}

// decoder reads one nested, non-null value and returns the rest.
type decoder func(b []byte) (any, []byte, error)

// depthMax bounds how deep rows, lists and maps may nest in a schema.
const depthMax = 32

// lackingMax bounds how many fields of its schema a row may lack: each is memory that no input stands for.
const lackingMax = 32

// New compiles a schema. The error names the field whose type is not supported.
func New(schema *pipepb.Schema) (*Coder, error) { return compile(schema, 0) }

func compile(schema *pipepb.Schema, depth int) (*Coder, error) {
	if depth > depthMax {
		return nil, fmt.Errorf("schema nests deeper than %d", depthMax)
	}
	c := &Coder{}
	for i, f := range schema.GetFields() {
		d, err := compileType(f.GetType(), depth)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", f.GetName(), err)
		}
		c.names = append(c.names, f.GetName())
		c.fields = append(c.fields, fieldDecoder{decode: d, nullable: f.GetType().GetNullable()})
		c.order = append(c.order, i)
	}
	if schema.GetEncodingPositionsSet() {
		for i := range c.order {
			c.order[i] = -1
		}
		for i, f := range schema.GetFields() {
			p := int(f.GetEncodingPosition())
			if p < 0 || p >= len(c.order) || c.order[p] >= 0 {
				return nil, fmt.Errorf("field %q: encoding position %d is out of range or taken", f.GetName(), p)
			}
			c.order[p] = i
		}
	}
	return c, nil
}

// Names returns the field names in schema order.
func (c *Coder) Names() []string { return slices.Clone(c.names) }

// Index returns the place of a field in a Row, or -1.
func (c *Coder) Index(name string) int { return slices.Index(c.names, name) }

// Decode reads one row and returns the rest of b.
func (c *Coder) Decode(b []byte) (Row, []byte, error) {
	count, b, err := uvarint(b)
	if err != nil {
		return nil, nil, err
	}
	nulls, b, err := takeBytes(b)
	if err != nil {
		return nil, nil, err
	}
	if count < uint64(len(c.fields)) && uint64(len(c.fields))-count > lackingMax {
		return nil, nil, fmt.Errorf("a row of %d fields by a schema of %d", count, len(c.fields))
	}
	out := make(Row, len(c.fields))
	for p := 0; p < len(c.order) && uint64(p) < count; p++ {
		i := c.order[p]
		if i/8 < len(nulls) && nulls[i/8]&(1<<(i%8)) != 0 {
			if !c.fields[i].nullable {
				return nil, nil, fmt.Errorf("field %q is null", c.names[i])
			}
			continue
		}
		if out[i], b, err = c.fields[i].decode(b); err != nil {
			return nil, nil, fmt.Errorf("field %q: %w", c.names[i], err)
		}
	}
	return out, b, nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("truncated or oversized varint, %d bytes left", len(b))
	}
	return v, b[n:], nil
}

func takeBytes(b []byte) ([]byte, []byte, error) {
	n, b, err := uvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("length %d with %d bytes left", n, len(b))
	}
	return b[:n:n], b[n:], nil
}

func take(b []byte, n int) ([]byte, []byte, error) {
	if len(b) < n {
		return nil, nil, fmt.Errorf("needs %d bytes, %d left", n, len(b))
	}
	return b[:n:n], b[n:], nil
}

// count reads the length of a list or map. Every entry takes a byte at least: no type has an empty encoding.
func count(b []byte) (int, []byte, error) {
	head, b, err := take(b, 4)
	if err != nil {
		return 0, nil, err
	}
	n := int32(binary.BigEndian.Uint32(head))
	if n < -1 || int(n) > len(b) {
		return 0, nil, fmt.Errorf("%d entries with %d bytes left", n, len(b))
	}
	return int(n), b, nil
}

func float64At(b []byte) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b)) }

func float32At(b []byte) float64 { return float64(math.Float32frombits(binary.BigEndian.Uint32(b))) }
