package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestSlowStartOfTimers recovers a job with many timers that are due at once: the first bundles fire few of them, and each fires once.
func TestSlowStartOfTimers(t *testing.T) {
	const keys = 3000
	r := newRig(t, nil)
	var elements []string
	for i := range keys {
		elements = append(elements, fmt.Sprintf("k%04d=x@%d", i, i))
	}
	gate := make(chan struct{})
	src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: pairs(elements...)}, {Gate: gate}}}
	var mu sync.Mutex
	var bundles []int // timers of each bundle that fired some
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("alarm", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime},
		Fn: func() fakesdk.DoFn {
			d, n := alarm("bell", 10_000, eventTime)(), 0
			d.OnTimer = func(c *fakesdk.Context, family string, at fakesdk.Timer) error {
				n++
				return fired(c, family, at)
			}
			d.Finish = func(*fakesdk.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if n > 0 {
					bundles = append(bundles, n)
				}
				n = 0
				return nil
			}
			return d
		},
	}))
	j := r.Start(p, nil)
	j.AwaitOutput("in", keys)
	j.AwaitIdle()
	r.Suspend()
	r.Restart()
	j = r.Recover(j)
	close(gate)
	j.End(jobpb.JobState_DONE)
	if n := len(out.Texts()); n != keys {
		t.Errorf("%d timers fired, want %d", n, keys)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(bundles) < 3 || bundles[0] > 500 || bundles[0]+bundles[1] > 1500 {
		t.Errorf("bundles of so many timers: %v", bundles)
	}
}

// TestSlowStart recovers a job of which a large block waits for user code that is given a few elements at first, then more and more.
func TestSlowStart(t *testing.T) {
	const n = 4000
	r := newRig(t, nil)
	var elements []string
	for i := range n {
		elements = append(elements, fmt.Sprintf("key=%04d@%d", i, i))
	}
	src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: pairs(elements...)}}}
	var mu sync.Mutex
	var bundles []int
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("count", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime}, // so that the stage is keyed
		Fn: func() fakesdk.DoFn {
			taken := 0
			return fakesdk.DoFn{
				Process: func(c *fakesdk.Context, e fakesdk.Element) error { taken++; return c.Emit("", e) },
				Finish: func(*fakesdk.Context) error {
					mu.Lock()
					defer mu.Unlock()
					bundles = append(bundles, taken)
					taken = 0
					return nil
				},
			}
		},
	}))
	r.Harnesses.OnStart = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	j := r.Start(p, nil)
	j.AwaitOutput("in", n)
	r.Suspend()
	r.Harnesses.OnStart = nil
	r.Restart()
	r.Recover(j).End(jobpb.JobState_DONE)
	if got := out.Texts(); len(got) != n || !slices.IsSorted(got) {
		t.Errorf("%d elements, in order: %t; want %d", len(got), slices.IsSorted(got), n)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(bundles, []int{500, 1000, 2000, 500}) {
		t.Errorf("bundles of so many elements: %v", bundles)
	}
}
