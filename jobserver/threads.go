package jobserver

import (
	"context"

	"padstone/internal/fault"
)

// Inspectable is implemented by a Running whose harness processes can be asked what they are doing.
type Inspectable interface {
	// Threads asks the processes of the job, or the one of a worker's id, what their threads are doing. It waits for none of them for
	// long: what does not answer says so.
	Threads(ctx context.Context, worker string) ([]WorkerThreads, error)
}

// WorkerThreads is what a harness process is doing.
type WorkerThreads struct {
	Worker      string         `json:"worker"`
	Environment string         `json:"environment"`
	Generation  int            `json:"generation"`
	Bundles     []ActiveBundle `json:"bundles"` // that it has, as the runner knows; the one that has run longest first
	// Status is the harness's own description, as its SDK words it, with a dump of all its threads.
	Status string `json:"status,omitempty"`
	// Error says why there is none, in words.
	Error string `json:"error,omitempty"`
}

// ActiveBundle is a bundle on a harness.
type ActiveBundle struct {
	Stage       string  `json:"stage"`
	Name        string  `json:"name"` // of the stage, the user's
	Instruction string  `json:"instruction"`
	Seconds     float64 `json:"seconds"` // since the harness got it
	// IdleSeconds is for how long it has not been known to begin another element, or to put one out.
	IdleSeconds float64 `json:"idle_seconds"`
	Open        bool    `json:"open"`             // it may get more elements, and may just be waiting for them
	Thread      string  `json:"thread,omitempty"` // that processes it, where the harness says so
	Stack       string  `json:"stack,omitempty"`
}

// Threads returns what the harness processes of a running job are doing, or the one of a worker's id. Errors: job-not-found, job-over,
// threads-unsupported, worker-not-found.
func (s *Server) Threads(ctx context.Context, id, worker string) ([]WorkerThreads, error) {
	running, err := s.present(ctx, id)
	if err != nil {
		return nil, err
	}
	i, ok := running.(Inspectable)
	if !ok {
		return nil, fault.New(fault.Pipeline, "threads-unsupported", "what runs the jobs of this server cannot ask harnesses for their threads")
	}
	return i.Threads(ctx, worker)
}
