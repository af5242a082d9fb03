package engine_test

import (
	"fmt"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/memory"
)

// TestMemoryIsGivenBack has two jobs at a time, one of which loses its harness again and again, share pools that are much too small for
// what they put out. Both end with what they should, and have given back what they took.
func TestMemoryIsGivenBack(t *testing.T) {
	const n, size, batches = 4, 1000, 10
	budget := &memory.Budget{
		Limit: memory.LimitMin, StoreCache: 1 << 20,
		Intake: memory.NewPool("intake", 3000), Outputs: memory.NewPool("outputs", 9000), Recent: memory.NewPool("recent", 9000),
		Inputs: memory.NewPool("inputs", 3000), Groups: memory.NewPool("groups", 16<<20),
	}
	r := newRig(t, func(c *engine.Config) { c.Memory = budget })
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if n%3 == 1 {
			return fakesdk.DropConnection
		}
		return fakesdk.NoFault
	}
	var outs []*enginetest.Sink
	var jobs []*enginetest.Job
	for range 2 {
		p := r.Pipeline()
		src := &enginetest.Source{}
		for range batches {
			src.Batches = append(src.Batches, enginetest.Batch{Elements: hot("hot", n, size)})
		}
		in := p.Read("in", src, "kv(bytes,bytes)")
		same := p.Map("same", in, "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })
		outs = append(outs, p.Write("out", p.Map("measure", p.GroupByKey("group", same), "bytes", measure)))
		jobs = append(jobs, r.Start(p, nil))
	}
	for i, j := range jobs {
		j.End(jobpb.JobState_DONE)
		want(t, outs[i], fmt.Sprintf("hot: %d × %d", n*batches, size))
	}
	r.Suspend()
	for _, pool := range budget.Pools() {
		s := pool.Stats()
		t.Logf("%+v", s)
		if s.Used != 0 || s.Waiting != 0 {
			t.Errorf("pool %s has lost %d bytes", s.Name, s.Used)
		}
		if s.Peak == 0 && pool != budget.Inputs { // nothing here has to be looked at before its bundle begins
			t.Errorf("pool %s was not used", s.Name)
		}
	}
}
