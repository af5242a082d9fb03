package group

import (
	"encoding/binary"
	"math"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/internal/fault"
)

const (
	// inlineBytesMax is the size from which the values of a pane go into a content. A consumer then asks for them with a state
	// request, which costs the Python harness half a millisecond; to decode so many bytes of small values costs it ten.
	inlineBytesMax = 64 << 10
	// pageBytes is the size from which a page of a content ends: what one state response holds.
	pageBytes = 1 << 20
	// longBytesMin is the size from which values are a page of their own, although the one before may then be short.
	longBytesMin = 4 << 20
	// InlineBytesLimit bounds a pane whose values cannot go into a content: gRPC carries no message of twice the size.
	InlineBytesLimit = 1 << 30
)

// Output collects what a machine emits: windowed elements KV<K, iterable<V>>, each in one window. The zero Output keeps
// everything in Block.
type Output struct {
	Block element.Block // what has been emitted and not flushed
	// Backed are the elements of Block whose values are in a content, in order.
	Backed []Backed
	Panes  int64 // emitted altogether

	// Stale are the cells with more accumulators than is good: Machine.Compact takes them. Only of a machine that compacts.
	Stale []Stale

	DroppedLate   int64 // elements × windows, behind the input watermark by more than the allowed lateness
	DroppedClosed int64 // elements × windows, of a window whose trigger has finished

	// Contents, if set, takes the values of panes that are too long to be inline.
	Contents rows.Contents
	// Flush, if set, is given the block and its backed elements whenever it has FlushBytes or more, and keeps both. What is left at
	// the end of a call stays in Block. An error of it ends the call.
	Flush      func(b element.Block, backed []Backed) error
	FlushBytes int

	values  []byte       // of the pane in hand: those that are not in a page yet
	content rows.Content // of the pane in hand, or nil
	pages   uint64       // of the content
	paged   int64        // bytes in them
	room    int          // what values may hold
}

// Backed is an element whose values are in a content. Its iterable has the form that Beam calls state-backed: no length, no values,
// but a token. Spec: beam_runner_api.proto StandardCoders.STATE_BACKED_ITERABLE.
type Backed struct {
	At      int // where the element begins in its block
	Content rows.ContentID
	Pages   uint64
	Count   int64 // of values
	Bytes   int64
}

// Token tells a harness where the values are: the content's id and the number of its pages.
func (b Backed) Token() []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(nil, uint64(b.Content)), b.Pages)
}

// ParseToken undoes Token; ok is false for what is no token.
func ParseToken(b []byte) (id rows.ContentID, pages uint64, ok bool) {
	const idLen = 8
	if len(b) <= idLen {
		return 0, 0, false
	}
	pages, n := binary.Uvarint(b[idLen:])
	return rows.ContentID(binary.BigEndian.Uint64(b)), pages, n == len(b)-idLen
}

// begin begins a pane.
func (o *Output) begin() {
	o.values, o.content, o.pages, o.paged, o.room = o.values[:0], nil, 0, 0, InlineBytesLimit
	if o.Contents != nil {
		o.room = inlineBytesMax
	}
}

// add adds encoded values, whole ones, to the pane in hand. It keeps nothing of v.
func (o *Output) add(v []byte) error {
	if len(v) >= longBytesMin && o.Contents != nil {
		return o.addLong(v)
	}
	o.values = append(o.values, v...)
	if len(o.values) <= o.room {
		return nil
	}
	return o.spill()
}

// addLong adds values as a page, without a copy of them: a single value may be as long as memory allows.
func (o *Output) addLong(v []byte) error {
	if o.content == nil {
		o.content, o.room = o.Contents.New(), pageBytes
	}
	if len(o.values) > 0 {
		if err := o.page(); err != nil {
			return err
		}
	}
	return o.append(v)
}

// spill makes room for more values: the pane in hand is too long to be inline, or a page is full.
func (o *Output) spill() error {
	if o.Contents == nil {
		return TooLong()
	}
	if o.content == nil {
		o.content, o.room = o.Contents.New(), pageBytes
		if len(o.values) < pageBytes {
			return nil
		}
	}
	return o.page()
}

// page ends a page.
func (o *Output) page() error {
	err := o.append(o.values)
	o.values = o.values[:0]
	return err
}

// append appends a page.
func (o *Output) append(page []byte) error {
	o.pages++
	o.paged += int64(len(page))
	return o.content.Append(page)
}

// TooLong is the fault of a pane over InlineBytesLimit.
func TooLong() error {
	return fault.New(fault.Pipeline, "grouped-values-too-long", "the values of one key and window take more than %d bytes",
		InlineBytesLimit).WithHint("combine the values instead of grouping them, or read them in an SDK that knows state-backed iterables")
}

// end emits the pane in hand. key is encoded nested.
func (o *Output) end(ts element.Time, win []byte, pane coder.Pane, key []byte, values int64) error {
	b := &o.Block
	if b.Count == 0 {
		b.MinTS, b.MaxTS = element.MaxTime, element.MinTime
	}
	at := len(b.Data)
	b.Count++
	b.MinTS, b.MaxTS = min(b.MinTS, ts), max(b.MaxTS, ts)
	o.Panes++
	b.Data = coder.AppendTime(b.Data, ts)
	b.Data = binary.BigEndian.AppendUint32(b.Data, 1)
	b.Data = append(b.Data, win...)
	b.Data = pane.Append(b.Data)
	b.Data = append(b.Data, key...)
	if o.content == nil {
		b.Data = AppendIterable(b.Data, o.values, values)
	} else if err := o.endBacked(at, values); err != nil {
		return err
	}
	if o.Flush == nil || len(b.Data) < o.FlushBytes {
		return nil
	}
	full, backed := o.Block, o.Backed
	o.Block = element.Block{Data: make([]byte, 0, len(full.Data)+len(full.Data)/8)} // the next one will be as long
	o.Backed = nil
	return o.Flush(full, backed)
}

// endBacked ends the content of the pane in hand and appends its token.
func (o *Output) endBacked(at int, values int64) error {
	if len(o.values) > 0 {
		if err := o.page(); err != nil {
			return err
		}
	}
	backed := Backed{At: at, Content: o.content.ID(), Pages: o.pages, Count: values, Bytes: o.paged}
	b := &o.Block
	b.Data = binary.BigEndian.AppendUint32(b.Data, math.MaxUint32)
	b.Data = binary.AppendUvarint(b.Data, math.MaxUint64)
	b.Data = rows.AppendBytes(b.Data, backed.Token())
	o.Backed = append(o.Backed, backed)
	return nil
}

// AppendIterable appends count encoded values as an iterable.
func AppendIterable(dst, values []byte, count int64) []byte {
	if count <= math.MaxInt32 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(count))
		return append(dst, values...)
	}
	// An iterable of unknown length: chunks until one of 0. This is a single chunk.
	dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32)
	dst = binary.AppendUvarint(dst, uint64(count))
	return append(append(dst, values...), 0)
}
