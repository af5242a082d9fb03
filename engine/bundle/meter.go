package bundle

import (
	"sync"
	"time"
)

// meter tells the bundles on a harness process apart: while several are at work, time is divided among them, as a process with one
// interpreter lock divides it. Safe for concurrent use; the zero value is ready.
type meter struct {
	mu     sync.Mutex
	active int
	at     time.Time
	sum    time.Duration // of the shares of one that has always been at work
	any    time.Duration // for which at least one was
}

// shift counts n more bundles at work, and returns the sum of shares so far.
func (m *meter) shift(n int) time.Duration {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.active > 0 {
		m.any += now.Sub(m.at)
		m.sum += now.Sub(m.at) / time.Duration(m.active)
	}
	m.at = now
	m.active += n
	return m.sum
}

// busy is for how long the process has had a bundle at work.
func (m *meter) busy() time.Duration {
	m.shift(0)
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.any
}

// stopwatch takes the time of one bundle on a harness. Not for concurrent use.
type stopwatch struct {
	meter      *meter
	from       time.Duration // the sum when it was resumed
	began      time.Time
	busy, wall time.Duration
}

func (w *stopwatch) resume() { w.from, w.began = w.meter.shift(1), time.Now() }

func (w *stopwatch) pause() {
	w.busy += w.meter.shift(-1) - w.from
	w.wall += time.Since(w.began)
}
