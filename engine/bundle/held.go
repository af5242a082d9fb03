package bundle

import (
	"context"

	"padstone/internal/memory"
)

// held is what a bundle holds of a pool. Not for concurrent use; nil takes what it likes.
type held struct {
	pool  *memory.Pool
	bytes int64
}

// try takes bytes if they are there.
func (h *held) try(n int) bool {
	if h == nil {
		return true
	}
	if !h.pool.Try(n) {
		return false
	}
	h.bytes += int64(n)
	return true
}

// await waits for bytes, but not for ever: then it goes without.
func (h *held) await(ctx context.Context, n int) error {
	taken, err := h.pool.TakeWithin(ctx, n, patience)
	h.bytes += taken
	return err
}

// release gives everything back.
func (h *held) release() {
	if h.bytes > 0 {
		h.pool.Give(h.bytes)
		h.bytes = 0
	}
}
