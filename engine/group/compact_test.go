package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/trigger/triggertest"
)

// sumUp is a combiner of decimal numbers.
func sumUp(sets []Accumulators) ([][]byte, error) {
	merged := make([][]byte, len(sets))
	for i, s := range sets {
		total, count, rest := 0, int64(0), s.Values
		for ; len(rest) > 0; rest = rest[1+rest[0]:] {
			n, err := strconv.Atoi(string(rest[1 : 1+rest[0]]))
			if err != nil {
				return nil, err
			}
			total, count = total+n, count+1
		}
		if count != s.Count || count < 2 {
			return nil, fmt.Errorf("%d accumulators of key %x, said to be %d", count, s.Key, s.Count)
		}
		merged[i] = appendLP(nil, strconv.Itoa(total))
	}
	return merged, nil
}

// total replaces the values of panes by their sum.
func total(t *testing.T, panes []pane) []string {
	var lines []string
	for _, p := range panes {
		sum := 0
		for _, v := range p.values {
			n, err := strconv.Atoi(v)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		p.values = []string{strconv.Itoa(sum)}
		lines = append(lines, p.String())
	}
	slices.Sort(lines)
	return lines
}

// compacting returns a rig whose machine merges accumulators at the thresholds.
func compacting(t *testing.T, w plan.Windowing, at thresholds) *rig {
	r := newRig(t, w)
	r.m = r.m.Compacting()
	r.m.staleAt = at
	r.combine = sumUp
	return r
}

// TestCompactionShowsNowhere compares a machine that merges accumulators whenever it may with one that does not: the panes differ in
// nothing but in how many accumulators they have, and what is dropped not at all.
func TestCompactionShowsNowhere(t *testing.T) {
	all := windowings(t)
	for name, w := range windowings(t) {
		if w.Kind == plan.Sessions {
			w.Kind = plan.MergingCustom
			all["custom "+name] = w
		}
	}
	for i, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			compareCompacted(t, all[name], thresholds{count: 1, bytes: int64(2 + i%7)}, rand.New(rand.NewPCG(uint64(i), 7)))
		})
	}
}

func compareCompacted(t *testing.T, w plan.Windowing, at thresholds, rng *rand.Rand) {
	plain, merged := newRig(t, w), compacting(t, w, at)
	same := func(step int) {
		t.Helper()
		if want, got := total(t, plain.panes), total(t, merged.panes); !slices.Equal(want, got) {
			t.Fatalf("step %d:\n%s\nnot\n%s", step, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		plain.panes, merged.panes = nil, nil
	}
	time := element.Time(0)
	const steps = 40
	for step := range steps {
		var data []datum
		to, now := element.MinTime, element.MinTime
		switch rng.IntN(4) {
		case 0:
			time += element.Time(rng.IntN(8))
			to = time
		case 1:
			now = plain.env.Now + element.Time(rng.IntN(6))
		default:
			for range 1 + rng.IntN(6) {
				ts := time + element.Time(rng.IntN(24)-8)
				data = append(data, datum{key: string(rune('a' + rng.IntN(2))), ts: ts, value: fmt.Sprint(1 + rng.IntN(9))})
			}
		}
		for _, r := range []*rig{plain, merged} {
			r.add(data...)
			r.advance(to, now)
		}
		same(step)
	}
	plain.finish()
	merged.finish()
	same(steps)
	if plain.late != merged.late || plain.closed != merged.closed {
		t.Errorf("%d late and %d closed, not %d and %d", merged.late, merged.closed, plain.late, plain.closed)
	}
}

// TestCompactionKeepsWindowsSmall: what a window keeps, and puts out, does not grow with its firings, nor, without any, with its elements.
func TestCompactionKeepsWindowsSmall(t *testing.T) {
	for trigger, most := range map[string]int{"repeat(count(2))": 20, "never": 300} {
		for _, kind := range []plan.WindowKind{plan.Fixed, plan.Sessions} {
			tree, err := triggertest.Parse(trigger)
			if err != nil {
				t.Fatal(err)
			}
			r := compacting(t, plan.Windowing{
				Kind: kind, SizeMs: 1000, Trigger: tree, OutputTime: plan.EndOfWindow, Accumulating: true, LatenessMs: 1000,
			}, thresholds{count: usual.count, bytes: 512})
			largest, width := 0, 0
			for i := range 2000 {
				r.add(datum{key: "a", ts: element.Time(i % 500), value: "1"})
				size := 0
				err := r.tx.Scan(rows.Group, nil, nil, func(_, v []byte) bool { size += len(v); return true })
				if err != nil {
					t.Fatal(err)
				}
				largest = max(largest, size)
			}
			r.finish()
			for _, p := range r.panes {
				width = max(width, len(p.values))
			}
			if last := total(t, r.panes[len(r.panes)-1:])[0]; !strings.HasSuffix(last, ": 2000") {
				t.Errorf("%s, %s: the last pane is %s", trigger, kind, last)
			}
			if width > most || largest > 4*most {
				t.Errorf("%s, %s: a pane has %d accumulators, the rows %d bytes", trigger, kind, width, largest)
			}
		}
	}
}

// TestCompactionLeavesWhatDoesNotShrink: merging costs in all no more than some times what came, if an accumulator keeps everything.
func TestCompactionLeavesWhatDoesNotShrink(t *testing.T) {
	tree, err := triggertest.Parse("never")
	if err != nil {
		t.Fatal(err)
	}
	r := compacting(t, plan.Windowing{Kind: plan.Global, Trigger: tree, OutputTime: plan.EndOfWindow, Accumulating: true},
		thresholds{count: usual.count, bytes: 1 << 10})
	merged := 0
	r.combine = func(sets []Accumulators) ([][]byte, error) {
		out := make([][]byte, len(sets))
		for i, s := range sets {
			merged += len(s.Values)
			out[i] = s.Values
		}
		return out, nil
	}
	const came = 64 << 10
	for range came / 64 {
		r.add(datum{key: "a", ts: 1, value: strings.Repeat("x", 63)})
	}
	if merged < came/2 || merged > 2*came {
		t.Errorf("%d bytes came, %d were merged", came, merged)
	}
}

// TestCompactionFails: an error of the combiner is that of the call, and too few accumulators are one.
func TestCompactionFails(t *testing.T) {
	tree, err := triggertest.Parse("repeat(count(2))")
	if err != nil {
		t.Fatal(err)
	}
	for text, combine := range map[string]Combiner{
		"no such sum": func([]Accumulators) ([][]byte, error) { return nil, errors.New("no such sum") },
		"0 sets of accumulators were merged, not 1": func([]Accumulators) ([][]byte, error) { return [][]byte{}, nil },
	} {
		r := compacting(t, plan.Windowing{Kind: plan.Global, Trigger: tree, OutputTime: plan.EndOfWindow, Accumulating: true}, thresholds{})
		var out Output
		if err := r.m.Process(&r.tx, r.encode([]datum{{key: "a", value: "1"}, {key: "a", value: "2"}}), r.env, &out); err != nil {
			t.Fatal(err)
		}
		if err := r.m.Compact(out.Stale, combine); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, not %q", err, text)
		}
	}
}
