package store

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestConcatenate compares with a plain concatenation, whichever end operands come at.
func TestConcatenate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	for range 200 {
		operand := func() []byte { return bytes.Repeat([]byte{byte(rng.IntN(256))}, rng.IntN(40)) }
		want := operand()
		m, err := concatenate.Merge(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		for range rng.IntN(50) {
			v := operand()
			if rng.IntN(3) == 0 {
				want, err = append(bytes.Clone(want), v...), m.MergeNewer(v)
			} else {
				want, err = append(bytes.Clone(v), want...), m.MergeOlder(v)
			}
			clear(v) // the caller's again
			if err != nil {
				t.Fatal(err)
			}
		}
		got, closer, err := m.Finish(true)
		if err != nil || closer != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, %v; not %x", got, err, want)
		}
	}
}

// BenchmarkManyAppends reads a row of many appends that are all in memory.
func BenchmarkManyAppends(b *testing.B) {
	value := bytes.Repeat([]byte("x"), 100)
	for b.Loop() {
		m, _ := concatenate.Merge(nil, value)
		for range 10_000 {
			if err := m.MergeOlder(value); err != nil {
				b.Fatal(err)
			}
		}
		if _, _, err := m.Finish(true); err != nil {
			b.Fatal(err)
		}
	}
}
