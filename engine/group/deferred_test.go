package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// TestDeferred puts triggers off to the end of the input: what comes out does not depend on how the elements came, nothing is lost,
// and nothing is left.
func TestDeferred(t *testing.T) {
	all := windowings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		t.Run(name, func(t *testing.T) {
			data, placed := placedData(t, w, rand.New(rand.NewPCG(7, uint64(len(name)))), 60)
			whole := deferred(t, w, data, len(data), placed)
			for _, size := range []int{1, 7} {
				if got := deferred(t, w, data, size, placed); got != whole {
					t.Errorf("in parts of %d:\n%sat once:\n%s", size, got, whole)
				}
			}
		})
	}
}

// TestEndEligible compares what is grouped in one go with what is collected in rows, for every trigger that waits for the end.
func TestEndEligible(t *testing.T) {
	all := windowings(t)
	waiting := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		if !newRig(t, w).m.EndEligible() {
			continue
		}
		waiting[strings.Fields(name)[1]] = true
		t.Run(name, func(t *testing.T) {
			data, placed := placedData(t, w, rand.New(rand.NewPCG(8, uint64(len(name)))), 80)
			want := deferred(t, w, data, 9, placed)
			for _, bytesMax := range []int{0, 500} {
				r := newRig(t, w)
				var out Output
				if err := r.m.GroupAll(r.inBlocks(data, 9), Budget{BytesMax: bytesMax, Scratch: &files{}}, &out); err != nil {
					t.Fatal(err)
				}
				if got := sorted(decode(t, r.w.Coding, out.Block)); got != want {
					t.Errorf("in %d bytes:\n%sin rows:\n%s", bytesMax, got, want)
				}
			}
		})
	}
	got := slices.Sorted(maps.Keys(waiting))
	if want := []string{"default", "end", "end(delay(7),count(3))", "end(repeat(delay(5)),repeat(delay(5)))", "never"}; !slices.Equal(got, want) {
		t.Errorf("triggers that wait for the end: %q, want %q", got, want)
	}
}

// placedData is n random elements of few keys, and how many they are in all windows together.
func placedData(t *testing.T, w plan.Windowing, rng *rand.Rand, n int) (data []datum, placed int64) {
	t.Helper()
	for i := range n {
		d := datum{key: string(rune('a' + rng.IntN(3))), ts: element.Time(rng.IntN(80) - 20), value: fmt.Sprint("v", i)}
		windows, _ := newRig(t, w).assign(d)
		placed += int64(windows)
		data = append(data, d)
	}
	return data, placed
}

func deferred(t *testing.T, w plan.Windowing, data []datum, size int, placed int64) string {
	t.Helper()
	r := newRig(t, w)
	r.env = Collecting()
	for part := range slices.Chunk(data, size) {
		r.add(part...)
	}
	if len(r.panes) > 0 {
		t.Errorf("%d panes before the end", len(r.panes))
	}
	r.env = Ending()
	for due := r.due(plan.EventTime, element.MaxTime); len(due) > 0; due = r.due(plan.EventTime, element.MaxTime) {
		var out Output
		if err := r.m.Timers(&r.tx, due, r.env, &out); err != nil {
			t.Fatal(err)
		}
		r.closed += out.DroppedClosed
		r.panes = append(r.panes, decode(t, r.w.Coding, out.Block)...)
	}
	if r.tx.Total() != 0 || r.tx.Holds() != "none" {
		t.Errorf("left behind at the end: %s", r.rest())
	}
	checkValues(t, w, r, placed)
	return sorted(r.panes)
}

// TestDeferredCount: a trigger by count, which the elements in parts would set off many times, fires once for what there is.
func TestDeferredCount(t *testing.T) {
	w := fixed("")
	w.Kind = plan.Global
	w.Trigger = &plan.Trigger{Kind: plan.TriggerRepeat, Children: []*plan.Trigger{{Kind: plan.TriggerAfterCount, Count: 2}}}
	var data []datum
	for i := range 5 {
		data = append(data, datum{key: "a", ts: 1, value: fmt.Sprint(i)})
	}
	if got, want := deferred(t, w, data, 2, 5), "a global @"+clockText(element.EndOfGlobalTime)+" early 0/-1 first: 0 1 2 3 4\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
