package window

import (
	"encoding/binary"
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
)

const timeLen = 8

// Span is an interval window [Start, End).
type Span struct{ Start, End element.Time }

// Max returns the last timestamp inside the window.
func (s Span) Max() element.Time { return s.End - 1 }

// Append appends the encoded window in coding interval. Spec: beam_runner_api.proto StandardCoders.INTERVAL_WINDOW.
func (s Span) Append(dst []byte) []byte {
	return binary.AppendUvarint(coder.AppendTime(dst, s.End), uint64(s.End-s.Start))
}

// ParseSpan decodes a window in coding interval.
func ParseSpan(w []byte) (Span, error) {
	if len(w) > timeLen {
		if size, n := binary.Uvarint(w[timeLen:]); n > 0 && timeLen+n == len(w) {
			end := wireTime(w)
			return Span{Start: end - element.Time(size), End: end}, nil
		}
	}
	return Span{}, fmt.Errorf("%w: interval window %x", coder.ErrMalformed, w)
}

// Max returns the maximum timestamp of an encoded window.
func Max(coding plan.WindowCoding, w []byte) (element.Time, error) {
	switch coding {
	case plan.GlobalWindow:
		return element.EndOfGlobalTime, nil
	case plan.IntervalWindow:
		if len(w) > timeLen {
			return wireTime(w) - 1, nil
		}
	case plan.CustomWindow:
		if len(w) > timeLen {
			return wireTime(w), nil
		}
	}
	return 0, fmt.Errorf("%w: window %x in coding %s", coder.ErrMalformed, w, coding)
}

// Key returns the window as SDKs name it in the keys of state and side inputs: the encoding of the window itself. In a custom
// coding that is the payload, without the maximum timestamp and the length that let the runner frame it.
// Spec: beam_runner_api.proto StandardCoders.CUSTOM_WINDOW.
func Key(coding plan.WindowCoding, w []byte) ([]byte, error) {
	if coding != plan.CustomWindow {
		return w, nil
	}
	if len(w) > timeLen {
		if size, n := binary.Uvarint(w[timeLen:]); n > 0 && uint64(len(w)-timeLen-n) == size {
			return w[timeLen+n:], nil
		}
	}
	return nil, fmt.Errorf("%w: window %x in coding %s", coder.ErrMalformed, w, coding)
}

// CollectAt returns the watermark up to which a window with the maximum timestamp keeps its state: once the input watermark is
// later, elements of it are dropped and its state goes. It never passes the end of the global window, so that every window is
// collected before the job ends. Spec: LateDataUtils.garbageCollectionTime (Java runners-core).
func CollectAt(maxTS element.Time, latenessMs int64) element.Time {
	if maxTS >= element.EndOfGlobalTime || latenessMs >= int64(element.EndOfGlobalTime-maxTS) {
		return element.EndOfGlobalTime
	}
	return maxTS.Add(latenessMs)
}

// wireTime reads an event time as windows carry it.
func wireTime(b []byte) element.Time {
	return element.Time(binary.BigEndian.Uint64(b) ^ (1 << 63))
}
