package engine_test

import (
	"fmt"
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
