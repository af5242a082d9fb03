package reference

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// End is later than every time: the watermark of the last event of a history.
const End = math.MaxInt64

// Event is one event of a TestStream: elements, or an advance of the watermark or of the clock. All that follows from it has happened
// before the next one.
type Event struct {
	Elements  []Element // Key, Value and At; values are unique
	Watermark int64     // the new one; 0: as before
	Clock     int64     // by how much processing time goes on
}

// History is what a source does. Time begins at 0, the watermark at the beginning of time.
type History []Event

func (h History) String() string {
	var b strings.Builder
	for i, e := range h {
		fmt.Fprintf(&b, "%3d:", i)
		for _, el := range e.Elements {
			fmt.Fprintf(&b, " %s=%s@%d", el.Key, el.Value, el.At)
		}
		if e.Watermark != 0 {
			fmt.Fprintf(&b, " watermark %d", e.Watermark)
		}
		if e.Clock != 0 {
			fmt.Fprintf(&b, " clock +%d", e.Clock)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// watermarks returns the watermark after each event.
func (h History) watermarks() []int64 {
	out := make([]int64, len(h))
	at := int64(math.MinInt64)
	for i, e := range h {
		if e.Watermark != 0 {
			at = max(at, e.Watermark)
		}
		out[i] = at
	}
	return out
}

// Stamp is a timestamp combiner.
type Stamp int

// The timestamp combiners.
const (
	StampEnd Stamp = iota
	StampEarliest
	StampLatest
)

// Grouping is a GroupByKey with its windowing.
type Grouping struct {
	Fn                        WindowFn
	Trigger                   *Trigger
	Accumulating              bool
	Lateness                  int64
	Stamp                     Stamp
	EmptyOnTime, EmptyOnClose bool
}

func (g Grouping) String() string {
	return fmt.Sprintf("%s trigger=%s accumulating=%t lateness=%d stamp=%d empty-on-time=%t empty-on-close=%t",
		g.Fn, g.Trigger, g.Accumulating, g.Lateness, g.Stamp, g.EmptyOnTime, g.EmptyOnClose)
}

// expired reports whether a window is over, and all that is kept for it gone.
func (g Grouping) expired(w Window, watermark int64) bool {
	return watermark == End || w.Max()+g.Lateness < watermark
}

// Timing is the timing of a pane.
type Timing int

// The timings, as they are encoded.
const (
	Early Timing = iota
	OnTime
	Late
)

// Pane is a pane that has been put out.
type Pane struct {
	Event                 int // the last that had begun
	Key                   string
	Window                Window
	At                    int64
	Values                []string
	Timing                Timing
	Index, NonSpeculative int64
	First, Last           bool
}

func (p Pane) String() string {
	return fmt.Sprintf("event %d: %s %s @%d timing %d, %d/%d first=%t last=%t %v",
		p.Event, p.Key, p.Window, p.At, p.Timing, p.Index, p.NonSpeculative, p.First, p.Last, p.Values)
}

// Same prints what Panes knows of a pane: all but its timestamp and its timing, which also hang on other keys' holds.
func (p Pane) Same() string {
	return fmt.Sprintf("event %d: %s %s %d first=%t last=%t %v", p.Event, p.Key, p.Window, p.Index, p.First, p.Last, p.Values)
}

// RandomGrouping makes a grouping.
func RandomGrouping(rng *rand.Rand) Grouping {
	g := Grouping{
		Trigger: RandomTrigger(rng, 1+rng.IntN(3)), Accumulating: rng.IntN(2) == 0, Lateness: []int64{0, 1, 7, 30}[rng.IntN(4)],
		Stamp: Stamp(rng.IntN(3)), EmptyOnTime: rng.IntN(2) == 0, EmptyOnClose: rng.IntN(3) == 0,
	}
	switch rng.IntN(5) {
	case 0:
		g.Fn = WindowFn{Kind: GlobalWindows}
	case 1:
		g.Fn = WindowFn{Kind: Sliding, Size: 12, Period: []int64{4, 6}[rng.IntN(2)]}
	case 2:
		g.Fn = WindowFn{Kind: Sessions, Size: 4 + rng.Int64N(6)}
		for g.Trigger.Finishes() {
			g.Trigger = RandomTrigger(rng, 1+rng.IntN(3))
		}
	default:
		g.Fn = WindowFn{Kind: Fixed, Size: 5 + rng.Int64N(10)}
	}
	return g
}

// RandomHistory makes some events, the last of which ends time. Elements come before and behind the watermark.
func RandomHistory(rng *rand.Rand, events int) History {
	var h History
	watermark, value := int64(1), 0
	for range events {
		switch rng.IntN(5) {
		case 0, 1:
			watermark += rng.Int64N(9)
			h = append(h, Event{Watermark: watermark})
		case 2:
			h = append(h, Event{Clock: 1 + rng.Int64N(6)})
		default:
			var e Event
			for range 1 + rng.IntN(5) {
				e.Elements = append(e.Elements, Element{
					Key: string(rune('a' + rng.IntN(3))), Value: fmt.Sprint("v", value), At: watermark + rng.Int64N(32) - 14,
				})
				value++
			}
			h = append(h, e)
		}
	}
	return append(h, Event{Watermark: End})
}
