package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestLiftedCombineSwitchesOff: a combine whose keys hardly repeat goes on without the table of its lifted step, one whose keys repeat
// keeps it, and the sums are right either way, over lost harnesses and a restart, after which the choice is made anew.
func TestLiftedCombineSwitchesOff(t *testing.T) {
	const batches, each = 40, 1000
	for name, keys := range map[string]int{"unique keys": batches * each / 2, "few keys": 10} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			var lifted, converted, all atomic.Int64
			r.Harnesses.Fault = func(_ int, req *fnpb.ProcessBundleRequest) fakesdk.Fault {
				switch {
				case strings.HasSuffix(req.GetProcessBundleDescriptorId(), "/convert"):
					converted.Add(1)
				default:
					lifted.Add(1)
				}
				if all.Add(1)%17 == 5 {
					return fakesdk.DropConnection
				}
				return fakesdk.NoFault
			}
			src := &enginetest.Source{}
			gates := make([]chan struct{}, batches)
			wanted := make(map[int]int)
			for b := range batches {
				elements := make([]enginetest.Element, each)
				for i := range elements {
					key := (b*each + i) % keys
					wanted[key]++
					elements[i].Value = enginetest.KV(enginetest.Text(fmt.Sprint(key)), enginetest.Int(1))
				}
				gates[b] = make(chan struct{})
				src.Batches = append(src.Batches, enginetest.Batch{Elements: elements, Gate: gates[b]})
			}
			p := r.Pipeline()
			out := p.Write("out", p.Sum("sum", p.Read("in", src, "kv(bytes,varint)")))
			j := r.Start(p, nil)
			for b := range batches {
				close(gates[b])
				if b == batches/2 {
					durable := src.Durable()
					r.Restart()
					src.Rewind(durable)
					j = r.Recover(j)
					if n := converted.Load(); (n > 0) != (name == "unique keys") {
						t.Errorf("%d bundles were without the table before the restart, %d with it", n, lifted.Load())
					}
					continue
				}
				if b < batches/2 {
					j.AwaitOutput("sum", int64((b+1)*min(each, keys)))
				}
			}
			j.End(jobpb.JobState_DONE)
			var sums []string
			for key, n := range wanted {
				sums = append(sums, fmt.Sprintf("%d=%d", key, n))
			}
			slices.Sort(sums)
			got := slices.Sorted(slices.Values(out.Distinct()))
			if !slices.Equal(got, sums) {
				t.Errorf("%d sums, not %d, or other ones", len(got), len(sums))
			}
		})
	}
}
