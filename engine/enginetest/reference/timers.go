package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// TimerOp is what an element has a stateful step do with one of its timers.
type TimerOp struct {
	Tag        string
	Processing bool  // in processing time, else in event time
	Clear      bool  // else it is set
	At         int64 // when it is to fire
	Again      int64 // an event-time timer sets itself again so much later each time that it fires; 0: not
}

// TimerRun is a history with what its elements do, by value.
type TimerRun struct {
	Fn       WindowFn
	Lateness int64
	History  History
	Ops      map[string]TimerOp
}

func (r TimerRun) String() string {
	return fmt.Sprintf("%s lateness=%d\n%s%v", r.Fn, r.Lateness, r.History, r.Ops)
}

// Firing is a timer that has fired.
type Firing struct {
	Event      int // the last that had begun
	Key        string
	Window     Window
	Tag        string
	Processing bool
	At         int64
}

func (f Firing) String() string {
	return fmt.Sprintf("event %d: %s %s tag %s processing=%t at %d", f.Event, f.Key, f.Window, f.Tag, f.Processing, f.At)
}

// RandomTimers makes a run. Timers are set before and behind the watermark and the clock.
func RandomTimers(rng *rand.Rand) TimerRun {
	r := TimerRun{
		Fn:       []WindowFn{{Kind: GlobalWindows}, {Kind: Fixed, Size: 10}, {Kind: Sliding, Size: 12, Period: 6}}[rng.IntN(3)],
		Lateness: []int64{0, 5}[rng.IntN(2)], History: RandomHistory(rng, 25), Ops: map[string]TimerOp{},
	}
	now := int64(0)
	for _, e := range r.History {
		now += e.Clock
		for _, el := range e.Elements {
			op := TimerOp{Tag: string(rune('x' + rng.IntN(2))), Processing: rng.IntN(3) == 0, Clear: rng.IntN(5) == 0}
			switch {
			case op.Processing:
				op.At = now + rng.Int64N(12)
			default:
				op.At = el.At + rng.Int64N(24) - 4
				if r.Fn.Kind != GlobalWindows && rng.IntN(4) == 0 { // time has no end there
					op.Again = 1 + rng.Int64N(6)
				}
			}
			r.Ops[el.Value] = op
		}
	}
	return r
}

// timerID names a timer.
type timerID struct {
	key        string
	window     Window
	tag        string
	processing bool
}

// timerState is the timers at work.
type timerState struct {
	run            TimerRun
	timers         map[timerID]TimerOp
	event          int
	watermark, now int64
	fired          []Firing
}

// collectAt is the last watermark at which a window is kept.
func (r TimerRun) collectAt(w Window) int64 {
	if w == Global {
		return math.MaxInt64 // state of the global window is not collected before the end
	}
	return w.Max() + r.Lateness
}

// Firings computes which timers fire. An event-time timer fires when the watermark has reached its time, at the latest before its
// window is collected: one that an element sets for later is moved to then, one that a timer sets is not kept. A processing-time timer
// of a window that is collected is gone; at the end of all events, those that are left fire.
func (r TimerRun) Firings() []Firing {
	s := &timerState{run: r, timers: map[timerID]TimerOp{}, watermark: math.MinInt64}
	watermarks := r.History.watermarks()
	for i, e := range r.History {
		s.event = i
		for _, el := range e.Elements {
			for _, w := range r.Fn.Assign(el.At) {
				if s.watermark <= r.collectAt(w) {
					s.do(el.Key, w, r.Ops[el.Value])
				}
			}
		}
		s.now += e.Clock
		s.watermark = watermarks[i]
		s.fire()
	}
	s.now = math.MaxInt64
	s.fire()
	return s.fired
}

func (s *timerState) do(key string, w Window, op TimerOp) {
	id := timerID{key, w, op.Tag, op.Processing}
	if op.Clear {
		delete(s.timers, id)
		return
	}
	if !op.Processing {
		op.At = min(op.At, s.run.collectAt(w))
	}
	s.timers[id] = op
}

// fire fires what is due until nothing is, and collects windows.
func (s *timerState) fire() {
	for again := true; again; {
		again = false
		for id, op := range s.timers {
			if due := !id.processing && op.At <= s.watermark || id.processing && op.At <= s.now; !due {
				continue
			}
			again = true
			delete(s.timers, id)
			s.fired = append(s.fired, Firing{s.event, id.key, id.window, id.tag, id.processing, op.At})
			if op.At += op.Again; op.Again > 0 && op.At <= s.run.collectAt(id.window) {
				s.timers[id] = op
			}
		}
	}
	for id := range s.timers {
		if s.watermark > s.run.collectAt(id.window) {
			delete(s.timers, id)
		}
	}
}
