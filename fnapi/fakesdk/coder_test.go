package fakesdk

import (
	"bytes"
	"math"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

func TestFrames(t *testing.T) {
	coder := func(urn string, parts ...string) *pipepb.Coder {
		return &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: "beam:coder:" + urn + ":v1"}, ComponentCoderIds: parts}
	}
	cs := coders{
		"bytes": coder("bytes"), "varint": coder("varint"), "bool": coder("bool"), "double": coder("double"),
		"kv": coder("kv", "bytes", "varint"), "iter": coder("iterable", "varint"), "odd": coder("pickled"),
		"lp": coder("length_prefix", "odd"), "window": coder("interval_window"), "endless": coder("kv", "endless", "bytes"),
	}
	tests := []struct {
		coder string
		in    []byte
		size  int // of the first value; -1: an error
	}{
		{"bytes", []byte{2, 'a', 'b', 9}, 3},
		{"bytes", []byte{4, 'a', 'b', 9}, -1},
		{"bytes", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, -1},
		{"varint", []byte{0x80, 1, 9}, 2},
		{"varint", nil, -1},
		{"bool", []byte{1}, 1},
		{"double", make([]byte, 9), 8},
		{"kv", []byte{1, 'a', 5, 9}, 3},
		{"iter", []byte{0, 0, 0, 2, 5, 6, 9}, 6},
		{"iter", []byte{0xff, 0xff, 0xff, 0xff, 2, 5, 6, 1, 7, 0, 9}, 10},
		{"iter", []byte{0xff, 0xff, 0xff, 0xff, 2, 5}, -1},
		{"lp", []byte{1, 'x', 9}, 2},
		{"window", []byte{0x80, 0, 0, 0, 0, 0, 0, 1, 0x80, 1, 9}, 10},
	}
	for _, tt := range tests {
		f, err := cs.frame(tt.coder)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := f(tt.in)
		if tt.size < 0 {
			if err == nil {
				t.Errorf("%s % x: no error", tt.coder, tt.in)
			}
			continue
		}
		if err != nil || len(tt.in)-len(rest) != tt.size {
			t.Errorf("%s % x: %d bytes, %v; want %d", tt.coder, tt.in, len(tt.in)-len(rest), err, tt.size)
		}
	}
	for _, id := range []string{"odd", "missing", "endless"} {
		if _, err := cs.frame(id); err == nil {
			t.Errorf("coder %q was compiled", id)
		}
	}
}

func TestElementsAndTimersReadBack(t *testing.T) {
	for _, pane := range [][]byte{{0x0f}, {0x1f, 3}, {0x2f, 0x80, 1, 4}, {0x8f, 2, 'm', 'd'}} {
		e := Element{Timestamp: math.MinInt64, Windows: []byte{0, 0, 0, 1}, Pane: pane, Value: Nested([]byte("v"))}
		got, err := Elements(e.Append(e.Append(nil)), lengthPrefixed)
		if err != nil || len(got) != 2 || !bytes.Equal(got[1].Pane, pane) || got[1].Timestamp != e.Timestamp || !bytes.Equal(got[1].Value, e.Value) {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, want := range []Timer{
			{Key: Nested([]byte("k")), Tag: "tag", Windows: e.Windows, Fire: 5, Hold: -4, Pane: pane},
			{Key: Nested([]byte("k")), Windows: e.Windows, Clear: true},
		} {
			timer, rest, err := nextTimer(want.Append(nil), lengthPrefixed, fixed(0))
			if err != nil || len(rest) > 0 || timer.Tag != want.Tag || timer.Fire != want.Fire || timer.Hold != want.Hold ||
				timer.Clear != want.Clear || !bytes.Equal(timer.Key, want.Key) || !bytes.Equal(timer.Pane, want.Pane) {
				t.Fatalf("%+v, %v, %v", timer, rest, err)
			}
		}
	}
}
