package engine

import (
	"sync"
	"time"

	"padstone/engine/profile"
)

// effects runs, in order, what must wait until a commit is durable: finalisation of bundles, commits of source positions. The
// driver adds; one goroutine waits and runs.
type effects struct {
	job *job
	mu  struct {
		sync.Mutex
		queue []effect
		busy  bool
		waits map[int]profile.Waits // until commits were durable, by stage
	}
	wake chan struct{} // 1-buffered
}

type effect struct {
	stage int
	since time.Duration
	seq   uint64
	run   func()
}

func newEffects(j *job) *effects {
	e := &effects{job: j, wake: make(chan struct{}, 1)}
	e.mu.waits = make(map[int]profile.Waits)
	return e
}

// after runs fn once the commit of a bundle of the stage is durable, unless the job ends before.
func (e *effects) after(stage int, seq uint64, fn func()) {
	e.mu.Lock()
	e.mu.queue = append(e.mu.queue, effect{stage: stage, since: e.job.cfg.Stopwatch(), seq: seq, run: fn})
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
			e.waited(next)
			next.run()
		}
		e.mu.Lock()
		e.mu.busy = false
		e.mu.Unlock()
		e.job.post(e.job.settle)
	}
}

// waited counts how long an effect had to wait.
func (e *effects) waited(done effect) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.mu.waits[done.stage]
	w.Add(e.job.cfg.Stopwatch() - done.since)
	e.mu.waits[done.stage] = w
}

// waits is how long effects of a stage have waited. A job that ends before it begins has none.
func (e *effects) waits(stage int) profile.Waits {
	if e == nil {
		return profile.Waits{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mu.waits[stage]
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
