package reference

import (
	"fmt"
	"math/rand/v2"
)

// Bounds of what Random makes.
const (
	sourcesMax, elementsMax, stepsMax = 3, 24, 10
	growMax                           = 400 // elements of a collection
)

// Random makes a pipeline of the seed's: up to three sources and ten steps, without late data when sources keep to their watermarks.
func Random(rng *rand.Rand) Pipeline {
	var p Pipeline
	for i := range 1 + rng.IntN(sourcesMax) {
		p = append(p, Step{Op: Read, Elements: randomElements(rng, i)})
	}
	steps := 3 + rng.IntN(stepsMax-2)
	for made := 0; made < steps; {
		if s, ok := p.candidate(rng); ok {
			p = append(p, s)
			made++
		}
	}
	return p
}

// randomElements are in the order of their timestamps, nearly.
func randomElements(rng *rand.Rand, source int) []Element {
	var out []Element
	at := int64(0)
	for i := range rng.IntN(elementsMax + 1) {
		at += int64(rng.IntN(12))
		out = append(out, Element{
			Key: fmt.Sprint("k", rng.IntN(4)), Value: fmt.Sprintf("%c%d", 'a'+source, i), At: at + int64(rng.IntN(9)), Window: Global,
		})
	}
	return out
}

// candidate makes a step that the pipeline may have next, or fails to.
func (p Pipeline) candidate(rng *rand.Rand) (Step, bool) {
	in := rng.IntN(len(p))
	if late := rng.IntN(len(p)); late > in { // rather deep than wide
		in = late
	}
	s := Step{Op: Op(1 + rng.IntN(int(Range))), Inputs: []int{in}, N: 2 + rng.IntN(3), Fn: p[in].Fn}
	switch s.Op {
	case WindowInto:
		s.Fn = randomWindows(rng)
	case Flatten:
		with := rng.IntN(len(p))
		s.Inputs = append(s.Inputs, with)
		if p[with].Fn != s.Fn {
			return s, false
		}
	case SideInput:
		side := rng.IntN(len(p))
		s.Inputs = append(s.Inputs, side)
		if s.Fn.Kind == Sessions || p[side].Fn.Kind > Fixed {
			return s, false
		}
	case Count, Buffer:
		if s.Fn.Kind == Sessions || s.Op == Buffer && s.Fn.Kind == GlobalWindows {
			return s, false
		}
	}
	return s, p.fits(s)
}

// fits keeps collections small.
func (p Pipeline) fits(s Step) bool {
	outs := append(p[:len(p):len(p)], s).Evaluate()
	return len(outs[len(outs)-1]) <= growMax
}

func randomWindows(rng *rand.Rand) WindowFn {
	size := int64(5 + rng.IntN(40))
	switch rng.IntN(5) {
	case 0:
		return WindowFn{Kind: GlobalWindows}
	case 1:
		period := 3 + int64(rng.IntN(10))
		return WindowFn{Kind: Sliding, Size: period * int64(1+rng.IntN(3)), Period: period}
	case 2:
		return WindowFn{Kind: Sessions, Size: 2 + int64(rng.IntN(12))}
	default:
		return WindowFn{Kind: Fixed, Size: size}
	}
}
