package bundle

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
)

// TestShare cuts messages that any process may take: the blocks are the message, in its order, each with what it holds.
func TestShare(t *testing.T) {
	for _, test := range []struct {
		name           string
		n              int
		spread, shared bool
		blocks         int // at least; and at most three times as many
	}{
		{"few", 10, false, true, 1},
		{"few that are much work", 10, true, true, 10},
		{"many that are much work", 1000, true, true, 60},
		{"many", 60_000, false, true, 3},
		{"for one consumer", 60_000, false, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, data := randomElements(rand.New(rand.NewPCG(1, 2)), test.n)
			r, e := newRouter(8), testEdge(t, plan.FIFO)
			e.shared, e.def.Spread = test.shared, test.spread
			if err := r.write(&output{edges: []*edge{e}}, data); err != nil {
				t.Fatal(err)
			}
			if n := len(r.added); n < test.blocks || n > 3*test.blocks || test.blocks == 1 && n != 1 || r.count != int64(test.n) {
				t.Errorf("%d blocks of %d elements", n, r.count)
			}
			var joined []byte
			for _, a := range r.added {
				h := a.Block.Header
				lo, hi := element.MaxTime, element.MinTime
				for _, x := range all[:h.Count] {
					lo, hi = min(lo, x.ts), max(hi, x.ts)
				}
				all = all[h.Count:]
				if h.MinTS != lo || h.MaxTS != hi || h.Bytes != len(a.Block.Data) {
					t.Errorf("a block of %d bytes from %v to %v says %d, %v, %v", len(a.Block.Data), lo, hi, h.Bytes, h.MinTS, h.MaxTS)
				}
				joined = append(joined, a.Block.Data...)
			}
			if len(all) > 0 || !bytes.Equal(joined, data) {
				t.Error("the blocks are not the message")
			}
		})
	}
}

// TestShareByBytes cuts a message of large elements by its bytes.
func TestShareByBytes(t *testing.T) {
	var data []byte
	value := string(make([]byte, 100_000))
	for range 50 {
		data = kv{ends: []element.Time{10}, key: "k", value: value}.append(data)
	}
	r, e := newRouter(8), testEdge(t, plan.FIFO)
	e.shared = true
	// Of a message that ends within an element nothing is taken: it comes again, with the rest of the element.
	if err := r.write(&output{edges: []*edge{e}}, data[:len(data)-1]); !errors.Is(err, coder.ErrMalformed) || len(r.added) > 0 {
		t.Errorf("%d blocks of a message that is cut off, %v", len(r.added), err)
	}
	if err := r.write(&output{edges: []*edge{e}}, data); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, a := range r.added {
		if n := len(a.Block.Data); n > blockBytes+200_000 {
			t.Errorf("a block of %d bytes", n)
		}
		count += a.Block.Count
	}
	if len(r.added) != 5 || count != 50 || r.count != 50 {
		t.Errorf("%d blocks of %d elements, %d counted", len(r.added), count, r.count)
	}
}
