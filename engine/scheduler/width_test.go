package scheduler

import (
	"math/rand/v2"
	"testing"
)

// TestElementsSideBySide has elements that wait, for as long whatever else is in flight, and elements that compute, and take turns. Times
// are noisy, as those of a machine with other things to do.
func TestElementsSideBySide(t *testing.T) {
	const width, ms = 3, 20.
	most := 0
	for seed := range uint64(100) {
		noise := rand.New(rand.NewPCG(seed, 1))
		slow := func() float64 { return 1 + 0.1*noise.ExpFloat64() }
		var waiting, computing, both pacing
		run := func(p *pacing, n int, per func(level int) float64) {
			for i := range n {
				level := min(1+i/2, max(p.width, width))
				p.observe(float64(level), per(level)*slow(), width)
			}
		}
		waits := func(int) float64 { return ms }
		computes := func(level int) float64 { return ms * float64(level) }
		run(&waiting, 60, waits)
		run(&computing, 60, computes)
		if waiting.width == widthMax {
			most++
		}
		if waiting.width <= width || computing.width != 0 {
			t.Errorf("seed %d: elements that wait get %d bundles in flight, those that compute %d", seed, waiting.width, computing.width)
		}
		run(&both, 60, waits)
		run(&both, 60, computes)
		if both.overlaps == sideBySide && both.width > width {
			t.Errorf("seed %d: %d bundles are in flight of what waited first, and then computes", seed, both.width)
		}
	}
	if most < 90 {
		t.Errorf("elements that wait get all bundles in flight for %d of 100 seeds", most)
	}
}

// TestElementsThatShareAService wait for something that takes six at a time, and one after the other beyond that.
func TestElementsThatShareAService(t *testing.T) {
	var p pacing
	for i := range 200 {
		level := min(1+i/4, max(p.width, 3))
		p.observe(float64(level), 20*max(1, float64(level)/6), 3)
	}
	if p.width < 4 || p.width > 12 {
		t.Errorf("%d bundles are in flight", p.width)
	}
}

// TestFastElements are never found to wait.
func TestFastElements(t *testing.T) {
	var p pacing
	for i := range 100 {
		p.observe(float64(1+i%3), 0.01, 3)
	}
	if p.width != 0 || p.overlaps != unknown || p.probing != 0 {
		t.Errorf("%+v", p)
	}
}
