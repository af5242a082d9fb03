package reference

import (
	"fmt"
	"math"
	"slices"
)

// arrival is an element that has come.
type arrival struct {
	Element
	event     int
	watermark int64 // when it came
}

// checker collects what is wrong.
type checker struct {
	g          Grouping
	h          History
	watermarks []int64
	arrivals   map[string]arrival // by value
	faults     []string
}

func (c *checker) wrong(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// Check returns what the model does not admit of the panes, in the order in which they came, and of the number of values that were
// dropped as late, whatever the bundles were.
func (g Grouping) Check(h History, panes []Pane, late int64) []string {
	c := &checker{g: g, h: h, watermarks: h.watermarks(), arrivals: map[string]arrival{}}
	for i, e := range h {
		for _, el := range e.Elements {
			w := int64(math.MinInt64)
			if i > 0 {
				w = c.watermarks[i-1]
			}
			c.arrivals[el.Value] = arrival{el, i, w}
		}
	}
	byWindow := map[keyWindow][]Pane{}
	for _, p := range panes {
		at := keyWindow{p.Key, p.Window}
		c.pane(p)
		byWindow[at] = append(byWindow[at], p)
	}
	if g.Fn.Kind != Sessions { // a merged session begins to number its panes anew
		for _, panes := range byWindow {
			c.sequence(panes)
		}
	}
	c.stamps(panes)
	c.values(panes)
	c.lateness(late)
	return c.faults
}

// pane checks a pane by itself: what is in it, and its timing at the time of its firing.
func (c *checker) pane(p Pane) {
	seen := map[string]bool{}
	for _, v := range p.Values {
		a, ok := c.arrivals[v]
		switch {
		case !ok || a.Key != p.Key:
			c.wrong("%v: %s is not of this key", p, v)
		case a.event > p.Event:
			c.wrong("%v: %s came later", p, v)
		case a.At < p.Window.Start || a.At > p.Window.Max():
			c.wrong("%v: %s at %d is not in the window", p, v, a.At)
		case seen[v]:
			c.wrong("%v: %s is there twice", p, v)
		}
		seen[v] = true
	}
	ended := c.watermarks[p.Event] > p.Window.Max()
	if (p.Timing == Early) == ended {
		c.wrong("%v: with the watermark at %d", p, c.watermarks[p.Event])
	}
	if p.Event > 0 && c.g.expired(p.Window, c.watermarks[p.Event-1]) {
		c.wrong("%v: the window has expired", p)
	}
}

// sequence checks the panes of one key and window: how they are numbered, and what each has of the ones before.
func (c *checker) sequence(panes []Pane) {
	spoken, onTime := int64(0), 0
	var before Pane
	for i, p := range panes {
		want := spoken
		if p.Timing == Early {
			want = -1
		}
		if p.Index != int64(i) || p.First != (i == 0) || p.NonSpeculative != want {
			c.wrong("%v: it is number %d, and %d of those not early", p, i, want)
		}
		switch p.Timing {
		case Early:
			if spoken > 0 {
				c.wrong("%v: early after one that was not", p)
			}
		case OnTime:
			if onTime++; onTime > 1 || spoken > 0 {
				c.wrong("%v: on time a second time", p)
			}
		case Late:
			c.mayBeLate(p, before.Values, spoken)
		}
		if p.Timing != Early {
			spoken++
		}
		if before.Last {
			c.wrong("%v: comes after the last pane", p)
		}
		if missing := without(before.Values, p.Values); c.g.Accumulating && len(missing) > 0 {
			c.wrong("%v: the pane before had %v, too", p, missing)
		}
		before = p
	}
}

// mayBeLate checks that a pane which is the first at or after the end of its window is late only if what is new in it came late.
func (c *checker) mayBeLate(p Pane, before []string, spoken int64) {
	if spoken > 0 {
		return
	}
	for _, v := range without(p.Values, before) {
		if c.arrivals[v].watermark <= p.Window.Max() {
			c.wrong("%v: %s was in time", p, v)
		}
	}
}

// stamps checks the timestamps of panes: those of the combiner over what is new, or the end of the window for what came late.
func (c *checker) stamps(panes []Pane) {
	had := map[string]bool{}
	for _, p := range panes {
		least, most, pressed := p.Window.Max(), int64(math.MinInt64), false
		for _, v := range p.Values {
			if a := c.arrivals[v]; !had[p.Window.String()+v] {
				least, most, pressed = min(least, a.At), max(most, a.At), pressed || a.At < a.watermark
			}
			had[p.Window.String()+v] = true
		}
		switch {
		case c.g.Stamp == StampEnd && p.At != p.Window.Max():
			c.wrong("%v: not at the end of its window", p)
		case p.At > p.Window.Max() || p.At < least:
			c.wrong("%v: its timestamp is not between that of an element and the end of the window", p)
		case c.g.Fn.Kind == Sessions || pressed || most == math.MinInt64:
		case c.g.Stamp == StampEarliest && p.At != least || c.g.Stamp == StampLatest && p.At != most:
			c.wrong("%v: the timestamps of what is new are from %d to %d", p, least, most)
		}
	}
}

// values checks in how many panes each value is, in each of its windows.
func (c *checker) values(panes []Pane) {
	in, last := map[string]map[Window]int{}, map[string]map[Window]bool{}
	for _, p := range panes {
		for _, v := range p.Values {
			if in[v] == nil {
				in[v], last[v] = map[Window]int{}, map[Window]bool{}
			}
			in[v][p.Window]++
		}
	}
	for v, a := range c.arrivals {
		windows := c.g.Fn.Assign(a.At)
		if c.g.Fn.Kind == Sessions {
			c.inSessions(v, a, in[v])
			continue
		}
		for _, w := range windows {
			n := in[v][w]
			switch late := c.g.expired(w, a.watermark); {
			case late && n > 0:
				c.wrong("%s came too late for %s and is in %d panes of it", v, w, n)
			case !late && n == 0 && !c.g.Trigger.Finishes():
				c.wrong("%s is in no pane of %s", v, w)
			case n > 1 && !c.g.Accumulating:
				c.wrong("%s is in %d panes of %s", v, n, w)
			}
		}
	}
	c.totals(panes)
}

// totals checks that the last accumulating pane has all that came in time, unless its trigger had closed the window before.
func (c *checker) totals(panes []Pane) {
	if !c.g.Accumulating || c.g.Trigger.Finishes() || c.g.Fn.Kind == Sessions {
		return
	}
	total := map[keyWindow][]string{}
	for _, p := range panes {
		total[keyWindow{p.Key, p.Window}] = p.Values
	}
	for v, a := range c.arrivals {
		for _, w := range c.g.Fn.Assign(a.At) {
			if !c.g.expired(w, a.watermark) && !slices.Contains(total[keyWindow{a.Key, w}], v) {
				c.wrong("the last pane of %s %s has no %s", a.Key, w, v)
			}
		}
	}
}

// inSessions checks a value of sessions: which of them it was in is a matter of when they were merged.
func (c *checker) inSessions(v string, a arrival, in map[Window]int) {
	n := 0
	for _, k := range in {
		n += k
	}
	switch own := (Window{a.At, a.At + c.g.Fn.Size}); {
	case n > 1 && !c.g.Accumulating:
		c.wrong("%s is in %d panes", v, n)
	case n == 0 && !c.g.expired(own, a.watermark):
		c.wrong("%s is in no pane", v)
	case n > 0 && c.lostSession(a):
		c.wrong("%s came too late for every session and is in %d panes", v, n)
	}
}

// lostSession reports whether an element was too late even in the longest session that it may have belonged to when it came.
func (c *checker) lostSession(a arrival) bool {
	var windows []Window
	for _, o := range c.arrivals {
		if o.Key == a.Key && o.event <= a.event {
			windows = append(windows, Window{o.At, o.At + c.g.Fn.Size})
		}
	}
	return c.g.expired(c.g.Fn.Merged(windows)[Window{a.At, a.At + c.g.Fn.Size}], a.watermark)
}

// lateness checks how many values were dropped as late.
func (c *checker) lateness(late int64) {
	least, most := int64(0), int64(0)
	for _, a := range c.arrivals {
		for _, w := range c.g.Fn.Assign(a.At) {
			if c.g.expired(w, a.watermark) {
				most++
				if c.g.Fn.Kind != Sessions || c.lostSession(a) {
					least++
				}
			}
		}
	}
	if late < least || late > most {
		c.wrong("%d values were dropped as late, not %d to %d", late, least, most)
	}
}

// CheckFlushed returns what the model does not admit of a stateful step that keeps values until a timer at the end of their window:
// flushed says how often each came out, by window and value. All that was not too late comes out once.
func (g Grouping) CheckFlushed(h History, flushed map[string]int) []string {
	var faults []string
	for i, e := range h {
		watermark := int64(math.MinInt64)
		if i > 0 {
			watermark = h.watermarks()[i-1]
		}
		for _, el := range e.Elements {
			for _, w := range g.Fn.Assign(el.At) {
				want := 1
				if g.expired(w, watermark) {
					want = 0
				}
				if n := flushed[w.String()+el.Value]; n != want {
					faults = append(faults, fmt.Sprintf("%s came out of state %d times in %s, not %d", el.Value, n, w, want))
				}
			}
		}
	}
	return faults
}

// without returns what of a is not in b.
func without(a, b []string) []string {
	var left []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			left = append(left, s)
		}
	}
	return left
}
