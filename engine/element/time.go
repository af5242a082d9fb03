package element

import (
	"strconv"
	"time"
)

// Time is a Beam event time (or processing time) in milliseconds since the Unix epoch.
type Time int64

// Beam's bounds. Spec: beam_runner_api.proto BeamConstants: MIN_TIMESTAMP_MILLIS, MAX_TIMESTAMP_MILLIS and
// GLOBAL_WINDOW_MAX_TIMESTAMP_MILLIS.
const (
	MinTime         Time = -9223372036854775
	MaxTime         Time = 9223372036854775
	EndOfGlobalTime Time = MaxTime - 24*60*60*1000
)

// String prints "-inf", "+inf", "end-of-global" or RFC 3339 with milliseconds in UTC.
func (t Time) String() string {
	switch {
	case t <= MinTime:
		return "-inf"
	case t >= MaxTime:
		return "+inf"
	case t == EndOfGlobalTime:
		return "end-of-global"
	}
	if s := time.UnixMilli(int64(t)).UTC(); s.Year() >= 0 && s.Year() <= 9999 {
		return s.Format("2006-01-02T15:04:05.000Z")
	}
	return strconv.FormatInt(int64(t), 10) + "ms"
}

// Add returns t moved by d milliseconds, clamped to [MinTime, MaxTime].
func (t Time) Add(d int64) Time {
	r := t + Time(d)
	switch {
	case d > 0 && (r < t || r > MaxTime):
		return MaxTime
	case d < 0 && (r > t || r < MinTime):
		return MinTime
	}
	return r
}
