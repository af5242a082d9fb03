package bundle

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/coder"
	"padstone/engine/rows"
)

// pageBytes is the size from which a state response ends where it may; the rest follows under a continuation token.
const pageBytes = 1 << 20

// readingsMax bounds the reads of a bundle that are kept until their last page.
const readingsMax = 4

// reading is a state cell that is being read: what it held when the first page was asked for, so that what is written between two
// pages does not disturb. It belongs to a bundle.
type reading struct {
	serial uint64
	run    []byte
	cuts   []int          // where a page may end; ascending
	elem   *coder.Program // pages end after any of its elements instead, unless it is nil
}

// appendRow appends what one request has appended to a cell to the form in which rows keep it: with its length, since a page of
// elements that cannot be framed may end only there.
func appendRow(dst, data []byte) []byte { return rows.AppendBytes(dst, data) }

// takeRow appends the elements in a row to r.
func (r *reading) takeRow(row []byte) error {
	for len(row) > 0 {
		data, rest, ok := rows.TakeBytes(row)
		if !ok {
			return fmt.Errorf("a row of state is malformed")
		}
		r.take(data)
		row = rest
	}
	return nil
}

// take appends whole elements to r.
func (r *reading) take(data []byte) {
	r.run = append(r.run, data...)
	r.cuts = append(r.cuts, len(r.run))
}

// end returns where a page ends that begins at offset.
func (r *reading) end(offset int) (int, error) {
	switch {
	case len(r.run)-offset <= pageBytes:
		return len(r.run), nil
	case r.elem == nil:
		for _, cut := range r.cuts {
			if cut >= offset+pageBytes {
				return cut, nil
			}
		}
		return len(r.run), nil
	}
	at := offset
	for at < offset+pageBytes {
		n, err := elementLen(r.elem, r.run[at:])
		if err != nil {
			return 0, fmt.Errorf("stored state does not follow its coder: %w", err)
		}
		at += n
	}
	return at, nil
}

// elementLen returns the length of the first element of a run of state. One that encodes to nothing is one byte there.
// Spec: DataStreams (Java sdks/java/core).
func elementLen(elem *coder.Program, run []byte) (int, error) {
	n, err := elem.Len(run)
	return max(n, 1), err
}

// page answers a request with the first page of what load reads, or the next one of what an earlier request has read.
func (h *stateHandler) page(resp *fnpb.StateResponse, token []byte, load func(r *reading) error) error {
	r, offset, err := h.reading(token, load)
	if err != nil {
		return err
	}
	end, err := r.end(offset)
	if err != nil {
		return err
	}
	get := &fnpb.StateGetResponse{Data: r.run}
	if offset > 0 || end < len(r.run) {
		get.Data = append([]byte(nil), r.run[offset:end]...)
		h.keepReading(r, end < len(r.run))
	}
	if end < len(r.run) {
		get.ContinuationToken = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.serial), uint64(end))
	}
	resp.Response = &fnpb.StateResponse_Get{Get: get}
	return nil
}

// keepReading keeps a reading for its next page, as the last one that was used, or forgets it.
func (h *stateHandler) keepReading(r *reading, more bool) {
	h.readings = slices.DeleteFunc(h.readings, func(kept *reading) bool { return kept == r })
	if more {
		h.readings = append(h.readings, r)
	}
	if len(h.readings) > readingsMax {
		h.readings = h.readings[1:]
	}
}

// reading returns what a token stands for; of an empty one, what load reads now. A reading that is not kept any more is read again if
// nothing was written meanwhile.
func (h *stateHandler) reading(token []byte, load func(r *reading) error) (r *reading, offset int, err error) {
	if len(token) == 0 {
		r = &reading{serial: h.writes<<16 | uint64(h.reads)}
		h.reads++
		return r, 0, load(r)
	}
	if len(token) != 16 {
		return nil, 0, fmt.Errorf("the continuation token %x is not ours", token)
	}
	serial, offset := binary.BigEndian.Uint64(token), int(min(binary.BigEndian.Uint64(token[8:]), math.MaxInt))
	for _, kept := range h.readings {
		if kept.serial == serial {
			r = kept
		}
	}
	if r == nil {
		if serial>>16 != h.writes {
			return nil, 0, fmt.Errorf("state was written while more than %d large cells were being read", readingsMax)
		}
		r = &reading{serial: serial}
		if err := load(r); err != nil {
			return nil, 0, err
		}
	}
	if offset > len(r.run) {
		return nil, 0, fmt.Errorf("the continuation token %x is beyond its cell", token)
	}
	return r, offset, nil
}
