package store

import (
	"encoding/binary"

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
	// Residual marks restrictions that came back from a bundle.
	Residual bool
}

// Block is a header with its elements.
type Block struct {
	Header
	Data []byte
}

// inboxKey is Inbox | consumer stage | key group | edge u32 | seq u64.
func inboxKey(stage uint32, group uint16, edge uint32, seq uint64) []byte {
	k := rows.Prefix(rows.Inbox, stage, group)
	k = binary.BigEndian.AppendUint32(k, edge)
	return binary.BigEndian.AppendUint64(k, seq)
}

// appendBlock appends the stored form: header fields as varints, then the data.
func appendBlock(dst []byte, b *Block) []byte {
	dst = binary.AppendUvarint(dst, uint64(b.Count))
	dst = binary.AppendVarint(dst, int64(b.MinTS))
	dst = binary.AppendVarint(dst, int64(b.MaxTS))
	dst = binary.AppendVarint(dst, int64(b.MaxWindow))
	dst = binary.AppendVarint(dst, int64(b.AvailableAt))
	dst = binary.AppendVarint(dst, int64(b.Hold))
	flags := byte(0)
	if b.Residual {
		flags |= 1
	}
	dst = append(dst, flags)
	return append(dst, b.Data...)
}

// parseBlock reads what appendBlock wrote. Data aliases v.
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
	b.Residual = v[0]&1 != 0
	b.Data = v[1:]
	b.Bytes = len(b.Data)
	return b, nil
}

func corruptBlock(seq uint64) error {
	return fault.New(fault.Corruption, "store-corrupt", "block %d of the job's store has a malformed header", seq)
}
