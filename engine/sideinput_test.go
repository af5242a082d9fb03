package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
	"padstone/internal/memory"
)

// looking is a DoFn that emits each word with what look finds.
func looking(look func(c *fakesdk.Context, e fakesdk.Element) (string, error)) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			found, err := look(c, e)
			if err != nil {
				return err
			}
			e.Value = enginetest.Text(fmt.Sprintf("%s: %s", fakesdk.Bytes(e.Value), found))
			return c.Emit("", e)
		}}
	}
}

// words reads the words of an iterable side input in the window.
func words(c *fakesdk.Context, tag string, window []byte) (string, error) {
	all, err := c.SideInput(tag, window)
	var found []string
	for len(all) > 0 {
		n := 1 + int(all[0])
		found = append(found, string(all[1:n]))
		all = all[n:]
	}
	return fmt.Sprint(found), err
}

// TestSideInputLatestPane has side inputs in the global window with triggers that fire for ever. Readers wait for the first pane, then
// see the newest one; with accumulated panes they see everything.
func TestSideInputLatestPane(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	outs := p.TestStream("events", []string{"main", "side"},
		enginetest.Elements("main", 1, "waits"),
		enginetest.Elements("side", 1, "v1"),
		enginetest.Elements("main", 2, "m1"),
		enginetest.Elements("side", 2, "v2"),
		enginetest.Elements("side", 3, "v3"),
		enginetest.Elements("main", 3, "m2"),
		enginetest.Watermark("side", 100),
		enginetest.Elements("side", 4, "v4", "v5"),
		enginetest.Elements("main", 4, "m3"),
	)
	newest := p.WindowInto("newest", outs["side"], enginetest.Global().EveryElement())
	all := p.WindowInto("all", outs["side"], enginetest.Global().Accumulating(1))
	out := p.Write("out", p.ParDo("look", outs["main"], enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"newest": newest, "all": all},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			one, err := words(c, "newest", e.Window())
			many, err2 := words(c, "all", e.Window())
			return one + " of " + many, errors.Join(err, err2)
		}),
	}))
	r.Run(p, nil)
	inOrder(t, out, "waits: [v1] of [v1]", "m1: [v1] of [v1]", "m2: [v3] of [v1 v2 v3]", "m3: [v5] of [v1 v2 v3 v4 v5]")
}

// TestSideInputOfPanes reads what groupings with early panes put out: of accumulated panes those of each key that are the newest, of
// discarded ones, which are parts of a whole, all of a window that has ended.
func TestSideInputOfPanes(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	outs := p.TestStream("events", []string{"main", "side"},
		enginetest.Elements("main", 3, "m1"),
		enginetest.Elements("side", 1, "a"),
		enginetest.Elements("side", 2, "b", "a"),
		enginetest.Elements("side", 3, "a"),
		enginetest.Watermark("side", 10),
		enginetest.Elements("main", 4, "m2"),
	)
	ones := p.Map("ones", outs["side"], "kv(bytes,varint)", oneByOne)
	totals := p.Sum("totals", p.WindowInto("fixed", ones, enginetest.Fixed(10).Accumulating(1)))
	parts := p.Sum("parts", p.WindowInto("early", ones, enginetest.Fixed(10).Early(1)))
	main := p.WindowInto("main windows", outs["main"], enginetest.Fixed(10))
	out := p.Write("out", p.ParDo("look", main, enginetest.ParDo{
		Multimaps: map[string]enginetest.Collection{"totals": totals, "parts": parts},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			total, err := c.MultimapSide("totals", e.Window(), enginetest.Text("a"))
			part, err2 := c.MultimapSide("parts", e.Window(), enginetest.Text("a"))
			return fmt.Sprint(total, part), errors.Join(err, err2)
		}),
	}))
	r.Run(p, nil)
	inOrder(t, out, "m1: [3] [1 1 1 0]@10", "m2: [3] [1 1 1 0]@10")
}

// TestSideInputMapped reads the window before an element's own, which only the harness knows: nobody waits for the window of the element.
func TestSideInputMapped(t *testing.T) {
	r := newRig(t, nil)
	bundles := atomic.Int64{}
	r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
		if bundles.Add(1)%4 == 2 { // some of them map windows
			return fakesdk.DropConnection
		}
		return fakesdk.NoFault
	}
	p := r.Pipeline()
	outs := p.TestStream("events", []string{"main", "side"},
		enginetest.Elements("side", 1, "s1"),
		enginetest.Elements("main", 12, "m12"),
		enginetest.Elements("main", 25, "m25"),
		enginetest.Watermark("side", 10),
		enginetest.Elements("side", 11, "s11"),
		enginetest.Elements("main", 13, "m13"),
		enginetest.Watermark("side", 20),
		enginetest.Elements("main", 35, "never read"),
		enginetest.Elements("side", 21, "s21"),
	)
	side := p.WindowInto("side windows", outs["side"], enginetest.Fixed(10))
	main := p.WindowInto("main windows", outs["main"], enginetest.Fixed(10))
	out := p.Write("out", p.ParDo("look", main, enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"side": side}, Mapping: enginetest.MapBefore,
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			return words(c, "side", enginetest.WindowBefore(e.Window()))
		}),
	}))
	r.Run(p, nil)
	inOrder(t, out, "m12: [s1]@20", "m13: [s1]@20", "m25: [s11]@30", "never read: [s21]@40")
}

// TestSideInputMapFails ends a job whose window mapping fails, under the name of the transform that reads the side input.
func TestSideInputMapFails(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	side := p.WindowInto("side windows", p.Read("side", &enginetest.Source{Unbounded: true}, "bytes"), enginetest.Fixed(2))
	main := p.WindowInto("main windows", p.Read("main", bounded([]enginetest.Element{
		{At: 666_667, Value: enginetest.Text("poisoned")},
	}), "bytes"), enginetest.Fixed(2))
	p.Write("out", p.ParDo("look", main, enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"side": side}, Mapping: enginetest.MapBefore,
		Fn: looking(func(*fakesdk.Context, fakesdk.Element) (string, error) { return "", nil }),
	}))
	j := r.Start(p, nil)
	j.End(jobpb.JobState_FAILED)
	if message := fmt.Sprint(j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR)); !strings.Contains(message, "nothing before the poison") || !strings.Contains(message, "look") {
		t.Error(message)
	}
}

// TestSideInputSnapshot changes a side input while a bundle reads it twice.
func TestSideInputSnapshot(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	gate, again := make(chan struct{}), make(chan struct{})
	side := p.WindowInto("newest", p.Read("side", &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: texts("v1")}, {Elements: texts("v2"), Gate: gate},
	}}, "bytes"), enginetest.Global().EveryElement())
	reading := make(chan struct{})
	out := p.Write("out", p.ParDo("look", p.Read("in", bounded(texts("m")), "bytes"), enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"side": side},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			before, err := words(c, "side", e.Window())
			close(reading)
			<-again
			after, err2 := words(c, "side", e.Window())
			return before + " " + after, errors.Join(err, err2)
		}),
	}))
	j := r.Start(p, nil)
	<-reading
	close(gate)
	for panes := int64(0); panes < 2; { // the windowing and the grouping behind it bear the same name
		d, err := j.Describe(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range d.Stages {
			if s.Kind == string(plan.Group) {
				panes = s.ElementsOut
			}
		}
	}
	close(again)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 1 }); err != nil {
		t.Fatal(err)
	}
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	inOrder(t, out, "m: [v1] [v1]")
}

// TestSideInputTokens: harnesses may keep a side input of a bounded collection from bundle to bundle, until the job is started anew, and no
// other one.
func TestSideInputTokens(t *testing.T) {
	r := newRig(t, nil)
	var mu sync.Mutex
	tokens := make(map[string]int) // of bundles with a side input
	r.Harnesses.Fault = func(_ int, req *fnpb.ProcessBundleRequest) fakesdk.Fault {
		mu.Lock()
		defer mu.Unlock()
		for _, token := range req.GetCacheTokens() {
			tokens[token.GetSideInput().GetSideInputId()+"="+string(token.GetToken())]++
		}
		return fakesdk.NoFault
	}
	p := r.Pipeline()
	grows := p.WindowInto("newest", p.Read("grows", &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{
		{Elements: texts("g")},
	}}, "bytes"), enginetest.Global().EveryElement())
	fixed := p.Read("fixed", bounded(texts("f")), "bytes")
	gates := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	src := &enginetest.Source{Unbounded: true}
	for _, gate := range gates {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts("m"), Gate: gate})
	}
	out := p.Write("out", p.ParDo("look", p.Read("in", src, "bytes"), enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"fixed": fixed, "grows": grows},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			a, err := words(c, "fixed", e.Window())
			b, err2 := words(c, "grows", e.Window())
			return a + b, errors.Join(err, err2)
		}),
	}))
	out.Marked = true // or the count of what is there would have in it what is published again
	j := r.Start(p, nil)
	await := func(n int) {
		t.Helper()
		if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) >= n }); err != nil {
			t.Fatal(err)
		}
	}
	close(gates[0])
	await(1)
	close(gates[1])
	await(2)
	durable := src.Durable()
	r.Restart()
	src.Rewind(durable)
	j = r.Recover(j)
	close(gates[2])
	await(3)
	if err := j.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DRAINED)
	mu.Lock()
	defer mu.Unlock()
	if len(tokens) != 2 { // one a run
		t.Errorf("tokens %v", tokens)
	}
	for token := range tokens {
		if !strings.HasPrefix(token, "fixed=") || len(token) <= len("fixed=") {
			t.Errorf("token %q", token)
		}
	}
}

// TestSideInputExpires runs for many windows and as many panes of a side input: what is kept of them does not grow, not even over a
// restart.
func TestSideInputExpires(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	const n, size, batch = 400, 10, 10
	src := &enginetest.Source{Unbounded: true}
	for i := element.Time(0); i < n; i += batch {
		b := enginetest.Batch{Watermark: (i + batch) * size}
		for k := i; k < i+batch; k++ {
			b.Elements = append(b.Elements, enginetest.Element{At: k * size, Value: enginetest.Text(fmt.Sprint("v", int64(k)))})
		}
		src.Batches = append(src.Batches, b)
	}
	hold := make(chan struct{})
	src.Batches = append(src.Batches, enginetest.Batch{Gate: hold})
	in := p.Read("in", src, "bytes")
	w := enginetest.Fixed(size)
	windowed := p.WindowInto("windows", in, w)
	latest := p.WindowInto("latest", in, enginetest.Global().Counting(1))
	out := p.Write("out", p.ParDo("look", windowed, enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"side": windowed, "latest": latest},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			found, err := words(c, "side", e.Window())
			latest, err2 := words(c, "latest", nil)
			if latest == "[]" {
				return "", errors.New("nothing is the latest")
			}
			return found, errors.Join(err, err2)
		}),
	}))
	j := r.Start(p, nil)
	// The last few share a block, whose last window does not end.
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) >= n-2*batch }); err != nil {
		t.Fatal(err)
	}
	r.Suspend()
	s := r.OpenStore(j)
	for table, most := range map[rows.Table]int{rows.Side: 6 * batch, rows.SideWindow: 5 * batch, rows.SideRun: 0} {
		if kept, err := s.CountRows(table); err != nil || kept > most {
			t.Errorf("table %#x has %d rows, %v; want %d at most", table, kept, err, most)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, text := range out.Texts() {
		if !strings.Contains(text, fmt.Sprintf("[%s]@", strings.Split(text, ":")[0])) {
			t.Fatalf("element %d: %s", i, text)
		}
	}
	close(hold)
}

// TestSideInputInBoundedMemory reads a side input of 100 MB, half of it of one key, as iterable and as multimap: 200 MB of rows, in a heap
// of little more than half of that, server and harness together.
func TestSideInputInBoundedMemory(t *testing.T) {
	if raceDetector {
		t.Skip("measures the heap; `make test-go` runs it without the race detector")
	}
	const n, size, heapMax = 25_000, 4000, 112 << 20
	r := newRig(t, func(c *engine.Config) { c.Memory = memory.Share(memory.LimitMin) })
	p := r.Pipeline()
	value := bytes.Repeat([]byte{'x'}, size)
	side := p.Map("side", p.Impulse("impulse"), "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error {
		for i := range n {
			key := "hot"
			if i%2 == 1 {
				key = fmt.Sprint("cold", i)
			}
			e.Value = enginetest.KV(enginetest.Text(key), fakesdk.Nested(value))
			if err := c.Emit("", e); err != nil {
				return err
			}
		}
		return nil
	})
	count := func(c *fakesdk.Context, tag string, window, key []byte) (total int, err error) {
		for page, err := range c.SidePages(tag, window, key) {
			if err != nil {
				return 0, err
			}
			if total += bytes.Count(page, value); len(page) > 2<<20 {
				return 0, fmt.Errorf("a page of %d bytes", len(page))
			}
		}
		return total, nil
	}
	out := p.Write("out", p.ParDo("look", p.Read("in", bounded(texts("m")), "bytes"), enginetest.ParDo{
		Iterables: map[string]enginetest.Collection{"all": side}, Multimaps: map[string]enginetest.Collection{"map": side},
		Fn: looking(func(c *fakesdk.Context, e fakesdk.Element) (string, error) {
			all, err := count(c, "all", e.Window(), nil)
			hot, err2 := count(c, "map", e.Window(), enginetest.Text("hot"))
			cold, err3 := count(c, "map", e.Window(), enginetest.Text("cold7"))
			keys, err4 := c.MultimapSideKeys("map", e.Window())
			if _, err := c.MultimapSideEntries("map", e.Window()); err == nil || !strings.Contains(err.Error(), "read it by itself") {
				return "", fmt.Errorf("all values of the hot key at once: %w", err)
			}
			return fmt.Sprint(all, hot, cold, bytes.Count(keys, []byte("cold"))), errors.Join(err, err2, err3, err4)
		}),
	}))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(heapMax * 3 / 4))
	peak := peakHeap(func() { r.Run(p, nil) })
	want(t, out, fmt.Sprintf("m: %d %d 1 %d", n, n/2, n/2))
	t.Logf("%d MB of values, a heap of %d MB", n*size>>20, peak>>20)
	if peak > heapMax {
		t.Errorf("the heap has grown to %d MB", peak>>20)
	}
}
