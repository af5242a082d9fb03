package translate

import (
	"bytes"
	"errors"
	"maps"
	"math/rand"
	"os"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/coder"
	"padstone/engine/coder/codertest"
	"padstone/engine/element"
)

// onWire is a coder as the translator hands it to a harness.
type onWire struct {
	ref     *codertest.Coder // the reference of the translated coder
	prog    *coder.Program
	wrapped bool
}

// translated compiles a coder as the translator does.
func translated(t *testing.T, c *codertest.Coder) onWire {
	t.Helper()
	src := map[string]*pipepb.Coder{}
	id := c.AddTo(src)
	return newCoderTable(src).mustWire(t, id)
}

func (t *coderTable) mustWire(tb testing.TB, id string) onWire {
	tb.Helper()
	w, err := t.wire(id)
	if err != nil {
		tb.Fatal(err)
	}
	all := maps.Clone(t.src)
	maps.Copy(all, t.made)
	ref, err := codertest.Of(w.id, all)
	if err != nil {
		tb.Fatal(err)
	}
	prog, err := coder.Compile(w.program)
	if err != nil {
		tb.Fatalf("%s compiles to %q: %v", ref, w.program, err)
	}
	return onWire{ref, prog, w.wrapped}
}

// TestStandardFraming frames every example of the SDK's standard_coders.yaml, as it stands there where the translator leaves the coder
// alone, and in the length prefixes that the translator adds where it does not.
func TestStandardFraming(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON names no Python interpreter with apache-beam")
	}
	examples, err := codertest.Standard(python)
	if err != nil {
		t.Fatal(err)
	}
	asIs := 0
	for _, x := range examples {
		w := translated(t, x.Coder)
		data := x.Encoded
		if w.wrapped || !x.Nested {
			// The runner only ever sees the nested encoding, in the translated coder.
			if data, err = w.ref.Encode(nil, x.Value, true, nil); err != nil {
				t.Errorf("%s as %s: %v", x.Name(), w.ref, err)
				continue
			}
		} else {
			asIs++
		}
		frames(t, w.prog, data)
	}
	if asIs < 70 {
		t.Errorf("%d examples are framed as they stand in the file", asIs)
	}
}

// TestParamWindowedValue: the windows in a payload are encoded with the coder's own window coder, which must stay.
func TestParamWindowedValue(t *testing.T) {
	window := &codertest.Coder{URN: codertest.CustomWindow, Parts: []*codertest.Coder{{URN: codertest.Interval}}}
	unknown := &codertest.Coder{URN: "beam:coder:pickled_python:v1"}
	want := codertest.Windowed{
		Value: codertest.Raw("pickled"), Timestamp: 5,
		Windows: []codertest.Value{codertest.Custom{MaxTimestamp: 9, Window: codertest.IntervalWindow{End: 10, Span: 10}}},
	}
	header := &codertest.Coder{URN: codertest.WindowedValue, Parts: []*codertest.Coder{unknown, window}}
	payload, err := header.Encode(nil, codertest.Windowed{
		Value: codertest.Raw(""), Timestamp: want.Timestamp, Windows: want.Windows,
	}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := translated(t, &codertest.Coder{URN: codertest.ParamWindowed, Payload: payload, Parts: []*codertest.Coder{unknown, window}})
	data, err := w.ref.Encode(nil, want, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	frames(t, w.prog, data)
	if got, _, err := w.ref.Decode(data, true); err != nil || !codertest.Equal(got, want) || !w.wrapped || w.prog.String() != "lp" {
		t.Errorf("%s: %#v, %v; want %#v", w.ref, got, err, want)
	}
}

// frames checks that the program finds the end of the data, whatever follows it, and no end when the data is cut off.
func frames(t *testing.T, prog *coder.Program, data []byte) {
	t.Helper()
	if n, err := prog.Len(append(bytes.Clone(data), 0xee, 0xee)); err != nil || n != len(data) {
		t.Fatalf("%s of %x: %d bytes, %v; want %d", prog, data, n, err, len(data))
	}
	for cut := range data {
		if n, err := prog.Len(data[:cut]); err == nil && n > cut || err != nil && !errors.Is(err, coder.ErrMalformed) {
			t.Fatalf("%s of the first %d bytes of %x: %d, %v", prog, cut, data, n, err)
		} else if err == nil {
			t.Fatalf("%s of %x ends after %d bytes already", prog, data, n)
		}
	}
}

// FuzzCoders makes a coder, values and their encodings out of the fuzzer's bytes and compares framing with the reference, also after
// one byte was changed.
func FuzzCoders(f *testing.F) {
	r := rand.New(rand.NewSource(1))
	for range 100 {
		seed := make([]byte, 200)
		r.Read(seed)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		src := codertest.NewSource(choices)
		c := src.Coder()
		w := translated(t, c)
		if !w.ref.Framed() {
			t.Fatalf("%s is translated to %s, which cannot be framed", c, w.ref)
		}
		v := src.Value(w.ref)
		data, err := w.ref.Encode(nil, v, true, src.Pick)
		if err != nil {
			t.Fatalf("%s: %v", w.ref, err)
		}
		frames(t, w.prog, data)
		back, rest, err := w.ref.Decode(data, true)
		if err != nil || len(rest) > 0 || !codertest.Equal(back, v) {
			t.Fatalf("%s: %x decodes to %#v, rest %x, %v\nwant %#v", w.ref, data, back, rest, err, v)
		}
		if len(data) == 0 {
			return
		}
		data[(src.Pick(256)*256+src.Pick(256))%len(data)] ^= byte(1 + src.Pick(255))
		_, rest, err = w.ref.Decode(data, true)
		n, lenErr := w.prog.Len(data)
		if err == nil && (lenErr != nil || n != len(data)-len(rest)) {
			t.Fatalf("%s of %x: %d bytes, %v; the reference reads %d", w.prog, data, n, lenErr, len(data)-len(rest))
		}
	})
}

// FuzzElements makes windowed elements, and timers of the same key, and takes them apart.
func FuzzElements(f *testing.F) {
	r := rand.New(rand.NewSource(2))
	for range 100 {
		seed := make([]byte, 300)
		r.Read(seed)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, choices []byte) {
		src := codertest.NewSource(choices)
		value := &codertest.Coder{URN: codertest.KVs, Parts: []*codertest.Coder{src.Coder(), src.Coder()}}
		window := []*codertest.Coder{
			{URN: codertest.GlobalWindow}, {URN: codertest.Interval},
			{URN: codertest.CustomWindow, Parts: []*codertest.Coder{src.Coder()}},
		}[src.Pick(3)]
		coders := map[string]*pipepb.Coder{}
		elements := (&codertest.Coder{URN: codertest.WindowedValue, Parts: []*codertest.Coder{value, window}}).AddTo(coders)
		timers := (&codertest.Coder{URN: codertest.Timers, Parts: []*codertest.Coder{value.Parts[0], window}}).AddTo(coders)
		table := newCoderTable(coders)
		_, coding, err := table.window(coders[elements].GetComponentCoderIds()[1])
		if err != nil {
			t.Fatal(err)
		}
		whole := table.mustWire(t, elements)
		inner := table.mustWire(t, coders[elements].GetComponentCoderIds()[0])
		checkElements(t, src, whole, coder.NewScanner(inner.prog, coding))
		checkTimers(t, src, table.mustWire(t, timers))
	})
}

// checkElements scans a run of elements and compares the parts with what was put in.
func checkElements(t *testing.T, src *codertest.Source, whole onWire, scanner *coder.Scanner) {
	t.Helper()
	kv := whole.ref.Parts[0]
	var data []byte
	var want []codertest.Windowed
	for range 1 + src.Pick(3) {
		v := src.Value(whole.ref).(codertest.Windowed)
		want = append(want, v)
		var err error
		if data, err = whole.ref.Encode(data, v, true, nil); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	err := scanner.Scan(data, func(e *coder.Elem) error {
		pair := want[n].Value.(codertest.KV)
		key, err := kv.Parts[0].Encode(nil, pair.Key, true, nil)
		value, err2 := kv.Parts[1].Encode(nil, pair.Value, true, nil)
		if err != nil || err2 != nil || !bytes.Equal(e.Key, key) || !bytes.Equal(e.Rest(), value) {
			t.Fatalf("key %x, value %x; want %x, %x, %v, %v", e.Key, e.Rest(), key, value, err, err2)
		}
		if e.TS != element.Time(want[n].Timestamp) || e.NWin != len(want[n].Windows) {
			t.Fatalf("%d windows at %d; want %v", e.NWin, e.TS, want[n])
		}
		rest := e.Windows
		for _, w := range want[n].Windows {
			encoded, err := whole.ref.Parts[1].Encode(nil, w, true, nil)
			got, after, err2 := coder.NextWindow(scanner.Window(), rest)
			if err != nil || err2 != nil || !bytes.Equal(got, encoded) {
				t.Fatalf("window %x; want %x, %v, %v", got, encoded, err, err2)
			}
			rest = after
		}
		pane, left, err := coder.DecodePane(e.Pane)
		w := want[n].Pane
		if err != nil || len(left) > 0 || pane.First != w.First || pane.Last != w.Last || pane.Timing != coder.Timing(w.Timing) {
			t.Fatalf("pane %+v, %v; want %+v", pane, err, w)
		}
		n++
		return nil
	})
	if err != nil || n != len(want) {
		t.Fatalf("%d of %d elements: %v", n, len(want), err)
	}
	frames(t, whole.prog, data[:min(len(data), lenOf(t, whole.prog, data))])
}

func lenOf(t *testing.T, prog *coder.Program, data []byte) int {
	t.Helper()
	n, err := prog.Len(data)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkTimers takes a timer apart and puts it together again.
func checkTimers(t *testing.T, src *codertest.Source, w onWire) {
	t.Helper()
	v := src.Value(w.ref).(codertest.Timer)
	data, err := w.ref.Encode(nil, v, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	var timer coder.Timer
	rest, err := w.prog.NextTimer(append(bytes.Clone(data), 0xee), &timer)
	if err != nil || len(rest) != 1 || !bytes.Equal(timer.Append(nil), data) {
		t.Fatalf("%s: timer %x is taken apart to %+v, rest %x, %v", w.ref, data, timer, rest, err)
	}
	if string(timer.Tag) != v.Tag || timer.Clear != v.Clear || timer.NWin != len(v.Windows) ||
		!v.Clear && (timer.Fire != element.Time(v.Fire) || timer.Hold != element.Time(v.Hold)) {
		t.Fatalf("timer %+v; want %+v", timer, v)
	}
}
