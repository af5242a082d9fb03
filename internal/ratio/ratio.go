package ratio

import (
	"testing"
	"time"
)

// Report reports how often what an iteration of b took, by b.Elapsed, an iteration of base takes, as "x-name". To be called behind b.Loop.
func Report(b *testing.B, name string, base func()) {
	b.Helper()
	spent := b.Elapsed()
	base() // once to warm up
	start := time.Now()
	for range b.N {
		base()
	}
	b.ReportMetric(float64(spent)/float64(max(time.Since(start), 1)), "x-"+name)
}

// Each reports nanoseconds for each of n items of an iteration.
func Each(b *testing.B, n int, item string) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/"+item)
}
