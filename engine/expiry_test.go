package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// tally counts the elements of a key and window in a bag, and tells the count when the window expires.
func tally() enginetest.ParDo {
	return enginetest.ParDo{
		Bags: []string{"seen"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Expires: "end",
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{
				Process: func(c *fakesdk.Context, e fakesdk.Element) error {
					key, err := c.Key(e)
					if err != nil {
						return err
					}
					return c.Bag("seen", key, e.Window()).Append([]byte{0})
				},
				OnTimer: func(c *fakesdk.Context, _ string, t fakesdk.Timer) error {
					seen, err := c.Bag("seen", t.Key, t.Windows[4:]).Read()
					if err != nil {
						return err
					}
					value := enginetest.KV(t.Key, enginetest.Text(fmt.Sprint(len(seen))))
					return c.Emit("", fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane, Value: value})
				},
			}
		},
	}
}

// TestExpirationIsNotLate groups what OnWindowExpiration emits, with no lateness allowed: the watermark has waited for it.
func TestExpirationIsNotLate(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=x@1", "a=x@2", "b=x@3", "a=x@11"), Watermark: 1000},
	}}
	in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(10).Lateness(50))
	strict := p.WindowInto("strict", p.ParDo("tally", in, tally()), enginetest.Fixed(10))
	out := p.Write("out", p.GroupByKey("group", strict))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 3 }); err != nil {
		t.Fatal(err)
	}
	j.AwaitWatermark("group", 1000)
	want(t, out, "a=[2]@10", "b=[1]@10", "a=[1]@20")
	j.AwaitIdle()
	checkNothingLeft(t, r, j)
	j = r.Recover(j)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
}

// TestExpirationByDrain expires the global window when a stream is drained.
func TestExpirationByDrain(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: pairs("a=x@1", "a=x@2", "b=x@3"), Watermark: 1000}}}
	out := p.Write("out", p.ParDo("tally", p.Read("in", src, "kv(bytes,bytes)"), tally()))
	j := r.Start(p, nil)
	j.AwaitWatermark("tally", 1000)
	want(t, out)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "a=2", "b=1")
}

// TestExpirationCrashed crashes when the first expirations are published: each window expires with all of its state, and once. A second
// call would find the state gone and tell another count.
func TestExpirationCrashed(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			disk := storetest.NewDisk()
			r := newRig(t, func(c *engine.Config) { c.FS = disk })
			p := r.Pipeline()
			src := &enginetest.Source{Unbounded: true}
			var wanted []string
			const batches, keys = 10, 4
			for b := range batches {
				var elements []enginetest.Element
				for k := range keys {
					for i := range k + 1 {
						elements = append(elements, pairs(fmt.Sprintf("k%d=x@%d", k, b*10+i))...)
					}
					wanted = append(wanted, fmt.Sprintf("k%d=%d@%d", k, k+1, b*10+10))
				}
				src.Batches = append(src.Batches, enginetest.Batch{Elements: elements, Watermark: element.Time(b*10 + 5)})
			}
			gate := make(chan struct{}) // behind it comes what shows that all before has been done
			wanted = append(wanted, "z=1@990")
			src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs("z=x@985"), Watermark: 1000, Gate: gate})
			src.OnPoll = func(context.Context, int) error { time.Sleep(3 * time.Millisecond); return nil }
			in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(10))
			out := p.Write("out", p.ParDo("tally", in, tally()))
			taken := make(chan picture, 1)
			left := 1
			out.OnPublish = func(int) error {
				if left--; left == 0 {
					at := picture{durable: src.Durable()}
					out.Freeze(func(texts []string) {
						at.texts[0] = slices.Clone(texts)
						at.fs = disk.Crashed([]int{0, 50, 100}[rng.IntN(3)], rng)
					})
					taken <- at
				}
				return nil
			}
			j := r.Start(p, nil)
			select {
			case at := <-taken:
				r.Crash(j, at.fs)
				out.Reset(at.texts[0])
				src.Rewind(at.durable)
				j = r.Recover(j)
			case <-r.Context().Done():
				t.Fatal("nothing was published")
			}
			close(gate)
			slices.Sort(wanted)
			if err := out.Await(r.Context(), func(texts []string) bool { return len(distinct(texts)) >= len(wanted) }); err != nil {
				t.Fatal(err)
			}
			j.AwaitWatermark("tally", 1000)
			j.AwaitIdle()
			if got := out.Distinct(); !slices.Equal(got, wanted) {
				t.Errorf("the sink has\n%q, not\n%q", got, wanted)
			}
			checkNothingLeft(t, r, j)
			j = r.Recover(j)
			if err := j.Drain(r.Context()); err != nil {
				t.Fatal(err)
			}
			j.End(jobpb.JobState_DRAINED)
		})
	}
}

// TestStableInputStays has a DoFn that requires stable input see elements that nobody could make a second time: they carry a number that is
// drawn anew whenever the step before runs. What the DoFn has seen once is what comes of the job, whether the harness is lost in the
// middle or the machine, with all that was not synced.
func TestStableInputStays(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			disk := storetest.NewDisk()
			r := newRig(t, func(c *engine.Config) { c.FS = disk })
			p := r.Pipeline()
			src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{
				{Elements: texts("a", "b", "c")}, {Elements: texts("d", "e")},
			}}
			var drawn atomic.Int64
			draw := p.Map("draw", p.Read("in", src, "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
				e.Value = enginetest.Text(fmt.Sprintf("%s%d", fakesdk.Bytes(e.Value), drawn.Add(1)))
				return c.Emit("", e)
			})
			var mu sync.Mutex
			seen := make(map[string]int)
			taken := make(chan picture, 1)
			pay := enginetest.ParDo{Stable: true, Fn: func() fakesdk.DoFn {
				return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
					mu.Lock()
					defer mu.Unlock()
					seen[string(fakesdk.Bytes(e.Value))]++
					if crash && len(seen) == 2 && len(taken) == 0 && c.Name() == "pay" && drawn.Load() < 100 {
						drawn.Add(100) // once
						taken <- picture{fs: disk.Crashed(0, rand.New(rand.NewPCG(1, 9))), durable: src.Durable()}
					}
					return c.Emit("", e)
				}}
			}}
			if !crash {
				var lost atomic.Bool
				r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
					mu.Lock()
					defer mu.Unlock()
					if len(seen) > 0 && !lost.Swap(true) {
						return fakesdk.DropConnection
					}
					return fakesdk.NoFault
				}
			}
			out := p.Write("out", p.ParDo("pay", draw, pay))
			j := r.Start(p, nil)
			if crash {
				at := <-taken
				r.Crash(j, at.fs)
				out.Reset(nil)
				src.Rewind(at.durable)
				j = r.Recover(j)
			}
			j.End(jobpb.JobState_DONE)
			mu.Lock()
			defer mu.Unlock()
			got := out.Distinct()
			for value := range seen {
				if !slices.Contains(got, value) {
					t.Errorf("the DoFn has seen %q, of which nothing came: the sink has %q", value, got)
				}
			}
			if len(got) != 5 || len(seen) != 5 {
				t.Errorf("seen %v, put out %q", seen, strings.Join(got, " "))
			}
		})
	}
}
