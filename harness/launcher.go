package harness

import (
	"context"
	"time"

	"padstone/fnapi"
)

// launcher starts harnesses of one environment.
type launcher interface {
	// reachedBy is the endpoint that the harnesses reach the Fn API server by.
	reachedBy() string
	// launch starts the worker's harness and returns without waiting for it to connect.
	launch(ctx context.Context, w *fnapi.Worker) (launched, error)
	// respawns says whether a harness that is lost may come back by itself under its id.
	respawns() bool
	// manyPrograms says that each launch starts a program of its own.
	manyPrograms() bool
	// close frees what launches have shared.
	close() error
}

// launched is a harness that was started.
type launched interface {
	// exited is closed when the harness is known to have ended; nil when that cannot be known.
	exited() <-chan struct{}
	// broken gets why the harness will not connect, when that is known before it ends; nil when it never is.
	broken() <-chan error
	// outcome words how it ended; only valid after exited.
	outcome() string
	// ended words how it was lost; it waits for its end until ctx ends.
	ended(ctx context.Context) string
	// stop ends the harness and waits for its end, at once when hurry is closed. The worker's control stream was closed before.
	stop(hurry <-chan struct{})
}

// metered is a launched harness of which can be said what it uses.
type metered interface {
	// usage is what the harness uses now, with all that it has started; false when that cannot be known.
	usage(ctx context.Context) (Usage, bool)
}

// Usage is what a harness uses.
type Usage struct {
	CPU    time.Duration // since it began
	Memory int64         // bytes that are resident
}
