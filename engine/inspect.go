package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"padstone/engine/threads"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// Inspected is implemented by a HarnessPool whose processes can be asked what they are doing.
type Inspected interface {
	// Status has a process describe itself, by the id of its worker: a text of its SDK's, with a thread dump. Errors: why there is none.
	Status(ctx context.Context, worker string) (string, error)
}

// statusOf asks a process of a pool to describe itself.
func statusOf(ctx context.Context, pool HarnessPool, worker string) (string, error) {
	p, ok := pool.(Inspected)
	if !ok {
		return "", fault.New(fault.Environment, "harness-status-unavailable", "worker %s: the harness does not offer its status", worker)
	}
	return p.Status(ctx, worker)
}

// Threads implements jobserver.Inspectable.
func (l *lasting) Threads(ctx context.Context, worker string) ([]jobserver.WorkerThreads, error) {
	run, between := l.present()
	if between != nil {
		return nil, fmt.Errorf("the job stands still, and has no harnesses: %w", between)
	}
	return run.threads(ctx, worker)
}

// inspection is a process that is to describe itself.
type inspection struct {
	pool HarnessPool
	*jobserver.WorkerThreads
}

// threads asks processes for their threads, side by side, and waits for none longer than statusFor.
func (j *job) threads(ctx context.Context, worker string) ([]jobserver.WorkerThreads, error) {
	ctx, cancel := context.WithTimeout(ctx, statusFor+time.Second)
	defer cancel()
	var all []inspection
	ok, err := j.do(ctx, func() { all = j.inFlight(worker) })
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, jobOver(j)
	case worker != "" && len(all) == 0:
		return nil, fault.New(fault.Pipeline, "worker-not-found", "the job has no connected worker %.200q", worker).
			WithHint("`padstone jobs describe` lists the workers; one that was lost is listed again when it is back")
	}
	var asking sync.WaitGroup
	for _, a := range all {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, statusFor)
			defer cancel()
			var err error
			if a.Status, err = statusOf(ctx, a.pool, a.Worker); err != nil {
				a.Error = err.Error()
			}
			for i := range a.Bundles {
				b := &a.Bundles[i]
				if t, ok := threads.Of(a.Status, b.Instruction); ok {
					b.Thread, b.Stack = t.Name, t.Stack
				}
			}
		})
	}
	asking.Wait()
	out := make([]jobserver.WorkerThreads, len(all))
	for i, a := range all {
		out[i] = *a.WorkerThreads
	}
	return out, nil
}

// inFlight lists the processes of the job, or one, with the bundles that they have. On the driver.
func (j *job) inFlight(worker string) (all []inspection) {
	now := j.cfg.Stopwatch()
	bundles := make(map[string][]jobserver.ActiveBundle)
	for _, a := range j.attending {
		f := a.link.Flight.Load()
		if f == nil {
			continue
		}
		a.lull.board(f, now)
		def := j.plan.Stages[a.stage]
		b := jobserver.ActiveBundle{
			Stage: string(def.ID), Name: def.Name, Instruction: f.Instruction, Seconds: (now - a.lull.began).Seconds(),
			IdleSeconds: (now - a.lull.since).Seconds(), Open: !a.more.Closed(),
		}
		bundles[f.Worker] = append(bundles[f.Worker], b)
	}
	for _, p := range j.poolsInOrder() {
		for _, w := range p.pool.Describe() {
			if worker != "" && w.ID != worker {
				continue
			}
			of := append([]jobserver.ActiveBundle{}, bundles[w.ID]...)
			slices.SortFunc(of, func(a, b jobserver.ActiveBundle) int { return cmp.Compare(b.Seconds, a.Seconds) })
			all = append(all, inspection{p.pool, &jobserver.WorkerThreads{
				Worker: w.ID, Environment: w.Environment, Generation: w.Generation, Bundles: of,
			}})
		}
	}
	return all
}
