package engine_test

import (
	"fmt"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// timerCase is a DoFn whose element sets timers, whose timers set or clear others, and whose last timer, "zz", emits what has fired.
type timerCase struct {
	families string // in order of the alphabet; those that start with p are of processing time
	element  func(set setTimer)
	onTimer  func(family, tag string, fire int64, set setTimer)
	want     string // what has fired, in order; once a log
}

// setTimer sets a timer of a family and tag; at < 0 clears it.
type setTimer func(family, tag string, at int64)

const logAt = 1000 // when the log is emitted

func (tc timerCase) parDo() enginetest.ParDo {
	timers := map[string]pipepb.TimeDomain_Enum{"zz": eventTime}
	for f := range strings.FieldsSeq(tc.families) {
		timers[f] = eventTime
		if strings.HasPrefix(f, "p") {
			timers[f] = processingTime
		}
	}
	setter := func(c *fakesdk.Context, key, windows, pane []byte, failed *error) setTimer {
		return func(family, tag string, at int64) {
			t := fakesdk.Timer{Key: key, Tag: tag, Windows: windows, Fire: at, Hold: at, Pane: pane, Clear: at < 0}
			if err := c.SetTimer(family, t); err != nil {
				*failed = err
			}
		}
	}
	return enginetest.ParDo{Bags: []string{"log"}, Timers: timers, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				set := setter(c, key, e.Windows, e.Pane, &err)
				set("zz", "", logAt)
				tc.element(set)
				return err
			},
			OnTimer: func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
				bag := c.Bag("log", t.Key, t.Windows[4:])
				if family == "zz" {
					log, err := bag.Read()
					if err != nil {
						return err
					}
					return c.Emit("", fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane,
						Value: enginetest.KV(t.Key, enginetest.Text(strings.TrimSpace(string(log))))})
				}
				text := family + t.Tag
				if !strings.HasPrefix(family, "p") {
					text += fmt.Sprintf("@%d", t.Fire)
				}
				err := bag.Append([]byte(text + " "))
				if tc.onTimer != nil {
					tc.onTimer(family, t.Tag, t.Fire, setter(c, t.Key, t.Windows, t.Pane, &err))
				}
				return err
			},
		}
	}}
}

// timerCases are all due at once, when a bounded input is at its end: their order is that of event time nevertheless.
var timerCases = map[string]timerCase{
	"families fire in order of time": {
		families: "a b c",
		element: func(set setTimer) {
			set("a", "", 10)
			set("a", "late", 30)
			set("b", "", 20)
			set("b", "first", 5)
			set("c", "", 25)
		},
		want: "bfirst@5 a@10 b@20 c@25 alate@30",
	},
	"a loop goes before a later timer": {
		families: "gc loop",
		element: func(set setTimer) {
			set("loop", "", 10)
			set("gc", "", 45)
		},
		onTimer: func(family, _ string, fire int64, set setTimer) {
			if family == "loop" && fire < 70 {
				set("loop", "", fire+10)
			}
		},
		want: "loop@10 loop@20 loop@30 loop@40 gc@45 loop@50 loop@60 loop@70",
	},
	"set and cleared in one bundle": {
		families: "a b",
		element: func(set setTimer) {
			set("a", "", 10)
			set("b", "", 20)
			set("a", "", -1)
		},
		want: "b@20",
	},
	"cleared, then set": {
		families: "a",
		element: func(set setTimer) {
			set("a", "", 10)
			set("a", "", -1)
			set("a", "", 30)
		},
		want: "a@30",
	},
	"a timer clears one that is due in the same bundle": {
		families: "a b",
		element: func(set setTimer) {
			set("a", "", 10)
			set("b", "", 20)
			set("b", "x", 21)
		},
		onTimer: func(family, _ string, _ int64, set setTimer) {
			if family == "a" {
				set("b", "", -1)
			}
		},
		want: "a@10 bx@21",
	},
	"a timer moves one that is due in the same bundle": {
		families: "a b",
		element: func(set setTimer) {
			set("a", "", 10)
			set("b", "", 20)
		},
		onTimer: func(family, _ string, _ int64, set setTimer) {
			if family == "a" {
				set("b", "", 15)
			}
		},
		want: "a@10 b@15",
	},
	"a timer sets another for the same time": {
		families: "a b",
		element:  func(set setTimer) { set("a", "", 10); set("b", "x", 11) },
		onTimer: func(family, _ string, fire int64, set setTimer) {
			if family == "a" {
				set("b", "", fire)
			}
		},
		want: "a@10 b@10 bx@11",
	},
	"a timer for the past fires next": {
		families: "a b c",
		element:  func(set setTimer) { set("a", "", 10); set("c", "", 20) },
		onTimer: func(family, _ string, _ int64, set setTimer) {
			if family == "a" {
				set("b", "", 3)
			}
		},
		want: "a@10 b@3 c@20",
	},
	"tags are timers of their own": {
		families: "a",
		element: func(set setTimer) {
			for i := range 5 {
				set("a", fmt.Sprint("-", i), int64(50-10*i))
			}
			set("a", "-2", -1)
			set("a", "-3", 60)
		},
		want: "a-4@10 a-1@40 a-0@50 a-3@60",
	},
	"processing time comes when event time is at its end": {
		families: "a p",
		element: func(set setTimer) {
			set("a", "", 10)
			set("p", "", 1<<45)
			set("p", "-never", 1<<45)
			set("p", "-never", -1)
		},
		onTimer: func(family, _ string, _ int64, set setTimer) {
			if family == "p" {
				set("a", "-again", 20)
				set("zz", "", logAt)
			}
		},
		want: "a@10|a@10 p a-again@20",
	},
}

// TestTimerOrder has all keys do the same, on one process and on three.
func TestTimerOrder(t *testing.T) {
	for name, tc := range timerCases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			var input, wanted []string
			for i := range 20 {
				input = append(input, fmt.Sprintf("k%d=x@0", i))
				for log := range strings.SplitSeq(tc.want, "|") {
					wanted = append(wanted, fmt.Sprintf("k%d=%s", i, log))
				}
			}
			out := p.Write("out", p.ParDo("timers", p.Read("in", bounded(pairs(input...)), "kv(bytes,bytes)"), tc.parDo()))
			r.Run(p, enginetest.Options{"sdk_worker_parallelism": fmt.Sprint(1 + len(name)%2*2)})
			want(t, out, wanted...)
		})
	}
}

// TestTimersOverBundles sets timers in one bundle and moves or clears them in another, in a stream and over a restart.
func TestTimersOverBundles(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	set, clear, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=100@1", "b=100@1", "c=100@1", "d=30@1"), Watermark: 10},
		{Elements: pairs("a=-1@11", "b=50@11", "c=200@11"), Watermark: 20, Gate: set},
		{Elements: pairs("a=150@21"), Watermark: 120, Gate: clear},
		{Watermark: 300, Gate: end},
	}}
	timers := p.ParDo("timers", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{
				Process: func(c *fakesdk.Context, e fakesdk.Element) error {
					key, err := c.Key(e)
					if err != nil {
						return err
					}
					var at int64
					fmt.Sscan(string(fakesdk.Bytes(e.Value[len(key):])), &at)
					return c.SetTimer("bell", fakesdk.Timer{
						Key: key, Windows: e.Windows, Fire: at, Hold: at, Pane: e.Pane, Clear: at < 0,
					})
				},
				OnTimer: fired,
			}
		},
	})
	out := p.Write("out", timers)
	j := r.Start(p, nil)
	j.AwaitWatermark("in", 10)
	j.AwaitIdle()
	r.Restart()
	j = r.Recover(j)
	close(set)
	j.AwaitWatermark("in", 20)
	j.AwaitIdle()
	want(t, out)
	close(clear)
	if err := out.Await(r.Context(), contains("b=bell 50")); err != nil {
		t.Fatal(err)
	}
	j.AwaitWatermark("timers", 120)
	want(t, out, "b=bell 50", "d=bell 30")
	close(end)
	j.AwaitWatermark("timers", 300)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "b=bell 50", "d=bell 30", "a=bell 150", "c=bell 200")
}

// TestTimerHolds sees a grouping behind a DoFn wait as long as a timer's output timestamp holds the watermark, and no longer.
func TestTimerHolds(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=1@5", "a=2@15"), Watermark: 90},
		{Watermark: 200, Gate: gate},
	}}
	in := p.Read("in", src, "kv(bytes,bytes)")
	held := p.ParDo("held", in, enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime},
		Fn: func() fakesdk.DoFn {
			d := fakesdk.DoFn{OnTimer: fired}
			d.Process = func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil || e.Timestamp != 15 {
					return err
				}
				return c.SetTimer("bell", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: 100, Hold: 15, Pane: e.Pane})
			}
			return d
		},
	})
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", held, enginetest.Fixed(10))))
	j := r.Start(p, nil)
	j.AwaitWatermark("held", 90)
	j.AwaitIdle()
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Stages {
		if s.Name == "held" && (s.OutputWatermarkMillis != 15) {
			t.Errorf("the output watermark is %v, not 15 ms", s.OutputWatermark)
		}
	}
	want(t, out)
	close(gate)
	if err := out.Await(r.Context(), contains("a=[bell 15]@20")); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, "a=[bell 15]@20")
}
