package group

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/trigger/triggertest"
	"padstone/engine/window"
)

// windowings are what the random tests run over.
func windowings(t testing.TB) map[string]plan.Windowing {
	all := map[string]plan.Windowing{}
	for _, kind := range []plan.WindowKind{plan.Global, plan.Fixed, plan.Sliding, plan.Sessions, plan.Custom} {
		for _, text := range []string{
			"default", "always", "never", "end", "end(count(2),count(1))", "end(delay(7),count(3))", "repeat(count(3))",
			"repeat(any(count(4),delay(9)))", "end(repeat(delay(5)),repeat(delay(5)))", "repeat(each(count(1),end,count(2)))",
			"repeat(until(repeat(count(2)),end))", "repeat(all(count(2),delay(3)))", "count(5)", "repeat(synchronized)",
		} {
			tree, err := triggertest.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			for i, how := range []plan.OutputTime{plan.EndOfWindow, plan.Earliest, plan.Latest} {
				w := plan.Windowing{Kind: kind, SizeMs: 10, PeriodMs: 4, Trigger: tree, OutputTime: how, LatenessMs: int64(i) * 8,
					EmptyOnTime: i != 1, EmptyOnClose: i == 2, OnTimeAlways: i == 0}
				if kind == plan.Fixed {
					w.OffsetMs = 3
				}
				all[fmt.Sprintf("%s %s %s discarding", kind, text, how)] = w
				w.Accumulating = true
				all[fmt.Sprintf("%s %s %s accumulating", kind, text, how)] = w
			}
		}
	}
	return all
}

// TestRandom feeds random elements, watermarks and clocks and checks, besides what the rig checks: that every value comes out in
// exactly one pane of each of its windows when panes are discarded, and at least once otherwise, unless it was dropped; that the
// panes of a key and window are numbered without gaps, with one first, at most one on-time and nothing after the last; that
// nothing is left at the end.
func TestRandom(t *testing.T) {
	all := windowings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%s seed %d", name, seed), func(t *testing.T) {
				random(t, all[name], seed)
			})
		}
	}
}

func random(t *testing.T, w plan.Windowing, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t, w)
	at, values, placed := element.Time(0), 0, int64(0)
	for range 60 {
		switch rng.IntN(4) {
		case 0:
			at += element.Time(rng.IntN(8))
			r.advance(at, r.env.Now)
		case 1:
			r.advance(r.env.InputWatermark, r.env.Now+element.Time(rng.IntN(6)))
		default:
			var data []datum
			for range 1 + rng.IntN(4) {
				d := datum{key: string(rune('a' + rng.IntN(3))), ts: at + element.Time(rng.IntN(24)-8), value: fmt.Sprint("v", values)}
				n, _ := r.assign(d)
				values, placed = values+1, placed+int64(n)
				data = append(data, d)
			}
			r.add(data...)
		}
	}
	r.finish()
	checkValues(t, w, r, placed)
	if w.Kind != plan.Sessions { // merging forgets the panes of all but one session
		checkPanes(t, r.panes)
	}
}

// checkValues counts in how many panes each value came out, by window; a session is known by its key alone.
func checkValues(t *testing.T, w plan.Windowing, r *rig, placed int64) {
	seen := map[string]int{}
	for _, p := range r.panes {
		win := p.win
		if w.Kind == plan.Sessions {
			win = ""
		}
		inPane := map[string]bool{}
		for _, v := range p.values {
			if inPane[v] {
				t.Errorf("%s is twice in pane %s", v, p)
			}
			inPane[v] = true
			seen[p.key+win+v]++
		}
	}
	if int64(len(seen))+r.late+r.closed != placed {
		t.Errorf("%d values came out, %d were late, %d too late for a closed window; %d came in", len(seen), r.late, r.closed, placed)
	}
	for v, n := range seen {
		if n > 1 && !w.Accumulating {
			t.Errorf("%s is in %d panes", v, n)
		}
	}
}

func checkPanes(t *testing.T, panes []pane) {
	type state struct {
		next, nonSpeculative int64
		last                 bool
		onTime               int
	}
	states := map[string]*state{}
	for _, p := range panes {
		s := states[p.key+p.win]
		if s == nil {
			s = &state{}
			states[p.key+p.win] = s
		}
		want := coder.Pane{First: s.next == 0, Last: p.info.Last, Timing: p.info.Timing, Index: s.next, NonSpeculative: s.nonSpeculative}
		if p.info.Timing == coder.Early {
			want.NonSpeculative = -1
		} else {
			s.nonSpeculative++
		}
		if p.info.Timing == coder.OnTime {
			s.onTime++
		}
		if p.info != want || s.last || s.onTime > 1 || p.info.Timing == coder.Early && s.nonSpeculative > 0 {
			t.Errorf("pane %s, want %+v; after the last: %t, %d on time", p, want, s.last, s.onTime)
		}
		s.next++
		s.last = p.info.Last
	}
}

// inBlocks yields blocks of some elements each.
func (r *rig) inBlocks(data []datum, size int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for part := range slices.Chunk(data, size) {
			if !yield(r.encode(part), nil) {
				return
			}
		}
	}
}

// TestGroupAll compares the batch path with a naive grouping and, when the trigger fires once, with the streaming path.
func TestGroupAll(t *testing.T) {
	all := windowings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w := all[name]
		w.LatenessMs, w.EmptyOnClose = 0, false
		r := newRig(t, w)
		if !r.m.BatchEligible() {
			continue
		}
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s seed %d", name, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 2))
				var data []datum
				for i := range rng.IntN(200) {
					data = append(data, datum{
						key: fmt.Sprint("k", rng.IntN(20)), ts: element.Time(rng.IntN(400) - 100), value: fmt.Sprint("v", i)})
				}
				r := newRig(t, w)
				got, size := "", 1+rng.IntN(50)
				spare := &Spare{size: 20}                // some elements are longer
				for _, from := range []int{0, 1, 3000} { // in parts, too
					var out Output
					if err := r.m.GroupAll(r.inBlocks(data, size), Budget{Spare: spare, partsFrom: from}, &out); err != nil {
						t.Fatal(err)
					}
					got = sorted(decode(t, r.w.Coding, out.Block))
					if want := sorted(r.naive(data)); got != want {
						t.Errorf("in parts from %d got\n%swant\n%s", from, got, want)
					}
				}
				r.add(data...)
				r.finish()
				if streamed := sorted(r.panes); got != streamed {
					t.Errorf("in one go\n%sstreamed\n%s", got, streamed)
				}
			})
		}
	}
}

// sorted prints panes with their values sorted, one a line, sorted.
func sorted(panes []pane) string {
	lines := make([]string, 0, len(panes))
	for _, p := range panes {
		p.values = slices.Sorted(slices.Values(p.values))
		lines = append(lines, p.String()+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// naive groups by comparing everything with everything.
func (r *rig) naive(data []datum) []pane {
	var panes []pane
	for _, d := range data {
		n, wins := r.assign(d)
		for range n {
			w, rest, err := coder.NextWindow(r.w.Coding, wins)
			if err != nil {
				r.t.Fatal(err)
			}
			wins = rest
			name, maxTS := windowText(r.t, r.w.Coding, w)
			if r.w.Kind == plan.Sessions {
				s := r.sessionOf(data, d)
				name, maxTS = windowText(r.t, r.w.Coding, s.Append(nil))
			}
			panes = r.put(panes, d, name, maxTS)
		}
	}
	return panes
}

func (r *rig) put(panes []pane, d datum, win string, maxTS element.Time) []pane {
	ts := maxTS
	if r.w.OutputTime != plan.EndOfWindow {
		ts = d.ts
	}
	for i := range panes {
		p := &panes[i]
		if p.key != d.key || p.win != win {
			continue
		}
		p.values = append(p.values, d.value)
		switch r.w.OutputTime {
		case plan.Earliest:
			p.ts = min(p.ts, ts)
		case plan.Latest:
			p.ts = max(p.ts, ts)
		}
		return panes
	}
	info := coder.Pane{First: true, Last: true, Timing: coder.OnTime}
	return append(panes, pane{key: d.key, win: win, winMax: maxTS, ts: ts, info: info, values: []string{d.value}})
}

// sessionOf grows the session of d until nothing more overlaps.
func (r *rig) sessionOf(data []datum, d datum) window.Span {
	s := window.Span{Start: d.ts, End: d.ts.Add(r.w.SizeMs)}
	for grown := true; grown; {
		grown = false
		for _, o := range data {
			end := o.ts.Add(r.w.SizeMs)
			if o.key == d.key && o.ts < s.End && s.Start < end && (o.ts < s.Start || end > s.End) {
				s.Start, s.End, grown = min(s.Start, o.ts), max(s.End, end), true
			}
		}
	}
	return s
}
