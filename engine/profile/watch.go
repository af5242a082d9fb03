package profile

import "time"

// Clock is a clock that never goes back. It need not say what time it is.
type Clock = func() time.Duration

// Watch is where the time of one bundle goes. It is with one goroutine at a time. A nil Watch measures nothing.
type Watch struct {
	clock       Clock
	began, last time.Duration
	spent       [Parts]time.Duration
}

// Begin starts a watch.
func Begin(clock Clock) *Watch {
	now := clock()
	return &Watch{clock: clock, began: now, last: now}
}

// Clock is the watch's clock.
func (w *Watch) Clock() Clock { return w.clock }

// Began is when the watch was started.
func (w *Watch) Began() time.Duration { return w.began }

// To says that the time since the last call, or since the beginning, went into the part.
func (w *Watch) To(p Part) {
	if w == nil {
		return
	}
	now := w.clock()
	w.spent[p] += now - w.last
	w.last = now
}

// Shift moves time from one part to another: no more than the first one has.
func (w *Watch) Shift(from, to Part, d time.Duration) {
	if w == nil {
		return
	}
	d = min(max(d, 0), w.spent[from])
	w.spent[from] -= d
	w.spent[to] += d
}

// Spent is what went into the part so far.
func (w *Watch) Spent(p Part) time.Duration { return w.spent[p] }

// Total is the time from the beginning to the last call of To: the sum of the parts.
func (w *Watch) Total() time.Duration { return w.last - w.began }
