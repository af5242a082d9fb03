package bundle

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/rows"
)

// sizedEdge is an edge of KV<KV<bytes, bytes>, double>, written so that the bytes before the restriction are the key.
func sizedEdge(t *testing.T, kind plan.EdgeKind) *edge {
	t.Helper()
	const program = "kv(lp,kv(lp,fixed(8)))"
	prog, err := coder.Compile(program)
	if err != nil {
		t.Fatal(err)
	}
	return &edge{
		def: &plan.Edge{Kind: kind, Window: plan.GlobalWindow, Name: "sized"}, value: prog, scanner: coder.NewScanner(prog, plan.GlobalWindow),
		sized: hasSizes(program),
	}
}

func sized(dst []byte, key string, size float64) []byte {
	dst = coder.AppendHeader(dst, element.Time(len(dst)), 1, nil, []byte{coder.NoFiring})
	dst = rows.AppendBytes(rows.AppendBytes(dst, []byte(key)), []byte("restriction"))
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(size))
}

// TestRestrictionsAreCut looks at the blocks that a message of restrictions becomes.
func TestRestrictionsAreCut(t *testing.T) {
	for _, test := range []struct {
		name     string
		n        int
		size     func(i int) float64
		min, max int // blocks
		alone    int // this one is in a block of its own; -1: none must be
	}{
		{"few", 10, func(int) float64 { return 1 }, 10, 10, 3},
		{"very many", 100_000, func(int) float64 { return 1 }, 60, 70, -1},
		{"one hot", 1000, func(i int) float64 { return map[bool]float64{true: 1e6, false: 1}[i == 500] }, 60, 70, 500},
		{"of no size", 1000, func(int) float64 { return 0 }, 60, 70, -1},
		{"of senseless sizes", 1000, func(i int) float64 { return []float64{math.NaN(), math.Inf(1), -1, math.MaxFloat64}[i%4] }, 3, 192, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var data []byte
			for i := range test.n {
				data = sized(data, fmt.Sprint(i), test.size(i))
			}
			r, e := newRouter(8), sizedEdge(t, plan.FIFO)
			if err := r.write(&output{edges: []*edge{e}}, data); err != nil {
				t.Fatal(err)
			}
			if n := len(r.added); n < test.min || n > test.max || r.count != int64(test.n) {
				t.Errorf("%d blocks of %d restrictions, not %d to %d", n, r.count, test.min, test.max)
			}
			var joined []byte
			count, alone := 0, false
			for _, a := range r.added {
				joined = append(joined, a.Block.Data...)
				alone = alone || a.Block.Count == 1 && count == test.alone
				if a.Block.Count == 1 && count == test.alone && a.Block.Size != test.size(count) {
					t.Errorf("the block's size is %v", a.Block.Size)
				}
				count += a.Block.Count
			}
			if !bytes.Equal(joined, data) {
				t.Error("the blocks are not the message")
			}
			if test.alone >= 0 && !alone {
				t.Errorf("restriction %d is not alone", test.alone)
			}
		})
	}
}

// TestKeyedRestrictions has restrictions of keys, which go to the groups of their keys, with their sizes.
func TestKeyedRestrictions(t *testing.T) {
	var data []byte
	for i := range 100 {
		data = sized(data, fmt.Sprint(i%10), 2)
	}
	r := newRouter(8)
	if err := r.write(&output{edges: []*edge{sizedEdge(t, plan.Keyed)}}, data); err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, a := range r.added {
		if a.Block.Size != 2*float64(a.Block.Count) {
			t.Errorf("%d restrictions of the size 2 have the size %v", a.Block.Count, a.Block.Size)
		}
		total += a.Block.Size
	}
	if total != 200 {
		t.Errorf("sizes add up to %v", total)
	}
}
