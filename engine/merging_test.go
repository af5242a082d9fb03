package engine_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestMergingWindows merges windows in the harness, in batch and as elements come, while bundles are lost now and then.
func TestMergingWindows(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost=", lost), func(t *testing.T) {
			r := newRig(t, nil)
			bundles := atomic.Int64{}
			r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
				if n := bundles.Add(1); lost && n%3 == 2 {
					return fakesdk.DropConnection
				}
				return fakesdk.NoFault
			}
			p := r.Pipeline()
			in := p.Read("in", bounded(pairs("a=1@0", "a=2@9", "a=3@19", "b=4@25", "a=5@100")), "kv(bytes,bytes)")
			out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Gaps(10))))
			r.Run(p, nil)
			want(t, out, "a=[1 2]@19", "a=[3]@29", "b=[4]@35", "a=[5]@110")
		})
	}
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=1@0", "a=2@15", "b=3@2"), Watermark: 5},
		{Elements: pairs("a=4@8"), Gate: gate, Watermark: 30}, // brings the windows of a together
	}}
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Gaps(10))))
	j := r.Start(p, nil)
	j.AwaitWatermark("group", 5)
	r.Restart()
	j = r.Recover(j)
	close(gate)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 2 }); err != nil {
		t.Fatal(err)
	}
	want(t, out, "a=[1 2 4]@25", "b=[3]@12")
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
}

// TestMergingFails: a window function that raises fails the job with its traceback, under the name of the grouping.
func TestMergingFails(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(pairs("a=1@666666")), "kv(bytes,bytes)")
	p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Gaps(10))))
	failed(t, r.Start(p, nil), "group", "no window begins at 666666")
}
