package codertest

import (
	"fmt"
	"math"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"gopkg.in/yaml.v3"

	"padstone/connector/kafka/row"
)

// Example is one encoding of the SDK's standard_coders.yaml.
type Example struct {
	Coder  *Coder
	Nested bool
	// Deterministic says that the value has no other encoding.
	Deterministic bool
	Encoded       []byte
	Value         Value
}

// Name says which example it is.
func (x *Example) Name() string { return fmt.Sprintf("%s %x", x.Coder, x.Encoded) }

// Standard reads the examples out of the SDK that the Python interpreter has installed; an example that may be in either context
// is there twice.
func Standard(python string) ([]Example, error) {
	const locate = "import importlib.util as u; print(*u.find_spec('apache_beam').submodule_search_locations)"
	dir, err := exec.Command(python, "-c", locate).Output()
	if err != nil {
		return nil, fmt.Errorf("look for the SDK: %w", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "portability", "api", "standard_coders.yaml"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []Example
	for dec := yaml.NewDecoder(f); ; {
		var s section
		if err := dec.Decode(&s); err != nil {
			if len(out) > 0 && err.Error() == "EOF" {
				return out, nil
			}
			return nil, err
		}
		examples, err := s.read()
		if err != nil {
			return nil, err
		}
		out = append(out, examples...)
	}
}

// section is one document of the file. Bytes are strings whose characters stand for a byte each.
type section struct {
	Coder struct {
		spec  `yaml:",inline"`
		State map[string]string
		// The file has it here, or beside the coder.
		NonDeterministic bool `yaml:"non_deterministic"`
	}
	Nested           *bool
	NonDeterministic bool `yaml:"non_deterministic"`
	Examples         map[string]any
}

type spec struct {
	URN        string
	Payload    string
	Components []spec
}

func (s *section) read() (out []Example, err error) {
	c, err := s.Coder.coder()
	if err != nil {
		return nil, err
	}
	for token, content := range s.Coder.State {
		if c.State == nil {
			c.State = map[string][]byte{}
		}
		c.State[token] = latin1(content)
	}
	for encoded, value := range s.Examples {
		v := c.value(value)
		for _, nested := range []bool{false, true} {
			if s.Nested == nil || *s.Nested == nested {
				out = append(out, Example{
					Coder: c, Nested: nested, Deterministic: !s.NonDeterministic && !s.Coder.NonDeterministic,
					Encoded: latin1(encoded), Value: v,
				})
			}
		}
	}
	return out, nil
}

func (s spec) coder() (*Coder, error) {
	c := &Coder{URN: s.URN, Payload: latin1(s.Payload)}
	for _, component := range s.Components {
		part, err := component.coder()
		if err != nil {
			return nil, err
		}
		c.Parts = append(c.Parts, part)
	}
	return c, c.init()
}

func latin1(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// value turns what the file says of a value into a Value of the coder. It panics where the file has another form than it expects.
func (c *Coder) value(y any) Value {
	switch c.URN {
	case Bytes:
		return Raw(latin1(y.(string)))
	case StringUTF8:
		return y.(string)
	case Bool:
		return y.(bool)
	case Varint:
		return integer(y)
	case Double:
		return float(y, 64)
	case KVs:
		m := y.(map[string]any)
		return KV{c.Parts[0].value(m["key"]), c.Parts[1].value(m["value"])}
	case Iterable, StateBacked:
		values := []any{}
		for _, e := range y.([]any) {
			values = append(values, c.Parts[0].value(e))
		}
		return values
	case Nullable:
		if y == nil {
			return nil
		}
		return c.Parts[0].value(y)
	case ShardedKey:
		m := y.(map[string]any)
		return Sharded{Raw(latin1(m["shardId"].(string))), c.Parts[0].value(m["key"])}
	case GlobalWindow:
		return Global{}
	case Interval:
		m := y.(map[string]any)
		return IntervalWindow{End: integer(m["end"]), Span: uint64(integer(m["span"]))}
	case CustomWindow:
		w := c.Parts[0].value(y.(map[string]any)["window"])
		return Custom{MaxTimestamp: w.(IntervalWindow).End - 1, Window: w}
	case WindowedValue, ParamWindowed:
		m := y.(map[string]any)
		return Windowed{c.Parts[0].value(m["value"]), integer(m["timestamp"]), c.Parts[1].list(m["windows"]), pane(m["pane"])}
	case Timers:
		return c.timer(y.(map[string]any))
	case Rows:
		return rowOf(c.schema, y.(map[string]any))
	}
	panic("no such coder")
}

func (c *Coder) list(y any) []Value {
	var out []Value
	for _, e := range y.([]any) {
		out = append(out, c.value(e))
	}
	return out
}

func (c *Coder) timer(m map[string]any) Timer {
	t := Timer{
		Key: c.Parts[0].value(m["userKey"]), Tag: m["dynamicTimerTag"].(string), Windows: c.Parts[1].list(m["windows"]),
		Clear: m["clearBit"].(bool),
	}
	if !t.Clear {
		t.Fire, t.Hold, t.Pane = integer(m["fireTimestamp"]), integer(m["holdTimestamp"]), pane(m["pane"])
	}
	return t
}

func pane(y any) Pane {
	m := y.(map[string]any)
	timing := map[string]uint8{"EARLY": 0, "ON_TIME": 1, "LATE": 2, "UNKNOWN": 3}[m["timing"].(string)]
	return Pane{
		First: m["is_first"].(bool), Last: m["is_last"].(bool), Timing: timing,
		Index: integer(m["index"]), OnTime: integer(m["on_time_index"]),
	}
}

func integer(y any) int64 { return int64(y.(int)) }

func float(y any, bits int) float64 {
	const quietNaN = 0x7ff8 << 48 // Java's and C's; Go's own has another bit set
	if y == "NaN" {
		return math.Float64frombits(quietNaN)
	}
	f, err := strconv.ParseFloat(y.(string), bits)
	if err != nil {
		panic(err)
	}
	return f
}

func rowOf(s *pipepb.Schema, m map[string]any) row.Row {
	out := make(row.Row, len(s.GetFields()))
	for i, f := range s.GetFields() {
		if y := m[f.GetName()]; y != nil {
			out[i] = fieldOf(f.GetType(), y)
		}
	}
	return out
}

func fieldOf(t *pipepb.FieldType, y any) any {
	switch info := t.GetTypeInfo().(type) {
	case *pipepb.FieldType_AtomicType:
		return atomicOf(info.AtomicType, y)
	case *pipepb.FieldType_ArrayType:
		out := []any{}
		for _, e := range y.([]any) {
			out = append(out, fieldOf(info.ArrayType.GetElementType(), e))
		}
		return out
	case *pipepb.FieldType_MapType:
		out := map[string]any{}
		for k, e := range y.(map[string]any) {
			out[k] = nil
			if e != nil {
				out[k] = fieldOf(info.MapType.GetValueType(), e)
			}
		}
		return out
	case *pipepb.FieldType_RowType:
		return rowOf(info.RowType.GetSchema(), y.(map[string]any))
	case *pipepb.FieldType_LogicalType:
		switch info.LogicalType.GetUrn() {
		case millisInstant:
			return int64(uint64(integer(y)) ^ (1 << 63)) // the file has the eight bytes as one number, with the offset in it
		case decimal:
			whole, fraction, _ := strings.Cut(y.(string), ".")
			n, ok := new(big.Int).SetString(whole+fraction, 10)
			if !ok {
				panic("no decimal")
			}
			return row.Decimal{Unscaled: n, Scale: len(fraction)}
		}
		return fieldOf(info.LogicalType.GetRepresentation(), y)
	}
	panic("no such type")
}

func atomicOf(t pipepb.AtomicType, y any) any {
	switch t {
	case pipepb.AtomicType_FLOAT:
		return float(y, 32)
	case pipepb.AtomicType_DOUBLE:
		return float(y, 64)
	case pipepb.AtomicType_STRING, pipepb.AtomicType_BOOLEAN:
		return y
	case pipepb.AtomicType_BYTES:
		return latin1(y.(string))
	default:
		return integer(y)
	}
}
