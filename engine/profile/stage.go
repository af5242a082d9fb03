package profile

import "time"

// Stage adds up the bundles of a stage.
type Stage struct {
	// Spent is where the time of all bundles went.
	Spent [Parts]time.Duration
	// Micros is how long bundles took, in microseconds; Elements and Bytes are what they had.
	Micros, Elements, Bytes Histogram
	// Inbox is how long blocks waited for a bundle to take them, Again what went into attempts that came to nothing.
	Inbox, Again Waits
	// LastElements and LastBytes are what the last bundle had.
	LastElements, LastBytes int64
}

// Add adds a bundle that was committed.
func (s *Stage) Add(w *Watch, elements, bytes int64) {
	for p, d := range w.spent {
		s.Spent[p] += d
	}
	s.Micros.Observe(w.Total().Microseconds())
	s.Elements.Observe(elements)
	s.Bytes.Observe(bytes)
	s.LastElements, s.LastBytes = elements, bytes
}

// Total is the time of all bundles.
func (s *Stage) Total() (sum time.Duration) {
	for _, d := range s.Spent {
		sum += d
	}
	return sum
}

// Waits adds up times of waiting.
type Waits struct {
	Count    int64
	Sum, Max time.Duration
}

// Add adds one.
func (w *Waits) Add(d time.Duration) {
	d = max(d, 0)
	w.Count++
	w.Sum += d
	w.Max = max(w.Max, d)
}
