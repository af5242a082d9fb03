package reference

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// TriggerKind is a kind of trigger.
type TriggerKind int

// The kinds.
const (
	Default TriggerKind = iota
	Always
	Never
	AfterCount          // N elements
	AfterProcessingTime // N milliseconds
	AfterSynchronized   //
	AfterAll            //
	AfterAny            //
	AfterEach           //
	OrFinally           // the first child until the second
	Repeat              //
	AfterEndOfWindow    // early, late; either may be nil
	kinds               = 12
)

// Trigger is a trigger tree. Immutable.
type Trigger struct {
	Kind     TriggerKind
	N        int64
	Children []*Trigger
}

func (t *Trigger) String() string {
	if t == nil {
		return "-"
	}
	name := []string{"default", "always", "never", "count", "delay", "synchronized", "all", "any", "each", "until", "repeat", "end"}[t.Kind]
	var parts []string
	if t.N > 0 {
		parts = append(parts, fmt.Sprint(t.N))
	}
	for _, c := range t.Children {
		parts = append(parts, c.String())
	}
	if len(parts) == 0 {
		return name
	}
	return name + "(" + strings.Join(parts, ",") + ")"
}

// has reports whether a node of the tree is one that ok names.
func (t *Trigger) has(ok func(t *Trigger) bool) bool {
	if t == nil {
		return false
	}
	for _, c := range t.Children {
		if c.has(ok) {
			return true
		}
	}
	return ok(t)
}

// onTime reports whether the trigger fires at the end of the window, with or without elements.
func (t *Trigger) onTime() bool {
	return t.has(func(t *Trigger) bool { return t.Kind == Default || t.Kind == AfterEndOfWindow })
}

// byElement reports whether it matters which of several elements that come together makes the trigger fire.
func (t *Trigger) byElement() bool {
	return t.has(func(t *Trigger) bool { return t.Kind == Always || t.Kind == AfterCount && t.N > 1 })
}

// Finishes reports whether the trigger may come to an end, and close its window.
func (t *Trigger) Finishes() bool {
	switch t.Kind {
	case Default, Always, Never, Repeat:
		return false
	case AfterEndOfWindow:
		return t.Children[1] == nil
	case AfterAll:
		for _, c := range t.Children {
			if !c.Finishes() {
				return false
			}
		}
		return true
	case AfterEach:
		return t.Children[len(t.Children)-1].Finishes()
	}
	return true
}

// RandomTrigger makes a tree of at most so many levels.
func RandomTrigger(rng *rand.Rand, levels int) *Trigger {
	t := &Trigger{Kind: TriggerKind(rng.IntN(kinds))}
	if levels <= 1 {
		t.Kind = []TriggerKind{Default, Always, AfterCount, AfterProcessingTime, AfterEndOfWindow, AfterSynchronized, Never}[rng.IntN(7)]
	}
	child := func() *Trigger { return RandomTrigger(rng, levels-1) }
	switch t.Kind {
	case AfterCount:
		t.N = 1 + rng.Int64N(4)
	case AfterProcessingTime:
		t.N = 1 + rng.Int64N(12)
	case AfterAll, AfterAny, AfterEach:
		for range 1 + rng.IntN(3) {
			t.Children = append(t.Children, child())
		}
	case OrFinally:
		t.Children = []*Trigger{child(), child()}
	case Repeat:
		t.Children = []*Trigger{child()}
	case AfterEndOfWindow:
		t.Children = []*Trigger{nil, nil}
		for i := range t.Children {
			if levels > 1 && rng.IntN(2) == 0 {
				t.Children[i] = child()
			}
		}
	}
	return t
}

// firing is a trigger at work for one key and window. Spec: beam_runner_api.proto Trigger.
type firing struct {
	t     *Trigger
	kids  []*firing // nil for a missing early or late one
	done  bool
	past  bool // AfterEndOfWindow: the on-time firing is over
	count int64
	since int64 // processing time of the first element; -1 before it
}

func start(t *Trigger) *firing {
	if t == nil {
		return nil
	}
	f := &firing{t: t, since: -1}
	for _, c := range t.Children {
		f.kids = append(f.kids, start(c))
	}
	return f
}

// moment is what a trigger sees of time.
type moment struct {
	now   int64
	ended bool // the watermark has passed the end of the window
}

// turn are the children whose turn it is.
func (f *firing) turn() []*firing {
	switch f.t.Kind {
	case AfterEach:
		for _, k := range f.kids {
			if !k.done {
				return []*firing{k}
			}
		}
		return nil
	case AfterEndOfWindow:
		k := f.kids[0]
		if f.past {
			k = f.kids[1]
		}
		if k == nil {
			return nil
		}
		return []*firing{k}
	}
	return f.kids
}

// arrive tells of an element.
func (f *firing) arrive(now int64) {
	if f.done {
		return
	}
	f.count++
	if f.since < 0 {
		f.since = now
	}
	for _, k := range f.turn() {
		k.arrive(now)
	}
}

func (f *firing) ready(m moment) bool {
	if f.done {
		return false
	}
	switch f.t.Kind {
	case Default:
		return m.ended
	case Always:
		return true
	case Never:
		return false
	case AfterCount:
		return f.count >= f.t.N
	case AfterProcessingTime:
		return f.since >= 0 && m.now >= f.since+f.t.N
	case AfterSynchronized:
		return f.since >= 0
	case AfterAll:
		for _, k := range f.kids {
			if !k.done && !k.ready(m) {
				return false
			}
		}
		return true
	case AfterEndOfWindow:
		if !f.past && m.ended {
			return true
		}
	}
	for _, k := range f.turn() {
		if k.ready(m) {
			return true
		}
	}
	return false
}

// rings reports whether a delay that counts ends after one time, and not after the other.
func (f *firing) rings(after, to int64) bool {
	if f.done {
		return false
	}
	if end := f.since + f.t.N; f.t.Kind == AfterProcessingTime && f.since >= 0 && end > after && end <= to {
		return true
	}
	for _, k := range f.turn() {
		if k.rings(after, to) {
			return true
		}
	}
	return false
}

// fire fires a trigger that is ready.
func (f *firing) fire(m moment) {
	switch f.t.Kind {
	case AfterCount, AfterProcessingTime, AfterSynchronized:
		f.done = true
	case AfterAll:
		for _, k := range f.kids {
			if !k.done {
				k.fire(m)
			}
		}
		f.done = len(f.undone()) == 0
	case AfterAny:
		for _, k := range f.kids {
			if k.ready(m) {
				k.fire(m)
			}
		}
		f.done = len(f.undone()) < len(f.kids)
	case AfterEach:
		f.turn()[0].fire(m)
		f.done = len(f.undone()) == 0
	case OrFinally:
		if f.done = f.kids[1].ready(m); !f.done {
			f.kids[0].fire(m)
			f.done = f.kids[0].done
		}
	case Repeat:
		f.again(0, m)
	case AfterEndOfWindow:
		switch {
		case f.past:
			f.again(1, m)
		case m.ended:
			f.past, f.done = true, f.kids[1] == nil
		default:
			f.again(0, m)
		}
	}
}

// again fires a child that begins anew when it is done.
func (f *firing) again(child int, m moment) {
	if f.kids[child].fire(m); f.kids[child].done {
		f.kids[child] = start(f.t.Children[child])
	}
}

func (f *firing) undone() []*firing {
	var left []*firing
	for _, k := range f.kids {
		if !k.done {
			left = append(left, k)
		}
	}
	return left
}
