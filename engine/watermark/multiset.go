package watermark

import (
	"cmp"
	"container/heap"
	"slices"

	"padstone/engine/element"
)

// Multiset is a multiset of times that knows its minimum. Add is O(log n) in the number of distinct times, Min amortised O(log n).
// The zero value is empty and ready to use. Not for concurrent use.
type Multiset struct {
	loaded []Count // of Load, ascending; those that are gone have no count
	first  int     // no time of loaded before it has a count
	gone   int     // how many of loaded have none
	counts map[element.Time]int
	times  timeHeap // every time in counts, and possibly some whose count has gone to zero
}

// Count is how often a multiset has a time.
type Count struct {
	At element.Time
	N  int
}

// Load makes an empty multiset that of the counts, which are ascending in time, each once, and not zero. It takes no time to speak of,
// however many they are, and keeps them.
func (m *Multiset) Load(counts []Count) { m.loaded = counts }

// All returns all counts, those that were loaded first and in order.
func (m *Multiset) All() []Count {
	all := make([]Count, 0, len(m.loaded)-m.gone+len(m.counts))
	for _, c := range m.loaded {
		if c.N != 0 {
			all = append(all, c)
		}
	}
	for t, n := range m.counts {
		all = append(all, Count{t, n})
	}
	return all
}

// Add changes the count of t by delta and returns the new count. A negative count means a hold was released twice; the caller
// decides what that is worth.
func (m *Multiset) Add(t element.Time, delta int) int {
	if i, ok := slices.BinarySearchFunc(m.loaded, t, func(c Count, t element.Time) int { return cmp.Compare(c.At, t) }); ok {
		return m.addLoaded(i, delta)
	}
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

// addLoaded changes a count that was loaded.
func (m *Multiset) addLoaded(i, delta int) int {
	c := &m.loaded[i]
	if delta == 0 {
		return c.N
	}
	if c.N == 0 {
		m.gone--
		m.first = min(m.first, i)
	}
	if c.N += delta; c.N != 0 {
		return c.N
	}
	if m.gone++; m.gone > 64+len(m.loaded)/2 {
		m.loaded = slices.Clone(slices.DeleteFunc(m.loaded, func(c Count) bool { return c.N == 0 }))
		m.first, m.gone = 0, 0
	}
	return 0
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

// Min returns the smallest time, or element.MaxTime when the multiset is empty.
func (m *Multiset) Min() element.Time {
	for m.first < len(m.loaded) && m.loaded[m.first].N == 0 {
		m.first++
	}
	least := element.MaxTime
	if m.first < len(m.loaded) {
		least = m.loaded[m.first].At
	}
	for len(m.times) > 0 {
		t := m.times[0]
		if _, ok := m.counts[t]; ok {
			return min(t, least)
		}
		heap.Pop(&m.times)
	}
	return least
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
