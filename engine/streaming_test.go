package engine_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
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

// alarm sets a timer of the family at the element's time plus delay, or at the wall clock's for processing time, and emits what
// fires as KV(key, "fired at").
func alarm(family string, delay int64, domain pipepb.TimeDomain_Enum) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				at, hold := e.Timestamp+delay, e.Timestamp+delay
				if domain == processingTime {
					at, hold = time.Now().UnixMilli()+delay, e.Timestamp
				}
				return c.SetTimer(family, fakesdk.Timer{Key: key, Windows: e.Windows, Fire: at, Hold: hold, Pane: e.Pane})
			},
			OnTimer: fired,
		}
	}
}

func fired(c *fakesdk.Context, family string, t fakesdk.Timer) error {
	value := enginetest.KV(t.Key, enginetest.Text(fmt.Sprintf("%s %d", family, t.Hold)))
	return c.Emit("", fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane, Value: value})
}

// TestEventTimer fires with the watermark, once a key however often it was set, and the rest at the end.
func TestEventTimer(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Batches: []enginetest.Batch{
		{Elements: pairs("a=1@1", "b=1@50", "a=2@2"), Watermark: 20},
		{Gate: gate},
	}}
	out := p.Write("out", p.ParDo("alarm", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime}, Fn: alarm("bell", 10, eventTime),
	}))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), contains("a=bell 12")); err != nil {
		t.Fatal(err)
	}
	want(t, out, "a=bell 12")
	close(gate)
	j.End(jobpb.JobState_DONE)
	want(t, out, "a=bell 12", "b=bell 60")
}

// TestProcessingTimer fires by the clock while the watermark stands still.
func TestProcessingTimer(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: pairs("a=1@1")}}}
	out := p.Write("out", p.ParDo("alarm", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"clock": processingTime}, Fn: alarm("clock", 30, processingTime),
	}))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), contains("a=clock 1")); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "a=clock 1")
}

// looping is a DoFn whose timer sets itself again for ever.
func looping(domain pipepb.TimeDomain_Enum, rounds *atomic.Int64) func() fakesdk.DoFn {
	next := func(at int64) int64 {
		if domain == processingTime {
			return time.Now().UnixMilli() + 5
		}
		return at + 10
	}
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				at := next(e.Timestamp)
				return c.SetTimer("loop", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: at, Hold: at, Pane: e.Pane})
			},
			OnTimer: func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
				rounds.Add(1)
				if err := fired(c, family, t); err != nil {
					return err
				}
				at := next(t.Fire)
				return c.SetTimer(family, fakesdk.Timer{Key: t.Key, Windows: t.Windows, Fire: at, Hold: at, Pane: t.Pane})
			},
		}
	}
}

// TestLoopingTimer ends by a drain: the timer fires once more at the end of time, and what it sets then does not.
func TestLoopingTimer(t *testing.T) {
	for name, domain := range map[string]pipepb.TimeDomain_Enum{"event time": eventTime, "processing time": processingTime} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			var rounds atomic.Int64
			src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
				{Elements: pairs("a=1@1", "b=1@2"), Watermark: 100},
			}}
			out := p.Write("out", p.ParDo("loop", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
				Timers: map[string]pipepb.TimeDomain_Enum{"loop": domain}, Fn: looping(domain, &rounds),
			}))
			j := r.Start(p, nil)
			if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) >= 10 }); err != nil {
				t.Fatal(err)
			}
			if err := j.Drain(r.Context()); err != nil {
				t.Fatal(err)
			}
			j.End(jobpb.JobState_DRAINED)
			if n := len(out.Texts()); n != int(rounds.Load()) {
				t.Errorf("the timers have fired %d times, the sink has %d", rounds.Load(), n)
			}
		})
	}
}

// TestTimerChain sets one timer from another in a bounded job: all of the chain fires.
func TestTimerChain(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	chain := func() fakesdk.DoFn {
		d := alarm("link", 10, eventTime)()
		d.OnTimer = func(c *fakesdk.Context, family string, timer fakesdk.Timer) error {
			if err := fired(c, family, timer); err != nil || timer.Fire >= 50 {
				return err
			}
			timer.Fire, timer.Hold = timer.Fire+10, timer.Hold+10
			return c.SetTimer(family, timer)
		}
		return d
	}
	out := p.Write("out", p.ParDo("chain", p.Read("in", bounded(pairs("a=1@0")), "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"link": eventTime}, Fn: chain,
	}))
	r.Run(p, nil)
	want(t, out, "a=link 10", "a=link 20", "a=link 30", "a=link 40", "a=link 50")
}

// TestLoopInWindow sets a timer again and again in a bounded job: it ends with its window.
func TestLoopInWindow(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	var rounds atomic.Int64
	in := p.WindowInto("windows", p.Read("in", bounded(pairs("a=1@1", "b=1@45")), "kv(bytes,bytes)"), enginetest.Fixed(40).Lateness(5))
	out := p.Write("out", p.ParDo("loop", in, enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"loop": eventTime}, Fn: looping(eventTime, &rounds),
	}))
	r.Run(p, nil)
	want(t, out, "a=loop 11@40", "a=loop 21@40", "a=loop 31@40", "a=loop 41@40",
		"b=loop 55@80", "b=loop 65@80", "b=loop 75@80")
}

// TestTimerBeyondTime sets timers later than any time: they fire at its end.
func TestTimerBeyondTime(t *testing.T) {
	for name, domain := range map[string]pipepb.TimeDomain_Enum{"event time": eventTime, "processing time": processingTime} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			far := func() fakesdk.DoFn {
				return fakesdk.DoFn{
					Process: func(c *fakesdk.Context, e fakesdk.Element) error {
						key, err := c.Key(e)
						if err != nil {
							return err
						}
						at := int64(element.MaxTime) + 1000
						return c.SetTimer("far", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: at, Hold: at, Pane: e.Pane})
					},
					OnTimer: func(c *fakesdk.Context, _ string, timer fakesdk.Timer) error {
						timer.Hold = 0
						return fired(c, "far", timer)
					},
				}
			}
			out := p.Write("out", p.ParDo("far", p.Read("in", bounded(pairs("a=1@0")), "kv(bytes,bytes)"), enginetest.ParDo{
				Timers: map[string]pipepb.TimeDomain_Enum{"far": domain}, Fn: far,
			}))
			r.Run(p, nil)
			want(t, out, "a=far 0")
		})
	}
}

// TestOnWindowExpiration fires once for every key and window, with the state still there.
func TestOnWindowExpiration(t *testing.T) {
	for name, w := range map[string]enginetest.Windows{"fixed": enginetest.Fixed(10), "global": enginetest.Global()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			fn := func() fakesdk.DoFn {
				d := running()
				d.OnTimer = func(c *fakesdk.Context, _ string, timer fakesdk.Timer) error {
					state, err := c.Bag("seen", timer.Key, timer.Windows[4:]).Read()
					if err != nil {
						return err
					}
					value := enginetest.KV(timer.Key, enginetest.Text(fmt.Sprint("expired ", len(state)/2)))
					return c.Emit("", fakesdk.Element{Timestamp: timer.Hold, Windows: timer.Windows, Pane: timer.Pane, Value: value})
				}
				return d
			}
			in := p.Read("in", bounded(pairs("a=1@1", "a=2@2", "a=3@11", "b=4@1")), "kv(bytes,bytes)")
			out := p.Write("out", p.ParDo("state", p.WindowInto("windows", in, w), enginetest.ParDo{
				Bags: []string{"seen"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Expires: "end", Fn: fn,
			}))
			r.Run(p, nil)
			var expired []string
			for _, text := range out.Texts() {
				if strings.Contains(text, "expired") {
					expired = append(expired, text)
				}
			}
			slices.Sort(expired)
			texts := []string{"a=expired 1@20", "a=expired 2@10", "b=expired 1@10"}
			if name == "global" {
				texts = []string{"a=expired 3", "b=expired 1"}
			}
			if !slices.Equal(expired, texts) {
				t.Errorf("%q, not %q", expired, texts)
			}
		})
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
