package engine

import (
	"sync"
)

// effects runs, in order, what must wait until a commit is durable: finalisation of bundles, commits of source positions. The
// driver adds; one goroutine waits and runs.
type effects struct {
	job *job
	mu  struct {
		sync.Mutex
		queue []effect
		busy  bool
	}
	wake chan struct{} // 1-buffered
}

type effect struct {
	seq uint64
	run func()
}

func newEffects(j *job) *effects { return &effects{job: j, wake: make(chan struct{}, 1)} }

// after runs fn once the commit is durable, unless the job ends before.
func (e *effects) after(seq uint64, fn func()) {
	e.mu.Lock()
	e.mu.queue = append(e.mu.queue, effect{seq: seq, run: fn})
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// pending says whether something waits or runs.
func (e *effects) pending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.busy || len(e.mu.queue) > 0
}

func (e *effects) run() {
	for {
		select {
		case <-e.wake:
		case <-e.job.ctx.Done():
			return
		}
		for _, next := range e.take() {
			if e.job.store.WaitDurable(e.job.ctx, next.seq) != nil {
				return // the job is ending: an error of the store has reached it by its own way
			}
			next.run()
		}
		e.mu.Lock()
		e.mu.busy = false
		e.mu.Unlock()
		e.job.post(e.job.settle)
	}
}

func (e *effects) take() []effect {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.mu.queue
	e.mu.queue, e.mu.busy = nil, true
	return q
}

// settle goes on with what waits until all effects have happened: the next event of a TestStream, or the end of the job.
func (j *job) settle() {
	if j.over || j.running > 0 || j.effects.pending() {
		return
	}
	for _, p := range j.sinks {
		if p.pending() {
			return
		}
	}
	if j.replay != nil && j.replay.held != nil {
		start := j.replay.held
		j.replay.held = nil
		j.startBundle(start)
		return
	}
	if !j.sched.Done() {
		return
	}
	if j.ending {
		return
	}
	j.ending = true
	last := j.store.Applied()
	j.tasks.Go(func() { // not here: a disk that hangs must not keep the driver from answering
		if err := j.store.WaitDurable(j.ctx, last); err != nil {
			j.post(func() { j.end(err) })
			return
		}
		j.post(func() { j.end(nil) })
	})
}
