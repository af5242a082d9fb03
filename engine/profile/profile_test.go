package profile

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestWatch: parts add up to the whole whatever is moved, and no part becomes less than nothing.
func TestWatch(t *testing.T) {
	now := time.Duration(7)
	w := Begin(func() time.Duration { return now })
	pass := func(d time.Duration, p Part) { now += d; w.To(p) }
	pass(3, Place)
	pass(10, Prepare)
	w.Shift(Prepare, Load, 4)
	pass(100, Harness)
	w.Shift(Harness, Route, 30)
	w.Shift(Harness, State, 1000)
	w.Shift(Harness, Decode, 5)
	w.Shift(Prepare, Load, -5)
	pass(0, Driver)
	pass(2, Commit)
	want := map[Part]time.Duration{Place: 3, Prepare: 6, Load: 4, Route: 30, State: 70, Commit: 2}
	sum := time.Duration(0)
	for p := Part(0); p < Parts; p++ {
		sum += w.Spent(p)
		if w.Spent(p) != want[p] {
			t.Errorf("%v: %v, not %v", p, w.Spent(p), want[p])
		}
	}
	if sum != w.Total() || sum != 115 {
		t.Errorf("%v in all, the parts are %v", w.Total(), sum)
	}
	var none *Watch
	none.To(Route)
	none.Shift(Route, Load, 1)
}

// TestParts: every part has a name of its own and a group.
func TestParts(t *testing.T) {
	seen := make(map[string]bool)
	last := Group(0)
	for p := Part(0); p < Parts; p++ {
		if p.String() == "" || seen[p.String()] || p.Group() < last {
			t.Errorf("part %d is %q of %v", p, p, p.Group())
		}
		seen[p.String()], last = true, p.Group()
	}
	if last != Groups-1 {
		t.Errorf("the last group is %v", last)
	}
}

// TestBuckets: buckets follow each other without gaps, and a number is in the one that its bounds say.
func TestBuckets(t *testing.T) {
	for v := range int64(5000) {
		b := bucketOf(uint64(v))
		if lowest(b) > v || b+1 < buckets && lowest(b+1) <= v && lowest(b+1) > lowest(b) {
			t.Errorf("%d is in bucket %d, from %d to %d", v, b, lowest(b), lowest(b+1))
		}
	}
	for _, v := range []uint64{1<<32 - 1, 1 << 32, math.MaxUint64} {
		if b := bucketOf(v); b != buckets-1 {
			t.Errorf("%d is in bucket %d", v, b)
		}
	}
}

// TestQuantile compares with what sorting says: off by a half at most, where numbers are far apart.
func TestQuantile(t *testing.T) {
	var empty Histogram
	if q := empty.Quantile(0.5); q != 0 {
		t.Errorf("of nothing: %g", q)
	}
	var same Histogram
	for range 10 {
		same.Observe(476)
	}
	if q := same.Quantile(0.5); q != 476 {
		t.Errorf("of the same number ten times: %g", q)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 1000} {
		var h Histogram
		var all []int64
		for range n {
			v := int64(math.Exp(rng.Float64() * 15))
			all = append(all, v)
			h.Observe(v)
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
			want := float64(all[max(0, int(math.Ceil(q*float64(n)))-1)])
			if got := h.Quantile(q); got < want/1.5-1 || got > want*1.5+1 {
				t.Errorf("%d numbers, %g: %g, not %g", n, q, got, want)
			}
		}
		if h.Count() != int64(n) || h.Max() != all[n-1] {
			t.Errorf("%d numbers up to %d", h.Count(), h.Max())
		}
	}
}

// TestUpTo: counts are cumulative, and each number is counted from the first bound on that it is not above.
func TestUpTo(t *testing.T) {
	var h Histogram
	for _, v := range []int64{-4, 0, 1, 2, 3, 4, 700, 1 << 40} {
		h.Observe(v)
	}
	for k, want := range map[int]int64{0: 2, 1: 3, 2: 5, 3: 6, 9: 6, 10: 7, 31: 7} {
		if n := h.UpTo(k); n != want {
			t.Errorf("%d up to %d, not %d", n, 1<<k-1, want)
		}
	}
}

// TestStage adds two bundles up.
func TestStage(t *testing.T) {
	var s Stage
	now := time.Duration(0)
	for n := int64(1); n <= 2; n++ {
		w := Begin(func() time.Duration { return now })
		now += 3 * time.Millisecond
		w.To(Harness)
		now += time.Millisecond
		w.To(Commit)
		s.Add(w, 10*n, 100*n)
	}
	if s.Total() != 8*time.Millisecond || s.Spent[Harness] != 6*time.Millisecond || s.Micros.Sum() != 8000 || s.Elements.Sum() != 30 ||
		s.LastElements != 20 || s.LastBytes != 200 {
		t.Errorf("%+v", s)
	}
	var w Waits
	w.Add(-time.Second)
	w.Add(time.Second)
	if w.Count != 2 || w.Sum != time.Second || w.Max != time.Second {
		t.Errorf("%+v", w)
	}
}

// BenchmarkBundle is what the profile of a bundle costs: of one block, one message each way and one output, through a harness.
func BenchmarkBundle(b *testing.B) {
	began := time.Now()
	clock := func() time.Duration { return time.Since(began) }
	var s Stage
	b.ReportAllocs()
	for range b.N {
		w := Begin(clock)
		s.Inbox.Add(w.Began())
		for _, p := range []Part{Place, Prepare, Encode, Prepare, Harness, Prepare, Harness, Harness, Harness, Route, Route, Driver, Commit} {
			w.To(p)
		}
		for range 5 { // a block loaded, a message encoded, one decoded, let in and routed: each is measured by two readings
			from := clock()
			w.Shift(Harness, Route, clock()-from)
		}
		s.Add(w, 1, 40)
	}
}
