package codertest

import (
	"encoding/binary"
	"math"
	"math/big"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/row"
)

// Source makes choices out of a fuzzer's bytes. When they are used up every choice is 0, which ends every tree.
type Source struct{ b []byte }

// NewSource returns a source of choices.
func NewSource(b []byte) *Source { return &Source{b} }

// Pick chooses a number from 0 to n-1; n is at most 65536.
func (s *Source) Pick(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	choice := int(s.b[0])
	s.b = s.b[1:]
	if n > 256 && len(s.b) > 0 {
		choice = choice<<8 | int(s.b[0])
		s.b = s.b[1:]
	}
	return choice % n
}

// number returns small numbers most of the time, and the extremes.
func (s *Source) number() int64 {
	switch kind := s.Pick(8); kind {
	case 0:
		return math.MaxInt64
	case 1:
		return math.MinInt64
	case 2, 3:
		var b [8]byte
		s.b = s.b[copy(b[:], s.b):]
		return int64(binary.LittleEndian.Uint64(b[:]))
	default:
		return int64(s.Pick(256)) - 20
	}
}

// text is empty, short, or longer than a length of one byte can say.
func (s *Source) text() string {
	switch s.Pick(6) {
	case 0:
		return ""
	case 1:
		return strings.Repeat("long ", 26+s.Pick(10))
	default:
		return "text"[:1+s.Pick(4)]
	}
}

// depthMax ends the random trees.
const depthMax = 5

// opaque is a coder that nobody knows.
const opaque = "beam:coder:pickled_python:v1"

// Coder makes a coder tree, anything that an SDK may put into a pipeline.
func (s *Source) Coder() *Coder { return s.coder(0) }

func (s *Source) coder(depth int) *Coder {
	leaves := []string{Bytes, StringUTF8, Bool, Varint, Double, opaque, Rows, GlobalWindow, Interval}
	composites := []string{
		KVs, KVs, Iterable, StateBacked, Nullable, LengthPrefix, ShardedKey, Timers, WindowedValue, ParamWindowed, CustomWindow,
	}
	c := &Coder{}
	if choice := s.Pick(len(leaves) + len(composites)); choice < len(leaves) || depth >= depthMax {
		c.URN = leaves[choice%len(leaves)]
	} else {
		c.URN = composites[choice-len(leaves)]
	}
	switch c.URN {
	case KVs:
		c.Parts = []*Coder{s.coder(depth + 1), s.coder(depth + 1)}
	case Timers, WindowedValue, ParamWindowed:
		c.Parts = []*Coder{s.coder(depth + 1), s.windows(depth)}
	case CustomWindow:
		c.Parts = []*Coder{s.coder(depth + 1)}
	case Rows:
		c.Payload = s.schema()
	default:
		if arity[c.URN] == 1 {
			c.Parts = []*Coder{s.coder(depth + 1)}
		}
	}
	if c.URN == ParamWindowed {
		if !c.Parts[1].Framed() {
			c.Parts[1] = &Coder{URN: Interval} // the header in the payload must be readable
		}
		c.Payload = s.param(c)
	}
	if err := c.init(); err != nil {
		panic(err) // the tree is wrong, and so is this function
	}
	return c
}

// windows makes a coder of windows, the user's own included.
func (s *Source) windows(depth int) *Coder {
	switch s.Pick(5) {
	case 0:
		return &Coder{URN: GlobalWindow}
	case 1, 2:
		return &Coder{URN: Interval}
	case 3:
		return &Coder{URN: opaque}
	default:
		return &Coder{URN: CustomWindow, Parts: []*Coder{s.coder(depth + 1)}}
	}
}

// param makes a payload: a windowed value, of which only the header counts.
func (s *Source) param(c *Coder) []byte {
	e := &encoder{}
	w := Windowed{Timestamp: s.number(), Windows: s.someWindows(c.Parts[1]), Pane: s.pane()}
	e.time(w.Timestamp)
	e.windows(c.Parts[1], w.Windows)
	e.pane(w.Pane)
	return e.dst
}

// schema makes the schema of a small row.
func (s *Source) schema() []byte {
	types := []*pipepb.FieldType{
		{TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: pipepb.AtomicType_STRING}},
		{Nullable: true, TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: pipepb.AtomicType_INT64}},
		{TypeInfo: &pipepb.FieldType_LogicalType{LogicalType: &pipepb.LogicalType{Urn: decimal}}},
	}
	schema := &pipepb.Schema{}
	for n := s.Pick(4); n > 0; n-- {
		t := types[s.Pick(len(types))]
		schema.Fields = append(schema.Fields, &pipepb.Field{Name: strings.Repeat("f", n), Type: t})
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(schema)
	if err != nil {
		panic(err)
	}
	return b
}

// Value makes a value of the coder.
func (s *Source) Value(c *Coder) Value {
	switch c.URN {
	case StringUTF8:
		return s.text()
	case Bool:
		return s.Pick(2) == 1
	case Varint:
		return s.number()
	case Double:
		return float64(s.number())
	case KVs:
		return KV{s.Value(c.Parts[0]), s.Value(c.Parts[1])}
	case Iterable, StateBacked:
		values := []any{}
		for n := s.Pick(4); n > 0; n-- {
			values = append(values, s.Value(c.Parts[0]))
		}
		return values
	case Nullable:
		if s.Pick(2) == 0 {
			return nil
		}
		return s.Value(c.Parts[0])
	case LengthPrefix:
		if !c.Parts[0].Framed() {
			return Raw(s.text())
		}
		return s.Value(c.Parts[0])
	case ShardedKey:
		return Sharded{Raw(s.text()), s.Value(c.Parts[0])}
	case Rows:
		return s.row(c.schema)
	case GlobalWindow:
		return Global{}
	case Interval:
		return IntervalWindow{s.number(), uint64(s.number())}
	case CustomWindow:
		return Custom{s.number(), s.Value(c.Parts[0])}
	case WindowedValue:
		return Windowed{s.Value(c.Parts[0]), s.number(), s.someWindows(c.Parts[1]), s.pane()}
	case ParamWindowed:
		head, err := c.readHeader(newReader(c.Payload))
		if err != nil {
			panic(err) // this file wrote it
		}
		head.Value = s.Value(c.Parts[0])
		return head
	case Timers:
		t := Timer{Key: s.Value(c.Parts[0]), Tag: s.text(), Windows: s.someWindows(c.Parts[1]), Clear: s.Pick(4) == 0}
		if !t.Clear {
			t.Fire, t.Hold, t.Pane = s.number(), s.number(), s.pane()
		}
		return t
	default:
		return Raw(s.text())
	}
}

func (s *Source) someWindows(c *Coder) []Value {
	windows := []Value{}
	for n := 1 + s.Pick(3); n > 0 && (c.URN != GlobalWindow || len(windows) == 0); n-- {
		windows = append(windows, s.Value(c))
	}
	return windows
}

func (s *Source) pane() Pane {
	flags := s.Pick(64)
	p := Pane{First: flags&1 != 0, Last: flags&2 != 0, Timing: uint8(flags >> 2 & 3)}
	if flags&16 != 0 {
		p.Index, p.OnTime = s.number(), s.number()
	}
	if flags&32 != 0 {
		p.Metadata = Raw("metadata"[:s.Pick(9)])
	}
	return p
}

func (s *Source) row(schema *pipepb.Schema) row.Row {
	out := row.Row{}
	for _, f := range schema.GetFields() {
		switch {
		case f.GetType().GetNullable() && s.Pick(2) == 0:
			out = append(out, nil)
		case f.GetType().GetLogicalType() != nil:
			out = append(out, row.Decimal{Unscaled: big.NewInt(s.number()), Scale: s.Pick(20) - 10})
		case f.GetType().GetAtomicType() == pipepb.AtomicType_STRING:
			out = append(out, s.text())
		default:
			out = append(out, s.number())
		}
	}
	return out
}
