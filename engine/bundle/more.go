package bundle

import (
	"context"
	"errors"
	"slices"
	"sync"

	"padstone/engine/profile"
	"padstone/engine/scheduler"
)

// More is what comes to a bundle that is kept open, until it is closed. Safe for concurrent use; nil is closed.
type More struct {
	news chan struct{} // 1-buffered
	mu   struct {
		sync.Mutex
		queue  []scheduler.Extend
		closed bool
	}
}

// NewMore returns an open one.
func NewMore() *More { return &More{news: make(chan struct{}, 1)} }

// Extend gives the bundle more. What comes to a bundle that has failed is dropped: it was given back with the rest.
func (m *More) Extend(x scheduler.Extend) {
	m.mu.Lock()
	m.mu.queue = append(m.mu.queue, x)
	m.mu.Unlock()
	m.tell()
}

// Close says that nothing more comes. Idempotent.
func (m *More) Close() {
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	m.tell()
}

// Closed says whether the bundle has got all of its input.
func (m *More) Closed() bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.closed
}

func (m *More) tell() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// take returns what has come, and whether that is all.
func (m *More) take() (all []scheduler.Extend, closed bool) {
	if m == nil {
		return nil, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all, m.mu.queue = m.mu.queue, nil
	return all, m.mu.closed
}

// errOver says that an open bundle has come to its end by itself.
var errOver = errors.New("the bundle is over")

// more waits until something has come to an open bundle and is part of it; false when it is closed.
func (h *harnessBundle) more(ctx context.Context) (bool, error) {
	for {
		closed, err := h.absorb(ctx)
		switch {
		case err != nil:
			return false, err
		case h.sent.blocks.left(): // it may have been for a split that more was taken in
			return true, nil
		case closed:
			return false, nil
		case h.over():
			return false, errOver
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		}
		h.starved = true
		h.clock.pause()
		h.prepared()
		select {
		case <-h.link.More.news:
		case <-h.bundle.Done():
		case <-ctx.Done():
		}
		h.watch.To(profile.Fill)
		h.clock.resume()
	}
}

// absorb makes what has come a part of the bundle, and says whether that is all.
func (h *harnessBundle) absorb(ctx context.Context) (closed bool, err error) {
	h.growing.Lock()
	defer h.growing.Unlock()
	all, closed := h.link.More.take()
	for _, x := range all {
		if h.reads() {
			if err := h.inputs.await(ctx, bytesOf(x.Blocks)); err != nil {
				return closed, err
			}
		}
		if err := h.grow(x); err != nil {
			return closed, err
		}
	}
	return closed, nil
}

// grow takes blocks in. Rows are read and written meanwhile, for the harness.
func (h *harnessBundle) grow(x scheduler.Extend) error {
	h.state.mu.Lock()
	defer h.state.mu.Unlock()
	if h.state.mu.closed {
		return errOver
	}
	h.watermark = max(h.watermark, x.InputWatermark)
	if h.txs != nil {
		h.txs.own(x.Groups)
	}
	h.groups = append(slices.Clip(h.groups), x.Groups...)
	for _, b := range x.Blocks {
		if err := h.include(b, b.Count); err != nil {
			return err
		}
	}
	return nil
}
