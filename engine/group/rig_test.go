package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/rows/rowstest"
	"padstone/engine/timer"
	"padstone/engine/window"
)

// rig drives a machine as a bundle would, and keeps the stage's watermarks. It checks what must hold whatever the story: no pane
// but a late one lies before the output watermark, and no pane so far before it that a grouping that follows would drop it.
type rig struct {
	t      testing.TB
	w      plan.Windowing
	m      *Machine
	tx     rowstest.Tx
	env    Env
	closed int64
	late   int64
	panes  []pane // since they were last taken

	combine Combiner // of a machine that compacts
}

// pane is an emitted pane, decoded.
type pane struct {
	key    string
	win    string
	winMax element.Time
	ts     element.Time
	info   coder.Pane
	values []string
}

func newRig(t testing.TB, w plan.Windowing) *rig {
	t.Helper()
	elem, err := coder.Compile("kv(lp,lp)")
	if err != nil {
		t.Fatal(err)
	}
	w.Coding = codingOf(w.Kind)
	m, err := New(&w, elem)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t: t, w: w, m: m, env: Env{InputWatermark: element.MinTime, OutputWatermark: element.MinTime, Merge: mergeOverlaps}}
}

func codingOf(k plan.WindowKind) plan.WindowCoding {
	switch k {
	case plan.Global:
		return plan.GlobalWindow
	case plan.Custom:
		return plan.CustomWindow
	default:
		return plan.IntervalWindow
	}
}

// datum is one input element. Its window is assigned by its timestamp unless told.
type datum struct {
	key   string
	ts    element.Time
	value string
	wins  []window.Span // nil: assign
}

func appendLP(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func (r *rig) encode(data []datum) []byte {
	var block []byte
	for _, d := range data {
		n, wins := r.assign(d)
		block = coder.AppendHeader(block, d.ts, n, wins, []byte{coder.NoFiring})
		block = appendLP(appendLP(block, d.key), d.value)
	}
	return block
}

// assign does what an SDK's window function does.
func (r *rig) assign(d datum) (n int, wins []byte) {
	down := func(period int64) element.Time {
		rest := (int64(d.ts) - r.w.OffsetMs) % period
		if rest < 0 {
			rest += period
		}
		return d.ts - element.Time(rest)
	}
	spans := d.wins
	switch {
	case spans != nil:
	case r.w.Kind == plan.Global:
		return 1, nil
	case r.w.Kind == plan.Custom: // windows of ten, named by their tens
		wins = coder.AppendTime(nil, d.ts/10*10+9)
		return 1, appendLP(wins, fmt.Sprint("w", int64(d.ts/10)))
	case r.w.Kind == plan.Fixed:
		start := down(r.w.SizeMs)
		spans = []window.Span{{Start: start, End: start.Add(r.w.SizeMs)}}
	case r.w.Kind == plan.Sliding:
		for start := down(r.w.PeriodMs); start > d.ts-element.Time(r.w.SizeMs); start -= element.Time(r.w.PeriodMs) {
			spans = append(spans, window.Span{Start: start, End: start.Add(r.w.SizeMs)})
		}
	default:
		spans = []window.Span{{Start: d.ts, End: d.ts.Add(r.w.SizeMs)}}
	}
	for _, s := range spans {
		wins = s.Append(wins)
	}
	return len(spans), wins
}

func (r *rig) add(data ...datum) {
	r.t.Helper()
	var out Output
	if err := r.m.Process(&r.tx, r.encode(data), r.env, &out); err != nil {
		r.t.Fatal(err)
	}
	r.compact(&out)
	r.done(&out)
}

func (r *rig) compact(out *Output) {
	r.t.Helper()
	if err := r.m.Compact(out.Stale, r.combine); err != nil {
		r.t.Fatal(err)
	}
}

// advance moves the input watermark and the clock and handles what is due, until nothing is.
func (r *rig) advance(watermark, now element.Time) {
	r.t.Helper()
	r.env.InputWatermark, r.env.Now = max(r.env.InputWatermark, watermark), max(r.env.Now, now)
	for round := 0; ; round++ {
		if round > 100 {
			r.t.Fatal("timers do not come to an end")
		}
		due := r.due(plan.EventTime, r.env.InputWatermark)
		due = append(due, r.due(plan.ProcessingTime, r.env.Now)...)
		if len(due) == 0 {
			break
		}
		var out Output
		if err := r.m.Timers(&r.tx, due, r.env, &out); err != nil {
			r.t.Fatal(err)
		}
		r.compact(&out)
		r.done(&out)
	}
	r.output()
}

func (r *rig) due(domain plan.TimeDomain, upTo element.Time) []timer.Fired {
	r.t.Helper()
	due, err := timer.Due(&r.tx, domain, upTo, 3)
	if err != nil {
		r.t.Fatal(err)
	}
	return due
}

// output advances the output watermark to where the holds let it.
func (r *rig) output() {
	to := r.env.InputWatermark
	if hold, ok := r.tx.MinHold(); ok {
		to = min(to, hold)
	}
	r.env.OutputWatermark = max(r.env.OutputWatermark, to)
}

// done takes what a call emitted.
func (r *rig) done(out *Output) {
	r.t.Helper()
	r.late += out.DroppedLate
	r.closed += out.DroppedClosed
	panes := decode(r.t, r.w.Coding, out.Block)
	for _, p := range panes {
		if p.info.Timing != coder.Late && p.ts < r.env.OutputWatermark {
			r.t.Errorf("pane %s lies before the output watermark %s", p, clockText(r.env.OutputWatermark))
		}
		if window.CollectAt(p.winMax, r.w.LatenessMs) < r.env.OutputWatermark {
			r.t.Errorf("pane %s is late beyond the allowed lateness: output watermark %s", p, clockText(r.env.OutputWatermark))
		}
	}
	r.panes = append(r.panes, panes...)
	r.output()
}

// decode takes a block of KV<lp, iterable<lp>> apart, and checks its numbers.
func decode(t testing.TB, coding plan.WindowCoding, b element.Block) []pane {
	t.Helper()
	prog, err := coder.Compile("kv(lp,iter(lp))")
	if err != nil {
		t.Fatal(err)
	}
	s := coder.NewScanner(prog, coding)
	count, minTS, maxTS, err := s.Stat(b.Data)
	if err != nil {
		t.Fatal(err)
	}
	if count != b.Count || count > 0 && (minTS != b.MinTS || maxTS != b.MaxTS) {
		t.Fatalf("block says %d elements from %s to %s, has %d from %s to %s", b.Count, b.MinTS, b.MaxTS, count, minTS, maxTS)
	}
	var panes []pane
	err = s.Scan(b.Data, func(e *coder.Elem) error {
		if e.NWin != 1 {
			t.Errorf("pane in %d windows", e.NWin)
		}
		p := pane{ts: e.TS, key: string(e.Key[1:])}
		p.win, p.winMax = windowText(t, coding, e.Windows)
		if p.info, _, err = coder.DecodePane(e.Pane); err != nil {
			return err
		}
		rest := e.Rest()
		n := int(binary.BigEndian.Uint32(rest))
		for rest = rest[4:]; len(rest) > 0; rest = rest[1+rest[0]:] {
			p.values = append(p.values, string(rest[1:1+rest[0]]))
		}
		if n != len(p.values) {
			t.Errorf("iterable says %d values, has %d", n, len(p.values))
		}
		panes = append(panes, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return panes
}

func windowText(t testing.TB, coding plan.WindowCoding, w []byte) (string, element.Time) {
	maxTS, err := window.Max(coding, w)
	if err != nil {
		t.Fatal(err)
	}
	switch coding {
	case plan.GlobalWindow:
		return "global", maxTS
	case plan.CustomWindow:
		return string(w[9:]), maxTS
	}
	s, err := window.ParseSpan(w)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[%d,%d)", int64(s.Start), int64(s.End)), maxTS
}

func clockText(t element.Time) string {
	if t > -1e9 && t < 1e9 {
		return fmt.Sprint(int64(t))
	}
	return t.String()
}

// String prints "a [0,10) @9 on-time 1/0 first last: v1 v2": index and non-speculative index of the pane, then its values.
func (p pane) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s @%s %s %d/%d", p.key, p.win, clockText(p.ts), p.info.Timing, p.info.Index, p.info.NonSpeculative)
	if p.info.First {
		b.WriteString(" first")
	}
	if p.info.Last {
		b.WriteString(" last")
	}
	b.WriteString(":")
	for _, v := range p.values {
		b.WriteString(" " + v)
	}
	return b.String()
}

// take returns the panes since the last call, sorted, and what was dropped.
func (r *rig) take() string {
	lines := make([]string, 0, len(r.panes))
	for _, p := range r.panes {
		lines = append(lines, p.String())
	}
	slices.Sort(lines)
	if r.late > 0 {
		lines = append(lines, fmt.Sprintf("dropped %d late", r.late))
	}
	if r.closed > 0 {
		lines = append(lines, fmt.Sprintf("dropped %d closed", r.closed))
	}
	r.panes, r.late, r.closed = nil, 0, 0
	if len(lines) == 0 {
		return "nothing\n"
	}
	return strings.Join(lines, "\n") + "\n"
}

// rest tells what is kept.
func (r *rig) rest() string {
	return fmt.Sprintf("cells %d, value rows %d, timers %d, holds %s, output watermark %s\n", r.tx.Rows(rows.Trigger),
		r.tx.Rows(rows.Group), r.tx.Rows(rows.TimerID), r.tx.Holds(), clockText(r.env.OutputWatermark))
}

// finish ends the input and checks that nothing is left.
func (r *rig) finish() {
	r.t.Helper()
	r.advance(element.MaxTime, r.env.Now)
	if r.tx.Total() != 0 || r.tx.Holds() != "none" {
		r.t.Errorf("left behind at the end: %s", r.rest())
	}
	if r.env.OutputWatermark != element.MaxTime {
		r.t.Errorf("output watermark stays at %s", r.env.OutputWatermark)
	}
}
