package harness

import (
	"context"

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
