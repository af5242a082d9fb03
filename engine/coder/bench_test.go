package coder

import (
	"fmt"
	"strings"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/ratio"
)

// kinds are elements as SDKs send them: framing program, and the value.
var kinds = []struct {
	name, program string
	windows       plan.WindowCoding
	value         func(i int) []byte
}{
	{"bytes", "lp", plan.GlobalWindow, func(int) []byte { return prefixed("ten bytes.") }},
	{"bytes of 10 KiB", "lp", plan.GlobalWindow, func(int) []byte { return prefixed(strings.Repeat("k", 10240)) }},
	{"integers", "varint", plan.GlobalWindow, func(i int) []byte { return []byte{byte(i) | 0x80, byte(i>>8) & 0x7f} }},
	{"floats", "fixed(8)", plan.GlobalWindow, func(i int) []byte { return []byte{1, 2, 3, 4, 5, 6, byte(i), byte(i >> 8)} }},
	{"pairs", "kv(lp,lp)", plan.IntervalWindow, func(i int) []byte {
		return append(prefixed(fmt.Sprintf("key-%04d", i)), prefixed("sixteen bytes ok")...)
	}},
	{"deep pairs", "kv(kv(lp,varint),kv(fixed(8),lp))", plan.IntervalWindow, func(i int) []byte {
		return append(append(append(prefixed("key"), byte(i)&0x7f), 1, 2, 3, 4, 5, 6, 7, 8), prefixed("sixteen bytes ok")...)
	}},
	{"groups of 10", "kv(lp,iter(lp))", plan.IntervalWindow, func(int) []byte {
		v := append(prefixed("key"), 0, 0, 0, 10)
		for range 10 {
			v = append(v, prefixed("value")...)
		}
		return v
	}},
	{"nullable", "nullable(lp)", plan.GlobalWindow, func(i int) []byte {
		if i%2 == 0 {
			return []byte{0}
		}
		return append([]byte{1}, prefixed("value")...)
	}},
}

func prefixed(s string) []byte {
	n := len(s)
	if n < 0x80 {
		return append([]byte{byte(n)}, s...)
	}
	return append([]byte{byte(n) | 0x80, byte(n >> 7)}, s...)
}

func elementsOf(t testing.TB, kind, n int) (*Scanner, []byte) {
	t.Helper()
	k := kinds[kind]
	var window []byte
	if k.windows == plan.IntervalWindow {
		window = unhex(t, "8000000000002710 904e")
	}
	var data []byte
	for i := range n {
		data = AppendHeader(data, element.Time(i), 1, window, []byte{NoFiring})
		data = append(data, k.value(i)...)
	}
	return NewScanner(mustCompile(t, k.program), k.windows), data
}

// TestNoAllocation: crossing the scanner costs no heap object an element, whatever the coder.
func TestNoAllocation(t *testing.T) {
	for kind, k := range kinds {
		const n = 200
		s, data := elementsOf(t, kind, n)
		stat := testing.AllocsPerRun(10, func() {
			if count, _, _, err := s.Stat(data); err != nil || count != n {
				t.Fatal(count, err)
			}
		})
		scan := testing.AllocsPerRun(10, func() {
			count := 0
			if err := s.Scan(data, func(e *Elem) error { count += min(len(e.Value), 1); return nil }); err != nil || count != n {
				t.Fatal(count, err)
			}
		})
		if stat > 0 || scan > 2 { // of a scan the element and the closure, once
			t.Errorf("%s: %.0f and %.0f allocations for %d elements", k.name, stat, scan, n)
		}
	}
}

func BenchmarkStat(b *testing.B) {
	for kind, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			n := min(10_000, 4<<20/len(k.value(0)))
			s, data := elementsOf(b, kind, n)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, _, err := s.Stat(data); err != nil {
					b.Fatal(err)
				}
			}
			ratio.Each(b, n, "elem")
			to := make([]byte, len(data))
			ratio.Report(b, "copy", func() { copy(to, data) })
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for kind, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			n := min(10_000, 4<<20/len(k.value(0)))
			s, data := elementsOf(b, kind, n)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			keys := 0
			for b.Loop() {
				if err := s.Scan(data, func(e *Elem) error { keys += len(e.Key); return nil }); err != nil {
					b.Fatal(err)
				}
			}
			ratio.Each(b, n, "elem")
			to := make([]byte, len(data))
			ratio.Report(b, "copy", func() { copy(to, data) })
		})
	}
}
