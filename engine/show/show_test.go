package show

import (
	"encoding/hex"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

var coders = map[string]*pipepb.Coder{}

// of adds a coder to coders and returns its id.
func of(coder, payload string, parts ...string) string {
	id := coder + payload + strings.Join(parts, ",")
	coders[id] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: coder, Payload: []byte(payload)}, ComponentCoderIds: parts}
	return id
}

func TestValue(t *testing.T) {
	text, number, raw := of(coderString, ""), of(coderVarint, ""), of(coderBytes, "")
	python := of(coderLengthPrefix, "", of("beam:coder:pickled_python:v1", "\n\x1cFastPrimitivesCoder$\x80pickled"))
	custom := of(coderLengthPrefix, "", of("beam:coder:pickled_python:v1", "MyCoder$\x80"))
	for _, c := range []struct{ coder, data, want string }{
		{text, "05 70 c3 a4 6e 21", `"pän!"`},
		{of(coderLengthPrefix, "", text), "02 68 69", `"hi"`},
		{number, "05", "5"},
		{number, "ff ff ff ff ff ff ff ff ff 01", "-1"},
		{raw, "03 61 62 63", `"abc"`},
		{raw, "03 00 ff fe", "0x00fffe"},
		{of(coderBool, ""), "01", "true"},
		{of(coderDouble, ""), "3f f8 00 00 00 00 00 00", "1.5"},
		{of(coderKV, "", text, of(coderKV, "", number, raw)), "01 6b 07 01 76", `("k", (7, "v"))`},
		{of(coderIterable, "", number), "00 00 00 02 01 02", "[1, 2]"},
		{of(coderIterable, "", number), "ff ff ff ff 02 01 02 01 03 00", "[1, 2, 3]"},
		{of(coderNullable, "", number), "00", "null"},
		{of(coderNullable, "", number), "01 09", "9"},
		{of(coderIntervalWindow, ""), "80 00 00 00 00 00 03 e8 e8 07", "[1970-01-01T00:00:00.000Z, 1970-01-01T00:00:01.000Z)"},
		{python, "02 01 2a", "42"},
		{python, "07 04 70 6f 69 73 6f 6e", `"poison"`},
		{python, "0c 06 03 04 01 61 01 07 05 02 00 09 01", `("a", 7, [None, True])`},
		{python, "07 07 01 04 01 6b 01 02", `{"k": 2}`},
		{python, "03 03 00 ff", `b"\x00\xff"`},
		{python, "04 ff 80 05 95", "0xff800595"},           // pickled
		{custom, "05 68 65 6c 6c 6f", `"hello"`},           // not known, but text
		{of("beam:coder:row:v1", ""), "61 62", `"ab"`},     // not known, and not framed
		{number, "05 06", "0x0506"},                        // more than the coder writes
		{of(coderKV, "", number, number), "05", "0x05"},    // less
		{of(coderIterable, "", number), "7f ff ff ff", ""}, // nonsense
		{"nothing", "61", `"a"`},
	} {
		data, err := hex.DecodeString(strings.ReplaceAll(c.data, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := Value(coders, c.coder, data)
		if c.want == "" {
			c.want = "0x" + hex.EncodeToString(data)
		}
		if got != c.want {
			t.Errorf("%s of %s is %s, not %s", c.data, c.coder, got, c.want)
		}
	}
}

// TestLong values are cut, at the border of a character, and tell their size.
func TestLong(t *testing.T) {
	text := of(coderLengthPrefix, "", of(coderString, ""))
	body := strings.Repeat("ä", 5000)
	got := Value(coders, text, append([]byte{0x90, 0x4e}, body...))
	if !strings.HasPrefix(got, `"ää`) || !strings.HasSuffix(got, "ä… (10002 bytes in all)") || len(got) > Max+40 {
		t.Errorf("%d bytes: %.40s … %s", len(got), got, got[max(0, len(got)-40):])
	}
	got = Bytes(make([]byte, 1<<20))
	if !strings.HasPrefix(got, "0x0000") || !strings.HasSuffix(got, "0… (1048576 bytes in all)") || len(got) > Max+40 {
		t.Errorf("%d bytes: %.40s … %s", len(got), got, got[max(0, len(got)-40):])
	}
}

// FuzzValue must neither fail nor be large, whatever it is given.
func FuzzValue(f *testing.F) {
	python := of(coderLengthPrefix, "", of("beam:coder:pickled_python:v1", "FastPrimitivesCoder$"))
	nested := of(coderKV, "", of(coderIterable, "", python), of(coderNullable, "", of(coderString, "")))
	f.Add([]byte{0, 0, 0, 1, 2, 1, 42, 1, 1, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		if got := Value(coders, nested, data); len(got) > Max+60 {
			t.Errorf("%d bytes", len(got))
		}
	})
}
