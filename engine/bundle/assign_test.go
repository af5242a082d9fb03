package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/window"
)

// assigningEdge returns testEdge for an output in the global window.
func assigningEdge(t testing.TB, kind plan.EdgeKind, w *plan.Windowing) *edge {
	t.Helper()
	e, err := testEdge(t, kind).assigning(&plan.Assignment{PCollection: "windowed", Windowing: w, From: plan.GlobalWindow})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inGlobal appends a KV in the global window.
func inGlobal(dst []byte, at element.Time, key, value string) []byte {
	dst = coder.AppendHeader(dst, at, 1, nil, []byte{coder.NoFiring})
	return rows.AppendBytes(rows.AppendBytes(dst, []byte(key)), []byte(value))
}

// blocksOf returns the data and the number of elements of all blocks by key group.
func blocksOf(added []store.Added) (data map[uint16][]byte, counts map[uint16]int) {
	data, counts = make(map[uint16][]byte), make(map[uint16]int)
	for _, a := range added {
		data[a.Group] = append(data[a.Group], a.Block.Data...)
		counts[a.Group] += a.Block.Count
	}
	return data, counts
}

// TestRouteAssigned: what is written to an edge whose windows the runner assigns is what would be written of elements that are in their
// windows; other edges of the output get the elements as they come. Every element is counted once, however many edges it goes to.
func TestRouteAssigned(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 8))
		w := &plan.Windowing{Kind: plan.Fixed, SizeMs: 10}
		assigning, plain := newRouter(16), newRouter(16)
		keyed, fifo, before := assigningEdge(t, plan.Keyed, w), assigningEdge(t, plan.FIFO, w), testEdge(t, plan.FIFO)
		before.scanner, before.index = coder.NewScanner(before.value, plan.GlobalWindow), 9
		keyed.needWindow, fifo.counted = true, ""
		inWindows := []*edge{testEdge(t, plan.Keyed), testEdge(t, plan.FIFO)}
		inWindows[0].needWindow = true
		total := 0
		for range 3 {
			var data, want []byte
			for i := range rng.IntN(50) {
				at, key := element.Time(rng.IntN(100)-50), fmt.Sprint("k", rng.IntN(40))
				data = inGlobal(data, at, key, fmt.Sprint("v", i))
				end := (at+50)/10*10 - 40
				want = kv{ts: at, ends: []element.Time{end}, key: key, value: fmt.Sprint("v", i)}.append(want)
				total++
			}
			kept := append([]byte(nil), data...)
			if err := assigning.write(&output{edges: []*edge{keyed, before, fifo}}, data); err != nil {
				t.Fatal(err)
			}
			if err := plain.write(&output{edges: inWindows}, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(data, kept) {
				t.Fatalf("seed %d: the message was changed", seed)
			}
		}
		var untouched, others []store.Added
		for _, a := range assigning.added {
			if a.Edge == 9 {
				untouched = append(untouched, a)
			} else {
				others = append(others, a)
			}
		}
		got, counts := blocksOf(others)
		want, wantCounts := blocksOf(plain.added)
		if fmt.Sprint(got, counts) != fmt.Sprint(want, wantCounts) {
			t.Fatalf("seed %d: blocks are\n%v, not\n%v", seed, got, want)
		}
		for i, a := range others {
			if b := plain.added[i].Block.Header; a.Block.Header != b {
				t.Fatalf("seed %d: header %+v, not %+v", seed, a.Block.Header, b)
			}
		}
		if _, n := blocksOf(untouched); n[0] != total {
			t.Fatalf("seed %d: %d of %d elements came without windows", seed, n[0], total)
		}
		if n := assigning.counted["windowed"]; n != int64(total) || assigning.count != int64(total) {
			t.Fatalf("seed %d: %d and %d of %d elements are counted", seed, n, assigning.count, total)
		}
	}
}

// TestRouteAssignedWhole: of a message that ends within an element nothing is taken, however much it becomes in its windows.
func TestRouteAssignedWhole(t *testing.T) {
	w := &plan.Windowing{Kind: plan.Sliding, SizeMs: 900, PeriodMs: 1}
	e := assigningEdge(t, plan.FIFO, w)
	r := newRouter(16)
	var data []byte
	const n = 1000 // in 900 windows of 10 bytes
	for i := range n {
		data = inGlobal(data, element.Time(i), "k", fmt.Sprint("v", i))
	}
	o := &output{edges: []*edge{e}}
	if err := r.write(o, data[:len(data)-1]); !errors.Is(err, coder.ErrMalformed) || len(r.added) > 0 || r.counted["windowed"] != 0 {
		t.Fatalf("%v, %d blocks, %d elements", err, len(r.added), r.counted["windowed"])
	}
	if err := r.write(o, data); err != nil {
		t.Fatal(err)
	}
	windows, next := 0, 0
	for _, a := range r.added {
		if a.Block.Bytes > assignBytes+(1<<20) {
			t.Errorf("a block has %d bytes", a.Block.Bytes)
		}
		err := e.scanner.Scan(a.Block.Data, func(el *coder.Elem) error {
			windows += el.NWin
			if el.TS != element.Time(next) {
				return fmt.Errorf("element %d is at %d", next, el.TS)
			}
			next++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if next != n || windows != n*900 || r.counted["windowed"] != n || len(r.added) < 2 {
		t.Errorf("%d elements in %d windows, %d counted, %d blocks", next, windows, r.counted["windowed"], len(r.added))
	}
}

// TestUnmerged: what a table might have merged is counted with its bytes.
func TestUnmerged(t *testing.T) {
	e := assigningEdge(t, plan.Keyed, &plan.Windowing{Kind: plan.Sessions, SizeMs: 5})
	e.tables = true
	r := newRouter(4)
	if err := r.write(&output{edges: []*edge{e}}, inGlobal(inGlobal(nil, 3, "a", "1"), 4, "b", "22")); err != nil {
		t.Fatal(err)
	}
	window := len(window.Span{Start: 3, End: 8}.Append(nil))
	want := unmerged{2, int64(2*(8+4+window+1) + 4 + 5)}
	if r.unmerged != want {
		t.Errorf("%+v, not %+v", r.unmerged, want)
	}
}

// BenchmarkKeyedAssigned splits messages of 10,000 elements by key, with their windows in them or assigned on the way.
func BenchmarkKeyedAssigned(b *testing.B) {
	const n, groups = 10_000, 256
	for _, assigned := range []bool{false, true} {
		b.Run(fmt.Sprint("assigned ", assigned), func(b *testing.B) {
			e := testEdge(b, plan.Keyed)
			var data []byte
			for i := range n {
				at, key := 1_700_000_000_000+element.Time(i)*18, fmt.Sprintf("m%05d", i%1000)
				if assigned {
					data = inGlobal(data, at, key, "12345")
				} else {
					data = kv{ts: at, ends: []element.Time{at/10*10 + 10}, key: key, value: "12345"}.append(data)
				}
			}
			if assigned {
				e = assigningEdge(b, plan.Keyed, &plan.Windowing{Kind: plan.Fixed, SizeMs: 300_000})
			}
			r := newRouter(groups)
			o := &output{edges: []*edge{e}}
			b.ReportAllocs()
			for b.Loop() {
				r.added, r.bytes = r.added[:0], 0
				if err := r.write(o, data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
		})
	}
}
