package engine_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestBackPressure has inboxes and bundles of next to nothing: a stage feeds both the main and the side input of another, the result
// is grouped, and all of it must come through.
func TestBackPressure(t *testing.T) {
	r := newRig(t, func(c *engine.Config) {
		c.Scheduler.BacklogBytesMax, c.Scheduler.BundleBytesMax, c.Scheduler.RunnerSlots = 1, 64, 1
	})
	p := r.Pipeline()
	src := &enginetest.Source{}
	const n = 60
	for i := range n {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(fmt.Sprint("x", i))})
	}
	outs := p.ParDos("fork", p.Read("in", src, "bytes"), enginetest.ParDo{
		Outs: map[string]string{"main": "bytes", "side": "bytes"},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				if err := c.Emit("main", e); err != nil {
					return err
				}
				return c.Emit("side", e)
			}}
		},
	})
	joined := p.ParDo("join", outs["main"], enginetest.ParDo{
		Out: "kv(bytes,bytes)", Iterables: map[string]enginetest.Collection{"all": outs["side"]},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				all, err := c.SideInput("all", e.Window())
				if err != nil {
					return err
				}
				e.Value = enginetest.KV(enginetest.Text(fmt.Sprint(strings.Count(string(all), "x"))), e.Value)
				return c.Emit("", e)
			}}
		},
	})
	out := p.Write("out", p.GroupByKey("group", joined))
	r.Run(p, nil)
	if texts := out.Texts(); len(texts) != 1 || !strings.HasPrefix(texts[0], fmt.Sprint(n, "=[")) || strings.Count(texts[0], "x") != n {
		t.Errorf("the sink has %q", texts)
	}
}

// TestBatchSuspended suspends a bounded job, which groups all at its end, at random moments.
func TestBatchSuspended(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			r := newRig(t, nil)
			p := r.Pipeline()
			src := &enginetest.Source{}
			const n, keys = 400, 10
			for i := range n / 4 {
				src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(
					fmt.Sprint("k", i%keys), fmt.Sprint("k", (i+1)%keys), fmt.Sprint("k", (i+2)%keys), fmt.Sprint("k", (i+3)%keys))})
			}
			ones := p.Map("ones", p.Read("in", src, "bytes"), "kv(bytes,varint)", oneByOne)
			slow := p.Map("slow", p.GroupByKey("regroup", p.Sum("count", ones)), "", func(c *fakesdk.Context, e fakesdk.Element) error {
				time.Sleep(time.Millisecond) // a bundle that is worth interrupting
				return c.Emit("", e)
			})
			out := p.Write("out", slow)
			j := r.Start(p, enginetest.Options{"max_bundle_size": 50})
			for range 8 {
				time.Sleep(time.Duration(rng.IntN(15)) * time.Millisecond)
				r.Restart()
				j = r.Recover(j)
			}
			j.End(jobpb.JobState_DONE)
			got := out.Distinct()
			if len(got) != keys {
				t.Errorf("%q", got)
			}
			for _, text := range got {
				if !strings.HasSuffix(text, fmt.Sprintf("=[%d]", n/keys)) {
					t.Errorf("%s, not %d", text, n/keys)
				}
			}
			if c := j.Counter("ones", "elements"); c != n {
				t.Errorf("%d elements were counted, not %d", c, n)
			}
		})
	}
}
