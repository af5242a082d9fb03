package group

import (
	"fmt"
	"testing"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows/rowstest"
)

func BenchmarkGroupAll(b *testing.B) {
	for _, c := range []struct{ keys, perKey int }{{100, 10000}, {10000, 100}, {100000, 10}} {
		for _, kind := range []plan.WindowKind{plan.Global, plan.Fixed, plan.Sessions} {
			b.Run(fmt.Sprintf("%s/%d keys", kind, c.keys), func(b *testing.B) {
				w := plan.Windowing{Kind: kind, SizeMs: 1000, OutputTime: plan.EndOfWindow, Trigger: &plan.Trigger{Kind: plan.TriggerDefault}}
				r := newRig(b, w)
				n := c.keys * c.perKey
				data := make([]datum, n)
				for i := range data {
					// Keys come in no order, each in a window of its own.
					key := (i * 7919) % c.keys
					data[i] = datum{key: fmt.Sprintf("key-%06d", key), ts: element.Time(1000 * (key % 10)), value: "sixteen bytes ok"}
				}
				var blocks [][]byte
				for block := range r.inBlocks(data, 20000) {
					blocks = append(blocks, block)
				}
				data = nil
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					out := Output{FlushBytes: 1 << 20, Flush: func(element.Block, []Backed) error { return nil }}
					err := r.m.GroupAll(func(yield func([]byte, error) bool) {
						for _, block := range blocks {
							if !yield(block, nil) {
								return
							}
						}
					}, Budget{}, &out)
					if err != nil || out.Panes != int64(c.keys) {
						b.Fatal(out.Panes, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/elem")
			})
		}
	}
}

// BenchmarkProcess takes blocks of a thousand elements of a hundred keys; the store is a map.
func BenchmarkProcess(b *testing.B) {
	w := plan.Windowing{Kind: plan.Fixed, SizeMs: 1000, OutputTime: plan.EndOfWindow, Trigger: &plan.Trigger{Kind: plan.TriggerDefault}}
	r := newRig(b, w)
	var data []datum
	for i := range 1000 {
		data = append(data, datum{key: fmt.Sprintf("key-%06d", i%100), ts: 1, value: "sixteen bytes ok"})
	}
	block := r.encode(data)
	env := Env{InputWatermark: element.MinTime, OutputWatermark: element.MinTime}
	b.ReportAllocs()
	for b.Loop() {
		var tx rowstest.Tx
		var out Output
		if err := r.m.Process(&tx, block, env, &out); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/elem")
}
