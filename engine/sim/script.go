package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// script is a job that replays a TestStream, with elements that come late. They are grouped, in sessions too; a stateful step keeps
// values until a timer at the end of their window; another one has its elements set and clear timers in both time domains. All of it goes
// to one sink, with the number of each event before what comes of it: an event begins when all that the one before brought about is
// outside. So what is outside says of everything after which event it came, whatever crashed.
type script struct {
	grouping reference.Grouping
	timers   reference.TimerRun // of the same history
	whole    bool               // what comes of an event is in one bundle of each key: panes are exactly those of the reference
	sink     *enginetest.Sink
}

func newScript(s *sim, rng *rand.Rand) *script {
	w := &script{grouping: reference.RandomGrouping(rng), timers: reference.RandomTimers(rng)}
	h := w.timers.History
	w.timers.History = append(slices.Clone(h[:4+rng.IntN(12)]), h[len(h)-1])
	w.whole = s.spec.Options.GetFields()["beam:option:max_bundle_size:v1"] == nil
	p := s.rig.Pipeline()
	outs := p.TestStream("events", []string{"main", "tick"}, enginetest.Script(w.timers.History)...)
	flat := func(name string, c enginetest.Collection) enginetest.Collection {
		return p.WindowInto(name+"/flat", c, enginetest.Global())
	}
	tick := p.Map("tick", outs["tick"], "", func(c *fakesdk.Context, e fakesdk.Element) error {
		return emitLine(c, e, "tick", string(fakesdk.Bytes(e.Value)))
	})
	keyed := p.Map("key", outs["main"], enginetest.TextPair, enginetest.Keyed)
	in := p.WindowInto("windows", keyed, enginetest.Strategy(w.grouping, rng.IntN(2) == 0))
	all := []enginetest.Collection{tick, flat("panes", p.Map("pane", p.GroupByKey("group", in), "bytes", describePane))}
	if w.grouping.Fn.Kind != reference.Sessions {
		all = append(all, flat("flushed", p.ParDo("stateful", in, enginetest.ParDo{
			Out: "bytes", Bags: []string{"values"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": pipepb.TimeDomain_EVENT_TIME},
			Fn: flushing,
		})))
	}
	of := enginetest.Strategy(reference.Grouping{Fn: w.timers.Fn, Trigger: &reference.Trigger{}, Lateness: w.timers.Lateness}, false)
	all = append(all, flat("fired", p.ParDo("bell", p.WindowInto("timers/windows", keyed, of), enginetest.ParDo{
		Out: "bytes", Bags: []string{"again"}, Fn: w.bell,
		Timers: map[string]pipepb.TimeDomain_Enum{"event": pipepb.TimeDomain_EVENT_TIME, "clock": pipepb.TimeDomain_PROCESSING_TIME},
	})))
	w.sink = p.Write("out", p.Flatten("all", all...))
	s.spec.Pipeline = p.Proto
	return w
}

// emitLine emits a line of the sink: what it is, and what of it.
func emitLine(c *fakesdk.Context, e fakesdk.Element, kind, text string) error {
	e.Value = enginetest.Text(kind + " " + text)
	return c.Emit("", e)
}

// flushing keeps values in a bag until a timer at the end of their window; one that comes later sets the timer again.
func flushing() fakesdk.DoFn {
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			return enginetest.Each(c, e, func(e fakesdk.Element) error {
				t, err := enginetest.Keep(c, e)
				if err != nil {
					return err
				}
				return c.SetTimer("end", t)
			})
		},
		OnTimer: func(c *fakesdk.Context, _ string, t fakesdk.Timer) error {
			return enginetest.LetOut(c, t, func(e fakesdk.Element, values []string) error {
				for _, v := range values {
					if err := emitLine(c, e, "flushed", enginetest.WindowOf(e).String()+v); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// bell is a stateful step whose elements set and clear its timers. Whether a timer is to set itself again it keeps in its state.
func (w *script) bell() fakesdk.DoFn {
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			return enginetest.Each(c, e, func(e fakesdk.Element) error { return w.setTimer(c, e) })
		},
		OnTimer: func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
			f := reference.Firing{Key: string(fakesdk.Bytes(t.Key)), Tag: t.Tag, Processing: family == "clock", At: t.Fire}
			e := fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane}
			f.Window = enginetest.WindowOf(e)
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if err := emitLine(c, e, "fired", string(text)); err != nil || f.Processing {
				return err
			}
			data, err := c.Bag("again", t.Key, t.Windows[4:]).Read()
			if err != nil {
				return err
			}
			again := int64(0)
			for _, said := range enginetest.RunOf(data) {
				if tag, ms, _ := strings.Cut(said, " "); tag == t.Tag {
					if again, err = strconv.ParseInt(ms, 10, 64); err != nil {
						return err
					}
				}
			}
			if again == 0 {
				return nil
			}
			t.Fire, t.Hold = t.Fire+again, t.Fire+again
			return c.SetTimer(family, t)
		},
	}
}

func (w *script) setTimer(c *fakesdk.Context, e fakesdk.Element) error {
	key, err := c.Key(e)
	if err != nil {
		return err
	}
	_, value := enginetest.PairOf(e)
	op := w.timers.Ops[value]
	t := fakesdk.Timer{Key: key, Tag: op.Tag, Windows: e.Windows, Clear: op.Clear, Fire: op.At, Hold: e.Timestamp, Pane: e.Pane}
	if op.Processing {
		return c.SetTimer("clock", t)
	}
	if err := c.Bag("again", key, e.Window()).Append(enginetest.Text(fmt.Sprint(op.Tag, " ", op.Again))); err != nil {
		return err
	}
	return c.SetTimer("event", t)
}

func (w *script) String() string {
	return fmt.Sprintf("script, whole events: %t\n%s\n%s", w.whole, w.grouping, w.timers)
}

func (w *script) lost() {}

func (w *script) emptied() map[string]rows.Table {
	all := tables()
	if w.grouping.Fn.Kind == reference.GlobalWindows || w.timers.Fn.Kind == reference.GlobalWindows {
		delete(all, "state") // which is kept for as long as the job lasts
	}
	return all
}

// seen is what is outside.
type seen struct {
	panes   []reference.Pane
	fired   []reference.Firing
	flushed map[string]int
	faults  []string
}

func (w *script) read(r *result) seen {
	s := seen{flushed: map[string]int{}}
	event := 0
	for _, text := range w.sink.Texts() {
		kind, rest, _ := strings.Cut(text, " ")
		var err error
		switch {
		case kind == "tick":
			n, nerr := strconv.Atoi(rest)
			if err = nerr; n < event && !r.rewound {
				s.faults = append(s.faults, fmt.Sprintf("event %d comes after event %d", n, event))
			}
			event = n
		case kind == "flushed":
			s.flushed[rest]++
		case kind == "fired":
			f := reference.Firing{}
			err = json.Unmarshal([]byte(rest), &f)
			f.Event = event
			s.fired = append(s.fired, f)
		default:
			p := reference.Pane{}
			err = json.Unmarshal([]byte(text), &p)
			p.Event = event
			s.panes = append(s.panes, p)
		}
		if err != nil {
			s.faults = append(s.faults, fmt.Sprintf("%q: %v", text, err))
		}
	}
	return s
}

// cut is the history as far as it was replayed, and the number of the last event that was, whole: behind it time ends.
func (w *script) cut(r *result) (h reference.History, last int) {
	h = w.timers.History
	n := r.read["script"] // of a TestStream with two events for each of these
	if r.state != jobpb.JobState_DRAINED || n >= 2*len(h) {
		return h, len(h) - 1
	}
	return append(slices.Clone(h[:n/2]), reference.Event{Watermark: reference.End}), max(n/2-1, 0)
}

func (w *script) check(r *result) []string {
	got := w.read(r)
	wrong := got.faults
	if r.state == jobpb.JobState_CANCELLED && r.draining {
		return wrong // it has ended somewhere between what either would be
	}
	h, last := w.cut(r)
	event := func(n int) int { // after a rewind the sink has the events of two runs
		if r.rewound {
			return 0
		}
		return min(n, last)
	}
	compare := func(what string, want, have []string) {
		slices.Sort(want)
		slices.Sort(have)
		if text := r.compare(want, have); text != "" {
			wrong = append(wrong, what+": "+text)
		}
	}
	timers := w.timers
	timers.History = h
	fired := timers.Firings()
	// While a drain ends windows time runs on, so that timers of processing time may come before; and timers set none any more
	// (docs/decisions/0054).
	if w.whole && r.state != jobpb.JobState_DRAINED { // else a timer may fire between two elements of an event
		compare("timers", firings(fired, event), firings(got.fired, event))
	}
	ended := r.state != jobpb.JobState_CANCELLED
	late := r.counter("group", "dropped_due_to_lateness")
	if r.state == jobpb.JobState_DONE && !r.rewound { // else what comes of the last event cannot be told from what comes of the end
		for _, text := range w.grouping.Check(h, got.panes, late) {
			wrong = append(wrong, "panes: "+text)
		}
	}
	if w.grouping.Fn.Kind == reference.Sessions {
		return wrong
	}
	if ended && !r.rewound {
		wrong = append(wrong, w.grouping.CheckFlushed(h, got.flushed)...)
	}
	want := w.grouping.Panes(h)
	if ended && late != want.Late {
		wrong = append(wrong, fmt.Sprintf("%d values were dropped as late, not %d", late, want.Late))
	}
	if n := r.counter("stateful", "dropped_due_to_lateness"); ended && n != want.Late {
		wrong = append(wrong, fmt.Sprintf("the stateful step has dropped %d values as late, not %d", n, want.Late))
	}
	if w.whole && !want.Unsure {
		if n := r.counter("group", "dropped_due_to_closed_window"); ended && n != want.Closed {
			wrong = append(wrong, fmt.Sprintf("%d values were dropped for a closed window, not %d", n, want.Closed))
		}
		// Some empty panes may be missing, see reference.Outcome.
		all, have, maybe := same(want.Panes, event), same(got.panes, event), same(want.Maybe, event)
		missing, _ := enginetest.Difference(all, have)
		there, _ := enginetest.Difference(maybe, missing)
		excused, _ := enginetest.Difference(maybe, there)
		compare("panes", all, slices.Concat(have, excused))
	}
	return wrong
}

func firings(all []reference.Firing, event func(int) int) []string {
	var texts []string
	for _, f := range all {
		f.Event = event(f.Event)
		texts = append(texts, f.String())
	}
	return slices.Sorted(slices.Values(texts))
}

func same(panes []reference.Pane, event func(int) int) []string {
	var texts []string
	for _, p := range panes {
		p.Event = event(p.Event)
		texts = append(texts, p.Same())
	}
	return slices.Sorted(slices.Values(texts))
}
