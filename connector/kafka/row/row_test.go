package row_test

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/row"
)

func atomic(t pipepb.AtomicType) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: t}}
}

func nullable(t *pipepb.FieldType) *pipepb.FieldType {
	t.Nullable = true
	return t
}

func array(t *pipepb.FieldType) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_ArrayType{ArrayType: &pipepb.ArrayType{ElementType: t}}}
}

func mapOf(k, v *pipepb.FieldType) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_MapType{MapType: &pipepb.MapType{KeyType: k, ValueType: v}}}
}

func nested(s *pipepb.Schema) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_RowType{RowType: &pipepb.RowType{Schema: s}}}
}

func logical(urn string, rep *pipepb.FieldType) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_LogicalType{LogicalType: &pipepb.LogicalType{Urn: urn, Representation: rep}}}
}

func dec() *pipepb.FieldType {
	return logical("beam:logical_type:decimal:v1", atomic(pipepb.AtomicType_BYTES))
}

func schema(types ...*pipepb.FieldType) *pipepb.Schema {
	s := &pipepb.Schema{}
	for i, t := range types {
		s.Fields = append(s.Fields, &pipepb.Field{Name: string(rune('a' + i)), Type: t})
	}
	return s
}

// readSchema is what ReadFromKafka of Beam 2.77.0 describes its configuration with.
func readSchema() *pipepb.Schema {
	text := func() *pipepb.FieldType { return atomic(pipepb.AtomicType_STRING) }
	long := func() *pipepb.FieldType { return nullable(atomic(pipepb.AtomicType_INT64)) }
	flag := func() *pipepb.FieldType { return nullable(atomic(pipepb.AtomicType_BOOLEAN)) }
	return schema(mapOf(text(), text()), array(text()), text(), text(), long(), long(), long(), atomic(pipepb.AtomicType_BOOLEAN),
		text(), long(), flag(), nullable(atomic(pipepb.AtomicType_INT32)), flag(), long(), nullable(text()), nullable(mapOf(text(), text())))
}

// TestReadFromKafka decodes bytes that the Python SDK wrote.
func TestReadFromKafka(t *testing.T) {
	data, err := hex.DecodeString("100200c00000000111626f6f7473747261702e7365727665727306683a39303932000000010274313b6f72672e6170616368652e" +
		"6b61666b612e636f6d6d6f6e2e73657269616c697a6174696f6e2e427974654172726179446573657269616c697a65723b6f72672e6170616368652e6b61666b61" +
		"2e636f6d6d6f6e2e73657269616c697a6174696f6e2e427974654172726179446573657269616c697a657280d095ffbc310a05010a43726561746554696d650201000107")
	if err != nil {
		t.Fatal(err)
	}
	coder, err := row.New(readSchema())
	if err != nil {
		t.Fatal(err)
	}
	got, rest, err := coder.Decode(data)
	if err != nil || len(rest) > 0 {
		t.Fatal(got, rest, err)
	}
	d := "org.apache.kafka.common.serialization.ByteArrayDeserializer"
	want := row.Row{
		map[string]any{"bootstrap.servers": "h:9092"}, []any{"t1"}, d, d, int64(1700000000000), int64(10), int64(5), true,
		"CreateTime", int64(2), true, int64(0), true, int64(7), nil, nil,
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %#v\nwant %#v", got, want)
	}
	for n := range data {
		if _, _, err := coder.Decode(data[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes decode", n, len(data))
		}
	}
}

func TestDecode(t *testing.T) {
	i32, i64 := pipepb.AtomicType_INT32, pipepb.AtomicType_INT64
	str := pipepb.AtomicType_STRING
	positioned := schema(atomic(str), atomic(i64), nullable(atomic(str)))
	positioned.EncodingPositionsSet = true
	for i, p := range []int32{2, 0, 1} {
		positioned.Fields[i].EncodingPosition = p
	}
	for _, tc := range []struct {
		name   string
		schema *pipepb.Schema
		hex    string
		want   row.Row
	}{
		{"empty", schema(), "0000", row.Row{}},
		{"negative int32", schema(atomic(i32)), "0100 ffffffff0f", row.Row{int64(-1)}},
		{"negative int64", schema(atomic(i64)), "0100 feffffffffffffffff01", row.Row{int64(-2)}},
		{"int16", schema(atomic(pipepb.AtomicType_INT16)), "0100 fffe", row.Row{int64(-2)}},
		{"byte", schema(atomic(pipepb.AtomicType_BYTE)), "0100 ff", row.Row{int64(-1)}},
		{"float", schema(atomic(pipepb.AtomicType_FLOAT)), "0100 3fc00000", row.Row{1.5}},
		{"double", schema(atomic(pipepb.AtomicType_DOUBLE)), "0100 bff8000000000000", row.Row{-1.5}},
		{"bytes", schema(atomic(pipepb.AtomicType_BYTES)), "0100 0201ff", row.Row{[]byte{1, 255}}},
		{"null", schema(nullable(atomic(str)), atomic(str)), "020101 0178", row.Row{nil, "x"}},
		{"null elements", schema(array(nullable(atomic(str)))), "0100 00000002 00 010178", row.Row{[]any{nil, "x"}}},
		{"chunked list", schema(array(atomic(str))), "0100 ffffffff 02 0161 0162 01 0163 00", row.Row{[]any{"a", "b", "c"}}},
		{"nested", schema(nested(schema(atomic(str)))), "0100 0100 0178", row.Row{row.Row{"x"}}},
		{"millis", schema(logical("beam:logical_type:millis_instant:v1", atomic(i64))), "0100 8000000000000005", row.Row{int64(5)}},
		{"logical", schema(logical("beam:logical_type:var_bytes:v1", atomic(str))), "0100 0178", row.Row{"x"}},
		{"decimal", schema(dec()), "0100 04027ab7", row.Row{row.Decimal{Unscaled: big.NewInt(31415), Scale: 4}}},
		{"negative decimal", schema(dec()), "0100 0303fe78e5", row.Row{row.Decimal{Unscaled: big.NewInt(-100123), Scale: 3}}},
		{"negative scale of Java", schema(dec()), "0100 feffffff0f 0105", row.Row{row.Decimal{Unscaled: big.NewInt(5), Scale: -2}}},
		{"negative scale of Python", schema(dec()), "0100 feffffffffffffffff01 0105", row.Row{row.Decimal{Unscaled: big.NewInt(5), Scale: -2}}},
		{"integer keys", schema(mapOf(atomic(i32), nullable(atomic(str)))), "0100 00000002 05 010178 04 00",
			row.Row{[]row.Entry{{Key: int64(5), Value: "x"}, {Key: int64(4)}}}},
		{"positions", positioned, "030104 0500", nil},
		{"fewer fields than the schema", schema(atomic(str), atomic(str)), "0100 0178", row.Row{"x", nil}},
		{"more fields than the schema", schema(atomic(str)), "0200 0178", row.Row{"x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			coder, err := row.New(tc.schema)
			if err != nil {
				t.Fatal(err)
			}
			data, err := hex.DecodeString(strings.ReplaceAll(tc.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == nil {
				tc.want = row.Row{"", int64(5), nil}
			}
			got, rest, err := coder.Decode(data)
			if err != nil || len(rest) > 0 || !reflect.DeepEqual(got, tc.want) {
				t.Fatalf("got %#v, rest %x, %v", got, rest, err)
			}
		})
	}
}

// TestLacking: a row of a later schema lacks a few fields; one that lacks hundreds would be far larger than its bytes.
func TestLacking(t *testing.T) {
	for fields, ok := range map[int]bool{32: true, 33: false, 1000: false} {
		types := make([]*pipepb.FieldType, fields)
		for i := range types {
			types[i] = atomic(pipepb.AtomicType_STRING)
		}
		coder, err := row.New(schema(types...))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := coder.Decode([]byte{0, 0}); (err == nil) != ok {
			t.Errorf("a row that lacks %d fields: %v", fields, err)
		}
	}
}

func TestDecimalString(t *testing.T) {
	for _, c := range []struct {
		unscaled int64
		scale    int
		want     string
	}{
		{0, 0, "0"}, {0, 1, "0.0"}, {31415, 4, "3.1415"}, {-100123, 3, "-100.123"}, {5, 3, "0.005"}, {-5, 1, "-0.5"}, {12, -2, "12E+2"},
		{7, 100, "0." + strings.Repeat("0", 99) + "7"}, {7, 1 << 30, "7E-1073741824"}, {7, -1 << 31, "7E+2147483648"},
	} {
		d := row.Decimal{Unscaled: big.NewInt(c.unscaled), Scale: c.scale}
		if got, err := json.Marshal(d); err != nil || string(got) != `"`+c.want+`"` {
			t.Errorf("%d, scale %d: %s, %v; want %s", c.unscaled, c.scale, got, err, c.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	deep := atomic(pipepb.AtomicType_STRING)
	for range 100 {
		deep = array(deep)
	}
	clash := schema(atomic(pipepb.AtomicType_STRING), atomic(pipepb.AtomicType_STRING))
	clash.EncodingPositionsSet = true
	for name, s := range map[string]*pipepb.Schema{
		"no type":             schema(&pipepb.FieldType{}),
		"any python object":   schema(logical("beam:logical:pythonsdk_any:v1", atomic(pipepb.AtomicType_BYTES))),
		"no representation":   schema(logical("x", nil)),
		"keys without type":   schema(mapOf(&pipepb.FieldType{}, atomic(pipepb.AtomicType_INT32))),
		"too deep":            schema(deep),
		"position used twice": clash,
	} {
		if _, err := row.New(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzDecode decodes any bytes by any schema: neither may panic, nor may the row be far larger than its input.
func FuzzDecode(f *testing.F) {
	str, i32 := atomic(pipepb.AtomicType_STRING), atomic(pipepb.AtomicType_INT32)
	for _, s := range []*pipepb.Schema{
		readSchema(), schema(), schema(dec(), nullable(array(nullable(str)))), schema(mapOf(i32, nested(schema(i32, str)))),
		schema(logical("beam:logical_type:millis_instant:v1", atomic(pipepb.AtomicType_INT64)), atomic(pipepb.AtomicType_BYTES)),
	} {
		body, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, []byte("\x10\x02\x70\x0e\x00\x00\x00\x00"))
		f.Add(body, append([]byte("\x02\x00"), make([]byte, 40)...))
	}
	f.Fuzz(func(t *testing.T, body, data []byte) {
		s := &pipepb.Schema{}
		if proto.Unmarshal(body, s) != nil {
			return
		}
		coder, err := row.New(s)
		if err != nil {
			return
		}
		v, rest, err := coder.Decode(data)
		if err != nil {
			return
		}
		if len(v) != len(s.GetFields()) || len(rest) > len(data) {
			t.Fatalf("%d values of %d fields, %d of %d bytes left", len(v), len(s.GetFields()), len(rest), len(data))
		}
		for cut := range len(data) - len(rest) {
			if _, left, err := coder.Decode(data[:cut]); err == nil {
				t.Fatalf("the first %d of %d bytes are a row, too, with %d left", cut, len(data)-len(rest), len(left))
			}
		}
	})
}

// TestPython compares with the row coder of the Python SDK of PADSTONE_PYTHON.
func TestPython(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON names no Python interpreter with apache-beam")
	}
	cmd := exec.Command(python, "testdata/rows.py")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	n := 0
	for ; dec.More(); n++ {
		var c struct {
			Schema, Row []byte
			Want        []any
		}
		if err := dec.Decode(&c); err != nil {
			t.Fatal(err)
		}
		s := &pipepb.Schema{}
		if err := proto.Unmarshal(c.Schema, s); err != nil {
			t.Fatal(err)
		}
		coder, err := row.New(s)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := coder.Decode(c.Row)
		if err != nil || len(rest) > 0 {
			t.Fatalf("%x: %v, %d bytes left", c.Row, err, len(rest))
		}
		// Through JSON, so that both sides have the same types.
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var plain []any
		if err := json.Unmarshal(text, &plain); err != nil || !reflect.DeepEqual(plain, c.Want) {
			t.Errorf("got %v\nwant %v", plain, c.Want)
		}
	}
	if n < 3 {
		t.Fatalf("%d rows", n)
	}
}
