package bundle

import (
	"encoding/binary"
	"math"
	"strings"

	"padstone/engine/coder"
)

// piecesAim is into how many blocks of about the same work a message of restrictions is cut, if it holds so many: enough to share out
// between processes, and few enough that a hundred thousand small restrictions do not become as many rows. There are never more than
// three times as many.
const piecesAim = 64

// sizeBytes is the length of the size at the end of KV<KV<element, restriction>, double>.
const sizeBytes = 8

// hasSizes says whether elements of the framing program end in the size of a restriction.
func hasSizes(program string) bool {
	return strings.HasSuffix(strings.TrimRight(program, ")"), "fixed(8")
}

// sizeOf returns the size of an encoded restriction of the edge; 0 when it has none that makes sense. It bounds sizes so that sums of
// them stay finite.
func (e *edge) sizeOf(raw []byte) float64 {
	const sizeMax = 1e200
	if !e.sized || len(raw) < sizeBytes {
		return 0
	}
	size := math.Float64frombits(binary.BigEndian.Uint64(raw[len(raw)-sizeBytes:]))
	if !(size > 0) { // not a number, too
		return 0
	}
	return min(size, sizeMax)
}

// sizes returns the sum of the sizes of encoded restrictions, which have been framed already.
func (e *edge) sizes(data []byte) (sum float64) {
	if !e.sized {
		return 0
	}
	_ = e.scanner.Scan(data, func(el *coder.Elem) error { sum += e.sizeOf(el.Raw); return nil })
	return sum
}

// restrictions cuts a message of restrictions into blocks, so that bundles and processes can share them: small ones stay together,
// large ones stand alone.
func (r *router) restrictions(e *edge, data []byte) (int, error) {
	count, total := 0, 0.0
	err := e.scanner.Scan(data, func(el *coder.Elem) error {
		count++
		total += e.sizeOf(el.Raw)
		return nil
	})
	if err != nil {
		return 0, err
	}
	c := cutter{router: r, edge: e, data: data, countMax: (count + piecesAim - 1) / piecesAim, sizeMax: total / piecesAim}
	return c.cut()
}
