package store

import (
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// concatenate joins what was appended to a row, oldest first, as pebble's default merger does. That one copies all it has for every
// older operand: a row of ten thousand appends that are still in memory would cost five thousand times its size to read.
var concatenate = &pebble.Merger{
	Name: "padstone.concatenate",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		c := &concatenation{}
		return c, c.MergeNewer(value)
	},
}

// concatenation grows at both ends: what is in use is buf[from:].
type concatenation struct {
	buf  []byte
	from int
}

// MergeNewer appends an operand.
func (c *concatenation) MergeNewer(value []byte) error {
	c.buf = append(c.buf, value...)
	return nil
}

// MergeOlder prepends one.
func (c *concatenation) MergeOlder(value []byte) error {
	if len(value) > c.from {
		used := len(c.buf) - c.from
		room := used + len(value)
		grown := make([]byte, room+used)
		copy(grown[room:], c.buf[c.from:])
		c.buf, c.from = grown, room
	}
	c.from -= copy(c.buf[c.from-len(value):c.from], value)
	return nil
}

// Finish returns all operands in order.
func (c *concatenation) Finish(bool) ([]byte, io.Closer, error) { return c.buf[c.from:], nil, nil }
