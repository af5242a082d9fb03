package window

import (
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// Side returns the encoded window of a side input that a main window with the maximum timestamp looks at: by default the one
// that holds this timestamp. Of several sliding windows it is the last one to begin, as in the Java SDK; others may choose an
// earlier one, which is complete by then, so that waiting for this one is right for all. The harness itself names the window
// whose contents it wants.
//
// Sessions as a side input are refused by every SDK; the mapping of a custom window function is known to its SDK alone. Both give
// a fault of kind Pipeline, code unsupported-side-input-window.
// Spec: WindowFn.getDefaultWindowMappingFn (Java core), default_window_mapping_fn (Python transforms/sideinputs.py).
func Side(w *plan.Windowing, mainMax element.Time) ([]byte, error) {
	switch w.Kind {
	case plan.Global:
		return []byte{}, nil
	case plan.Fixed:
		start := floor(mainMax, w.SizeMs, w.OffsetMs)
		return Span{start, start.Add(w.SizeMs)}.Append(nil), nil
	case plan.Sliding:
		start := floor(mainMax, w.PeriodMs, w.OffsetMs)
		return Span{start, start.Add(w.SizeMs)}.Append(nil), nil
	default:
		return nil, fault.New(fault.Pipeline, "unsupported-side-input-window",
			"a side input in windows of kind %s has no default window for a main window", w.Kind).
			WithHint("put the side input into fixed, sliding or global windows")
	}
}

// floor returns the largest offset + n×period at or before t. The window that begins there may reach past the ends of time.
func floor(t element.Time, period, offset int64) element.Time {
	if period <= 0 {
		return t
	}
	rest := (int64(t) - offset) % period
	if rest < 0 {
		rest += period
	}
	return t.Add(-rest)
}
