package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// offsets are the outputs of a range.
func offsets(x string, from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s:%d", x, i))
	}
	return out
}

func TestBoundedRestrictions(t *testing.T) {
	for name, sdf := range map[string]fakesdk.Ranges{
		"whole":        {From: 0, To: 100},
		"split":        {From: 0, To: 100, Pieces: 7},
		"checkpointed": {From: 0, To: 100, Pieces: 3, Checkpoint: 4},
		"delayed":      {From: 0, To: 100, Pieces: 3, Checkpoint: 10, DelayMs: 5},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			out := p.Write("out", p.ParDo("range", p.Read("in", bounded(texts("a", "b")), "bytes"), enginetest.ParDo{
				Splittable: true, Fn: ranges(sdf),
			}))
			r.Run(p, nil)
			want(t, out, append(offsets("a", 0, 100), offsets("b", 0, 100)...)...)
		})
	}
}

// TestUnboundedRestrictions lets a generator run for a while: its windows close behind it. A drain ends it, and nothing that it has
// put out is lost.
func TestUnboundedRestrictions(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	made := p.ParDo("generate", p.Impulse("impulse"), enginetest.ParDo{
		Splittable: true, Unbounded: true,
		Fn: ranges(fakesdk.Ranges{To: 1 << 40, Checkpoint: 20, DelayMs: 2, StampMs: 10, Unbounded: true}),
	})
	all := p.Write("all", made)
	keyed := p.Map("key", made, "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Value = enginetest.KV(enginetest.Text("k"), e.Value)
		return c.Emit("", e)
	})
	groups := p.Write("groups", p.GroupByKey("group", p.WindowInto("windows", keyed, enginetest.Fixed(100))))
	j := r.Start(p, nil)
	if err := groups.Await(r.Context(), func(texts []string) bool { return len(texts) >= 20 }); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	n := len(all.Texts())
	want(t, all, offsets("", 0, n)...)
	var grouped []string
	for _, g := range groups.Texts() {
		list, _, _ := strings.Cut(strings.TrimPrefix(g, "k=["), "]")
		grouped = append(grouped, strings.Fields(list)...)
	}
	slices.Sort(grouped)
	texts := offsets("", 0, n)
	slices.Sort(texts)
	if !slices.Equal(grouped, texts) {
		t.Errorf("the windows hold %d elements, not the %d that came out", len(grouped), n)
	}
}

// TestRestrictionSplitByRunner has a generator that never gives anything back by itself.
func TestRestrictionSplitByRunner(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	sdf := ranges(fakesdk.Ranges{To: 1 << 40, Pieces: 2, Unbounded: true})
	made := p.ParDo("generate", p.Read("in", bounded(texts("a", "b")), "bytes"), enginetest.ParDo{
		Splittable: true, Unbounded: true, Fn: sdf,
	})
	r.Harnesses.OnClaim = func(int64) { time.Sleep(time.Millisecond) } // a generator has no end, memory has
	p.ParDos("count", made, enginetest.ParDo{Outs: map[string]string{}, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, _ fakesdk.Element) error { c.Count("seen", 1); return nil }}
	}})
	out := p.Write("out", made)
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) > 10 }); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	got := out.Texts()
	if d := out.Distinct(); len(d) != len(got) {
		t.Errorf("%d outputs, but %d distinct ones", len(got), len(d))
	}
	if n := j.Counter("count", "seen"); n != int64(len(got)) {
		t.Errorf("%d outputs were counted, %d published", n, len(got))
	}
}

// TestDrainBoundedRestrictions finishes what a bounded splittable DoFn has begun.
func TestDrainBoundedRestrictions(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}}}
	out := p.Write("out", p.ParDo("range", p.Read("in", src, "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 200, Checkpoint: 5, DelayMs: 3}),
	}))
	j := r.Start(p, nil)
	if err := out.Await(r.Context(), contains("a:0")); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	want(t, out, offsets("a", 0, 200)...)
}

// TestStatefulRestrictions has a splittable DoFn count its offsets in a bag of the element's key, set a timer on it, and give the rest
// back several times: the rest finds the state.
func TestStatefulRestrictions(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Nameless = true // the Python SDK cannot do this
	keyed := p.WindowInto("windows", p.Read("in", bounded(pairs("k=a@1", "l=b@2", "k=c@3", "k=d@150")), "kv(bytes,bytes)"), enginetest.Fixed(100))
	count := func() fakesdk.DoFn {
		ranges := fakesdk.Ranges{To: 10, Pieces: 2, Checkpoint: 2, Claimed: func(c *fakesdk.Context, in fakesdk.Element, key []byte, _ int64) error {
			if err := c.Bag("seen", key, in.Window()).Append(enginetest.Text("x")); err != nil {
				return err
			}
			end := enginetest.WindowEnd(in.Window()) - 1
			return c.SetTimer("end", fakesdk.Timer{Key: key, Windows: in.Windows, Fire: end, Hold: end, Pane: in.Pane})
		}}
		return fakesdk.DoFn{Ranges: &ranges, OnTimer: func(c *fakesdk.Context, _ string, tm fakesdk.Timer) error {
			seen, err := c.Bag("seen", tm.Key, tm.Windows[4:]).Read()
			if err != nil {
				return err
			}
			return c.Emit("", fakesdk.Element{Timestamp: tm.Hold, Windows: tm.Windows, Pane: tm.Pane, Value: enginetest.KV(
				tm.Key, enginetest.Text(fmt.Sprintf("%d@%d", len(seen)/2, enginetest.WindowEnd(tm.Windows[4:]))),
			)})
		}}
	}
	out := p.Write("out", p.ParDo("count", keyed, enginetest.ParDo{
		Splittable: true, Bags: []string{"seen"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Fn: count,
	}))
	r.Run(p, twoProcesses())
	var all []string
	for _, e := range []struct{ key, value, end string }{{"k", "a", "100"}, {"l", "b", "100"}, {"k", "c", "100"}, {"k", "d", "200"}} {
		for _, text := range offsets(e.key+"="+e.value, 0, 10) {
			all = append(all, text+"@"+e.end)
		}
	}
	all = append(all, "k=20@100@100", "l=10@100@100", "k=10@200@200")
	want(t, out, all...)
}

// TestDrainStatefulRestrictions drains an endless generator that numbers its offsets by state: nothing is claimed twice or left out.
func TestDrainStatefulRestrictions(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Nameless = true
	numbering := fakesdk.Ranges{To: 1 << 40, Checkpoint: 5, DelayMs: 1, Unbounded: true, Claimed: func(
		c *fakesdk.Context, in fakesdk.Element, key []byte, offset int64,
	) error {
		bag := c.Bag("seen", key, in.Window())
		seen, err := bag.Read()
		if err != nil {
			return err
		}
		if n := int64(len(seen) / 2); n != offset {
			return fmt.Errorf("offset %d comes after %d others", offset, n)
		}
		return bag.Append(enginetest.Text("x"))
	}}
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: pairs("k=a@1", "l=b@2")}}}
	out := p.Write("out", p.ParDo("number", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Splittable: true, Unbounded: true, Bags: []string{"seen"}, Fn: ranges(numbering),
	}))
	j := r.Start(p, twoProcesses())
	if err := out.Await(r.Context(), func(texts []string) bool {
		return slices.Contains(texts, "k=a:23") && slices.Contains(texts, "l=b:23")
	}); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	count := make(map[string]int)
	for _, text := range out.Texts() {
		element, _, _ := strings.Cut(text, ":")
		count[element]++
	}
	want(t, out, append(offsets("k=a", 0, count["k=a"]), offsets("l=b", 0, count["l=b"])...)...)
}
