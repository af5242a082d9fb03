package engine_test

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
	"padstone/internal/memory"
)

// hot are n elements of one key, each of so many bytes, which share their memory.
func hot(key string, n, size int) []enginetest.Element {
	value := enginetest.KV(enginetest.Text(key), fakesdk.Nested(bytes.Repeat([]byte{'x'}, size)))
	elements := make([]enginetest.Element, n)
	for i := range elements {
		elements[i] = enginetest.Element{Value: value}
	}
	return elements
}

// measure emits "key: values × bytes" for each grouped element, which it reads twice.
func measure(c *fakesdk.Context, e fakesdk.Element) error {
	var count, size [2]int
	var key []byte
	for i := range count {
		k, values, err := c.Grouped(e)
		if err != nil {
			return err
		}
		key = k
		for v, err := range values {
			if err != nil {
				return err
			}
			count[i]++
			size[i] += len(fakesdk.Bytes(v))
		}
	}
	if count[0] != count[1] || size[0] != size[1] {
		return fmt.Errorf("%d values at first, %d then", count[0], count[1])
	}
	c.Count("values", int64(count[0]))
	e.Value = enginetest.Text(fmt.Sprintf("%s: %d × %d", fakesdk.Bytes(key), count[0], size[0]/max(count[0], 1)))
	return c.Emit("", e)
}

// TestHotKeyInBoundedMemory groups 300 MB of one key in a heap of less than half of that, server and harness together. The store's caches
// lie beside the heap and are of a fixed size.
func TestHotKeyInBoundedMemory(t *testing.T) {
	if raceDetector {
		t.Skip("measures the heap; `make test-go` runs it without the race detector")
	}
	const batches, perBatch, size, heapMax = 300, 250, 4000, 128 << 20
	r := newRig(t, func(c *engine.Config) { c.Memory = memory.Share(memory.LimitMin) })
	p := r.Pipeline()
	p.StateBacked = true
	src := &enginetest.Source{}
	batch := enginetest.Batch{Elements: hot("hot", perBatch, size)}
	for range batches {
		src.Batches = append(src.Batches, batch)
	}
	out := p.Write("out", p.Map("measure", p.GroupByKey("group", p.Read("in", src, "kv(bytes,bytes)")), "bytes", measure))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(heapMax * 3 / 4))
	peak := peakHeap(func() { r.Run(p, nil) })
	want(t, out, fmt.Sprintf("hot: %d × %d", batches*perBatch, size))
	t.Logf("%d MB of values, a heap of %d MB", batches*perBatch*size>>20, peak>>20)
	if peak > heapMax {
		t.Errorf("the heap has grown to %d MB", peak>>20)
	}
}

// peakHeap is the size of the largest heap while f runs, garbage included.
func peakHeap(f func()) (largest uint64) {
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		most := uint64(0)
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				metrics.Read(sample)
				most = max(most, sample[0].Value.Uint64())
			}
		}
	}()
	defer func() { // also when f ends the test
		close(stop)
		largest = <-peak
	}()
	f()
	return 0
}

// TestHotKeyConsumers reads grouped values in two environments, one of which is told the values and one a token; through a Flatten; and
// by a sink of the runner.
func TestHotKeyConsumers(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(append(hot("hot", 100, 2000), pairs("cold=v@0")...)), "kv(bytes,bytes)")
	other := p.GroupByKey("other", p.Read("more", bounded(hot("warm", 40, 2000)), "kv(bytes,bytes)"))
	grouped := p.GroupByKey("group", in)
	both := p.Flatten("both", grouped, other)
	direct := p.Write("direct", grouped)
	inline := p.Write("inline", p.ParDo("measure inline", both, enginetest.ParDo{Out: "bytes", Env: "plain", Fn: measuring}))
	p.StateBacked = true
	backed := p.Write("backed", p.ParDo("measure backed", both, enginetest.ParDo{Out: "bytes", Fn: measuring}))
	regrouped := p.GroupByKey("regroup", grouped)
	lists := p.Write("lists", p.Map("count lists", regrouped, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		key, values, err := c.Grouped(e)
		if err != nil {
			return err
		}
		for v, err := range values {
			if err != nil {
				return err
			}
			e.Value = enginetest.Text(fmt.Sprintf("%s: %d", fakesdk.Bytes(key), len(v)))
			if err := c.Emit("", e); err != nil {
				return err
			}
		}
		return nil
	}))
	r.Run(p, nil)
	want(t, inline, "hot: 100 × 2000", "cold: 1 × 1", "warm: 40 × 2000")
	want(t, backed, "hot: 100 × 2000", "cold: 1 × 1", "warm: 40 × 2000")
	want(t, lists, "hot: 200204", "cold: 6")
	if got := len(strings.Join(direct.Texts(), "")); got < 200_000 || got > 201_000 {
		t.Errorf("the sink has %d bytes", got)
	}
}

func measuring() fakesdk.DoFn { return fakesdk.DoFn{Process: measure} }

// TestHotKeyRetries loses the harness whenever it begins to read grouped values: they are there for the next attempt.
func TestHotKeyRetries(t *testing.T) {
	r := newRig(t, nil)
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault {
		switch n {
		case 0:
			return fakesdk.DropConnection
		case 1:
			return fakesdk.CloseDataStream // after everything was read
		}
		return fakesdk.NoFault
	}
	p := r.Pipeline()
	p.StateBacked = true
	in := p.Read("in", bounded(hot("hot", 100, 2000)), "kv(bytes,bytes)")
	out := p.Write("out", p.Map("measure", p.GroupByKey("group", in), "bytes", measure))
	r.Run(p, nil)
	want(t, out, "hot: 100 × 2000")
}

// TestHotKeyStreams has an unbounded grouping fire one pane after the other, each of more values than the last. The panes' values
// survive a restart between the grouping and its reader, and go when they have been read.
func TestHotKeyStreams(t *testing.T) {
	const panes = 5
	r := newRig(t, nil)
	p := r.Pipeline()
	p.StateBacked = true
	src := &enginetest.Source{Unbounded: true}
	gates := make([]chan struct{}, panes)
	for i := range gates {
		gates[i] = make(chan struct{})
		src.Batches = append(src.Batches, enginetest.Batch{Elements: hot("hot", 50, 2000), Gate: gates[i]})
	}
	in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,bytes)"), enginetest.Global().Accumulating(50))
	out := p.Write("out", p.Map("measure", p.GroupByKey("group", in), "bytes", measure))
	j := r.Start(p, nil)
	for i, gate := range gates {
		close(gate)
		if err := out.Await(r.Context(), contains(fmt.Sprintf("hot: %d × 2000", 50*(i+1)))); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			r.Restart()
			j = r.Recover(j)
		}
	}
	r.Suspend()
	s := r.OpenStore(j)
	for id := range rows.ContentID(100) {
		if _, err := s.Page(id, 0); err == nil {
			t.Errorf("content %d is left", id)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	r.Engine = engine.New(r.Config)
	j = r.Recover(j)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
}
