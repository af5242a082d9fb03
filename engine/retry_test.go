package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/jobserver"
)

// inBatches are texts n0 to n(count-1), in batches of the sizes; the last size repeats.
func inBatches(count int, sizes ...int) *enginetest.Source {
	src := &enginetest.Source{}
	for n := 0; n < count; {
		size := min(sizes[0], count-n)
		if len(sizes) > 1 {
			sizes = sizes[1:]
		}
		var words []string
		for range size {
			words = append(words, fmt.Sprint("n", n))
			n++
		}
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(words...)})
	}
	return src
}

func batchTexts(count int) (all []string) {
	for n := range count {
		all = append(all, fmt.Sprint("n", n))
	}
	return all
}

// failing makes a DoFn that passes elements on but fails on some, as often as fails says.
func failing(fails func(text string) bool) func(c *fakesdk.Context, e fakesdk.Element) error {
	return func(c *fakesdk.Context, e fakesdk.Element) error {
		if text := enginetest.Show("bytes", e.Value); fails(text) {
			return errors.New("Traceback (most recent call last): ValueError: cannot take " + text)
		}
		return c.Emit("", e)
	}
}

// times counts down by text.
type times struct {
	mu   sync.Mutex
	left map[string]int
}

func (f *times) fail(text string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left[text]--
	return f.left[text] >= 0
}

func stageOf(t *testing.T, j *enginetest.Job, transform string) jobserver.StageDescription {
	t.Helper()
	d, err := j.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Stages {
		if strings.Contains(strings.Join(s.Transforms, " "), transform) {
			return s
		}
	}
	t.Fatalf("no stage has %q", transform)
	return jobserver.StageDescription{}
}

// TestPoisonElement finds the one element that user code fails on, wherever it stands, in few attempts, and names it.
func TestPoisonElement(t *testing.T) {
	for _, c := range []struct{ count, poison, most int }{
		{1, 0, 4}, {2, 0, 4}, {2, 1, 5}, {3, 2, 6}, {1000, 0, 13}, {1000, 999, 16}, {1000, 512, 16}, {1000, 311, 16},
	} {
		for _, size := range []int{1000, 7} {
			t.Run(fmt.Sprint(c.count, " ", c.poison, " of ", size), func(t *testing.T) {
				r := newRig(t, nil)
				p := r.Pipeline()
				bad := fmt.Sprint("n", c.poison)
				p.Write("out", p.Map("Parse/Check", p.Read("in", inBatches(c.count, size), "bytes"), "",
					failing(func(text string) bool { return text == bad })))
				j := r.Start(p, nil)
				failed(t, j, `"Parse/Check"`, "Traceback", "cannot take "+bad, fmt.Sprintf("\n  %q, at 1970-01-01T00:00:", bad), "in the global window")
				if n := stageOf(t, j, "Parse/Check").BundlesFailed + 1; n < 4 || n > int64(c.most) {
					t.Errorf("%d bundles failed, not 4 to %d", n, c.most)
				}
				if w := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(w) != 1 || !strings.Contains(w[0], "Parse/Check") ||
					!strings.Contains(w[0], "cannot take") {
					t.Errorf("warnings %q", w)
				}
			})
		}
	}
}

// TestEverythingFails: user code that fails on whatever comes is not tried on all of it.
func TestEverythingFails(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	var processed atomic.Int64
	p.Write("out", p.Map("check", p.Read("in", inBatches(20_000, 100), "bytes"), "", failing(func(string) bool {
		processed.Add(1)
		return true
	})))
	failed(t, r.Start(p, nil), "check", "cannot take n", "have failed")
	if n := processed.Load(); n > 200 {
		t.Errorf("user code was called %d times", n)
	}
}

// TestFlakyElement: an element that fails now and then does not fail the job, and counts once.
func TestFlakyElement(t *testing.T) {
	for _, size := range []int{200, 9} {
		r := newRig(t, nil)
		p := r.Pipeline()
		f := &times{left: map[string]int{"n0": 1, "n17": 2, "n100": 1, "n101": 1, "n199": 2}}
		out := p.Write("out", p.Map("check", p.Read("in", inBatches(200, size), "bytes"), "", failing(f.fail)))
		j := r.Run(p, nil)
		want(t, out, batchTexts(200)...)
		if n := j.Counter("check", "elements"); n != 200 {
			t.Errorf("%d elements were counted, not 200", n)
		}
	}
}

// TestUnluckyElement: an element on which user code fails once is not the one to blame because it was in bundles with others that failed,
// and lost its harness when it was alone.
func TestUnluckyElement(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	var mu sync.Mutex
	steps := []string{"n7", "n3", "n1", "n0 loses its harness", "n0"} // of a bundle of 8, 4, 2 and 1
	out := p.Write("out", p.Map("check", p.Read("in", inBatches(8, 8), "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		mu.Lock()
		defer mu.Unlock()
		text := enginetest.Show("bytes", e.Value)
		if len(steps) == 0 || !strings.HasPrefix(steps[0], text) {
			return c.Emit("", e)
		}
		lost := steps[0] != text
		steps = steps[1:]
		if lost {
			r.Harnesses.Break(0)
		}
		return errors.New("no luck with " + text)
	}))
	j := r.Run(p, nil)
	want(t, out, batchTexts(8)...)
	if s := stageOf(t, j, "check"); s.BundlesFailed != 4 || s.BundlesLost != 1 {
		t.Errorf("%d bundles failed and %d were lost", s.BundlesFailed, s.BundlesLost)
	}
}

// TestHiddenElement shows no element when it is not to.
func TestHiddenElement(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.HideElements = true })
	p := r.Pipeline()
	p.Write("out", p.Map("check", p.Read("in", inBatches(10, 10), "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		if enginetest.Show("bytes", e.Value) == "n7" {
			return errors.New("ValueError: no")
		}
		return c.Emit("", e)
	}))
	j := r.Start(p, nil)
	failed(t, j, "check", "ValueError: no", "not to be shown")
	if m := j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR); strings.Contains(m[0], "n7") {
		t.Errorf("%q shows the element", m)
	}
}

// TestFailingStartOfBundle: no element is to blame, and the error says so.
func TestFailingStartOfBundle(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.ParDo("check", p.Read("in", inBatches(100, 100), "bytes"), enginetest.ParDo{Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Start: func(*fakesdk.Context) error { return errors.New("ConnectionError: no database") }}
	}}))
	j := r.Start(p, nil)
	failed(t, j, "check", "no database", "without any element")
	if n := stageOf(t, j, "check").BundlesFailed + 1; n != 4 {
		t.Errorf("%d bundles failed, not 4", n)
	}
}

// TestFlakyState fails stateful bundles on some elements of several keys: the values of each key come in order, once.
func TestFlakyState(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	f := &times{left: map[string]int{"k0=5": 1, "k3=50": 3, "k1=77": 2, "k7=40": 1}}
	src := &enginetest.Source{}
	var texts []string
	for batch := range 4 {
		var elements []enginetest.Element
		for i := batch * 20; i < batch*20+20; i++ {
			for key := range 8 {
				elements = append(elements, pairs(fmt.Sprintf("k%d=%d", key, i))...)
				texts = append(texts, fmt.Sprintf("k%d=%d %d", key, i+1, i))
			}
		}
		src.Batches = append(src.Batches, enginetest.Batch{Elements: elements})
	}
	counted := running().Process
	out := p.Write("out", p.ParDo("state", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Bags: []string{"seen"}, Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				if err := counted(c, e); err != nil {
					return err
				}
				if text := enginetest.Show("kv(bytes,bytes)", e.Value); f.fail(text) {
					return errors.New("cannot take " + text)
				}
				return nil
			}}
		},
	}))
	r.Run(p, twoProcesses())
	want(t, out, texts...)
}

// TestPoisonState names the element and its key.
func TestPoisonState(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	var elements []enginetest.Element
	for i := range 50 {
		elements = append(elements, pairs(fmt.Sprintf("k%d=%d", i%5, i))...)
	}
	p.Write("out", p.ParDo("state", p.Read("in", bounded(elements), "kv(bytes,bytes)"), enginetest.ParDo{
		Bags: []string{"seen"}, Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				if enginetest.Show("kv(bytes,bytes)", e.Value) == "k3=33" {
					return errors.New("cannot")
				}
				return running().Process(c, e)
			}}
		},
	}))
	failed(t, r.Start(p, nil), "state", `("k3", "33")`)
}

// bells sets a timer for each of some keys, which fails as often as fails says.
func bells(p *enginetest.Pipeline, keys int, fails func(key string) bool) *enginetest.Sink {
	var elements []enginetest.Element
	for k := range keys {
		elements = append(elements, pairs(fmt.Sprintf("k%d=1@%d", k, k))...)
	}
	return p.Write("out", p.ParDo("alarm", p.Read("in", bounded(elements), "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime}, Fn: func() fakesdk.DoFn {
			d := alarm("bell", 10, eventTime)()
			d.OnTimer = func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
				if fails(string(fakesdk.Bytes(t.Key))) {
					return errors.New("no bell")
				}
				return fired(c, family, t)
			}
			return d
		},
	}))
}

// TestPoisonTimer names the timer.
func TestPoisonTimer(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	bells(p, 40, func(key string) bool { return key == "k23" })
	failed(t, r.Start(p, nil), "alarm", "no bell", `timer "bell" of key "k23", due at 1970-01-01T00:00:00.033Z`)
}

// TestFlakyTimer fires every timer once in the end.
func TestFlakyTimer(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	f := &times{left: map[string]int{"k0": 1, "k23": 2, "k24": 1, "k39": 2}}
	out := bells(p, 40, f.fail)
	r.Run(p, twoProcesses())
	var texts []string
	for k := range 40 {
		texts = append(texts, fmt.Sprintf("k%d=bell %d", k, k+10))
	}
	want(t, out, texts...)
}

// TestPoisonRestriction names the restriction's element.
func TestPoisonRestriction(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.Map("check", p.ParDo("hot", p.Read("in", inBatches(20, 20), "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 3}),
	}), "", failing(func(text string) bool { return text == "n13:1" })))
	failed(t, r.Start(p, nil), "check", "cannot take n13:1", `"n13"`)
}

// TestFailingCombine: what merges accumulators has no elements to halve, and is tried four times.
func TestFailingCombine(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(pairs("a=1@666666")), "kv(bytes,bytes)")
	p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Gaps(10))))
	j := r.Start(p, nil)
	failed(t, j, "group", "no window begins at 666666", "failed 4 times, with the same input")
	if n := stageOf(t, j, "group").BundlesFailed + 1; n != 4 {
		t.Errorf("%d bundles failed, not 4", n)
	}
}

// TestDeadlyElement: an element that takes its harness along is found, and named, while the other elements get on; once it is harmless
// the job ends as it should.
func TestDeadlyElement(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	deadly := atomic.Bool{}
	deadly.Store(true)
	out := p.Write("out", p.Map("check", p.Read("in", inBatches(60, 20), "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		if enginetest.Show("bytes", e.Value) == "n13" && deadly.Load() {
			r.Harnesses.Break(0)
		}
		return c.Emit("", e)
	}))
	j := r.Start(p, nil)
	for ctx := r.Context(); ctx.Err() == nil && stageOf(t, j, "check").Suspect == ""; {
		time.Sleep(10 * time.Millisecond)
	}
	s := stageOf(t, j, "check")
	if !strings.Contains(s.Suspect, `"n13", at `) || s.BundlesLost < 4 {
		t.Errorf("%q after %d losses", s.Suspect, s.BundlesLost)
	}
	for _, good := range []string{"n0", "n12", "n40"} {
		if err := out.Await(r.Context(), contains(good)); err != nil {
			t.Fatalf("%q does not come: %v", good, err)
		}
	}
	w := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING)
	if len(w) != 2 || !strings.Contains(w[0], "the test breaks it") || !strings.Contains(w[1], `"n13"`) {
		t.Errorf("warnings %q", w)
	}
	deadly.Store(false)
	j.End(jobpb.JobState_DONE)
	want(t, out, batchTexts(60)...)
	if s := stageOf(t, j, "check"); s.Suspect != "" {
		t.Errorf("%q is still suspicious", s.Suspect)
	}
}
