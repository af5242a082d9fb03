package store

import (
	"encoding/binary"
	"math"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/internal/fault"
)

// Header is what the scheduler knows of a stored block: everything but the bytes.
type Header struct {
	Seq   uint64 // place in the job's history; assigned by Commit
	Count int
	Bytes int
	MinTS element.Time
	MaxTS element.Time
	// MaxWindow is the largest window end (max timestamp) of the elements; MinTime when nobody asked for it.
	MaxWindow element.Time
	// AvailableAt is the processing time from which the block may be taken; MinTime: at once. Set for residuals with a delay.
	AvailableAt element.Time
	// Hold is the watermark that the pending block holds its stage at: MinTS, or the output watermark of a residual.
	Hold element.Time
	// Size is the work in the block's restrictions, summed up as the SDK estimates it; 0 when nobody knows. It has no unit.
	Size float64
	// Residual marks restrictions that came back from a bundle.
	Residual bool
}

// Block is a header with its elements.
type Block struct {
	Header
	Data []byte // nil when they were written ahead
	// Body is the content whose only page holds the elements, if they were written ahead of the commit; then Bytes tells their
	// length.
	Body rows.ContentID
	// Refs are the contents that elements of the block refer to. Known to Commit only: a block that is read does not tell.
	Refs []rows.ContentID
	// RefsOf is the sequence of a block, consumed by the same commit, whose contents this one goes on referring to; 0: none.
	RefsOf uint64

	apart bool // of a block that is read: its data is in a row of its own
}

const (
	flagResidual = 1 << iota
	flagBody     // the content and the number of its bytes follow instead of the data
	flagSize     // the size follows, 8 bytes
	flagApart    // the data is in a row of its own; the number of its bytes follows
)

// inlineBytesMax is the length up to which an inbox block's data is in the row of its header. Recovery reads all headers, and a backlog
// may be larger than it has time for.
const inlineBytesMax = 256

// inboxKey is Inbox | consumer stage | key group | edge u32 | seq u64.
func (s *Store) inboxKey(stage uint32, group uint16, edge uint32, seq uint64) []byte {
	k := rows.Prefix(rows.Inbox, s.numbers.stage(stage), group)
	k = binary.BigEndian.AppendUint32(k, s.numbers.edge(edge))
	return binary.BigEndian.AppendUint64(k, seq)
}

// dataKey is Data | and the rest of the block's inbox key.
func dataKey(inbox []byte) []byte {
	k := append([]byte(nil), inbox...)
	k[0] = byte(rows.Data)
	return k
}

// appendBlock appends the stored form: header fields as varints, then the data, unless it lies apart.
func appendBlock(dst []byte, b *Block, apart bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Count))
	dst = binary.AppendVarint(dst, int64(b.MinTS))
	dst = binary.AppendVarint(dst, int64(b.MaxTS))
	dst = binary.AppendVarint(dst, int64(b.MaxWindow))
	dst = binary.AppendVarint(dst, int64(b.AvailableAt))
	dst = binary.AppendVarint(dst, int64(b.Hold))
	flags := byte(0)
	if b.Residual {
		flags |= flagResidual
	}
	if b.Size != 0 {
		flags |= flagSize
	}
	if b.Body != 0 {
		flags |= flagBody
	} else if apart {
		flags |= flagApart
	}
	dst = append(dst, flags)
	if b.Size != 0 {
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(b.Size))
	}
	if b.Body == 0 && apart {
		return binary.AppendUvarint(dst, uint64(len(b.Data)))
	}
	if b.Body == 0 {
		return append(dst, b.Data...)
	}
	dst = binary.AppendUvarint(dst, uint64(b.Body))
	return binary.AppendUvarint(dst, uint64(b.Bytes))
}

// parseBlock reads what appendBlock wrote. Data aliases v, or is left out when the block has a body, or has it apart.
func parseBlock(seq uint64, v []byte) (Block, error) {
	b := Block{Header: Header{Seq: seq}}
	count, n := binary.Uvarint(v)
	if n <= 0 {
		return b, corruptBlock(seq)
	}
	v = v[n:]
	b.Count = int(count)
	for _, t := range []*element.Time{&b.MinTS, &b.MaxTS, &b.MaxWindow, &b.AvailableAt, &b.Hold} {
		x, n := binary.Varint(v)
		if n <= 0 {
			return b, corruptBlock(seq)
		}
		*t, v = element.Time(x), v[n:]
	}
	if len(v) == 0 {
		return b, corruptBlock(seq)
	}
	flags := v[0]
	v = v[1:]
	b.Residual = flags&flagResidual != 0
	if flags&flagSize != 0 {
		if len(v) < 8 {
			return b, corruptBlock(seq)
		}
		b.Size, v = math.Float64frombits(binary.BigEndian.Uint64(v)), v[8:]
	}
	if flags&flagApart != 0 {
		size, n := binary.Uvarint(v)
		if n <= 0 {
			return b, corruptBlock(seq)
		}
		b.Bytes, b.apart = int(size), true
		return b, nil
	}
	if flags&flagBody == 0 {
		b.Data, b.Bytes = v, len(v)
		return b, nil
	}
	body, n := binary.Uvarint(v)
	size, m := binary.Uvarint(v[max(n, 0):])
	if n <= 0 || m <= 0 || body == 0 {
		return b, corruptBlock(seq)
	}
	b.Body, b.Bytes = rows.ContentID(body), int(size)
	return b, nil
}

func corruptBlock(seq uint64) error {
	return fault.New(fault.Corruption, "store-corrupt", "block %d of the job's store has a malformed header", seq)
}
