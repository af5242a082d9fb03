package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/metrics"
	"padstone/fnapi/fakesdk"
)

// passOn is a step that changes nothing.
func passOn(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }

// TestAssignedWindows: the harness never sees the step whose windows the runner assigns, and all else is as if it had: what comes out, and
// how many elements the step has put out, each counted once.
func TestAssignedWindows(t *testing.T) {
	var elements []enginetest.Element
	groups, ends := map[string][]string{}, map[string]element.Time{}
	for i := range 60 {
		at := element.Time(7 * i)
		elements = append(elements, enginetest.Element{At: at, Value: enginetest.Pair(fmt.Sprint("k", i%3), fmt.Sprint(i))})
		for start := at / 10 * 10; start > at-30; start -= 10 {
			id := fmt.Sprintf("k%d [%d,%d)", i%3, start, start+30)
			groups[id] = append(groups[id], fmt.Sprint(i))
			ends[id] = start + 30
		}
	}
	var want []string
	for id, values := range groups {
		slices.Sort(values)
		want = append(want, fmt.Sprintf("%s %s@%d", id, strings.Join(values, ","), ends[id]))
	}
	slices.Sort(want)
	for name, o := range map[string]enginetest.Options{"in the runner": nil, "in the harness": experiments(engine.ExperimentNoAssignment)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			read := p.Read("in", &enginetest.Source{Ends: true, Batches: []enginetest.Batch{{Elements: elements}}}, "kv(bytes,bytes)")
			out := map[string]*enginetest.Sink{}
			for from, c := range map[string]enginetest.Collection{"step": p.Map("pass", read, "", passOn), "source": read} {
				windowed := p.WindowInto("windows of "+from, c, enginetest.Sliding(30, 10))
				grouped := p.GroupByKey("group of "+from, windowed)
				p.GroupByKey("again of "+from, windowed) // counted once for both
				out[from] = p.Write("out of "+from, p.Map("text of "+from, grouped, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
					key, values, err := enginetest.Values("bytes", e.Value)
					if err != nil {
						return err
					}
					var texts []string
					for _, v := range values {
						texts = append(texts, string(fakesdk.Bytes(v)))
					}
					slices.Sort(texts)
					e.Value = enginetest.Text(fmt.Sprintf("%s %s %s", fakesdk.Bytes(key), windowOf(e), strings.Join(texts, ",")))
					return c.Emit("", e)
				}))
			}
			j := r.Run(p, o)
			results, err := j.Metrics(r.Context())
			if err != nil {
				t.Fatal(err)
			}
			for from, sink := range out {
				if got := slices.Sorted(slices.Values(sink.Texts())); !slices.Equal(got, want) {
					t.Errorf("behind a %s %d groups, not %d, or others: %q, …", from, len(got), len(want), got[:min(len(got), 3)])
				}
				if n, _ := metrics.ElementCount(results.GetCommitted(), "windows of "+from+".out"); n != int64(len(elements)) {
					t.Errorf("behind a %s %d elements are counted", from, n)
				}
				inHarness := j.Counter("windows of "+from, "elements")
				if (inHarness > 0) != (o != nil) {
					t.Errorf("behind a %s the harness has assigned the windows of %d elements", from, inHarness)
				}
			}
		})
	}
}

// TestUnliftedInWindows: a lifted combine whose windows the runner can assign has its table only where single elements make long
// accumulators and the table reduces them; sums and counts are right either way, over lost harnesses and a restart.
func TestUnliftedInWindows(t *testing.T) {
	const batches, each, keys = 30, 1000, 10
	for name, pad := range map[string]int{"short": 0, "long": 600} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			var straight, all atomic.Int64
			r.Harnesses.Fault = func(_ int, req *fnpb.ProcessBundleRequest) fakesdk.Fault {
				if strings.HasSuffix(req.GetProcessBundleDescriptorId(), "/convert") {
					straight.Add(1)
				}
				if all.Add(1)%17 == 5 {
					return fakesdk.DropConnection
				}
				return fakesdk.NoFault
			}
			src := &enginetest.Source{}
			gates := make([]chan struct{}, batches)
			wanted := map[string]int{}
			for b := range batches {
				elements := make([]enginetest.Element, each)
				for i := range elements {
					key := fmt.Sprintf("%d%s", i%keys, strings.Repeat("x", pad))
					at := element.Time(i * 100)
					start := at / 20_000 * 20_000
					wanted[fmt.Sprintf("%s %d@%d", key, start, start+20_000)]++
					elements[i] = enginetest.Element{At: at, Value: enginetest.KV(enginetest.Text(key), enginetest.Int(1))}
				}
				gates[b] = make(chan struct{})
				src.Batches = append(src.Batches, enginetest.Batch{Elements: elements, Gate: gates[b]})
			}
			p := r.Pipeline()
			summed := p.Sum("sum", p.WindowInto("windows", p.Map("pass", p.Read("in", src, "kv(bytes,varint)"), "", passOn), enginetest.Fixed(20_000)))
			out := p.Write("out", p.Map("text", summed, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
				key, sum, _ := strings.Cut(enginetest.Show("kv(bytes,varint)", e.Value), "=")
				e.Value = enginetest.Text(fmt.Sprintf("%s %d=%s", key, windowOf(e).Start, sum))
				return c.Emit("", e)
			}))
			j := r.Start(p, nil)
			for b := range batches {
				close(gates[b])
				switch {
				case b < batches/2:
					j.AwaitInput("pass", int64((b+1)*each))
				case b == batches/2:
					durable := src.Durable()
					r.Restart()
					src.Rewind(durable)
					j = r.Recover(j)
				}
			}
			j.End(jobpb.JobState_DONE)
			got := slices.Sorted(slices.Values(out.Distinct()))
			var want []string
			for id, n := range wanted {
				key, end, _ := strings.Cut(id, "@")
				want = append(want, fmt.Sprintf("%s=%d@%s", key, n, end))
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%d sums, not %d, or other ones", len(got), len(want))
			}
			results, err := j.Metrics(r.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := metrics.ElementCount(results.GetCommitted(), "windows.out"); n != batches*each {
				t.Errorf("%d elements are counted, not %d", n, batches*each)
			}
			tables := j.Counter("windows", "elements")
			if straight.Load() == 0 || (tables > 0) != (name == "long") {
				t.Errorf("%d bundles without tables, %d elements went into tables", straight.Load(), tables)
			}
		})
	}
}

// TestUpgradeToAssignment: what waits for a step that an earlier plan had assign windows in the harness goes there, and what is in its
// windows already to the grouping, though a new job would have no such step.
func TestUpgradeToAssignment(t *testing.T) {
	r := newRig(t, nil)
	var blocked atomic.Bool
	r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if blocked.Load() {
			return fakesdk.DropConnection
		}
		return fakesdk.NoFault
	}
	src, names := &enginetest.Source{Unbounded: true}, &enginetest.Source{Unbounded: true}
	gate := make(chan struct{})
	src.Batches = []enginetest.Batch{{Elements: pairs("a=1@1", "a=2@11", "b=3@12")}, {Elements: pairs("a=4@13", "b=5@21"), Gate: gate}}
	pipeline := func() (*enginetest.Pipeline, *enginetest.Sink) {
		p := r.Pipeline()
		windowed := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Fixed(10))
		named := p.WindowInto("windows of names", p.Read("names", names, "kv(bytes,bytes)"), enginetest.Fixed(10))
		p.Write("out of names", p.GroupByKey("group names", named))
		return p, p.Write("out", p.GroupByKey("group", windowed))
	}
	p, _ := pipeline()
	j := r.Start(p, experiments(engine.ExperimentNoAssignment))
	j.AwaitInput("group", 3)
	blocked.Store(true)
	close(gate)
	j.AwaitOutput("in", 5)
	r.Restart()
	blocked.Store(false)
	src.Ends, names.Ends = true, true
	p, out := pipeline()
	next, err := r.StartFrom(j, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := next.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{`"windows" window_into:v1`, `"windows of names" window_into:v1, in the runner`} {
		if !strings.Contains(d.Plan, step+"\n") {
			t.Errorf("the plan has no step %s:\n%s", step, d.Plan)
		}
	}
	next.End(jobpb.JobState_DONE)
	want(t, out, "a=[1]@10", "a=[2 4]@20", "b=[3]@20", "b=[5]@30")
}
