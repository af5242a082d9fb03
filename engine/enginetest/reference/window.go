package reference

import (
	"fmt"
	"math"
	"slices"
)

// EndOfGlobal is the maximum timestamp of the global window, in milliseconds. Spec: beam_runner_api.proto BeamConstants.
const EndOfGlobal = 9223371950454775

// Window is [Start, End) in milliseconds.
type Window struct{ Start, End int64 }

// Global is the global window.
var Global = Window{math.MinInt64, EndOfGlobal + 1}

// Max is the last timestamp of the window.
func (w Window) Max() int64 { return w.End - 1 }

func (w Window) String() string {
	if w == Global {
		return "global"
	}
	return fmt.Sprintf("[%d,%d)", w.Start, w.End)
}

// WindowKind is a kind of window function.
type WindowKind int

// The kinds.
const (
	GlobalWindows WindowKind = iota
	Fixed
	Sliding
	Sessions
)

// WindowFn is a window function; Size is the gap of Sessions.
type WindowFn struct {
	Kind         WindowKind
	Size, Period int64
}

func (f WindowFn) String() string {
	return fmt.Sprintf("%s %d %d", []string{"global", "fixed", "sliding", "sessions"}[f.Kind], f.Size, f.Period)
}

// Assign returns the windows of a timestamp: those that hold it.
func (f WindowFn) Assign(at int64) []Window {
	switch f.Kind {
	case GlobalWindows:
		return []Window{Global}
	case Sessions:
		return []Window{{at, at + f.Size}}
	}
	period := f.Period
	if f.Kind == Fixed {
		period = f.Size
	}
	var all []Window
	for start := at - f.Size + 1; start <= at; start++ {
		if start%period == 0 {
			all = append(all, Window{start, start + f.Size})
		}
	}
	return all
}

// Merged returns what each window has become, once all of them are known: sessions that overlap are one.
func (f WindowFn) Merged(windows []Window) map[Window]Window {
	merged := make(map[Window]Window, len(windows))
	for _, w := range windows {
		grown := w
		for again := true; again && f.Kind == Sessions; {
			again = false
			for _, o := range windows {
				if o.Start < grown.End && grown.Start < o.End && (o.Start < grown.Start || o.End > grown.End) {
					grown, again = Window{min(grown.Start, o.Start), max(grown.End, o.End)}, true
				}
			}
		}
		merged[w] = grown
	}
	return merged
}

// SideOf returns the window of a side input that an element of main reads: the last one that holds the main window's end.
func (f WindowFn) SideOf(main Window) Window {
	if f.Kind == GlobalWindows {
		return Global
	}
	return slices.MaxFunc(f.Assign(main.Max()), func(a, b Window) int { return int(a.Start - b.Start) })
}
