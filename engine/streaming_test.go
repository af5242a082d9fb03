package engine_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

const (
	eventTime      = pipepb.TimeDomain_EVENT_TIME
	processingTime = pipepb.TimeDomain_PROCESSING_TIME
)

// running counts in a bag: it emits KV(key, "n value") for the nth value of a key and window.
func running() fakesdk.DoFn {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		key, err := c.Key(e)
		if err != nil {
			return err
		}
		bag := c.Bag("seen", key, e.Window())
		old, err := bag.Read()
		if err != nil {
			return err
		}
		value := e.Value[len(key):]
		if err := bag.Append(value); err != nil {
			return err
		}
		n := 1
		for rest := old; len(rest) > 0; n++ {
			rest = rest[len(fakesdk.Nested(fakesdk.Bytes(rest[:1+int(rest[0])]))):]
		}
		e.Value = enginetest.KV(key, enginetest.Text(fmt.Sprintf("%d %s", n, fakesdk.Bytes(value))))
		return c.Emit("", e)
	}}
}

// contains awaits a text in a sink.
func contains(text string) func([]string) bool {
	return func(texts []string) bool { return slices.Contains(texts, text) }
}

// TestWindowsCloseWithWatermark sees panes come while the source is still open, then drains: what is left comes out, too.
func TestWindowsCloseWithWatermark(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=1@1", "b=1@2", "a=2@12"), Watermark: 11},
	}}
	in := p.Read("in", src, "kv(bytes,bytes)")
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Fixed(10))))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 2 }); err != nil {
		t.Fatal(err)
	}
	want(t, out, "a=[1]@10", "b=[1]@10")
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "a=[1]@10", "b=[1]@10", "a=[2]@20")
	if states := fmt.Sprint(j.States()); states != "[STARTING RUNNING DRAINING DRAINED]" {
		t.Errorf("states %s", states)
	}
	if src.Durable() != 1 {
		t.Errorf("%d batches are durable, not 1", src.Durable())
	}
}

// TestLateness drops what is late for a group and for state, under the user's names, and keeps what is late but allowed.
func TestLateness(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=1@1"), Watermark: 25},
		{Elements: pairs("a=late@2", "a=allowed@12", "a=new@30"), Gate: gate, Watermark: 31},
	}}
	in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(10).Lateness(10))
	groups := p.Write("groups", p.GroupByKey("group", in))
	stateful := p.Write("stateful", p.ParDo("state", in, enginetest.ParDo{Bags: []string{"seen"}, Fn: running}))
	j := r.Start(p, nil)
	for _, text := range []string{"a=[1]@10", "a=[allowed]@20"} {
		if err := groups.Await(r.Context(), contains(text)); err != nil {
			t.Fatal(err)
		}
		if text == "a=[1]@10" {
			j.AwaitWatermark("state", 25) // the stage must have seen the watermark before the late element comes
			close(gate)
		}
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, groups, "a=[1]@10", "a=[allowed]@20", "a=[new]@40")
	want(t, stateful, "a=1 1@10", "a=1 allowed@20", "a=1 new@40")
	for _, name := range []string{"group", "state"} {
		if n := j.Counter(name, "dropped_due_to_lateness"); n != 1 {
			t.Errorf("%s has dropped %d elements, not 1", name, n)
		}
	}
}

// TestState counts per key over many bundles.
func TestState(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{}
	var texts []string
	for i := range 20 {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs(fmt.Sprint("a=", i), fmt.Sprint("b=", i))})
		texts = append(texts, fmt.Sprintf("a=%d %d", i+1, i), fmt.Sprintf("b=%d %d", i+1, i))
	}
	out := p.Write("out", p.ParDo("state", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{Bags: []string{"seen"}, Fn: running}))
	r.Run(p, nil)
	want(t, out, texts...)
}

// TestProcesses spreads stateful work over four processes, two of which are lost on the way.
func TestProcesses(t *testing.T) {
	r := newRig(t, nil)
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if n == 5 || n == 9 {
			return fakesdk.DropConnection
		}
		return fakesdk.NoFault
	}
	p := r.Pipeline()
	src := &enginetest.Source{}
	for i := range 30 {
		var specs []string
		for k := range 20 {
			specs = append(specs, fmt.Sprintf("k%d=%d", k, i))
		}
		src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs(specs...)})
	}
	state := p.ParDo("state", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Bags: []string{"seen"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Expires: "end", Fn: func() fakesdk.DoFn {
			d := running()
			d.OnTimer = func(c *fakesdk.Context, _ string, timer fakesdk.Timer) error {
				all, err := c.Bag("seen", timer.Key, timer.Windows[4:]).Read()
				if err != nil {
					return err
				}
				value := enginetest.KV(timer.Key, enginetest.Text(fmt.Sprint("all ", len(all))))
				return c.Emit("", fakesdk.Element{Timestamp: timer.Hold, Windows: timer.Windows, Pane: timer.Pane, Value: value})
			}
			return d
		},
	})
	out := p.Write("out", state)
	j := r.Run(p, enginetest.Options{"sdk_worker_parallelism": "4"})
	last := 0
	for _, text := range out.Texts() {
		if strings.HasSuffix(text, "=all 80") { // ten of two bytes, twenty of three
			last++
		}
	}
	if n := len(out.Texts()); n != 30*20+20 || last != 20 {
		t.Errorf("%d elements, %d of 20 keys are complete", n, last)
	}
	d, err := j.Describe(r.Context())
	if err != nil || len(d.Workers) != 4 {
		t.Errorf("%d processes, %v", len(d.Workers), err)
	}
}

// TestFinalization calls back after the bundle is durable, and the job does not end before.
func TestFinalization(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	var final atomic.Int64
	words := p.ParDo("words", p.Read("in", bounded(texts("a", "b", "c")), "bytes"), enginetest.ParDo{
		Finalizes: true,
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				c.OnFinalize(func() error { final.Add(1); return nil })
				return c.Emit("", e)
			}}
		},
	})
	out := p.Write("out", words)
	r.Run(p, nil)
	want(t, out, "a", "b", "c")
	if final.Load() != 3 {
		t.Errorf("%d callbacks ran, not 3", final.Load())
	}
}

// TestSideInputs reads an iterable of several pages and a multimap, both made by stages of the same job.
func TestSideInputs(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	const n = 3000
	wide := strings.Repeat("x", 1000)
	many := p.Map("many", p.Impulse("impulse"), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		for i := range n {
			e.Value = enginetest.Text(strconv.Itoa(i) + wide)
			if err := c.Emit("", e); err != nil {
				return err
			}
		}
		return nil
	})
	table := p.Read("table", bounded(pairs("a=1@0", "b=2@0", "a=3@0")), "kv(bytes,bytes)")
	out := p.Write("out", p.ParDo("look", p.Read("in", bounded(texts("a", "b", "c")), "bytes"), enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"many": many}, Multimaps: map[string]enginetest.Collection{"table": table},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				all, err := c.SideInput("many", e.Window())
				if err != nil {
					return err
				}
				distinct := make(map[string]bool)
				for part := range strings.SplitSeq(string(all), wide) {
					distinct[part] = true // length and number; behind the last one comes nothing
				}
				found, err := c.MultimapSide("table", e.Window(), e.Value)
				if err != nil {
					return err
				}
				keys, err := c.MultimapSideKeys("table", e.Window())
				if err != nil {
					return err
				}
				e.Value = enginetest.Text(fmt.Sprintf("%s %d %d %d", fakesdk.Bytes(e.Value), len(distinct)-1, len(found), len(keys)))
				return c.Emit("", e)
			}}
		},
	}))
	r.Run(p, nil)
	want(t, out, "a 3000 4 4", "b 3000 2 4", "c 3000 0 4")
}

// TestWindowedSideInput waits for the side input's window of the element's own.
func TestWindowedSideInput(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	w := enginetest.Fixed(10)
	side := p.WindowInto("side windows", p.Read("side", &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("s=1@1", "s=2@11")},
		{Watermark: 10, Gate: gate},
		{Watermark: 20, Gate: gate},
	}}, "kv(bytes,bytes)"), w)
	in := p.WindowInto("windows", p.Read("in", bounded(pairs("a=1@2", "a=2@12")), "kv(bytes,bytes)"), w)
	out := p.Write("out", p.ParDo("look", in, enginetest.ParDo{
		Multimaps: map[string]enginetest.Collection{"side": side},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				found, err := c.MultimapSide("side", e.Window(), enginetest.Text("s"))
				if err != nil {
					return err
				}
				e.Value = enginetest.Pair("found", string(fakesdk.Bytes(found)))
				return c.Emit("", e)
			}}
		},
	}))
	j := r.Start(p, nil)
	close(gate)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 2 }); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "found=1@10", "found=2@20")
}
