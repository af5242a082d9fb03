package bundle

import (
	"context"
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/scheduler"
)

// Attempt is the error of a bundle that failed on a harness, with what it had for user code.
type Attempt struct {
	Err   error
	Begun bool // the harness had been given it
	Items int  // elements, and timers
	// Only is the element or timer in words, if there was just one and it may be shown.
	Only string
}

// Error returns what failed.
func (a *Attempt) Error() string { return a.Err.Error() }

// Unwrap returns what failed.
func (a *Attempt) Unwrap() error { return a.Err }

// attempt says with what the bundle failed.
func (h *harnessBundle) attempt(err error) error {
	a := &Attempt{Err: err, Begun: h.bundle != nil}
	if h.sequence != nil {
		a.Items = h.sequence.count
	}
	var first []byte
	if h.sent.blocks != nil {
		items, only := h.sent.blocks.sum()
		a.Items, first = a.Items+items, only
	}
	if a.Items == 1 && (h.sequence != nil || first != nil) && !h.runner.HideElements {
		a.Only = h.only(first)
	}
	return a
}

// only words the bundle's only element, or its only timer.
func (h *harnessBundle) only(data []byte) string {
	sh := newShower(h.stage)
	if h.sequence == nil {
		return sh.element(data)
	}
	it, ok := h.sequence.only()
	if !ok {
		return ""
	}
	if it.family == nil {
		return sh.element(it.data)
	}
	var t coder.Timer
	if _, err := it.family.program.NextTimer(it.data, &t); err != nil {
		return ""
	}
	return sh.timer(it.family, &t)
}

// Probe runs a bundle without elements and timers, to see whether user code fails without any, and throws away what comes of it.
func (f *Fleet) Probe(ctx context.Context, r *Runner, start *scheduler.Start) error {
	empty := *start
	empty.Blocks, empty.Timers, empty.Limit, empty.Open = nil, false, 0, false
	link := &Link{
		Progress: func(Progress) {}, Undivided: func() {}, Moved: func(string) {},
		Divide: func(context.Context, *Division) error { return fmt.Errorf("a bundle without elements is not split") },
	}
	res, err := f.Run(ctx, r, &empty, link)
	if res != nil {
		res.Discard()
	}
	return err
}
