package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// diary writes into the bag "log" what user code sees of a key and window, and emits it when the window expires.
type diary struct {
	// process returns the timers that an element sets, as delays by family; only sets, no clears.
	process func(ts int64, value string) map[string]int64
	// onTimer returns those that a timer sets, which was set for at.
	onTimer func(family string, at int64) map[string]int64
}

func (d diary) parDo(families ...string) enginetest.ParDo {
	timers := map[string]pipepb.TimeDomain_Enum{"end": eventTime}
	for _, f := range families {
		timers[f] = eventTime
	}
	return enginetest.ParDo{Bags: []string{"log"}, Timers: timers, Expires: "end", Sorted: true, Fn: d.fn}
}

func (d diary) fn() fakesdk.DoFn {
	set := func(c *fakesdk.Context, key []byte, windows, pane []byte, from int64, timers map[string]int64) error {
		for family, delay := range timers {
			at := from + delay
			if err := c.SetTimer(family, fakesdk.Timer{Key: key, Windows: windows, Fire: at, Hold: at, Pane: pane}); err != nil {
				return err
			}
		}
		return nil
	}
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			key, err := c.Key(e)
			if err != nil {
				return err
			}
			value := string(fakesdk.Bytes(e.Value[len(key):]))
			if err := c.Bag("log", key, e.Window()).Append([]byte(fmt.Sprintf("%s@%d ", value, e.Timestamp))); err != nil {
				return err
			}
			if d.process == nil {
				return nil
			}
			return set(c, key, e.Windows, e.Pane, e.Timestamp, d.process(e.Timestamp, value))
		},
		OnTimer: func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
			bag := c.Bag("log", t.Key, t.Windows[4:])
			if family == "end" {
				log, err := bag.Read()
				if err != nil {
					return err
				}
				value := enginetest.KV(t.Key, enginetest.Text(strings.TrimSpace(string(log))))
				return c.Emit("", fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane, Value: value})
			}
			if err := bag.Append([]byte(fmt.Sprintf("%s@%d ", family, t.Fire))); err != nil {
				return err
			}
			if d.onTimer == nil {
				return nil
			}
			return set(c, t.Key, t.Windows, t.Pane, t.Fire, d.onTimer(family, t.Fire))
		},
	}
}

// expect computes the log of one key and window: event time alone decides.
func (d diary) expect(elements map[int64][]string, end int64) string {
	type event struct {
		at   int64
		name string
	}
	var log []string
	timers := make(map[string]int64)
	set := func(from int64, delays map[string]int64, fromTimer bool) {
		for family, delay := range delays {
			if at := from + delay; at <= end {
				timers[family] = at
			} else if !fromTimer {
				timers[family] = end
			} else {
				delete(timers, family)
			}
		}
	}
	var stamps []int64
	for ts := range elements {
		stamps = append(stamps, ts)
	}
	slices.Sort(stamps)
	fire := func(before int64) {
		for {
			next := event{at: before}
			for family, at := range timers {
				if at < next.at || at == next.at && next.name != "" && family < next.name {
					next = event{at, family}
				}
			}
			if next.name == "" {
				return
			}
			delete(timers, next.name)
			log = append(log, fmt.Sprintf("%s@%d", next.name, next.at))
			if d.onTimer != nil {
				set(next.at, d.onTimer(next.name, next.at), true)
			}
		}
	}
	for _, ts := range stamps {
		fire(ts)
		for _, value := range elements[ts] {
			log = append(log, fmt.Sprintf("%s@%d", value, ts))
			if d.process != nil {
				set(ts, d.process(ts, value), false)
			}
		}
	}
	fire(end + 1)
	return strings.Join(log, " ")
}

// history is the input of a diary: elements of a few keys in windows of 100 ms, in random order. No timestamp comes twice before all have
// come once: elements of one time keep the order of their arrival, which is not that of the source where bundles run side by side.
type history struct {
	elements []enginetest.Element
	logs     map[string]map[int64][]string // key@end → timestamp → values in order of arrival
}

func newHistory(rng *rand.Rand, keys, count, spanMs int) *history {
	h := &history{logs: make(map[string]map[int64][]string)}
	stamps := rng.Perm(spanMs / 2)
	for n := range count {
		key, ts := fmt.Sprint("k", rng.IntN(keys)), int64(2*stamps[n%len(stamps)])
		h.elements = append(h.elements, pairs(fmt.Sprintf("%s=n%d@%d", key, n, ts))...)
		cell := fmt.Sprintf("%s@%d", key, ts/100*100+100)
		if h.logs[cell] == nil {
			h.logs[cell] = make(map[int64][]string)
		}
		h.logs[cell][ts] = append(h.logs[cell][ts], fmt.Sprint("n", n))
	}
	return h
}

func (h *history) expect(d diary, lateness int64) []string {
	var texts []string
	for cell, elements := range h.logs {
		key, ends, _ := strings.Cut(cell, "@")
		var end int64
		fmt.Sscan(ends, &end)
		texts = append(texts, fmt.Sprintf("%s=%s@%s", key, d.expect(elements, end-1+lateness), ends))
	}
	slices.Sort(texts)
	return texts
}

// chatty sets timers of two families from elements, and of one from the other. Elements come at even times and timers are set for odd ones:
// of an element and a timer at one time either may be first, as the watermark stands there.
var chatty = diary{
	process: func(ts int64, _ string) map[string]int64 {
		switch ts / 2 % 4 {
		case 0:
			return map[string]int64{"alarm": 7}
		case 1:
			return map[string]int64{"chime": 3, "alarm": 1}
		}
		return nil
	},
	onTimer: func(family string, at int64) map[string]int64 {
		if family == "chime" && at%3 == 0 {
			return map[string]int64{"alarm": 2, "chime": 6}
		}
		return nil
	},
}

// TestTimeSortedBounded sorts all at the end of a bounded input, in bundles of any size, with the timers between the elements.
func TestTimeSortedBounded(t *testing.T) {
	for name, d := range map[string]diary{"elements": {}, "timers": chatty} {
		for _, size := range []string{"100000", "7"} {
			t.Run(name+" in bundles of "+size, func(t *testing.T) {
				r := newRig(t, nil)
				p := r.Pipeline()
				h := newHistory(rand.New(rand.NewPCG(1, 1)), 4, 160, 300)
				in := p.WindowInto("windows", p.Read("in", bounded(h.elements), "kv(bytes,bytes)"), enginetest.Fixed(100))
				out := p.Write("out", p.ParDo("diary", in, d.parDo("alarm", "chime")))
				r.Run(p, enginetest.Options{"max_bundle_size": size})
				want(t, out, h.expect(d, 0)...)
			})
		}
	}
}

// TestTimeSortedStream hands elements out as the watermark passes them by the allowed lateness, and drops what is later than that. The
// watermark behind them is that of what has been handed out.
func TestTimeSortedStream(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: pairs("a=x@50", "a=y@20", "a=z@60"), Watermark: 40},             // y is due at 30
		{Elements: pairs("a=late@35", "a=too late@29"), Watermark: 45, Gate: gate}, // late is let in until 45
		{Watermark: 61}, // x is due at 60
	}}
	src.OnPoll = func(context.Context, int) error { time.Sleep(3 * time.Millisecond); return nil }
	in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(1000).Lateness(10))
	seen := p.ParDo("sorted", in, enginetest.ParDo{Sorted: true, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }}
	}})
	out := p.Write("out", seen)
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), contains("a=y@1000")); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if err := out.Await(r.Context(), contains("a=x@1000")); err != nil {
		t.Fatal(err)
	}
	if texts := fmt.Sprint(out.Texts()); texts != "[a=y@1000 a=late@1000 a=x@1000]" {
		t.Errorf("handed out: %s", texts)
	}
	j.AwaitWatermark("sorted", 60) // z waits
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	if texts := fmt.Sprint(out.Texts()); texts != "[a=y@1000 a=late@1000 a=x@1000 a=z@1000]" {
		t.Errorf("handed out in all: %s", texts)
	}
	dropped := 0
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Stages {
		dropped += int(s.DroppedLate)
	}
	if dropped != 1 {
		t.Errorf("%d elements were dropped, not 1", dropped)
	}
}

// TestTimeSortedSuspended interrupts a stream again and again: each key and window sees the same as without.
func TestTimeSortedSuspended(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			r := newRig(t, nil)
			p := r.Pipeline()
			h := newHistory(rng, 3, 200, 600)
			src := &enginetest.Source{Unbounded: true}
			for i := 0; i < len(h.elements); i += 10 {
				batch := enginetest.Batch{Elements: h.elements[i : i+10]}
				ahead := element.MaxTime // what is still to come is not even as early as a timer that has fired
				for _, e := range h.elements[i:] {
					ahead = min(ahead, e.At)
				}
				batch.Watermark = min(ahead-1, element.Time(i*2))
				src.Batches = append(src.Batches, batch)
			}
			src.Batches = append(src.Batches, enginetest.Batch{Watermark: 10_000})
			src.OnPoll = func(context.Context, int) error { time.Sleep(2 * time.Millisecond); return nil }
			in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(100))
			out := p.Write("out", p.ParDo("diary", in, chatty.parDo("alarm", "chime")))
			j := r.Start(p, nil)
			for range 4 {
				time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
				r.Restart()
				j = r.Recover(j)
			}
			wanted := h.expect(chatty, 0)
			if err := out.Await(r.Context(), func(texts []string) bool { return len(distinct(texts)) >= len(wanted) }); err != nil {
				t.Fatal(err)
			}
			for i, got := range out.Distinct() {
				if i >= len(wanted) || got != wanted[i] {
					t.Errorf("a diary is\n%s\nnot one of\n%s", got, strings.Join(wanted, "\n"))
				}
			}
			j.AwaitWatermark("diary", 10_000)
			j.AwaitIdle()
			checkNothingLeft(t, r, j)
			j = r.Recover(j)
			if err := j.Drain(r.Context()); err != nil {
				t.Fatal(err)
			}
			j.End(jobpb.JobState_DRAINED)
		})
	}
}
