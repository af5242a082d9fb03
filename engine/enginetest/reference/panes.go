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
	panes          []Pane
	late, closed   int64
}

// Panes computes the panes of the history, of windows that do not merge, and how many values (in each of their windows) came too late, or
// for a window whose trigger had closed it. All elements of an event that have the same key come together; a trigger that counts
// is asked after each of them, another after all. That is the engine's choice among what the model admits.
func (g Grouping) Panes(h History) (panes []Pane, late, closed int64) {
	r := &run{g: g, cells: map[keyWindow]*cell{}, watermark: math.MinInt64}
	for i, e := range h {
		r.event = i
		r.add(e.Elements)
		if e.Clock > 0 {
			r.clock(r.now + e.Clock)
		}
		if e.Watermark > r.watermark && e.Watermark != 0 {
			r.advance(e.Watermark)
		}
	}
	return r.panes, r.late, r.closed
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
			r.late += int64(len(values))
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
			r.closed += int64(len(values) - i)
			return
		}
		c.values = append(c.values, v)
		c.fresh++
		c.trigger.arrive(r.now)
		if r.g.Trigger.counts() || i == len(values)-1 {
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
	wanted := c.fresh > 0 || p.Timing == OnTime && r.g.EmptyOnTime || last && r.g.EmptyOnClose
	c.fresh = 0
	if wanted {
		r.panes = append(r.panes, p)
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
	before := r.watermark
	r.watermark = to
	for at, c := range r.cells {
		switch {
		case r.g.expired(at.window, to):
			if !c.closed {
				r.put(at, true)
			}
			delete(r.cells, at)
		case to > at.window.Max() && before <= at.window.Max():
			r.evaluate(at)
		}
	}
}
