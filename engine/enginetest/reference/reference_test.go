package reference

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestPanes checks a history by hand: early panes of two, on time, late ones, one value too late.
func TestPanes(t *testing.T) {
	early := &Trigger{Kind: AfterCount, N: 2}
	g := Grouping{
		Fn: WindowFn{Kind: Fixed, Size: 10}, Lateness: 5,
		Trigger: &Trigger{Kind: AfterEndOfWindow, Children: []*Trigger{early, {Kind: AfterCount, N: 1}}},
	}
	h := History{
		{Elements: []Element{{Key: "a", Value: "1", At: 1}, {Key: "a", Value: "2", At: 2}, {Key: "a", Value: "3", At: 3}}},
		{Watermark: 10},
		{Elements: []Element{{Key: "a", Value: "4", At: 4}}},
		{Watermark: 15},
		{Elements: []Element{{Key: "a", Value: "5", At: 5}}},
		{Watermark: End},
	}
	w := Window{0, 10}
	want := []Pane{
		{Event: 0, Key: "a", Window: w, Values: []string{"1", "2"}, NonSpeculative: -1, First: true},
		{Event: 1, Key: "a", Window: w, Values: []string{"3"}, Timing: OnTime, Index: 1},
		{Event: 2, Key: "a", Window: w, Values: []string{"4"}, Timing: Late, Index: 2, NonSpeculative: 1},
	}
	out := g.Panes(h)
	panes, late := out.Panes, out.Late
	if !reflect.DeepEqual(out, Outcome{Panes: want, Late: 1}) {
		t.Errorf("%+v", out)
	}
	for i := range panes {
		panes[i].At = w.Max()
	}
	if wrong := g.Check(h, panes, late); wrong != nil {
		t.Errorf("Check: %q", wrong)
	}
}

// TestCheckFinds breaks the panes of random histories in ways that Check must find.
func TestCheckFinds(t *testing.T) {
	ways := map[string]func(panes []Pane) []Pane{
		"lost":          func(panes []Pane) []Pane { return panes[1:] },
		"doubled":       func(panes []Pane) []Pane { return append(panes, panes[len(panes)-1]) },
		"renumbered":    func(panes []Pane) []Pane { panes[0].Index++; return panes },
		"wrong timing":  func(panes []Pane) []Pane { panes[0].Timing = (panes[0].Timing + 1) % 2; return panes },
		"another time":  func(panes []Pane) []Pane { panes[0].At = panes[0].Window.Max() + 1; return panes },
		"too early":     func(panes []Pane) []Pane { panes[len(panes)-1].Event = 0; return panes },
		"another value": func(panes []Pane) []Pane { panes[0].Values = []string{"x"}; return panes },
	}
	for name, way := range ways {
		found, runs := 0, 0
		for seed := range uint64(50) {
			rng := rand.New(rand.NewPCG(seed, 7))
			h := RandomHistory(rng, 25)
			g := Grouping{Fn: WindowFn{Kind: Fixed, Size: 10}, Trigger: &Trigger{Kind: Default}, EmptyOnTime: true}
			out := g.Panes(h)
			panes, late := out.Panes, out.Late
			if len(panes) == 0 {
				continue
			}
			for i := range panes {
				panes[i].At = panes[i].Window.Max()
			}
			if wrong := g.Check(h, panes, late); wrong != nil {
				t.Fatalf("seed %d: %q", seed, wrong)
			}
			runs++
			if g.Check(h, way(panes), late) != nil {
				found++
			}
		}
		if found < runs {
			t.Errorf("%s: found in %d of %d histories", name, found, runs)
		}
	}
}

// TestMerged checks sessions: overlap merges, touching does not, and one in the middle joins its neighbours.
func TestMerged(t *testing.T) {
	fn := WindowFn{Kind: Sessions, Size: 10}
	merged := fn.Merged([]Window{{0, 10}, {10, 20}, {30, 40}, {45, 55}, {38, 48}})
	want := map[Window]Window{{0, 10}: {0, 10}, {10, 20}: {10, 20}, {30, 40}: {30, 55}, {38, 48}: {30, 55}, {45, 55}: {30, 55}}
	if !reflect.DeepEqual(merged, want) {
		t.Errorf("%v", merged)
	}
}
