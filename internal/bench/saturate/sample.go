package saturate

import "iter"

// messageBytes is how much goes into one message on the data plane: harnesses get through messages of 1 to 4 MB at the lowest cost.
const messageBytes = 1 << 20

// Sample is encoded elements, one behind the other, that bundles are cut from. It is not changed once made.
type Sample struct {
	data     []byte
	starts   []int // where elements begin, and at last the end of data
	distinct int   // elements before they were repeated
}

// NewSample repeats the elements until they fill a message. There must be one at least.
func NewSample(elements [][]byte) *Sample {
	s := &Sample{distinct: len(elements)}
	for len(s.data) < messageBytes {
		for _, e := range elements {
			s.starts = append(s.starts, len(s.data))
			s.data = append(s.data, e...)
		}
	}
	s.starts = append(s.starts, len(s.data))
	return s
}

// Len is the number of elements.
func (s *Sample) Len() int { return len(s.starts) - 1 }

// Distinct is the number of elements that were given.
func (s *Sample) Distinct() int { return s.distinct }

// Bytes is the mean size of an element.
func (s *Sample) Bytes() float64 { return float64(len(s.data)) / float64(s.Len()) }

// Cut yields n elements from the one with that number on, round and round, in messages. The bytes are the sample's own.
func (s *Sample) Cut(from, n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		from %= s.Len()
		for n > 0 {
			to := from
			for to < s.Len() && to-from < n && (to == from || s.starts[to+1]-s.starts[from] <= messageBytes) {
				to++
			}
			if !yield(s.data[s.starts[from]:s.starts[to]]) {
				return
			}
			n -= to - from
			from = to % s.Len()
		}
	}
}
