package bundle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/window"
)

// testEdge returns an edge of KV<bytes, bytes> elements in interval windows.
func testEdge(t testing.TB, kind plan.EdgeKind) *edge {
	t.Helper()
	prog, err := coder.Compile("kv(lp,lp)")
	if err != nil {
		t.Fatal(err)
	}
	def := &plan.Edge{Kind: kind, Window: plan.IntervalWindow, Name: "test"}
	return &edge{def: def, index: 5, consumer: 2, value: prog, scanner: coder.NewScanner(prog, def.Window)}
}

type kv struct {
	ts         element.Time
	ends       []element.Time // of windows of 10 ms
	key, value string
}

func (e kv) append(dst []byte) []byte {
	var ws []byte
	for _, end := range e.ends {
		ws = window.Span{Start: end - 10, End: end}.Append(ws)
	}
	dst = coder.AppendHeader(dst, e.ts, len(e.ends), ws, []byte{coder.NoFiring})
	return rows.AppendBytes(rows.AppendBytes(dst, []byte(e.key)), []byte(e.value))
}

func randomElements(rng *rand.Rand, n int) (all []kv, data []byte) {
	for i := 0; i < n; i++ {
		e := kv{ts: element.Time(rng.IntN(100) - 50), key: fmt.Sprint("k", rng.IntN(40)), value: fmt.Sprint("v", i)}
		for w := 0; w <= rng.IntN(3); w++ {
			e.ends = append(e.ends, element.Time(rng.IntN(20)*10))
		}
		all = append(all, e)
		data = e.append(data)
	}
	return all, data
}

// TestHold: a timestamp that Python may have rounded towards zero does not let the watermark pass the end of a window that ended before it.
func TestHold(t *testing.T) {
	for ts, want := range map[element.Time]element.Time{
		0: -1, -5000: -5001, 1: 1, 5000: 5000, element.MinTime: element.MinTime, element.MaxTime: element.MaxTime,
	} {
		if got := holdOf(ts); got != want {
			t.Errorf("%v holds %v, not %v", ts, got, want)
		}
	}
}

// TestKeyedSplit compares the blocks of a split message with a naive split: the same bytes in the same order for each key group,
// with the right counts and bounds.
func TestKeyedSplit(t *testing.T) {
	const groups = 16
	for seed := uint64(0); seed < 30; seed++ {
		rng := rand.New(rand.NewPCG(seed, 0))
		r := newRouter(groups)
		e := testEdge(t, plan.Keyed)
		e.needWindow = seed%2 == 0
		want := make(map[uint16][]byte)
		counts := make(map[uint16]int)
		total := 0
		for message := 0; message < 3; message++ { // scratch is reused between messages
			all, data := randomElements(rng, rng.IntN(50))
			for _, el := range all {
				g := coder.KeyGroup(rows.AppendBytes(nil, []byte(el.key)), groups)
				want[g] = el.append(want[g])
				counts[g]++
			}
			total += len(all)
			if err := r.write(&output{edges: []*edge{e}}, data); err != nil {
				t.Fatal(err)
			}
		}
		got := make(map[uint16][]byte)
		for _, a := range r.added {
			b := a.Block
			count, lo, hi, err := e.scanner.Stat(b.Data)
			if err != nil || count != b.Count || lo != b.MinTS || hi != b.MaxTS || b.Hold != holdOf(lo) || b.Bytes != len(b.Data) {
				t.Fatalf("seed %d: header %+v does not fit its block (%d elements, %v to %v, %v)", seed, b.Header, count, lo, hi, err)
			}
			latest := element.MinTime
			err = e.scanner.Scan(b.Data, func(el *coder.Elem) error {
				w, err := latestWindow(plan.IntervalWindow, el)
				latest = max(latest, w)
				return err
			})
			if err != nil || (e.needWindow && latest != b.MaxWindow) {
				t.Fatalf("seed %d: latest window %v (%v), header says %v", seed, latest, err, b.MaxWindow)
			}
			got[a.Group] = append(got[a.Group], b.Data...)
			counts[a.Group] -= b.Count
		}
		for g := uint16(0); g < groups; g++ {
			if !bytes.Equal(got[g], want[g]) || counts[g] != 0 {
				t.Fatalf("seed %d, group %d: got %q, want %q", seed, g, got[g], want[g])
			}
		}
		if r.count != int64(total) {
			t.Fatalf("seed %d: %d elements counted, want %d", seed, r.count, total)
		}
	}
}

// TestSideRows checks that a multimap side input is kept by window and key, in order, and an iterable by window.
func TestSideRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 0))
	for _, access := range []plan.SideAccess{plan.Iterable, plan.Multimap} {
		all, data := randomElements(rng, 60)
		e := testEdge(t, plan.Side)
		e.access = access
		want := make(map[string][]byte)
		for _, el := range all {
			for _, end := range el.ends {
				key := rows.AppendBytes(nil, window.Span{Start: end - 10, End: end}.Append(nil))
				k, v := rows.AppendBytes(nil, []byte(el.key)), rows.AppendBytes(nil, []byte(el.value))
				if access == plan.Multimap {
					key = rows.AppendBytes(key, k)
				} else {
					v = append(k, v...)
				}
				want[string(key)] = append(want[string(key)], v...)
			}
		}
		r := newRouter(4)
		if err := r.write(&output{edges: []*edge{e}}, data); err != nil {
			t.Fatal(err)
		}
		got := make(map[string][]byte)
		for _, row := range r.sides.rows {
			got[string(row.Key)] = append(got[string(row.Key)], row.Value...)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d rows, want %d", access, len(got), len(want))
		}
		for k, v := range want {
			if !bytes.Equal(got[k], v) {
				t.Fatalf("%s: row %x is %q, want %q", access, k, got[k], v)
			}
		}
	}
}

// TestMalformedOutput: what does not follow its coder is an error with a code, wherever it is cut.
func TestMalformedOutput(t *testing.T) {
	_, data := randomElements(rand.New(rand.NewPCG(2, 0)), 1)
	for _, kind := range []plan.EdgeKind{plan.FIFO, plan.Keyed, plan.Side} {
		for cut := 1; cut < len(data); cut++ {
			if err := newRouter(4).write(&output{edges: []*edge{testEdge(t, kind)}}, data[:cut]); err == nil {
				t.Errorf("%s: an element cut at %d of %d bytes was taken", kind, cut, len(data))
			}
		}
	}
}

func BenchmarkKeyedSplit(b *testing.B) {
	_, data := randomElements(rand.New(rand.NewPCG(3, 0)), 10_000)
	e := testEdge(b, plan.Keyed)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := newRouter(64).write(&output{edges: []*edge{e}}, data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/element")
}
