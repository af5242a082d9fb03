package group

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/timer"
	"padstone/engine/window"
	"padstone/internal/fault"
)

func fixed(trigger plan.TriggerKind) plan.Windowing {
	return plan.Windowing{Kind: plan.Fixed, SizeMs: 10, OutputTime: plan.EndOfWindow, Trigger: &plan.Trigger{Kind: trigger}}
}

func TestNewRefuses(t *testing.T) {
	kv, _ := coder.Compile("kv(lp,lp)")
	lp, _ := coder.Compile("lp")
	good := fixed(plan.TriggerDefault)
	good.Coding = plan.IntervalWindow
	if _, err := New(&good, kv); err != nil {
		t.Fatal(err)
	}
	if _, err := New(&good, lp); err == nil {
		t.Error("elements without a key are grouped")
	}
	for code, change := range map[fault.Code]func(w *plan.Windowing){
		"invalid-trigger":   func(w *plan.Windowing) { w.Trigger = nil },
		"invalid-windowing": func(w *plan.Windowing) { w.Coding = plan.GlobalWindow },
	} {
		w := good
		change(&w)
		_, err := New(&w, kv)
		if f := fault.Of(err); f == nil || f.Code != code || f.Kind != fault.Pipeline {
			t.Errorf("got %v, want a fault %s", err, code)
		}
	}
	w := good
	w.LatenessMs = -1
	if _, err := New(&w, kv); fault.Of(err) == nil {
		t.Errorf("negative lateness: %v", err)
	}
}

// TestLongValues: values beyond a row's size go into several rows, and come out in order.
func TestLongValues(t *testing.T) {
	for _, kind := range []plan.WindowKind{plan.Fixed, plan.Sessions} {
		w := fixed(plan.TriggerDefault)
		w.Kind = kind
		r := newRig(t, w)
		var want []string
		for i := range 30 {
			var data []datum
			for j := range 100 {
				v := fmt.Sprintf("%02d-%02d-%s", i, j, strings.Repeat("x", 100))
				want = append(want, v)
				data = append(data, datum{key: "a", ts: 1, value: v})
			}
			r.add(data...)
		}
		if n := r.tx.Rows(rows.Group); n < 4 || n > 8 {
			t.Errorf("%s: %d rows for 330 kB", kind, n)
		}
		r.finish()
		if len(r.panes) != 1 || fmt.Sprint(r.panes[0].values) != fmt.Sprint(want) {
			t.Errorf("%s: values are lost or out of order", kind)
		}
	}
}

// TestManyKeys: a window with more keys than are looked at in one go.
func TestManyKeys(t *testing.T) {
	w := fixed(plan.TriggerDefault)
	w.LatenessMs = 5
	r := newRig(t, w)
	const n = 2*pageRows + 7
	var data []datum
	for i := range n {
		data = append(data, datum{key: fmt.Sprint("k", i), ts: 1, value: "v"})
	}
	r.add(data...)
	r.advance(10, 0)
	if len(r.panes) != n {
		t.Errorf("%d panes of %d", len(r.panes), n)
	}
	r.finish()
	if len(r.panes) != n {
		t.Errorf("%d panes of %d at the end", len(r.panes), n)
	}
}

// TestElementBeyondItsWindow: a timestamp outside of the window does not become that of a pane.
func TestElementBeyondItsWindow(t *testing.T) {
	w := fixed(plan.TriggerDefault)
	w.OutputTime = plan.Latest
	r := newRig(t, w)
	data := []datum{{key: "a", ts: 77, value: "v", wins: []window.Span{{Start: 0, End: 10}}}}
	var out Output
	if err := r.m.GroupAll(r.inBlocks(data, 1), Budget{}, &out); err != nil {
		t.Fatal(err)
	}
	r.add(data...)
	r.finish()
	for _, p := range append(r.panes, decode(t, r.w.Coding, out.Block)...) {
		if p.ts != 9 {
			t.Errorf("pane %s", p)
		}
	}
}

// TestFlush: a full block is handed over, what is left stays, and an error ends the call.
func TestFlush(t *testing.T) {
	r := newRig(t, fixed(plan.TriggerDefault))
	var data []datum
	for i := range 100 {
		data = append(data, datum{key: fmt.Sprint("k", i), ts: 1, value: "v"})
	}
	var panes int
	out := Output{FlushBytes: 500, Flush: func(b element.Block, _ []Backed) error {
		panes += len(decode(t, r.w.Coding, b))
		if len(b.Data) < 500 || len(b.Data) > 600 {
			t.Errorf("a block of %d bytes", len(b.Data))
		}
		return nil
	}}
	if err := r.m.GroupAll(r.inBlocks(data, 7), Budget{}, &out); err != nil {
		t.Fatal(err)
	}
	if panes += out.Block.Count; panes != 100 || out.Panes != 100 {
		t.Errorf("%d panes, %d told", panes, out.Panes)
	}
	full := errors.New("full")
	out = Output{Flush: func(element.Block, []Backed) error { return full }}
	if err := r.m.GroupAll(r.inBlocks(data, 7), Budget{}, &out); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// TestErrors: malformed elements, a store that fails, rows that do not read back.
func TestErrors(t *testing.T) {
	for _, kind := range []plan.WindowKind{plan.Fixed, plan.Sessions} {
		w := fixed(plan.TriggerDefault)
		w.Kind = kind
		r := newRig(t, w)
		block := r.encode([]datum{{key: "a", ts: 1, value: "v"}})
		var out Output
		if err := r.m.Process(&r.tx, block[:len(block)-1], r.env, &out); !errors.Is(err, coder.ErrMalformed) {
			t.Errorf("cut off: %v", err)
		}
		bad := errors.New("disk")
		blocks := iter.Seq2[[]byte, error](func(yield func([]byte, error) bool) { yield(nil, bad) })
		if err := r.m.GroupAll(blocks, Budget{}, &out); !errors.Is(err, bad) {
			t.Errorf("input that fails: %v", err)
		}
		r.add(datum{key: "a", ts: 1, value: "v"})
		r.env.InputWatermark = 100
		due := r.due(plan.EventTime, 100)
		r.tx.Fail = bad
		if err := r.m.Process(&r.tx, block, r.env, &out); kind == plan.Sessions && !errors.Is(err, bad) {
			t.Errorf("store that fails: %v", err)
		}
		if err := r.m.Timers(&r.tx, due, r.env, &out); !errors.Is(err, bad) {
			t.Errorf("store that fails: %v", err)
		}
		r.tx.Fail = nil
		var keys [][]byte
		if err := r.tx.Scan(rows.Trigger, nil, nil, func(k, _ []byte) bool {
			keys = append(keys, append([]byte{}, k...))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			r.tx.Set(rows.Trigger, k, []byte{0x7e})
		}
		if err := r.m.Timers(&r.tx, due, r.env, &out); fault.KindOf(err) != fault.Corruption {
			t.Errorf("row that does not read back: %v", err)
		}
	}
}

// TestStaleTimer: a timer that was due but has been moved by data since does not fire; one of somebody else is left alone.
func TestStaleTimer(t *testing.T) {
	w := fixed("")
	w.Trigger = &plan.Trigger{Kind: plan.TriggerRepeat, Children: []*plan.Trigger{{Kind: plan.TriggerAfterProcessing,
		Delays: []plan.TimeShift{{DelayMs: 5}}}}}
	r := newRig(t, w)
	r.add(datum{key: "a", ts: 1, value: "v"})
	r.env.Now = 5
	due := r.due(plan.ProcessingTime, 5)
	r.add(datum{key: "a", ts: 2, value: "w"}) // fires, as the delay is over
	r.add(datum{key: "a", ts: 3, value: "x"}) // begins the delay anew
	r.panes = nil
	other := timer.Fired{ID: timer.ID{Family: "user"}}
	var out Output
	if err := r.m.Timers(&r.tx, append(due, other), r.env, &out); err != nil || out.Panes > 0 {
		t.Errorf("%d panes, %v", out.Panes, err)
	}
	r.advance(element.MinTime, 10)
	if got := r.take(); got != "a [0,10) @9 early 1/-1: x\n" {
		t.Errorf("got %s", got)
	}
	r.finish()
}

// FuzzCell: whatever bytes stand in a row, reading them gives an error or a cell that is written back as something readable.
func FuzzCell(f *testing.F) {
	f.Add([]byte{0, 1, 1, 1, 1, 0, 0, 0, 0})
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1, 0, 9, 0, 0, 0, 1, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := fixed("")
		w.Trigger = &plan.Trigger{Kind: plan.TriggerAfterEndOfWindow, Children: []*plan.Trigger{{Kind: plan.TriggerAfterCount, Count: 2}}}
		m := newRig(t, w).m
		if c, err := m.parseCell(b); err == nil {
			if _, err := m.parseCell(m.appendCell(nil, c)); err != nil {
				t.Fatal(err)
			}
		}
		if ks, err := m.parseSessions(b); err == nil {
			if _, err := m.parseSessions(m.appendSessions(nil, ks)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
