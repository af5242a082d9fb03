package timer

import (
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
)

// Row layouts. TimerID: key, window, family, tag → domain u8, fire time, hold time, pane. TimerTS: domain u8, fire time, then
// the suffix of the TimerID row → empty. Key and window come first, so that the timers of an expired window are one range.
const (
	orderLen  = 1 + 8
	recordLen = 1 + 8 + 8

	eventByte      = 1
	processingByte = 2
)

func appendID(b []byte, id ID) []byte {
	if b == nil {
		b = make([]byte, 0, len(id.Key)+len(id.Window)+len(id.Family)+len(id.Tag)+16)
	}
	b = rows.AppendBytes(b, id.Key)
	b = rows.AppendBytes(b, id.Window)
	b = rows.AppendBytes(b, []byte(id.Family))
	return append(b, id.Tag...)
}

func parseID(b []byte) (id ID, ok bool) {
	if id.Key, b, ok = rows.TakeBytes(b); !ok {
		return ID{}, false
	}
	if id.Window, b, ok = rows.TakeBytes(b); !ok {
		return ID{}, false
	}
	family, b, ok := rows.TakeBytes(b)
	if !ok {
		return ID{}, false
	}
	id.Family, id.Tag = string(family), b
	return id, true
}

func appendDomain(b []byte, domain plan.TimeDomain) []byte {
	if domain == plan.ProcessingTime {
		return append(b, processingByte)
	}
	return append(b, eventByte)
}

func appendOrder(b []byte, domain plan.TimeDomain, fire element.Time, id []byte) []byte {
	if b == nil {
		b = make([]byte, 0, orderLen+len(id))
	}
	return append(rows.AppendTime(appendDomain(b, domain), fire), id...)
}

func appendTimer(b []byte, t Timer) []byte {
	b = appendDomain(b, t.Domain)
	b = rows.AppendTime(b, t.Fire)
	b = rows.AppendTime(b, t.Hold)
	return append(b, t.Pane...)
}

// parseTimer copies the pane: the row's slice does not outlive the call.
func parseTimer(b []byte) (t Timer, ok bool) {
	if len(b) < recordLen {
		return Timer{}, false
	}
	switch b[0] {
	case eventByte:
		t.Domain = plan.EventTime
	case processingByte:
		t.Domain = plan.ProcessingTime
	default:
		return Timer{}, false
	}
	t.Fire, t.Hold = rows.Time(b[1:]), rows.Time(b[orderLen:])
	t.Pane = append([]byte(nil), b[recordLen:]...)
	return t, true
}
