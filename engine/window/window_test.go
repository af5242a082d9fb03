package window

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

func TestSpan(t *testing.T) {
	for _, c := range []struct {
		s   Span
		enc string
	}{
		{Span{0, 10000}, "8000000000002710904e"},
		{Span{-5, 5}, "80000000000000050a"},
		{Span{-20, -20}, "7fffffffffffffec00"},
	} {
		got := c.s.Append(nil)
		if hex.EncodeToString(got) != c.enc {
			t.Errorf("%v is encoded as %x, want %s", c.s, got, c.enc)
		}
		if back, err := ParseSpan(got); err != nil || back != c.s {
			t.Errorf("%x decodes to %v, %v", got, back, err)
		}
		if maxTS, err := Max(plan.IntervalWindow, got); err != nil || maxTS != c.s.Max() || maxTS != c.s.End-1 {
			t.Errorf("maximum timestamp of %v is %d, %v", c.s, maxTS, err)
		}
	}
	for _, bad := range [][]byte{nil, make([]byte, 8), append(make([]byte, 8), 0x80), append(make([]byte, 8), 1, 1)} {
		if s, err := ParseSpan(bad); !errors.Is(err, coder.ErrMalformed) {
			t.Errorf("%x decodes to %v, %v", bad, s, err)
		}
	}
}

func TestMax(t *testing.T) {
	if got, err := Max(plan.GlobalWindow, nil); err != nil || got != element.EndOfGlobalTime {
		t.Errorf("global: %s, %v", got, err)
	}
	if got, err := Max(plan.CustomWindow, append(coder.AppendTime(nil, 77), 1, 'x')); err != nil || got != 77 {
		t.Errorf("custom: %s, %v", got, err)
	}
	for _, coding := range []plan.WindowCoding{plan.IntervalWindow, plan.CustomWindow, "other"} {
		if got, err := Max(coding, make([]byte, 8)); !errors.Is(err, coder.ErrMalformed) {
			t.Errorf("%s: %s, %v", coding, got, err)
		}
	}
}

func TestCollectAt(t *testing.T) {
	const end = element.EndOfGlobalTime
	for _, c := range []struct {
		max      element.Time
		lateness int64
		want     element.Time
	}{
		{9, 0, 9}, {9, 100, 109}, {-500, 100, -400}, {end, 0, end}, {end, 5, end}, {end - 5, 5, end}, {end - 5, 4, end - 1},
		{end + 1, 0, end}, {9, 1<<63 - 1, end}, {element.MinTime, 1<<63 - 1, end}, {element.MinTime, 0, element.MinTime},
	} {
		if got := CollectAt(c.max, c.lateness); got != c.want {
			t.Errorf("CollectAt(%s, %d) = %s, want %s", c.max, c.lateness, got, c.want)
		}
	}
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		spans  []Span
		merged []Span
		into   []int
	}{
		{nil, nil, []int{}},
		{[]Span{{0, 10}}, []Span{{0, 10}}, []int{0}},
		{[]Span{{0, 10}, {10, 20}}, []Span{{0, 10}, {10, 20}}, []int{0, 1}},
		{[]Span{{0, 10}, {9, 19}}, []Span{{0, 19}}, []int{0, 0}},
		{[]Span{{20, 30}, {0, 10}, {5, 21}}, []Span{{0, 30}}, []int{0, 0, 0}},
		{[]Span{{20, 30}, {0, 100}, {5, 21}, {100, 101}}, []Span{{0, 100}, {100, 101}}, []int{0, 0, 0, 1}},
		{[]Span{{5, 15}, {5, 15}, {-5, 5}}, []Span{{-5, 5}, {5, 15}}, []int{1, 1, 0}},
	} {
		merged, into := Merge(c.spans)
		if fmt.Sprint(merged, into) != fmt.Sprint(c.merged, c.into) {
			t.Errorf("Merge(%v) = %v, %v; want %v, %v", c.spans, merged, into, c.merged, c.into)
		}
	}
}

// TestMergeRandom merges one after another until nothing overlaps, and compares.
func TestMergeRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var spans []Span
		for range rng.IntN(12) {
			start := element.Time(rng.IntN(60))
			spans = append(spans, Span{start, start + 1 + element.Time(rng.IntN(8))})
		}
		merged, into := Merge(spans)
		for i, s := range spans {
			if m := merged[into[i]]; s.Start < m.Start || s.End > m.End {
				t.Fatalf("seed %d: %v went into %v", seed, s, m)
			}
		}
		for i, m := range merged {
			if i > 0 && merged[i-1].End > m.Start {
				t.Fatalf("seed %d: %v and %v overlap", seed, merged[i-1], m)
			}
			for at := m.Start + 1; at < m.End; at++ { // every inner boundary is inside of a span
				if !inside(spans, at) {
					t.Fatalf("seed %d: %v merged %v, which touch at %d", seed, m, spans, at)
				}
			}
		}
	}
}

func inside(spans []Span, at element.Time) bool {
	for _, s := range spans {
		if s.Start < at && at < s.End {
			return true
		}
	}
	return false
}

func TestSide(t *testing.T) {
	for _, c := range []struct {
		w    plan.Windowing
		main element.Time
		want Span
	}{
		{plan.Windowing{Kind: plan.Fixed, SizeMs: 10}, 19, Span{10, 20}},
		{plan.Windowing{Kind: plan.Fixed, SizeMs: 10}, 20, Span{20, 30}},
		{plan.Windowing{Kind: plan.Fixed, SizeMs: 10, OffsetMs: 3}, -8, Span{-17, -7}},
		{plan.Windowing{Kind: plan.Fixed, SizeMs: 10}, -1, Span{-10, 0}},
		{plan.Windowing{Kind: plan.Sliding, SizeMs: 10, PeriodMs: 4}, 19, Span{16, 26}},
	} {
		got, err := Side(&c.w, c.main)
		if err != nil || !bytes.Equal(got, c.want.Append(nil)) {
			t.Errorf("%v: side window of %d is %x, %v; want %v", c.w, c.main, got, err, c.want)
		}
	}
	if got, err := Side(&plan.Windowing{Kind: plan.Global}, 5); err != nil || len(got) > 0 {
		t.Errorf("global: %x, %v", got, err)
	}
	for _, kind := range []plan.WindowKind{plan.Sessions, plan.Custom} {
		_, err := Side(&plan.Windowing{Kind: kind}, 5)
		if f := fault.Of(err); f == nil || f.Code != "unsupported-side-input-window" {
			t.Errorf("%s: got %v", kind, err)
		}
	}
	// The global window as main window: its side window lies past all timestamps, and is told without overflow.
	got, err := Side(&plan.Windowing{Kind: plan.Fixed, SizeMs: 10}, element.EndOfGlobalTime)
	if s, parseErr := ParseSpan(got); err != nil || parseErr != nil || s.Start > element.EndOfGlobalTime || s.End <= element.EndOfGlobalTime {
		t.Errorf("side window of the global window: %v, %v, %v", s, err, parseErr)
	}
}
