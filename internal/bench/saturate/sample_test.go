package saturate

import (
	"bytes"
	"testing"
)

// TestSampleCut holds that bundles of any size and start get the elements of the sample in order, in messages that are neither larger
// than a message may be nor needlessly small.
func TestSampleCut(t *testing.T) {
	elements := [][]byte{[]byte("a"), []byte("bb"), bytes.Repeat([]byte("c"), 100_000), bytes.Repeat([]byte("d"), messageBytes+1)}
	s := NewSample(elements)
	if s.Len()%len(elements) != 0 || s.Bytes() < 1 {
		t.Fatalf("%d elements of %.1f bytes", s.Len(), s.Bytes())
	}
	for from := range 9 {
		for _, n := range []int{1, 2, 3, 4, 5, 17} {
			var want, got []byte
			for i := range n {
				want = append(want, elements[(from+i)%len(elements)]...)
			}
			for m := range s.Cut(from, n) {
				if len(m) == 0 || len(m) > messageBytes && len(m) != messageBytes+1 {
					t.Fatalf("from %d, %d elements: a message of %d bytes", from, n, len(m))
				}
				got = append(got, m...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("from %d, %d elements: %d bytes, not %d, or other ones", from, n, len(got), len(want))
			}
		}
	}
	small := NewSample([][]byte{[]byte("xyz")})
	messages := 0
	for range small.Cut(7, 1_000_000) {
		messages++
	}
	if messages > 4 {
		t.Errorf("3 MB went in %d messages", messages)
	}
}
