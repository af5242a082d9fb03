package group

import (
	"encoding/binary"
	"math"

	"padstone/engine/coder"
	"padstone/engine/element"
)

// Output collects what a machine emits: windowed elements KV<K, iterable<V>>, each in one window. The zero Output keeps
// everything in Block.
type Output struct {
	Block element.Block // what has been emitted and not flushed
	Panes int64         // emitted altogether

	DroppedLate   int64 // elements × windows, behind the input watermark by more than the allowed lateness
	DroppedClosed int64 // elements × windows, of a window whose trigger has finished

	// Flush, if set, is given the block whenever it has FlushBytes or more, and keeps its bytes. What is left at the end of a call
	// stays in Block. An error of it ends the call.
	Flush      func(b element.Block) error
	FlushBytes int
}

// begin appends everything of a pane but its values, and counts it. key is encoded nested.
func (o *Output) begin(ts element.Time, win []byte, pane coder.Pane, key []byte, values int64) {
	b := &o.Block
	if b.Count == 0 {
		b.MinTS, b.MaxTS = element.MaxTime, element.MinTime
	}
	b.Count++
	b.MinTS, b.MaxTS = min(b.MinTS, ts), max(b.MaxTS, ts)
	o.Panes++
	b.Data = coder.AppendTime(b.Data, ts)
	b.Data = binary.BigEndian.AppendUint32(b.Data, 1)
	b.Data = append(b.Data, win...)
	b.Data = pane.Append(b.Data)
	b.Data = append(b.Data, key...)
	if values <= math.MaxInt32 {
		b.Data = binary.BigEndian.AppendUint32(b.Data, uint32(values))
		return
	}
	// An iterable of unknown length: chunks until one of 0. Ours is a single chunk.
	b.Data = binary.BigEndian.AppendUint32(b.Data, math.MaxUint32)
	b.Data = binary.AppendUvarint(b.Data, uint64(values))
}

// end finishes the pane that begin began.
func (o *Output) end(values int64) error {
	if values > math.MaxInt32 {
		o.Block.Data = append(o.Block.Data, 0)
	}
	if o.Flush == nil || len(o.Block.Data) < o.FlushBytes {
		return nil
	}
	full := o.Block
	o.Block = element.Block{Data: make([]byte, 0, len(full.Data)+len(full.Data)/8)} // the next one will be as long
	return o.Flush(full)
}
