package bundle

import (
	"testing"

	"padstone/engine/element"
	"padstone/engine/scheduler"
)

func TestRoundest(t *testing.T) {
	for _, c := range []struct{ lo, hi, want int64 }{
		{4700, 5200, 5000}, {4400, 4900, 4500}, {5000, 5000, 5000}, {4999, 5003, 5000}, {5001, 5003, 5003}, {100, 100_000, 100_000},
		{-300, 200, 0}, {-5200, -4700, -5000}, {60_000, 60_001, 60_000}, {7, 7, 7}, {0, 0, 0}, {3_599_000, 3_600_050, 3_600_000},
	} {
		if got := roundest(c.lo, c.hi); got != c.want {
			t.Errorf("roundest(%d, %d) = %d, not %d", c.lo, c.hi, got, c.want)
		}
	}
}

func TestOnOurClock(t *testing.T) {
	const begun, ended element.Time = 1_700_000_000_123, 1_700_000_002_000
	for _, c := range []struct {
		name            string
		now, fire, want element.Time
	}{
		{"a delay of 5 s, set after 1 s", 10_000, begun + 1000 + 5000, 15_000},
		{"at once", 10_000, begun + 500, 10_000},
		{"in the past", 10_000, begun - 60_000, -50_000},
		{"a time on the script's clock", 10_000, 12_000, 12_000},
		{"a time on the script's clock that has passed", 10_000, 5000, 5000},
		{"the end of time", 10_000, element.MaxTime, element.MaxTime},
		{"any delay at the end of time", element.MaxTime, begun + 5000, element.MaxTime},
	} {
		h := &harnessBundle{
			runner: &Runner{Wall: func() element.Time { return ended }}, start: &scheduler.Start{Now: c.now}, begunAt: begun,
		}
		if got := h.onOurClock(c.fire); got != c.want {
			t.Errorf("%s: %d, not %d", c.name, got, c.want)
		}
	}
	h := &harnessBundle{runner: &Runner{}, start: &scheduler.Start{}}
	if got := h.onOurClock(begun); got != begun {
		t.Errorf("without a script %d becomes %d", begun, got)
	}
}
