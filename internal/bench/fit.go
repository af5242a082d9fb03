package bench

import "math"

// Fit is the cost of a bundle as a line over its size: a fixed part, and a part for each element.
type Fit struct {
	FixedMillis   float64 `json:"fixed_ms_per_bundle"`
	ElementMicros float64 `json:"us_per_element"`
	// Residual is the root of the mean square of the relative errors, ResidualMax the largest of them.
	Residual    float64 `json:"residual"`
	ResidualMax float64 `json:"residual_max"`
}

// Cost is one measurement: what a bundle of that many elements costs.
type Cost struct {
	Elements float64
	Millis   float64
}

// FitCosts draws the line by least squares of the relative error: bundles of one element count as much as those of a hundred thousand,
// whose cost is a thousand times theirs. Neither part is negative. ok is false if fewer than two sizes have a cost.
func FitCosts(costs []Cost) (f Fit, ok bool) {
	var usable []Cost
	sizes := map[float64]bool{}
	for _, c := range costs {
		if c.Elements > 0 && c.Millis > 0 {
			usable = append(usable, c)
			sizes[c.Elements] = true
		}
	}
	if len(sizes) < 2 {
		return f, false
	}
	fixed, slope := solve(usable)
	switch {
	case fixed < 0:
		fixed, slope = 0, one(usable, func(c Cost) float64 { return c.Elements })
	case slope < 0:
		fixed, slope = one(usable, func(Cost) float64 { return 1 }), 0
	}
	f = Fit{FixedMillis: fixed, ElementMicros: slope * 1000}
	for _, c := range usable {
		e := math.Abs(f.Millis(c.Elements)-c.Millis) / c.Millis
		f.Residual += e * e / float64(len(usable))
		f.ResidualMax = max(f.ResidualMax, e)
	}
	f.Residual = math.Sqrt(f.Residual)
	return f, true
}

// solve minimises the sum of ((a + b n - y) / y)^2 over all measurements: two normal equations.
func solve(costs []Cost) (a, b float64) {
	var s11, s1n, snn, s1, sn float64
	for _, c := range costs {
		one, n := 1/c.Millis, c.Elements/c.Millis
		s11, s1n, snn = s11+one*one, s1n+one*n, snn+n*n
		s1, sn = s1+one, sn+n
	}
	det := s11*snn - s1n*s1n
	return (s1*snn - sn*s1n) / det, (sn*s11 - s1*s1n) / det
}

// one minimises the same with one of the parts alone.
func one(costs []Cost, x func(Cost) float64) float64 {
	var squares, sum float64
	for _, c := range costs {
		v := x(c) / c.Millis
		squares, sum = squares+v*v, sum+v
	}
	return sum / squares
}

// Millis is what a bundle of n elements costs.
func (f Fit) Millis(n float64) float64 { return f.FixedMillis + f.ElementMicros*n/1000 }

// MicrosPerElement is what an element costs in a bundle of n.
func (f Fit) MicrosPerElement(n float64) float64 { return f.Millis(n) * 1000 / n }

// Overhead is the fixed part's share of a bundle of n elements.
func (f Fit) Overhead(n float64) float64 {
	if f.FixedMillis == 0 {
		return 0
	}
	return f.FixedMillis / f.Millis(n)
}

// SizeFor is the smallest bundle whose fixed part is at most that share of it; +Inf if elements cost nothing.
func (f Fit) SizeFor(overhead float64) float64 {
	if f.FixedMillis == 0 {
		return 1
	}
	return max(1, f.FixedMillis*1000*(1-overhead)/(overhead*f.ElementMicros))
}
