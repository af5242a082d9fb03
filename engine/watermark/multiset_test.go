package watermark

import (
	"math/rand"
	"sort"
	"testing"

	"padstone/engine/element"
)

// TestMultisetAgainstSort compares the minimum with that of a sorted list under random additions and removals.
func TestMultisetAgainstSort(t *testing.T) {
	for seed := int64(0); seed < 50; seed++ {
		rng := rand.New(rand.NewSource(seed))
		var m Multiset
		var list []element.Time
		if seed%2 == 0 { // many of which few stay
			var loaded []Count
			for ts := element.Time(-200); ts < 200; ts += element.Time(1 + rng.Intn(3)) {
				loaded = append(loaded, Count{ts, 1 + rng.Intn(2)})
				for range loaded[len(loaded)-1].N {
					list = append(list, ts)
				}
			}
			m.Load(loaded)
		}
		for step := 0; step < 400; step++ {
			if len(list) > 0 && rng.Intn(5) < 3 {
				i := rng.Intn(len(list))
				m.Add(list[i], -1)
				list = append(list[:i], list[i+1:]...)
			} else {
				ts := element.Time(rng.Intn(40) - 20)
				m.Add(ts, 1)
				list = append(list, ts)
			}
			want := element.MaxTime
			if len(list) > 0 {
				sorted := append([]element.Time(nil), list...)
				sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
				want = sorted[0]
			}
			if got := m.Min(); got != want {
				t.Fatalf("seed %d step %d: min %v, want %v", seed, step, got, want)
			}
			total := 0
			for _, c := range m.All() {
				total += c.N
			}
			if total != len(list) {
				t.Fatalf("seed %d step %d: %d times, want %d", seed, step, total, len(list))
			}
		}
	}
}
