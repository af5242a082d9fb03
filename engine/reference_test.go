package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// observer notes what user code sees, and after which event of the history. Nothing fails in these jobs, so it sees everything once.
type observer struct {
	mu      sync.Mutex
	event   int
	panes   []reference.Pane
	flushed map[string]int // values that the stateful step has put out, by window and value
}

func (o *observer) note(fn func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fn()
}

// tick notes that an event begins.
func (o *observer) tick(_ *fakesdk.Context, e fakesdk.Element) error {
	n, err := strconv.Atoi(string(fakesdk.Bytes(e.Value)))
	o.note(func() { o.event = n })
	return err
}

// pane notes a pane.
func (o *observer) pane(_ *fakesdk.Context, e fakesdk.Element) error {
	key, values, err := enginetest.Values("bytes", e.Value)
	if err != nil {
		return err
	}
	p := reference.Pane{Key: string(fakesdk.Bytes(key)), Window: windowOf(e), At: e.Timestamp}
	for _, v := range values {
		p.Values = append(p.Values, string(fakesdk.Bytes(v)))
	}
	slices.Sort(p.Values)
	enginetest.PaneInfo(&p, e.Pane)
	o.note(func() {
		p.Event = o.event
		o.panes = append(o.panes, p)
	})
	return nil
}

// stateful keeps values in a bag until a timer at the end of their window; one that comes later sets the timer again.
func (o *observer) stateful() fakesdk.DoFn {
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			return each(c, e, func(e fakesdk.Element) error {
				t, err := enginetest.Keep(c, e)
				if err != nil {
					return err
				}
				return c.SetTimer("end", t)
			})
		},
		OnTimer: func(c *fakesdk.Context, _ string, t fakesdk.Timer) error {
			return enginetest.LetOut(c, t, func(e fakesdk.Element, values []string) error {
				o.note(func() {
					for _, v := range values {
						o.flushed[windowOf(e).String()+v]++
					}
				})
				return nil
			})
		},
	}
}

// replayed runs a history through a grouping, and through state and timers where windows do not merge.
func replayed(
	t *testing.T, h reference.History, g reference.Grouping, custom bool, o enginetest.Options,
) (seen *observer, late, closed int64) {
	r := newRig(t, enginetest.KeepStores)
	seen = &observer{flushed: map[string]int{}}
	p := r.Pipeline()
	outs := p.TestStream("events", []string{"main", "tick"}, enginetest.Script(h)...)
	note := func(name string, in enginetest.Collection, fn func(c *fakesdk.Context, e fakesdk.Element) error) {
		p.ParDos(name, in, enginetest.ParDo{Outs: map[string]string{}, Fn: func() fakesdk.DoFn { return fakesdk.DoFn{Process: fn} }})
	}
	note("tick", outs["tick"], seen.tick)
	windowed := p.WindowInto("windows", p.Map("key", outs["main"], textPair, keyed), enginetest.Strategy(g, custom))
	note("panes", p.GroupByKey("group", windowed), seen.pane)
	merging := g.Fn.Kind == reference.Sessions
	if !merging {
		p.ParDo("stateful", windowed, enginetest.ParDo{
			Bags: []string{"values"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Fn: seen.stateful,
		})
	}
	j := r.Run(p, o)
	late, closed = j.Counter("group", "dropped_due_to_lateness"), j.Counter("group", "dropped_due_to_closed_window")
	if n := j.Counter("stateful", "dropped_due_to_lateness"); !merging && n != late {
		t.Errorf("the stateful step has dropped %d values, the grouping %d", n, late)
	}
	for name, table := range map[string]rows.Table{
		"group": rows.Group, "trigger": rows.Trigger, "timer": rows.TimerID, "timer order": rows.TimerTS, "hold": rows.Hold,
		"state": rows.State, "inbox": rows.Inbox, "inbox data": rows.Data,
	} {
		if n := r.Rows(j, table); n != 0 && (name != "state" || g.Fn.Kind != reference.GlobalWindows) {
			t.Errorf("%d %s rows are left", n, name)
		}
	}
	return seen, late, closed
}

// TestReference replays random histories, with elements that come late, through random windowings. Whatever the bundles, the panes are
// some that the model admits; with bundles of a whole event they are exactly those that the reference computes.
func TestReference(t *testing.T) {
	for _, seed := range seeds(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 6))
			g, h := reference.RandomGrouping(rng), reference.RandomHistory(rng, 25)
			check := func(name string, o enginetest.Options, exact bool) {
				t.Run(name, func(t *testing.T) { compare(t, h, g, seed%2 == 0, o, exact) })
			}
			check("events whole", nil, true)
			if seed%3 == 0 {
				check("bundles of 1 on 2 processes, no fusion", enginetest.Options{
					"max_bundle_size": 1, "sdk_worker_parallelism": 2, "experiments": []any{engine.ExperimentNoFusion}}, false)
			}
		})
	}
}

func compare(t *testing.T, h reference.History, g reference.Grouping, custom bool, o enginetest.Options, exact bool) {
	seen, late, closed := replayed(t, h, g, custom, o)
	for _, wrong := range g.Check(h, seen.panes, late) {
		t.Error(wrong)
	}
	if g.Fn.Kind != reference.Sessions {
		for _, wrong := range g.CheckFlushed(h, seen.flushed) {
			t.Error(wrong)
		}
		want := g.Panes(h)
		if late != want.Late || exact && closed != want.Closed {
			t.Errorf("%d values were dropped as late, %d for a closed window, not %d and %d", late, closed, want.Late, want.Closed)
		}
		if exact && !want.Unsure {
			missing, extra := difference(same(want.Panes), same(seen.panes))
			missing, _ = difference(missing, same(want.Maybe))
			for _, p := range missing {
				t.Error("missing: ", p)
			}
			for _, p := range extra {
				t.Error("too many: ", p)
			}
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", g, h)
	}
}

func same(panes []reference.Pane) []string {
	var texts []string
	for _, p := range panes {
		texts = append(texts, p.Same())
	}
	return texts
}
