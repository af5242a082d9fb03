package window

import (
	"encoding/binary"
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
)

// Assigner puts elements into the windows of a standard function, as the Python SDK does: bounds of windows do not pass the ends of time,
// and the elements are of no firing. Spec: python transforms/window.py assign, utils/windowed_value.py _IntervalWindowBase. Immutable.
type Assigner struct {
	from                 *coder.Scanner // of the elements as they come
	kind                 plan.WindowKind
	size, period, offset int64
}

// NewAssigner returns what assigns the windows of a standard function to elements that a scanner takes apart.
func NewAssigner(w *plan.Windowing, from *coder.Scanner) (*Assigner, error) {
	a := &Assigner{from: from, kind: w.Kind, size: w.SizeMs, period: w.PeriodMs, offset: w.OffsetMs}
	switch w.Kind {
	case plan.Fixed:
		a.period = w.SizeMs
	case plan.Global, plan.Sliding, plan.Sessions:
	default:
		return nil, fmt.Errorf("windows of kind %s are not the runner's to assign", w.Kind)
	}
	return a, nil
}

// last is the fixed window that was assigned last: most elements are in that of the one before.
type last struct {
	from, to element.Time // where it is the window: [from, to)
	encoded  [timeLen + binary.MaxVarintLen64]byte
	length   int
}

// Append appends the elements of data in their windows, until dst has no room for one more or data is at its end, and returns what is
// left. It takes one element at least, and grows dst for it if need be. An element in no window is left out. count is how many it has
// taken. An error wraps coder.ErrMalformed.
func (a *Assigner) Append(dst, data []byte) (out, rest []byte, count int, err error) {
	var e coder.Elem
	var l last
	for size := len(data); len(data) > 0; {
		next, err := a.from.Next(data, &e)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("element at byte %d of %d: %w", size-len(data), size, err)
		}
		if len(dst) > 0 && cap(dst)-len(dst) < a.room(&e) {
			break
		}
		for range e.NWin { // SDKs assign windows in each of those that an element is in
			dst = a.append(dst, &e, &l)
		}
		data = next
		count++
	}
	return dst, data, count, nil
}

// room is how many bytes an element may take.
func (a *Assigner) room(e *coder.Elem) int {
	const header, interval = timeLen + 4 + 1, timeLen + binary.MaxVarintLen64
	windows := 1
	if a.kind == plan.Sliding {
		windows = int(a.size/a.period) + 1
	}
	return e.NWin * (header + windows*interval + len(e.Value))
}

func (a *Assigner) append(dst []byte, e *coder.Elem, l *last) []byte {
	from := len(dst)
	at := min(max(e.TS, element.MinTime), element.MaxTime) // as SDKs read it
	dst = coder.AppendTime(dst, at)
	dst = append(dst, 0, 0, 0, 1)
	switch a.kind {
	case plan.Fixed:
		if at < l.from || at >= l.to {
			a.fix(at, l)
		}
		dst = append(dst, l.encoded[:l.length]...)
	case plan.Sessions:
		dst = Span{at, at.Add(a.size)}.Append(dst)
	case plan.Sliding:
		n := uint32(0)
		for start := a.start(at); start > int64(at)-a.size; start -= a.period {
			dst = bounded(start, a.size).Append(dst)
			n++
		}
		if n == 0 {
			return dst[:from]
		}
		binary.BigEndian.PutUint32(dst[from+timeLen:], n)
	}
	dst = append(dst, coder.NoFiring)
	return append(dst, e.Value...)
}

// fix makes the fixed window of a time the last one.
func (a *Assigner) fix(at element.Time, l *last) {
	s := bounded(a.start(at), a.size)
	l.from, l.to = s.Start, s.End
	l.length = len(s.Append(l.encoded[:0]))
}

// start returns where the last window begins that holds a time, or would if the period were not longer than the window. That may be
// before time does.
func (a *Assigner) start(at element.Time) int64 {
	rest := (int64(at) - a.offset) % a.period
	if rest < 0 {
		rest += a.period
	}
	return int64(at) - rest
}

// bounded is a window within time.
func bounded(start, size int64) Span {
	end := min(start+size, int64(element.MaxTime))
	return Span{max(element.Time(start), element.MinTime), element.Time(end)}
}
