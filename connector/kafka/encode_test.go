package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/connector/kafka/row"
	"padstone/internal/fault"
)

// sampleRecords have nulls, empty values, headers and every type of timestamp.
func sampleRecords() []*kgo.Record {
	at := func(kind int8) kgo.RecordAttrs { return kgo.NewRecordAttrs(kgo.RecordAttrsOpts{TimestampType: kind}) }
	return []*kgo.Record{
		{Topic: "t", Partition: 3, Offset: 1 << 40, Timestamp: time.UnixMilli(1700000000123), Key: []byte("k"), Value: []byte("v\x00"), Attrs: at(0)},
		{Topic: "süß", Offset: 0, Timestamp: time.UnixMilli(-1), Attrs: at(-1)},
		{Topic: "t", Partition: 200, Offset: 5, Timestamp: time.UnixMilli(0), Key: []byte{}, Attrs: at(1), Headers: []kgo.RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "b", Value: []byte{}},
		}},
		{Topic: "t", Offset: 6, Timestamp: time.UnixMilli(1), Value: []byte("only"), Attrs: at(0)},
	}
}

// TestRecordRow decodes what is encoded with the decoder of package row and the schema that SDKs get.
func TestRecordRow(t *testing.T) {
	coder, err := row.New(config.RecordSchema())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sampleRecords() {
		got, rest, err := coder.Decode(appendRecordRow(nil, r))
		if err != nil || len(rest) > 0 {
			t.Fatal(got, rest, err)
		}
		id, name := timestampName(r)
		headers := []any{}
		for _, h := range r.Headers {
			headers = append(headers, row.Row{h.Key, bytesOrNil(h.Value)})
		}
		want := row.Row{
			r.Topic, int64(r.Partition), r.Offset, r.Timestamp.UnixMilli(), bytesOrNil(r.Key), bytesOrNil(r.Value), headers, int64(id), name,
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %#v\nwant %#v", got, want)
		}
	}
}

// bytesOrNil is b, or nil without a type.
func bytesOrNil(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// TestPythonReadsRecords compares with the row coder of the Python SDK of PADSTONE_PYTHON.
func TestPythonReadsRecords(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON names no Python interpreter with apache-beam")
	}
	lines := []string{base64.StdEncoding.EncodeToString(marshal(t, config.RecordSchema()))}
	for _, r := range sampleRecords() {
		lines = append(lines, base64.StdEncoding.EncodeToString(appendRecordRow(nil, r)))
	}
	cmd := exec.Command(python, "testdata/records.py")
	cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(lines, "\n")), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := `('t', 3, 1099511627776, 1700000000123, b'k', b'v\x00', [], 0, 'CreateTime')
('süß', 0, 0, -1, None, None, [], -1, 'NoTimestampType')
('t', 200, 5, 0, b'', None, [('a', b'1'), ('', None), ('b', b'')], 1, 'LogAppendTime')
('t', 0, 6, 1, None, b'only', [], 0, 'CreateTime')
`
	if string(out) != want {
		t.Fatalf("got\n%s", out)
	}
}

func TestAppendOperand(t *testing.T) {
	varint := func(v int64) string { return "\x01" + string(binary.AppendUvarint(nil, uint64(v))) }
	for _, tc := range []struct {
		f    config.Format
		raw  string
		want string // "" for refused
	}{
		{config.Bytes, "\xff", "\x01\x01\xff"},
		{config.String, "ü", "\x01\x02ü"},
		{config.String, "a\xffb", "\x01\x05a\ufffdb"},
		{config.Int16, "\xff\xfe", varint(-2)},
		{config.Int32, "\x80\x00\x00\x00", varint(math.MinInt32)},
		{config.Int64, "\x00\x00\x00\x00\x00\x00\x01\x00", varint(256)},
		{config.Float32, "\x3f\xc0\x00\x00", "\x01\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		{config.Float64, "\x3f\xf8\x00\x00\x00\x00\x00\x00", "\x01\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		{config.Int64, "12345", ""},
		{config.Int32, "", ""},
		{config.Float32, "12345678", ""},
	} {
		got, err := appendOperand(nil, tc.f, false, []byte(tc.raw))
		if (err != nil) != (tc.want == "") || string(got) != tc.want {
			t.Errorf("%s of % x: % x, %v", tc.f, tc.raw, got, err)
		}
	}
	e := encoder{key: config.Bytes, value: config.Int64}
	_, err := e.append(nil, &kgo.Record{Topic: "t", Partition: 4, Offset: 9, Value: []byte("x")}, 0)
	if f := fault.Of(err); f == nil || f.Code != codeDeserialize || !strings.Contains(err.Error(), `value of topic "t" partition 4 offset 9 is not int64`) {
		t.Errorf("got %v", err)
	}
}
