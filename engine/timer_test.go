package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

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
