package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// mergeOverlaps merges windows that overlap, as Sessions does.
func mergeOverlaps(sets [][][]byte) ([][]Merged, error) {
	var all [][]Merged
	for _, set := range sets {
		spans := make([]window.Span, len(set))
		for i, w := range set {
			var err error
			if spans[i], err = window.ParseSpan(w); err != nil {
				return nil, err
			}
		}
		found, into := window.Merge(spans)
		merged := make([]Merged, len(found))
		for i, s := range found {
			merged[i].Window = s.Append(nil)
		}
		for i, m := range into {
			merged[m].From = append(merged[m].From, i)
		}
		all = append(all, merged)
	}
	return all, nil
}

// TestMergingLikeSessions runs a user's function that merges as Sessions does beside Sessions: they do the same.
func TestMergingLikeSessions(t *testing.T) {
	all := windowings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		if w.Kind != plan.Sessions {
			continue
		}
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s seed %d", name, seed), func(t *testing.T) {
				custom := w
				custom.Kind = plan.MergingCustom
				a, b := newRig(t, w), newRig(t, custom)
				rng := rand.New(rand.NewPCG(seed, 5))
				at := element.Time(0)
				for step := range 60 {
					switch rng.IntN(4) {
					case 0:
						at += element.Time(rng.IntN(8))
						a.advance(at, a.env.Now)
						b.advance(at, b.env.Now)
					case 1:
						now := a.env.Now + element.Time(rng.IntN(6))
						a.advance(a.env.InputWatermark, now)
						b.advance(b.env.InputWatermark, now)
					default:
						var data []datum
						for i := range 1 + rng.IntN(4) {
							ts := at + element.Time(rng.IntN(24)-8)
							data = append(data, datum{key: string(rune('a' + rng.IntN(3))), ts: ts, value: fmt.Sprint(step, "-", i),
								wins: []window.Span{{Start: ts, End: ts.Add(w.SizeMs)}}})
						}
						a.add(data...)
						b.add(data...)
					}
					if got, want := b.take(), a.take(); got != want {
						t.Fatalf("step %d: got\n%swant\n%s", step, got, want)
					}
				}
				a.finish()
				b.finish()
				if got, want := b.take(), a.take(); got != want {
					t.Errorf("at the end: got\n%swant\n%s", got, want)
				}
			})
		}
	}
}

// evens merges all windows with an even start, as a test of Beam's does.
func evens(sets [][][]byte) ([][]Merged, error) {
	var all [][]Merged
	for _, set := range sets {
		var merged []Merged
		even := Merged{}
		var whole window.Span
		for i, w := range set {
			s, err := window.ParseSpan(w)
			switch {
			case err != nil:
				return nil, err
			case s.Start%2 != 0:
				merged = append(merged, Merged{Window: w, From: []int{i}})
				continue
			case len(even.From) == 0:
				whole = s
			}
			whole = window.Span{Start: min(whole.Start, s.Start), End: max(whole.End, s.End)}
			even.From = append(even.From, i)
		}
		even.Window = whole.Append(nil)
		all = append(all, append(merged, even))
	}
	return all, nil
}

// at is an element in a window of 1000 from its time on.
func at(key string, ts element.Time, value string) datum {
	return datum{key: key, ts: ts, value: value, wins: []window.Span{{Start: ts, End: ts + 1000}}}
}

// TestMergingApart: windows that overlap and do not merge stay apart, and live ones merge for the sake of another.
func TestMergingApart(t *testing.T) {
	w := fixed(plan.TriggerDefault)
	w.Kind, w.LatenessMs = plan.MergingCustom, 50
	r := newRig(t, w)
	asked := 0
	r.env.Merge = func(sets [][][]byte) ([][]Merged, error) {
		asked += len(sets)
		return evens(sets)
	}
	r.add(at("k", 1, "a"), at("k", 2, "b"), at("l", 2, "x"))
	r.add(at("k", 2, "c"))
	r.add(at("k", 101, "d"))
	if asked != 3 { // two keys, then one of them; a window that is there needs no merging
		t.Errorf("asked for %d sets", asked)
	}
	r.add(at("k", 100, "e"))
	r.advance(1001, 0)
	r.advance(2000, 0)
	want := "k [1,1001) @1000 on-time 0/0 first: a\nk [101,1101) @1100 on-time 0/0 first last: d\n" +
		"k [2,1100) @1099 on-time 0/0 first last: b c e\nl [2,1002) @1001 on-time 0/0 first last: x\n"
	if got := r.take(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	r.add(at("k", 3, "late"))
	if got := r.take(); got != "dropped 1 late\n" {
		t.Errorf("got %s", got)
	}
	r.finish()
}

// TestMergingBreaksFaith: a function that loses a window, counts one twice or makes what is no window fails the pipeline.
func TestMergingBreaksFaith(t *testing.T) {
	w := fixed(plan.TriggerDefault)
	w.Kind = plan.MergingCustom
	broken := errors.New("broken")
	for name, merge := range map[string]Merger{
		"lost": func(sets [][][]byte) ([][]Merged, error) {
			return [][]Merged{{{Window: sets[0][0], From: []int{0}}}}, nil
		},
		"twice": func(sets [][][]byte) ([][]Merged, error) {
			return [][]Merged{{{Window: sets[0][0], From: []int{0, 1, 1}}}}, nil
		},
		"beyond": func(sets [][][]byte) ([][]Merged, error) {
			return [][]Merged{{{Window: sets[0][0], From: []int{0, 1, 2}}}}, nil
		},
		"none": func([][][]byte) ([][]Merged, error) {
			return [][]Merged{{{Window: []byte("x"), From: []int{0, 1}}}}, nil
		},
		"fewer": func([][][]byte) ([][]Merged, error) { return nil, nil },
		"fails": func([][][]byte) ([][]Merged, error) { return nil, broken },
	} {
		r := newRig(t, w)
		r.env.Merge = merge
		var out Output
		err := r.m.Process(&r.tx, r.encode([]datum{at("k", 1, "a"), at("k", 2, "b")}), r.env, &out)
		switch f := fault.Of(err); {
		case err == nil, f == nil && !errors.Is(err, broken), f != nil && !strings.HasPrefix(string(f.Code), "window-merge"):
			t.Errorf("%s: %v", name, err)
		}
	}
	// Equal windows are one, and empty ones are nothing.
	r := newRig(t, w)
	r.env.Merge = func(sets [][][]byte) ([][]Merged, error) {
		one := sets[0][0]
		return [][]Merged{{{Window: one, From: []int{0}}, {Window: one, From: []int{1}}, {Window: one}}}, nil
	}
	r.add(at("k", 1, "a"), at("k", 2, "b"))
	r.finish()
	if got := r.take(); got != "k [1,1001) @1000 on-time 0/0 first last: a b\n" {
		t.Errorf("got %s", got)
	}
}
