package window

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
)

func newAssigner(t testing.TB, w *plan.Windowing, program string, from plan.WindowCoding) (*Assigner, *coder.Scanner) {
	t.Helper()
	prog, err := coder.Compile(program)
	if err != nil {
		t.Fatal(err)
	}
	s := coder.NewScanner(prog, from)
	a, err := NewAssigner(w, s)
	if err != nil {
		t.Fatal(err)
	}
	return a, s
}

// TestAssignAsPython compares with what the Python SDK makes of the same elements: see testdata/assign.py.
func TestAssignAsPython(t *testing.T) {
	data, err := os.ReadFile("testdata/assign.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Kind                 plan.WindowKind
		Size, Period, Offset int64
		Elements             [][2]string
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) < 10 {
		t.Fatal(len(cases), err)
	}
	for _, c := range cases {
		w := &plan.Windowing{Kind: c.Kind, SizeMs: c.Size, PeriodMs: c.Period, OffsetMs: c.Offset}
		t.Run(fmt.Sprint(c.Kind, c.Size, c.Period, c.Offset), func(t *testing.T) {
			a, _ := newAssigner(t, w, "fixed(2)", plan.GlobalWindow) // all values have two bytes, or three
			b, _ := newAssigner(t, w, "fixed(3)", plan.GlobalWindow)
			for i, e := range c.Elements {
				in, _ := hex.DecodeString(e[0])
				want, _ := hex.DecodeString(e[1])
				assigner := a
				if i >= 10 {
					assigner = b
				}
				got, rest, count, err := assigner.Append(nil, in)
				if err != nil || count != 1 || len(rest) > 0 || !bytes.Equal(got, want) {
					t.Errorf("%s becomes %x (%v), Python makes it %s", e[0], got, err, e[1])
				}
			}
		})
	}
}

// windowed is an element as a test knows it.
type windowed struct {
	at      element.Time
	windows []Span
	value   string
}

func (e windowed) append(dst []byte, pane ...byte) []byte {
	var ws []byte
	for _, s := range e.windows {
		ws = s.Append(ws)
	}
	return append(append(coder.AppendHeader(dst, e.at, len(e.windows), ws, pane), byte(len(e.value))), e.value...)
}

// assigned tries all windows near a timestamp, and takes those that hold it, the latest first.
func assigned(w *plan.Windowing, at element.Time) (all []Span) {
	period := w.PeriodMs
	switch w.Kind {
	case plan.Sessions:
		return []Span{{at, at + element.Time(w.SizeMs)}}
	case plan.Fixed:
		period = w.SizeMs
	}
	for start := int64(at); start > int64(at)-w.SizeMs; start-- {
		if from := start - w.OffsetMs; from/period*period == from {
			all = append(all, Span{element.Time(start), element.Time(start + w.SizeMs)})
		}
	}
	return all
}

// TestAssign compares with the search for windows, of elements with any pane in one window or, though the compiler sees to it that there
// are none, in several; in pieces of every size.
func TestAssign(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		size := 1 + rng.Int64N(40)
		w := &plan.Windowing{
			Kind: []plan.WindowKind{plan.Fixed, plan.Sliding, plan.Sessions}[rng.IntN(3)], SizeMs: size, PeriodMs: 1 + rng.Int64N(30),
			OffsetMs: rng.Int64N(100) - 50,
		}
		a, _ := newAssigner(t, w, "lp", plan.IntervalWindow)
		var data, want []byte
		n := rng.IntN(30)
		for i := range n {
			e := windowed{at: element.Time(rng.IntN(200) - 100), value: fmt.Sprint("value", i)}
			for range 1 + rng.IntN(10)/9 {
				e.windows = append(e.windows, Span{e.at, e.at + 5})
			}
			pane := coder.Pane{Timing: coder.Late, Index: rng.Int64N(3), NonSpeculative: 1}.Append(nil)
			data = e.append(data, pane...)
			out := windowed{e.at, assigned(w, e.at), e.value}
			for range len(e.windows) * min(len(out.windows), 1) {
				want = out.append(want, coder.NoFiring)
			}
		}
		var got []byte
		total, pieces := 0, 0
		for rest := data; len(rest) > 0; pieces++ {
			piece, left, count, err := a.Append(make([]byte, 0, rng.IntN(1000)), rest)
			if err != nil || len(left) >= len(rest) {
				t.Fatalf("seed %d: %d bytes of %d are left, %v", seed, len(left), len(rest), err)
			}
			got, rest, total = append(got, piece...), left, total+count
		}
		if !bytes.Equal(got, want) || total != n {
			t.Fatalf("seed %d, %s: %d of %d elements in %d pieces become\n%x, not\n%x", seed, w, total, n, pieces, got, want)
		}
	}
}

// TestAssignMalformed refuses elements that are cut off.
func TestAssignMalformed(t *testing.T) {
	a, _ := newAssigner(t, &plan.Windowing{Kind: plan.Fixed, SizeMs: 10}, "lp", plan.GlobalWindow)
	e := append(coder.AppendHeader(nil, 5, 1, nil, []byte{coder.NoFiring}), 3, 'a', 'b', 'c')
	for cut := 1; cut < len(e); cut++ {
		if _, _, _, err := a.Append(nil, append(slices.Clone(e), e[:cut]...)); !errors.Is(err, coder.ErrMalformed) {
			t.Errorf("%x: %v", e[:cut], err)
		}
	}
	for _, kind := range []plan.WindowKind{plan.Custom, plan.MergingCustom, ""} {
		if _, err := NewAssigner(&plan.Windowing{Kind: kind}, nil); err == nil {
			t.Errorf("windows of kind %q are assigned", kind)
		}
	}
}

// BenchmarkAssign assigns windows to messages of 10,000 elements of about 30 bytes, whose timestamps rise or come in any order.
func BenchmarkAssign(b *testing.B) {
	for _, c := range []struct {
		name   string
		w      plan.Windowing
		spread int64
	}{
		{"fixed, rising", plan.Windowing{Kind: plan.Fixed, SizeMs: 300_000}, 0},
		{"fixed, any order", plan.Windowing{Kind: plan.Fixed, SizeMs: 300_000}, 1 << 30},
		{"sliding of 5", plan.Windowing{Kind: plan.Sliding, SizeMs: 300_000, PeriodMs: 60_000}, 0},
		{"sessions", plan.Windowing{Kind: plan.Sessions, SizeMs: 300_000}, 0},
		{"global", plan.Windowing{Kind: plan.Global}, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			const n = 10_000
			a, _ := newAssigner(b, &c.w, "kv(lp,varint)", plan.GlobalWindow)
			var data []byte
			for i := range int64(n) {
				at := 1_700_000_000_000 + i*18
				if c.spread > 0 {
					at += rand.Int64N(c.spread)
				}
				data = coder.AppendHeader(data, element.Time(at), 1, nil, []byte{coder.NoFiring})
				data = append(append(data, 6), fmt.Sprintf("m%05d\x07", i%1000)...)
			}
			buf := make([]byte, 0, 8*len(data))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, rest, count, err := a.Append(buf, data); err != nil || count != n || len(rest) > 0 {
					b.Fatal(count, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
}
