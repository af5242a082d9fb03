package engine_test

import (
	"testing"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// BenchmarkCheapestBundle is what the smallest bundle costs that a harness can have: one element, which it drops at once; no log, no Python.
// It is what the profile's own cost is held against: BenchmarkBundle of engine/profile.
func BenchmarkCheapestBundle(b *testing.B) {
	r := enginetest.New(b, nil)
	src := &enginetest.Source{}
	for range b.N {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts("a")})
	}
	p := r.Pipeline()
	p.ParDo("drop", p.Read("in", src, "bytes"), enginetest.ParDo{
		Outs: map[string]string{}, Fn: func() fakesdk.DoFn { return fakesdk.DoFn{} },
	})
	b.ResetTimer()
	j := r.Run(p, enginetest.Options{"max_bundle_size": 1, "durability": "none"})
	b.StopTimer()
	d, err := j.Describe(r.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range d.Stages {
		if s.Kind == "harness" && s.Profile.Bundles > 0 {
			b.ReportMetric(s.Profile.Seconds*1e6/float64(s.Profile.Bundles), "µs/bundle")
			b.ReportMetric(float64(s.Profile.Bundles)/float64(b.N), "bundles/op")
		}
	}
}
