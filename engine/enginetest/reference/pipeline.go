package reference

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// Element is an element of a collection in one of its windows.
type Element struct {
	Key, Value string
	At         int64
	Window     Window
}

func (e Element) String() string { return fmt.Sprintf("%s=%s @%d %s", e.Key, e.Value, e.At, e.Window) }

// Op is what a step does.
type Op int

// The operations. N is the step's parameter.
const (
	Read       Op = iota // the step's Elements
	Rekey                // the key becomes one of N, by the value
	FlatMap              // N elements of each
	Filter               // drops one in N
	WindowInto           // windows anew, by Fn
	Group                // GroupByKey, the values sorted into one
	Sum                  // CombinePerKey of the weights of the values
	Flatten              // of all inputs
	Reshuffle            // changes nothing
	SideInput            // the value is marked with all values of the second input
	Count                // by state: numbers the elements of a key and window
	Buffer               // by state and timer: as Group, at the end of the window
	Range                // a splittable DoFn: N elements of each
)

func (o Op) String() string {
	return []string{"read", "rekey", "flatmap", "filter", "window", "group", "sum", "flatten", "reshuffle", "side", "count", "buffer",
		"range"}[o]
}

// Step is a transform. Inputs are indices of earlier steps.
type Step struct {
	Op       Op
	Inputs   []int
	N        int
	Fn       WindowFn  // of the step's output
	Elements []Element // of a Read, in the global window
}

// Pipeline is a graph of steps, each after its inputs.
type Pipeline []Step

func (p Pipeline) String() string {
	var b strings.Builder
	for i, s := range p {
		fmt.Fprintf(&b, "%s %v n=%d, in %s", p.Name(i), s.Inputs, s.N, s.Fn)
		if s.Op == Read {
			fmt.Fprintf(&b, ": %d elements", len(s.Elements))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Name names a step.
func (p Pipeline) Name(i int) string { return fmt.Sprintf("%s%d", p[i].Op, i) }

// Leaves are the steps whose output no other step reads.
func (p Pipeline) Leaves() []int {
	var leaves []int
	for i := range p {
		if !slices.ContainsFunc(p, func(s Step) bool { return slices.Contains(s.Inputs, i) }) {
			leaves = append(leaves, i)
		}
	}
	return leaves
}

// Evaluate returns the output of every step.
func (p Pipeline) Evaluate() [][]Element {
	outs := make([][]Element, len(p))
	for i, s := range p {
		ins := make([][]Element, len(s.Inputs))
		for j, in := range s.Inputs {
			ins[j] = outs[in]
		}
		switch s.Op {
		case Read:
			outs[i] = s.Elements
		case Flatten:
			outs[i] = slices.Concat(ins...)
		case Group, Sum, Count, Buffer:
			outs[i] = s.perKey(ins[0])
		case SideInput:
			outs[i] = s.withSide(ins[0], ins[1], p[s.Inputs[1]].Fn)
		default:
			for _, e := range ins[0] {
				outs[i] = append(outs[i], s.each(e)...)
			}
		}
	}
	return outs
}

// each is a step that looks at one element at a time.
func (s Step) each(e Element) []Element {
	var out []Element
	switch s.Op {
	case WindowInto:
		for _, w := range s.Fn.Assign(e.At) {
			e.Window = w
			out = append(out, e)
		}
		return out
	default:
		for _, kv := range s.Apply(e.Key, e.Value) {
			out = append(out, Element{kv[0], kv[1], e.At, e.Window})
		}
		return out
	}
}

// Apply is the user code of a step without state: it returns pairs of key and value.
func (s Step) Apply(key, value string) [][2]string {
	switch s.Op {
	case Rekey:
		return [][2]string{{fmt.Sprint("k", hash(value)%uint64(s.N)), value}}
	case Filter:
		if hash(key+value)%uint64(s.N) == 0 {
			return nil
		}
	case FlatMap, Range:
		var out [][2]string
		for i := range s.N {
			out = append(out, [2]string{key, fmt.Sprintf("%s:%d", value, i)})
		}
		return out
	}
	return [][2]string{{key, value}}
}

// perKey is a step that looks at all elements of a key and window.
func (s Step) perKey(in []Element) []Element {
	type cell struct {
		key    string
		window Window
	}
	var windows = map[string][]Window{}
	for _, e := range in {
		windows[e.Key] = append(windows[e.Key], e.Window)
	}
	cells := map[cell][]Element{}
	for _, e := range in {
		c := cell{e.Key, e.Window}
		if s.Op == Group || s.Op == Sum { // user state does not merge
			c.window = s.Fn.Merged(windows[e.Key])[e.Window]
		}
		cells[c] = append(cells[c], e)
	}
	var out []Element
	for c, elements := range cells {
		values := make([]string, len(elements))
		for i, e := range elements {
			values[i] = e.Value
		}
		for _, v := range s.Combine(values) {
			out = append(out, Element{c.key, v, s.stamp(c.window, elements), c.window})
		}
	}
	return out
}

// Combine is the user code of a step per key: the values that it makes of those of one key and window.
func (s Step) Combine(values []string) []string {
	switch s.Op {
	case Sum:
		total := 0
		for _, v := range values {
			total += Weight(v)
		}
		return []string{strconv.Itoa(total)}
	case Count:
		var numbers []string
		for i := range values {
			numbers = append(numbers, fmt.Sprint("n", i+1))
		}
		return numbers
	default:
		return []string{Digest(values)}
	}
}

// CountedAt is the time at which Count puts out in the global window: later than all that Random makes.
const CountedAt = 1 << 20

// stamp is the timestamp of what a step per key puts out: the end of the window. In the global window, Group and Sum keep the earliest.
func (s Step) stamp(w Window, elements []Element) int64 {
	if w != Global {
		return w.Max()
	}
	if s.Op == Count {
		return CountedAt
	}
	at := elements[0].At
	for _, e := range elements {
		at = min(at, e.At)
	}
	return at
}

// withSide marks each element with the values of the side input in the window that it reads.
func (s Step) withSide(main, side []Element, fn WindowFn) []Element {
	var out []Element
	for _, e := range main {
		var values []string
		for _, o := range side {
			if o.Window == fn.SideOf(e.Window) {
				values = append(values, o.Value)
			}
		}
		e.Value += "+" + Digest(values)
		out = append(out, e)
	}
	return out
}

// Digest is the number of values and a hash of them, whatever their order.
func Digest(values []string) string {
	return fmt.Sprintf("%dx%04x", len(values), hash(strings.Join(slices.Sorted(slices.Values(values)), " "))&0xffff)
}

// Weight is a number below 100 that stands for a value.
func Weight(value string) int { return int(hash(value) % 100) }

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	x := h.Sum64()
	return x ^ x>>29
}

// Texts prints elements, sorted.
func Texts(elements []Element) []string {
	texts := make([]string, len(elements))
	for i, e := range elements {
		texts[i] = e.String()
	}
	slices.Sort(texts)
	return texts
}
