package bundle

import (
	"context"
	"sync/atomic"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/profile"
	"padstone/fnapi"
)

// aside takes the time of what goes on beside a bundle's own goroutine, for its profile. It is read when the goroutine has waited for it.
// Safe for concurrent use; nil takes no time.
type aside struct {
	clock profile.Clock
	load  span // blocks
	route span // output, with what of it was written ahead
	ahead span // what was written ahead
	state span // answers to state requests
	room  span // waits for room for output
}

// span adds up a time.
type span struct{ ns atomic.Int64 }

// take returns what there is, and forgets it.
func (s *span) take() time.Duration { return time.Duration(s.ns.Swap(0)) }

func newAside(w *profile.Watch) *aside {
	if w == nil {
		return nil
	}
	return &aside{clock: w.Clock()}
}

// now begins to take a time.
func (a *aside) now() time.Duration {
	if a == nil {
		return 0
	}
	return a.clock()
}

// add ends it.
func (a *aside) add(into func(*aside) *span, from time.Duration) {
	if a != nil {
		into(a).ns.Add(int64(a.clock() - from))
	}
}

func toLoad(a *aside) *span  { return &a.load }
func toRoute(a *aside) *span { return &a.route }
func toAhead(a *aside) *span { return &a.ahead }
func toState(a *aside) *span { return &a.state }
func toRoom(a *aside) *span  { return &a.room }

// timedState takes the time of the answers to state requests. It answers as promptly as the handler does.
type timedState struct {
	*stateHandler
	aside *aside
}

var _ fnapi.PromptState = timedState{}

// HandleState implements fnapi.StateHandler.
func (t timedState) HandleState(ctx context.Context, req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	from := t.aside.now()
	resp, err := t.stateHandler.HandleState(ctx, req)
	t.aside.add(toState, from)
	return resp, err
}

// prepared says that the time until now went into the input: blocks have been read meanwhile.
func (h *harnessBundle) prepared() {
	if h.aside != nil {
		h.watch.To(profile.Prepare)
		h.watch.Shift(profile.Prepare, profile.Load, h.aside.load.take())
	}
}

// answered says that the time until now was spent on waiting for the harness, and takes out of it what has gone on here meanwhile.
func (h *harnessBundle) answered() {
	if h.aside == nil {
		return
	}
	w, a := h.watch, h.aside
	w.To(profile.Harness)
	if h.bundle != nil {
		encoded, decoded := h.bundle.Coded()
		w.Shift(profile.Harness, profile.Encode, encoded)
		w.Shift(profile.Harness, profile.Decode, decoded)
	}
	w.Shift(profile.Harness, profile.State, a.state.take())
	w.Shift(profile.Harness, profile.Memory, a.room.take())
	w.Shift(profile.Harness, profile.Load, a.load.take())
	w.Shift(profile.Harness, profile.Route, a.route.take())
}

// routed says that the time until now went into the output.
func (h *harnessBundle) routed() {
	if h.aside != nil {
		h.watch.To(profile.Route)
		h.watch.Shift(profile.Route, profile.Commit, h.aside.ahead.take())
	}
}
