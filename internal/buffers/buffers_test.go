package buffers

import (
	"bytes"
	"testing"
)

// TestSizes: a buffer has what was asked for, and not much more.
func TestSizes(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 16, 1<<16 + 1, 80 << 10, 80<<10 + 1, 1 << 20, 1<<20 + 1, 10_252_010, 1 << 25, 1<<25 + 1, 40 << 20} {
		b := Get(n)
		if len(b.Bytes()) != n || cap(b.Bytes()) != n {
			t.Errorf("asked for %d, got %d of %d", n, len(b.Bytes()), cap(b.Bytes()))
		}
		if limit := n + n/steps + 1; n >= 1<<leastBits && len(b.memory) > limit {
			t.Errorf("%d bytes take %d", n, len(b.memory))
		}
		if kept := b.class >= 0; kept != (n >= 1<<leastBits && n <= 1<<largestBits) {
			t.Errorf("%d bytes are of class %d", n, b.class)
		}
		b.Release()
	}
	for class := range pools {
		if n := sizeOf(class); classOf(n) != class || classOf(n+1) == class {
			t.Errorf("class %d holds %d bytes, which are of class %d, one more of %d", class, n, classOf(n), classOf(n+1))
		}
	}
}

// TestOverwrite: all of it, whatever its size.
func TestOverwrite(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1000, 1<<16 + 1} {
		memory := make([]byte, n)
		overwrite(memory)
		if got := bytes.Count(memory, []byte{0xdb}); got != n {
			t.Errorf("%d of %d bytes", got, n)
		}
	}
}

// TestRelease: a buffer goes back with its last holder, and one release more is a mistake.
func TestRelease(t *testing.T) {
	b := Get(1 << 20)
	b.Retain()
	b.Release()
	if b.Bytes() == nil {
		t.Fatal("it has gone back while somebody has it")
	}
	b.Release()
	if b.Bytes() != nil {
		t.Error("it has not gone back")
	}
	var none *Buffer
	none.Retain()
	none.Release()
	b = Get(10)
	b.Release()
	defer func() {
		if recover() == nil {
			t.Error("released twice without a word")
		}
	}()
	b.Release()
}
