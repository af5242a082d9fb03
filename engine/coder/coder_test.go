package coder

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"strings"
	"testing"

	"padstone/engine/coder/codertest"
	"padstone/engine/element"
	"padstone/engine/plan"
)

func mustCompile(t testing.TB, src string) *Program {
	t.Helper()
	p, err := Compile(src)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// unhex reads hexadecimal digits; spaces are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLen holds encodings as Beam's Python coders write them in nested context, where they have them.
func TestLen(t *testing.T) {
	const minusOne = "ffffffffffffffffff01"
	for _, c := range []struct {
		src  string
		data string // followed by garbage
		note string
	}{
		{"unit", "", "nothing"},
		{"fixed(8)", "3ff0000000000000", "DoubleCoder 1.0"},
		{"fixed(1)", "01", "BooleanCoder"},
		{"varint", "00", "VarIntCoder 0"},
		{"varint", minusOne, "VarIntCoder -1"},
		{"lp", "0568656c6c6f", "StrUtf8Coder hello"},
		{"lp", "00", "BytesCoder, empty"},
		{"lp", "8102" + strings.Repeat("00", 257), "BytesCoder, 257 bytes"},
		{"nullable(lp)", "00", "NullableCoder None"},
		{"nullable(lp)", "0101 61", "NullableCoder a"},
		{"kv(lp,varint)", "0161 05", "TupleCoder (a, 5)"},
		{"iter(lp)", "00000002 0161 00", "IterableCoder, length known"},
		{"iter(lp)", "00000000", "IterableCoder, empty"},
		{"iter(varint)", "ffffffff 02 01 02 01 03 00", "IterableCoder of a generator: chunks until 0"},
		{"iter(varint)", "ffffffff 00", "IterableCoder of a generator, empty"},
		{"iter(varint)", "ffffffff 01 07" + minusOne + "03 616263", "state backed: a chunk, then -1 and a token"},
		{"iter(varint)", "ffffffff" + minusOne + "00", "state backed, empty token"},
		{"iter(unit)", "7fffffff", "as many nothings as there can be"},
		{"iter(kv(fixed(4),unit))", "00000002 0000000000000000", "values of a fixed size"},
		{"sharded(lp)", "0173 0161", "shard id, key"},
		{"window(global)", "", "GlobalWindowCoder"},
		{"window(interval)", "8000000000002710 904e", "IntervalWindowCoder [0, 10 s)"},
		{"window(custom)", "8000000000002710 0161", "maximum timestamp, payload"},
		{"windowed(varint,interval)", "8000000000000001 00000001 8000000000002710 904e 0f 05", "a reified value"},
		{"timer(lp,global)", "0161 00 00000001 01", "a cleared timer"},
		{"timer(lp,global)", "0161 0174 00000001 00 8000000000000001 8000000000000002 0f", "a timer with tag t"},
		{"timer(lp,global)", "0161 00 00000001 00 8000000000000001 8000000000000002 24 01 00", "its pane has two indices"},
	} {
		p, data := mustCompile(t, c.src), unhex(t, c.data)
		if p.String() != c.src || p.root.String() != c.src {
			t.Errorf("%s prints as %s and %s", c.src, p, p.root)
		}
		n, err := p.Len(append(bytes.Clone(data), 0xee, 0xee))
		if err != nil || n != len(data) {
			t.Errorf("%s: %s: %d bytes, %v; want %d", c.src, c.note, n, err, len(data))
		}
		for cut := range data {
			if strings.HasPrefix(c.src, "iter(unit") {
				break
			}
			if n, err := p.Len(data[:cut]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %s: cut off at %d gives %d, %v", c.src, c.note, cut, n, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct{ src, data string }{
		{"varint", "ffffffffffffffffffff01"},
		{"lp", "ffffffffffffffffff01"},
		{"lp", "ffffffffffffffffff7f"},
		{"lp", "8080808010"},
		{"nullable(lp)", "02"},
		{"iter(lp)", "fffffffe"},
		{"iter(lp)", "ffffffff fdffffffffffffffff01"},
		{"iter(lp)", "ffffffff ffffffffffffffffff7f 00"},
		{"iter(fixed(8))", "7fffffff 00"},
		{"timer(unit,global)", "00 00000001 02"},
		{"timer(unit,global)", "00 80000000 01"},
		{"timer(unit,global)", "00 00000002 01"},
		{"windowed(unit,global)", "8000000000000001 00000001 30"},
	} {
		if n, err := mustCompile(t, c.src).Len(unhex(t, c.data)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s of %s: %d, %v", c.src, c.data, n, err)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, src := range []string{
		"", "bytes", "fixed", "fixed()", "fixed(-1)", "fixed(x)", "fixed(8", "fixed(99999999)", "kv(lp)", "kv(lp,lp", "kv(lp lp)", "lp)",
		"iter(lp,lp)", "window(lp)", "window(global", "timer(lp)", "timer(lp,global", " lp", "nullable",
		strings.Repeat("iter(", 100) + "lp" + strings.Repeat(")", 100),
	} {
		if p, err := Compile(src); err == nil {
			t.Errorf("%q compiles to %s", src, p)
		}
	}
}

func TestKV(t *testing.T) {
	key, value, ok := mustCompile(t, "kv(nullable(lp),iter(kv(lp,varint)))").KV()
	if !ok || key.String() != "nullable(lp)" || value.String() != "iter(kv(lp,varint))" {
		t.Errorf("got %v, %v, %t", key, value, ok)
	}
	if _, _, ok := mustCompile(t, "iter(kv(lp,lp))").KV(); ok {
		t.Error("an iterable is no kv")
	}
}

func TestPane(t *testing.T) {
	for _, c := range []struct {
		p   Pane
		enc string // as PaneInfoCoder of Python and Java write it
	}{
		{Pane{First: true, Last: true, Timing: Unknown}, "0f"},
		{Pane{First: true, Last: true, Timing: OnTime}, "07"},
		{Pane{First: true, Timing: OnTime}, "05"},
		{Pane{First: true, Timing: Early, NonSpeculative: -1}, "1100"},
		{Pane{Timing: Early, Index: 300, NonSpeculative: -1}, "10ac02"},
		{Pane{Timing: OnTime, Index: 2}, "240200"},
		{Pane{Last: true, Timing: Late, Index: 3, NonSpeculative: 3}, "1a03"},
		{Pane{Timing: Late, Index: 3, NonSpeculative: 1}, "280301"},
	} {
		got := c.p.Append(nil)
		if hex.EncodeToString(got) != c.enc {
			t.Errorf("%+v is encoded as %x, want %s", c.p, got, c.enc)
		}
		back, rest, err := DecodePane(append(got, 0xee))
		if err != nil || back != c.p || len(rest) != 1 {
			t.Errorf("%s decodes to %+v, %x, %v", c.enc, back, rest, err)
		}
		got[0] |= metaFlag
		back, rest, err = DecodePane(append(got, 2, 'm', 'm', 0xee))
		if err != nil || back != c.p || len(rest) != 1 {
			t.Errorf("%s with metadata decodes to %+v, %x, %v", c.enc, back, rest, err)
		}
	}
	if NoFiring != (Pane{First: true, Last: true, Timing: Unknown}).Append(nil)[0] ||
		OnlyFiring != (Pane{First: true, Last: true, Timing: OnTime}).Append(nil)[0] {
		t.Error("a constant is wrong")
	}
	for _, bad := range []string{"", "10", "20", "2001", "30", "8f", "8f05"} {
		if p, _, err := DecodePane(unhex(t, bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q decodes to %+v, %v", bad, p, err)
		}
	}
	if got := fmt.Sprint(Early, OnTime, Late, Unknown); got != "early on-time late unknown" {
		t.Error(got)
	}
}

func TestScan(t *testing.T) {
	win := unhex(t, "8000000000002710 904e")
	wins := append(bytes.Clone(win), win...)
	data := AppendHeader(nil, 5, 1, win, []byte{NoFiring})
	data = append(data, 1, 'a', 2, 'v', 'w')
	data = AppendHeader(data, -7, 2, wins, []byte{0x8f, 1, 'm'})
	data = append(data, 0, 1, 'x')
	s := NewScanner(mustCompile(t, "kv(lp,lp)"), plan.IntervalWindow)
	var got []string
	err := s.Scan(data, func(e *Elem) error {
		got = append(got, fmt.Sprintf("%d %d %x %x %x %x %d", e.TS, e.NWin, e.Windows, e.Pane, e.Key, e.Rest(), len(e.Raw)))
		for b, n := e.Windows, e.NWin; n > 0; n-- {
			w, rest, err := NextWindow(s.Window(), b)
			if err != nil || !bytes.Equal(w, win) {
				t.Errorf("window %x, %v", w, err)
			}
			b = rest
		}
		return nil
	})
	want := []string{
		fmt.Sprintf("5 1 %x 0f 0161 027677 28", win),
		fmt.Sprintf("-7 2 %x 8f016d 00 0178 38", wins),
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v\nwant %v", got, err, want)
	}
	b, err := s.Block(data)
	if err != nil || b.Count != 2 || b.MinTS != -7 || b.MaxTS != 5 || len(b.Data) != len(data) {
		t.Errorf("block %+v, %v", b, err)
	}
	if b, err := s.Block(nil); err != nil || b.Count != 0 || b.MinTS != element.MaxTime || b.MaxTS != element.MinTime {
		t.Errorf("empty block %+v, %v", b, err)
	}
	if _, _, _, err := s.Stat(data[:len(data)-1]); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "byte 28 of 65") {
		t.Errorf("cut off: %v", err)
	}
	stop := errors.New("stop")
	if err := s.Scan(data, func(*Elem) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want what the callback said", err)
	}
}

func TestTimers(t *testing.T) {
	p := mustCompile(t, "timer(lp,interval)")
	win := unhex(t, "8000000000002710 904e")
	set := Timer{Key: []byte{1, 'k'}, Tag: []byte("tag"), NWin: 1, Windows: win, Fire: 77, Hold: -5, Pane: []byte{0x24, 2, 0}}
	cleared := Timer{Key: []byte{0}, Tag: []byte{}, NWin: 1, Windows: win, Clear: true}
	data := cleared.Append(set.Append(nil))
	var a, b Timer
	rest, err := p.NextTimer(data, &a)
	if err == nil {
		rest, err = p.NextTimer(rest, &b)
	}
	if err != nil || len(rest) > 0 || fmt.Sprint(a) != fmt.Sprint(set) || fmt.Sprint(b) != fmt.Sprint(cleared) {
		t.Errorf("got %v and %v, rest %x, %v", a, b, rest, err)
	}
	if _, err := p.NextTimer(data[:5], &a); !errors.Is(err, ErrMalformed) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := mustCompile(t, "lp").NextTimer(data, &a); err == nil {
		t.Error("a program that is not a timer's read one")
	}
}

func TestKeyGroup(t *testing.T) {
	if h := Hash(nil); h != 0xef46db3751d8e999 {
		t.Errorf("the hash of nothing is %#x, which is not xxHash64", h)
	}
	if h := Hash([]byte("\x03key")); h != 0x56e2928c40850739 {
		t.Errorf("the hash of a key is %#x: it decides where state lies on disk and must never change", h)
	}
	counts := make([]int, 256)
	for i := range 1 << 14 {
		counts[KeyGroup([]byte(fmt.Sprint("key", i)), 256)]++
	}
	for g, n := range counts {
		if n < 25 || n > 120 {
			t.Errorf("key group %d has %d of %d keys", g, n, 1<<14)
		}
	}
	if KeyGroup([]byte("x"), 1) != 0 || GroupOf(math.MaxUint64, 65536) != 65535 {
		t.Error("group out of range")
	}
}

// program makes a framing program out of a fuzzer's choices.
func program(src *codertest.Source, depth int) string {
	const depthMax = 6
	leaves := []string{"unit", "varint", "lp", "fixed(1)", "fixed(8)", "window(global)", "window(interval)", "window(custom)"}
	composites := []string{
		"kv(%s,%s)", "kv(%s,%s)", "iter(%s)", "iter(%s)", "nullable(%s)", "sharded(%s)",
		"windowed(%s,global)", "windowed(%s,interval)", "windowed(%s,custom)", "timer(%s,global)", "timer(%s,interval)", "timer(%s,custom)",
	}
	choice := src.Pick(len(leaves) + len(composites))
	if choice < len(leaves) || depth >= depthMax {
		return leaves[choice%len(leaves)]
	}
	form := composites[choice-len(leaves)]
	a := program(src, depth+1)
	if strings.HasPrefix(form, "kv") {
		return fmt.Sprintf(form, a, program(src, depth+1))
	}
	return fmt.Sprintf(form, a)
}

// choicesMax is the number of programs that the seeds try.
const choicesMax = 120

// FuzzLen compares the scanner with the naive reader: same length or both an error, whatever the program and the bytes.
func FuzzLen(f *testing.F) {
	r := rand.New(rand.NewSource(1))
	for i := range choicesMax {
		choices := make([]byte, 12)
		r.Read(choices)
		f.Add(choices, bytes.Repeat([]byte{byte(i % 3)}, 40))
		f.Add(choices, append([]byte{0xff, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{1}, 30)...))
	}
	f.Fuzz(func(t *testing.T, choices, data []byte) {
		src := program(codertest.NewSource(choices), 0)
		p := mustCompile(t, src)
		if p.root.String() != src {
			t.Fatalf("%s prints as %s", src, p.root)
		}
		n, err := p.Len(data)
		want, wantErr := naive(src, data)
		if (err == nil) != (wantErr == nil) || err == nil && n != want {
			t.Fatalf("%s of %x: %d, %v; read one by one %d, %v", src, data, n, err, want, wantErr)
		}
		if err != nil || !strings.HasPrefix(src, "timer") {
			return
		}
		var timer Timer
		if rest, err := p.NextTimer(data, &timer); err != nil || len(data)-len(rest) != n {
			t.Fatalf("timer of %d bytes: %v", n, err)
		}
		if again := timer.Append(nil); len(again) == n && !bytes.Equal(again, data[:n]) {
			t.Fatalf("timer %x is encoded again as %x", data[:n], again)
		}
	})
}

// FuzzScan does the same for elements, and decodes panes.
func FuzzScan(f *testing.F) {
	head := AppendHeader(nil, 5, 1, nil, []byte{NoFiring})
	r := rand.New(rand.NewSource(2))
	for i := range choicesMax {
		choices := make([]byte, 12)
		r.Read(choices)
		f.Add(choices, uint8(i), append(bytes.Clone(head), make([]byte, 20)...))
	}
	f.Fuzz(func(t *testing.T, choices []byte, window uint8, data []byte) {
		src := program(codertest.NewSource(choices), 0)
		coding := []plan.WindowCoding{plan.GlobalWindow, plan.IntervalWindow, plan.CustomWindow}[window%3]
		s := NewScanner(mustCompile(t, src), coding)
		var e Elem
		rest, err := s.Next(data, &e)
		n, ts, wantErr := naiveElem(src, string(coding), data)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s of %x: %v; read one by one %v", src, data, err, wantErr)
		}
		if err != nil {
			return
		}
		if len(data)-len(rest) != n || e.TS != ts || len(e.Raw) != n {
			t.Fatalf("%s of %x: %d bytes at %d; read one by one %d at %d", src, data, len(e.Raw), e.TS, n, ts)
		}
		if _, after, err := DecodePane(e.Pane); err != nil || len(after) > 0 {
			t.Fatalf("pane %x: %v", e.Pane, err)
		}
		if !bytes.Equal(append(AppendHeader(nil, e.TS, e.NWin, e.Windows, e.Pane), e.Value...), e.Raw) {
			t.Fatalf("element %x does not add up", e.Raw)
		}
	})
}

// FuzzCompile: whatever compiles prints as it was written.
func FuzzCompile(f *testing.F) {
	for _, src := range []string{"kv(varint,iter(nullable(lp)))", "timer(lp,custom)", "windowed(kv(lp,fixed(3)),interval)", "sharded(window(global))"} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		p, err := Compile(src)
		if err != nil {
			return
		}
		again, err := Compile(p.root.String())
		if err != nil || again.root.String() != p.root.String() {
			t.Fatalf("%q compiles to %s, and that to %v, %v", src, p.root, again, err)
		}
	})
}
