package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Point is what was measured with bundles of one size.
type Point struct {
	Elements int `json:"bundle_elements"`
	// AtMost is what the bundles were allowed to have, where an engine made them; Elements is then what they had on average.
	AtMost int `json:"max_bundle_size,omitempty"`
	// WantedMillis is the time a bundle was to take, if times were asked for and not sizes.
	WantedMillis      float64 `json:"wanted_ms,omitempty"`
	Bundles           int     `json:"bundles"`
	Seconds           float64 `json:"seconds"`
	ElementsPerSecond float64 `json:"elements_per_second"`
	// HarnessMillis is the harness's CPU time a bundle, HarnessMicros the same an element, RunnerMicros that of this process.
	HarnessMillis *float64 `json:"harness_cpu_ms_per_bundle"`
	HarnessMicros *float64 `json:"harness_cpu_us_per_element"`
	RunnerMicros  *float64 `json:"runner_cpu_us_per_element"`
	// HarnessWait is the share of the bundles' time in which the harness was waited for; only where an engine ran them.
	HarnessWait float64 `json:"harness_share,omitempty"`
	WallMillis  float64 `json:"wall_ms_per_bundle"` // with several in flight less than the latency
	P50Millis   float64 `json:"latency_p50_ms"`
	P99Millis   float64 `json:"latency_p99_ms"`
}

// Curve is how the cost of bundles is shared out to their elements.
type Curve struct {
	About    About   `json:"about"`
	Image    string  `json:"image,omitempty"` // of the harness's container, if it ran in one
	Stage    string  `json:"stage"`
	Through  string  `json:"engine_for,omitempty"` // what an engine was needed for, if one ran the bundles
	InFlight int     `json:"bundles_in_flight,omitempty"`
	Points   []Point `json:"points"`
	// CPU fits the harness's CPU time of a bundle, Wall the time it takes; nil where too little was measured.
	CPU           *Fit   `json:"cpu_fit"`
	Wall          *Fit   `json:"wall_fit"`
	HarnessMemory *int64 `json:"harness_peak_bytes"`
	Advice        Advice `json:"advice"`
}

// Wishes are what a bundle size is to be recommended for.
type Wishes struct {
	LatencyBudget time.Duration
	Overhead      float64 // the share of a bundle's cost that may be fixed
}

// Advice is the recommended bundle size and why. A size of 0 is none.
type Advice struct {
	LatencyBudgetMillis float64 `json:"latency_budget_ms"`
	OverheadMax         float64 `json:"overhead_max"`
	SizeForOverhead     int     `json:"size_for_overhead"`    // the smallest one within it
	SizeForLatency      int     `json:"size_for_latency"`     // the largest one within the budget
	LatencyUnmeasured   bool    `json:"latency_not_exceeded"` // no size that was measured exceeds the budget
	Recommended         int     `json:"recommended_size"`
	Overhead            float64 `json:"overhead"` // of the recommended size
	LatencyMillis       float64 `json:"latency_p99_ms"`
	Text                string  `json:"text"`
}

// Complete fits the points and gives advice.
func (c *Curve) Complete(w Wishes) {
	slices.SortStableFunc(c.Points, func(a, b Point) int { return a.Elements - b.Elements })
	var cpu, wall []Cost
	for _, p := range c.Points {
		wall = append(wall, Cost{Elements: float64(p.Elements), Millis: p.WallMillis})
		if p.HarnessMillis != nil {
			cpu = append(cpu, Cost{Elements: float64(p.Elements), Millis: *p.HarnessMillis})
		}
	}
	c.CPU, c.Wall = nil, nil
	if f, ok := FitCosts(cpu); ok {
		c.CPU = &f
	}
	if f, ok := FitCosts(wall); ok {
		c.Wall = &f
	}
	c.Advice = c.advise(w)
}

// fit is the fit that counts: CPU time is the steadier of both, where it is known.
func (c *Curve) fit() *Fit {
	if c.CPU != nil {
		return c.CPU
	}
	return c.Wall
}

// Best returns the point with the most elements a second.
func (c *Curve) Best() Point {
	return slices.MaxFunc(c.Points, func(a, b Point) int { return int(math.Copysign(1, a.ElementsPerSecond-b.ElementsPerSecond)) })
}

func (c *Curve) advise(w Wishes) Advice {
	a := Advice{LatencyBudgetMillis: w.LatencyBudget.Seconds() * 1000, OverheadMax: w.Overhead}
	fit := c.fit()
	if fit == nil {
		a.Text = "Measure at least two sizes for a recommendation."
		return a
	}
	latency, exceeded := c.sizeWithin(a.LatencyBudgetMillis)
	a.SizeForLatency, a.LatencyUnmeasured = roundDown(latency), !exceeded
	if n := fit.SizeFor(w.Overhead); n < 1e9 {
		a.SizeForOverhead = roundUp(n)
	}
	switch {
	case a.SizeForLatency == 0:
		smallest := c.Points[0]
		a.Text = fmt.Sprintf("No bundles are done within %s: those of %s, the smallest, take %s at the 99th percentile.",
			millis(a.LatencyBudgetMillis), plural(smallest.Elements, "element"), millis(smallest.P99Millis))
		return a
	case a.SizeForOverhead > 0 && a.SizeForOverhead <= a.SizeForLatency:
		a.Recommended = a.SizeForOverhead
	default:
		a.Recommended = a.SizeForLatency
	}
	n := float64(a.Recommended)
	a.Overhead, a.LatencyMillis = fit.Overhead(n), c.latencyAt(n)
	a.Text = a.words()
	return a
}

func (a *Advice) words() string {
	what := fmt.Sprintf("Bundles of %s elements: %s of their cost is fixed, and 99 of 100 are done within %s.",
		count(a.Recommended), percent(a.Overhead), millis(a.LatencyMillis))
	switch {
	case a.Recommended == a.SizeForOverhead && a.LatencyUnmeasured:
		return what + " Larger ones cost little less an element; no size that was measured exceeds the latency budget."
	case a.Recommended == a.SizeForOverhead:
		return what + fmt.Sprintf(" Larger ones cost little less an element; up to %s fit into the latency budget of %s.",
			count(a.SizeForLatency), millis(a.LatencyBudgetMillis))
	case a.LatencyUnmeasured:
		return what + " That is the largest size that was measured."
	default:
		return what + fmt.Sprintf(" The latency budget of %s allows no more.", millis(a.LatencyBudgetMillis)) + a.missing()
	}
}

// missing says what a larger budget would buy.
func (a *Advice) missing() string {
	if a.SizeForOverhead == 0 {
		return ""
	}
	return fmt.Sprintf(" Below %s fixed cost they would need %s elements.", percent(a.OverheadMax), count(a.SizeForOverhead))
}

// sizeWithin returns the largest size whose latency stays within the budget, between the sizes that were measured along a straight line
// in logarithms. exceeded is false if the largest that was measured stays within it.
func (c *Curve) sizeWithin(budget float64) (n float64, exceeded bool) {
	for i := len(c.Points) - 1; i >= 0; i-- {
		p := c.Points[i]
		if p.P99Millis > budget {
			continue
		}
		n = float64(p.Elements)
		if i == len(c.Points)-1 {
			return n, false
		}
		next := c.Points[i+1]
		share := math.Log(budget/p.P99Millis) / math.Log(next.P99Millis/p.P99Millis)
		return n * math.Pow(float64(next.Elements)/n, share), true
	}
	return 0, true
}

// latencyAt is the latency of bundles of n elements, between the measured ones along a straight line in logarithms.
func (c *Curve) latencyAt(n float64) float64 {
	for i, p := range c.Points {
		if float64(p.Elements) < n {
			continue
		}
		if i == 0 {
			return p.P99Millis
		}
		q := c.Points[i-1]
		share := math.Log(n/float64(q.Elements)) / math.Log(float64(p.Elements)/float64(q.Elements))
		return q.P99Millis * math.Pow(p.P99Millis/q.P99Millis, share)
	}
	last := c.Points[len(c.Points)-1]
	return last.P99Millis * n / float64(last.Elements)
}

// roundUp and roundDown keep two digits: more would promise more than was measured.
func roundUp(n float64) int   { return int(math.Ceil(n/unit(n)-1e-9) * unit(n)) }
func roundDown(n float64) int { return int(math.Floor(n/unit(n)+1e-9) * unit(n)) }

func unit(n float64) float64 {
	if n < 100 {
		return 1
	}
	return math.Pow(10, math.Floor(math.Log10(n))-1)
}
