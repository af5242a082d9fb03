package buffers

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// What is shorter than the least buffer is not worth lending, and what is longer than the largest is not worth keeping.
const (
	leastBits   = 16 // 64 KiB
	largestBits = 25 // 32 MiB
	steps       = 4  // sizes from one power of two to the next
)

var pools [(largestBits - leastBits) * steps]sync.Pool

// Buffer is memory that is lent. Who gets one has it until its last Release; what lies in it must not be looked at any more after that.
// A buffer that is never released is garbage like any other: when in doubt, do not release.
type Buffer struct {
	memory []byte // all of it
	data   []byte
	class  int // of pools; -1: none
	refs   atomic.Int32
}

// Get lends n bytes, which hold anything.
func Get(n int) *Buffer {
	class := classOf(n)
	if class < 0 {
		b := &Buffer{class: class, memory: make([]byte, n)}
		b.data = b.memory
		b.refs.Store(1)
		return b
	}
	b, _ := pools[class].Get().(*Buffer)
	if b == nil {
		b = &Buffer{class: class, memory: make([]byte, sizeOf(class))}
	}
	b.data = b.memory[:n:n]
	b.refs.Store(1)
	return b
}

// classOf returns the smallest class that holds n bytes, or -1.
func classOf(n int) int {
	const least = 1 << leastBits
	if n < least {
		return -1
	}
	power := bits.Len(uint(n-1)) - 1 // 1<<power < n <= 2<<power, but for n == least
	step := 1 << (power - bits.Len(steps-1))
	class := (power-leastBits)*steps + (n-1-1<<power)/step
	if n == least {
		class = 0
	}
	if class >= len(pools) {
		return -1
	}
	return class
}

func sizeOf(class int) int {
	power := leastBits + class/steps
	return 1<<power + (class%steps+1)<<(power-bits.Len(steps-1))
}

// Bytes returns what is lent.
func (b *Buffer) Bytes() []byte { return b.data }

// Retain has the buffer be released once more than before.
func (b *Buffer) Retain() {
	if b != nil {
		b.refs.Add(1)
	}
}

// overwrite fills memory, by copying what is filled already: the race detector sees a few writes and not one for each byte, each of which
// costs it more than the byte itself.
func overwrite(memory []byte) {
	if len(memory) == 0 {
		return
	}
	memory[0] = 0xdb
	for n := 1; n < len(memory); n *= 2 {
		copy(memory[n:], memory[:n])
	}
}

// Release gives the buffer back, if nobody else has it. Releasing nil does nothing.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	switch refs := b.refs.Add(-1); {
	case refs > 0:
	case refs < 0:
		panic("buffers: released once too often")
	default:
		if poison {
			overwrite(b.data)
		}
		if b.data = nil; b.class >= 0 {
			pools[b.class].Put(b)
		}
	}
}
