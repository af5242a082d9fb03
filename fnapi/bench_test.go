package fnapi

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/mem"

	"padstone/internal/ratio"
)

// frameBytes is the length of the frames that messages come in.
const frameBytes = 16 << 10

// received is a data message as the transport hands it over: in frames.
func received(tb testing.TB, payload int) mem.BufferSlice {
	tb.Helper()
	wire, err := newElementsCodec(sinceStart()).Marshal(&elements{{instruction: "job/17", transform: "n12", payload: make([]byte, payload)}})
	if err != nil {
		tb.Fatal(err)
	}
	var frames mem.BufferSlice
	for all := wire.Materialize(); len(all) > 0; {
		n := min(frameBytes, len(all))
		frames = append(frames, mem.SliceBuffer(all[:n]))
		all = all[n:]
	}
	return frames
}

// TestMessagesAreNotAllocated: a message of any length costs the same few small heap objects, and its memory is used again.
func TestMessagesAreNotAllocated(t *testing.T) {
	codec := newElementsCodec(sinceStart())
	for _, size := range []int{1 << 20, 10 << 20} {
		frames := received(t, size)
		var els elements
		allocs := testing.AllocsPerRun(20, func() {
			if err := codec.Unmarshal(frames, &els); err != nil || len(els) != 1 || len(els[0].payload) != size {
				t.Fatal(len(els), err)
			}
			els[0].lent.Release()
		})
		if allocs > 6 && !raceDetector { // names, and what a collection in between may cost
			t.Errorf("%.0f allocations for a message of %d bytes", allocs, size)
		}
	}
}

// BenchmarkReceive decodes a data message, whose memory is released at once. Beside it: a copy.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{1000, 64_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			codec, frames := newElementsCodec(sinceStart()), received(b, size)
			var els elements
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.Unmarshal(frames, &els); err != nil {
					b.Fatal(err)
				}
				els[0].lent.Release()
			}
			to, from := make([]byte, size), make([]byte, size)
			ratio.Report(b, "copy", func() { copy(to, from) })
		})
	}
}

// BenchmarkSend encodes a data message.
func BenchmarkSend(b *testing.B) {
	codec := newElementsCodec(sinceStart())
	els := &elements{{instruction: "job/17", transform: "n12", payload: make([]byte, 2<<20)}}
	b.ReportAllocs()
	for b.Loop() {
		wire, err := codec.Marshal(els)
		if err != nil {
			b.Fatal(err)
		}
		wire.Free()
	}
}
