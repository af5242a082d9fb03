package profile

import (
	"math"
	"math/bits"
)

// buckets is the number of a histogram's buckets: one for 0, and two for each power of two up to 2^31.
const buckets = 65

// Histogram counts numbers in buckets that grow by a third or a half: 0, 1, 2, 3, 4 up to 6, up to 8, up to 12 … The zero value is empty.
type Histogram struct {
	counts     [buckets]int64
	count, sum int64
	min, max   int64
}

// Observe counts a number; one below 0 is taken for 0.
func (h *Histogram) Observe(v int64) {
	v = max(v, 0)
	if h.count == 0 || v < h.min {
		h.min = v
	}
	h.counts[bucketOf(uint64(v))]++
	h.count++
	h.sum += v
	h.max = max(h.max, v)
}

// bucketOf is the bucket of a number: that of its highest bit and the one below.
func bucketOf(v uint64) int {
	if v == 0 {
		return 0
	}
	k := bits.Len64(v) - 1
	if k > 31 {
		return buckets - 1
	}
	half := 0
	if k > 0 {
		half = int(v >> (k - 1) & 1)
	}
	return 1 + 2*k + half
}

// lowest is the lowest number of a bucket. The upper halves of the first two are those of 1, which has none.
func lowest(bucket int) int64 {
	if bucket == 0 {
		return 0
	}
	k, half := (bucket-1)/2, (bucket-1)%2
	if k == 0 {
		return 1 + int64(half)
	}
	return int64(1)<<k + int64(half)<<(k-1)
}

// Count is how many numbers there were, Sum their sum and Max the largest.
func (h *Histogram) Count() int64 { return h.count }

// Sum is the sum of the numbers.
func (h *Histogram) Sum() int64 { return h.sum }

// Max is the largest number.
func (h *Histogram) Max() int64 { return h.max }

// Quantile is about the number that a share q of all numbers are not above: off by half a bucket at most. 0 for an empty histogram.
func (h *Histogram) Quantile(q float64) float64 {
	rank := math.Ceil(q * float64(h.count))
	below := int64(0)
	for i, n := range h.counts {
		if n == 0 || float64(below+n) < rank {
			below += n
			continue
		}
		lo, hi := float64(max(lowest(i), h.min)), float64(h.max)
		if i+1 < buckets {
			hi = min(hi, float64(lowest(i+1)-1))
		}
		return lo + max(hi-lo, 0)*(rank-float64(below))/float64(n)
	}
	return float64(h.max)
}

// Bounds is the number of bounds that UpTo has.
const Bounds = 32

// UpTo counts the numbers up to 2^k - 1, 0 ≤ k < Bounds.
func (h *Histogram) UpTo(k int) (count int64) {
	for i := 0; i < buckets && lowest(i) < int64(1)<<k; i++ {
		count += h.counts[i]
	}
	return count
}
