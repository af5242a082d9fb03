package reference

import (
	"math"
	"slices"
)

// cell is a key and window at work.
type cell struct {
	trigger *firing
	values  []string // that are in the next pane
	fresh   int      // of them, those that no pane has had
	panes   int64
	spoken  int64 // panes that were not early
	closed  bool
}

type keyWindow struct {
	key    string
	window Window
}

// run is a grouping over a history, event by event.
type run struct {
	g              Grouping
	cells          map[keyWindow]*cell
	event          int
	watermark, now int64
	before         int64 // the watermark, before the event
	out            Outcome
}

// Outcome is what a grouping does with a history.
type Outcome struct {
	Panes []Pane
	// Late and Closed are how many values, in each of their windows, came too late, and for a window whose trigger had closed it.
	Late, Closed int64
	// Maybe are the panes among Panes that may be missing: empty ones on time, which nothing of their own holds the output watermark
	// for, so that they are late and not wanted, unless another key holds it. Unsure says that one of them was not the last of its
	// window: what comes after it is numbered in one way or another.
	Maybe  []Pane
	Unsure bool
}

// Panes computes the panes of the history, of windows that do not merge. All elements of an event that have the same key come together; a
// trigger that counts is asked after each of them, another after all. That is the engine's choice among what the model admits.
func (g Grouping) Panes(h History) Outcome {
	r := &run{g: g, cells: map[keyWindow]*cell{}, watermark: math.MinInt64}
	for i, e := range h {
		r.event, r.before = i, r.watermark
		r.add(e.Elements)
		if e.Clock > 0 {
			r.clock(r.now + e.Clock)
		}
		if e.Watermark > r.watermark && e.Watermark != 0 {
			r.advance(e.Watermark)
		}
	}
	return r.out
}

func (r *run) moment(w Window) moment { return moment{r.now, r.watermark > w.Max()} }

func (r *run) add(elements []Element) {
	come := map[keyWindow][]string{}
	for _, e := range elements {
		for _, w := range r.g.Fn.Assign(e.At) {
			at := keyWindow{e.Key, w}
			come[at] = append(come[at], e.Value)
		}
	}
	for at, values := range come {
		if r.g.expired(at.window, r.watermark) {
			r.out.Late += int64(len(values))
			continue
		}
		if r.cells[at] == nil {
			r.cells[at] = &cell{trigger: start(r.g.Trigger)}
		}
		r.take(at, values)
	}
}

func (r *run) take(at keyWindow, values []string) {
	c := r.cells[at]
	for i, v := range values {
		if c.closed {
			r.out.Closed += int64(len(values) - i)
			return
		}
		c.values = append(c.values, v)
		c.fresh++
		c.trigger.arrive(r.now)
		if r.g.Trigger.byElement() || i == len(values)-1 {
			r.evaluate(at)
		}
	}
}

// evaluate fires a pane if the trigger is ready.
func (r *run) evaluate(at keyWindow) {
	c := r.cells[at]
	m := r.moment(at.window)
	if c.closed || !c.trigger.ready(m) {
		return
	}
	c.trigger.fire(m)
	c.closed = c.trigger.done
	r.put(at, c.closed)
}

// put puts a pane out, if it has values or is wanted without.
func (r *run) put(at keyWindow, last bool) {
	c := r.cells[at]
	p := Pane{
		Event: r.event, Key: at.key, Window: at.window, Values: slices.Sorted(slices.Values(c.values)), Timing: Early,
		Index: c.panes, NonSpeculative: -1, First: c.panes == 0, Last: last,
	}
	if r.moment(at.window).ended {
		p.Timing, p.NonSpeculative = OnTime, c.spoken
		if c.spoken > 0 {
			p.Timing = Late
		}
	}
	wanted := c.fresh > 0 || last && r.g.EmptyOnClose
	if !wanted && p.Timing == OnTime && r.g.EmptyOnTime {
		wanted = true
		if r.before > at.window.Max() || r.g.Lateness > 0 && !r.g.Trigger.onTime() {
			r.out.Maybe, r.out.Unsure = append(r.out.Maybe, p), r.out.Unsure || !last
		}
	}
	c.fresh = 0
	if wanted {
		r.out.Panes = append(r.out.Panes, p)
		c.panes++
		if p.Timing != Early {
			c.spoken++
		}
	}
	if !r.g.Accumulating {
		c.values = nil
	}
}

// clock asks the triggers in which a delay ends.
func (r *run) clock(to int64) {
	before := r.now
	r.now = to
	for at, c := range r.cells {
		if c.trigger.rings(before, to) {
			r.evaluate(at)
		}
	}
}

// advance ends windows, and expires them.
func (r *run) advance(to int64) {
	r.watermark = to
	for at, c := range r.cells {
		switch {
		case r.g.expired(at.window, to):
			if !c.closed {
				r.put(at, true)
			}
			delete(r.cells, at)
		case to > at.window.Max() && r.before <= at.window.Max():
			r.evaluate(at)
		}
	}
}
