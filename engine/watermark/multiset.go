package watermark

import (
	"container/heap"

	"padstone/engine/element"
)

// Multiset is a multiset of times that knows its minimum. Add is O(log n) in the number of distinct times, Min amortised O(log n).
// The zero value is empty and ready to use. Not for concurrent use.
type Multiset struct {
	counts map[element.Time]int
	times  timeHeap // every time with a count, and possibly some whose count has gone to zero
}

// Add changes the count of t by delta and returns the new count. A negative count means a hold was released twice; the caller
// decides what that is worth.
func (m *Multiset) Add(t element.Time, delta int) int {
	if m.counts == nil {
		m.counts = make(map[element.Time]int)
	}
	n, known := m.counts[t]
	n += delta
	if n == 0 {
		delete(m.counts, t)
		return 0
	}
	m.counts[t] = n
	if !known {
		heap.Push(&m.times, t)
		m.compact()
	}
	return n
}

// compact rebuilds the heap when most of it is times that are gone: a time that comes and goes above a standing minimum would
// otherwise leave an entry each time.
func (m *Multiset) compact() {
	if len(m.times) <= 64+2*len(m.counts) {
		return
	}
	m.times = m.times[:0]
	for t := range m.counts {
		m.times = append(m.times, t)
	}
	heap.Init(&m.times)
}

// Count returns the count of t.
func (m *Multiset) Count(t element.Time) int { return m.counts[t] }

// Len returns the number of distinct times.
func (m *Multiset) Len() int { return len(m.counts) }

// Min returns the smallest time, or element.MaxTime when the multiset is empty.
func (m *Multiset) Min() element.Time {
	for len(m.times) > 0 {
		t := m.times[0]
		if _, ok := m.counts[t]; ok {
			return t
		}
		heap.Pop(&m.times)
	}
	return element.MaxTime
}

type timeHeap []element.Time

func (h timeHeap) Len() int           { return len(h) }
func (h timeHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h timeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timeHeap) Push(x any)        { *h = append(*h, x.(element.Time)) }
func (h *timeHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}
