package scheduler

import "padstone/engine/plan"

// Work is what a harness had to do for a bundle. Milliseconds.
type Work struct {
	Elements int
	// Busy is the bundle's share of the process: where several were at work it is divided among them. Wall is not.
	Busy, Wall float64
}

// StageCost is what bundles of a stage cost its harness, and what is made of that.
type StageCost struct {
	Stage   int
	Bundles int // that it is known from
	// FixedMs is what a bundle costs, PerElementUs what each of its elements adds.
	FixedMs, PerElementUs float64
	// QuantumMs is how long a bundle is kept open at most; 0: bundles of the stage never are.
	QuantumMs float64
	// BundlesMax is how many bundles of the stage a process has in flight at most; 0 before there is one.
	BundlesMax int
}

// Costs returns what bundles of each Harness stage cost.
func (s *Scheduler) Costs() []StageCost {
	var all []StageCost
	for _, st := range s.stages {
		if st.def.Kind != plan.Harness {
			continue
		}
		c := StageCost{Stage: st.index, Bundles: st.cost.bundles, FixedMs: s.fixed(st), PerElementUs: st.cost.each * 1000}
		if e := s.envs[st.def.Env]; e != nil {
			c.BundlesMax = st.widthOn(e)
		}
		if s.openable(st) {
			c.QuantumMs = s.quantum(st)
		}
		all = append(all, c)
	}
	return all
}

const (
	// fixedGuess is the fixed cost of a bundle before one is known, in milliseconds: that of a Python harness.
	fixedGuess = 3
	// costKept is what a bundle weighs of the one after it: the last twenty or so decide.
	costKept = 0.95
	// sameSize is the relative variance of bundle sizes below which they say nothing about the cost of an element.
	sameSize = 0.01
)

// costs is a fit of fixed + each·elements to what bundles took, by least squares of the relative errors. It forgets. Milliseconds.
type costs struct {
	bundles     int
	fixed, each float64

	sum struct{ w, x, y, xx, xy float64 } // weighted
}

func newCosts() costs { return costs{fixed: fixedGuess} }

// add takes in another bundle.
func (c *costs) add(elements int, ms float64) {
	if ms < 0 {
		return
	}
	x, w := float64(elements), 1/((ms+1)*(ms+1))
	s := &c.sum
	for _, v := range []struct {
		sum *float64
		add float64
	}{{&s.w, w}, {&s.x, w * x}, {&s.y, w * ms}, {&s.xx, w * x * x}, {&s.xy, w * x * ms}} {
		*v.sum = costKept**v.sum + v.add
	}
	c.bundles++
	c.fit()
}

// fit computes the costs. Neither is ever negative. Where all bundles have the same size the fixed cost stays what it was.
func (c *costs) fit() {
	s := &c.sum
	x, y := s.x/s.w, s.y/s.w
	spread := s.xx/s.w - x*x
	if spread <= sameSize*x*x {
		if c.fixed, c.each = min(c.fixed, y), 0; x > 0 {
			c.each = (y - c.fixed) / x
		} else {
			c.fixed = y
		}
		return
	}
	c.each = (s.xy/s.w - x*y) / spread
	c.fixed = y - c.each*x
	if c.each < 0 {
		c.each, c.fixed = 0, y
	}
	if c.fixed < 0 {
		c.each, c.fixed = s.xy/s.xx, 0
	}
}

// worked notes what a bundle has cost.
func (st *stage) worked(w *Work) {
	if w == nil {
		st.unmeasured++
		return
	}
	st.unmeasured = 0
	st.cost.add(w.Elements, w.Busy)
}
