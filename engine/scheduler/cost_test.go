package scheduler

import (
	"math"
	"math/rand/v2"
	"testing"

	"padstone/engine/element"
)

// TestCostsAreFound fits bundles of a harness with known costs, with noise of 20 %.
func TestCostsAreFound(t *testing.T) {
	for _, c := range []struct {
		name        string
		fixed, each float64 // ms
		sizes       []int
		off         float64 // the share that the estimate may be wrong by
	}{
		{"python", 3, 0.004, []int{1, 10, 100, 1000, 10_000, 100_000}, 0.25},
		{"mostly large", 3, 0.004, []int{80_000, 100_000, 100_000, 90_000, 500, 100_000}, 0.3},
		{"slow elements", 5, 20, []int{1, 3, 10, 25, 4, 2}, 0.25},
		{"fast harness", 0.2, 0.0005, []int{1, 100, 50_000, 2, 10}, 0.3},
		{"free elements", 4, 0, []int{1, 2, 1, 3, 1}, 0.25},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			costs := newCosts()
			for i := range 120 {
				n := c.sizes[i%len(c.sizes)]
				costs.add(n, (c.fixed+c.each*float64(n))*(0.8+0.4*rng.Float64()))
			}
			if math.Abs(costs.fixed-c.fixed) > c.off*c.fixed+0.1 || math.Abs(costs.each-c.each) > c.off*c.each+0.3*c.fixed/10 {
				t.Errorf("%g ms and %g ms an element, not %g and %g", costs.fixed, costs.each, c.fixed, c.each)
			}
		})
	}
}

// TestCostsOfOneSize has bundles of one size only: what they cost beyond the fixed cost that is known is the elements'.
func TestCostsOfOneSize(t *testing.T) {
	for _, c := range []struct {
		elements        int
		ms, fixed, each float64
	}{
		{elements: 1000, ms: 7, fixed: fixedGuess, each: 0.004},
		{elements: 1, ms: 2, fixed: 2},
		{elements: 0, ms: 5, fixed: 5},
		{elements: 50, ms: 1000, fixed: fixedGuess, each: (1000. - fixedGuess) / 50},
	} {
		costs := newCosts()
		for range 100 {
			costs.add(c.elements, c.ms)
		}
		if math.Abs(costs.fixed-c.fixed) > 1e-6 || math.Abs(costs.each-c.each) > 1e-6 {
			t.Errorf("%d elements in %g ms: %g ms and %g ms an element, not %g and %g",
				c.elements, c.ms, costs.fixed, costs.each, c.fixed, c.each)
		}
	}
}

// TestCostsForget has a harness become slower.
func TestCostsForget(t *testing.T) {
	costs := newCosts()
	for i := range 200 {
		n := float64(1 + i%7*1000)
		if i < 100 {
			costs.add(int(n), 3+0.004*n)
		} else {
			costs.add(int(n), 6+0.02*n)
		}
	}
	if math.Abs(costs.fixed-6) > 0.7 || math.Abs(costs.each-0.02) > 0.003 {
		t.Errorf("%g ms and %g ms an element, not 6 and 0.02", costs.fixed, costs.each)
	}
}

// TestCostsAreNotNegative fits whatever comes.
func TestCostsAreNotNegative(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		costs := newCosts()
		for range 50 {
			costs.add(rng.IntN(1+rng.IntN(1000)), rng.ExpFloat64()*10)
			if !(costs.fixed >= 0) || !(costs.each >= 0) || math.IsInf(costs.fixed+costs.each, 0) {
				t.Fatalf("%g ms and %g ms an element", costs.fixed, costs.each)
			}
		}
	}
}

// TestRhythm has blocks come every 5 ms: they are waited for after a few of them, and no more after a pause.
func TestRhythm(t *testing.T) {
	s := &Scheduler{}
	st := &stage{cost: newCosts(), gap: 100, arrivedAt: element.MinTime}
	for n := range 14 {
		s.now = 1000 + 5*element.Time(n)
		s.arrived(st)
	}
	if st.gap > s.near(st) {
		t.Errorf("after 14 blocks 5 ms apart they are thought to be %g ms apart", st.gap)
	}
	for _, s.now = range []element.Time{100_000, 100_100} {
		s.arrived(st)
	}
	if st.gap <= s.near(st) {
		t.Errorf("after two that were long in coming they are thought to be %g ms apart", st.gap)
	}
}
