package sim

import (
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// wishes is what has been asked of the job, and what it has promised. Guarded by sim.mu.
type wishes struct {
	drain, cancel, stop bool // asked for, whatever came of it
	// The answer has come: from the next life on the job has to be at it.
	drains, cancels int      // the life that has answered; -1: none
	checkpoints     []string // the ids that answers named
}

// ask does what the plan has for this step that goes to the job itself.
func (s *sim) ask(l *life) {
	running := l.running.Load()
	for _, k := range []Kind{Checkpoint, Stop, Drain, Cancel} {
		for _, f := range s.due(k, s.steps) {
			if running == nil { // nobody is there to be asked
				s.later(f, 10)
				continue
			}
			s.hit(k)
			s.note("asked: %s", k)
			go s.request(l, *running, k)
		}
	}
}

// request asks, waits for the answer and keeps it, if its server is still there to give it.
func (s *sim) request(l *life, r jobserver.Running, k Kind) {
	ctx := l.ctx
	var err error
	var taken *jobserver.Checkpoint
	s.mu.Lock()
	w := &s.mu.wishes
	switch k {
	case Drain:
		w.drain = true
	case Cancel:
		w.cancel = true
	case Stop:
		w.stop = true
	}
	s.mu.Unlock()
	switch k {
	case Drain:
		err = r.Drain(ctx)
	case Cancel:
		err = r.Cancel(ctx)
	case Stop:
		if c, ok := r.(jobserver.Checkpointing); ok {
			taken, err = c.Stop(ctx, "")
		}
	default:
		if c, ok := r.(jobserver.Checkpointing); ok {
			taken, err = c.Checkpoint(ctx, jobserver.CheckpointRequest{})
		}
	}
	if l.dead.Load() {
		return
	}
	if err != nil {
		s.note("%s is refused: %s", k, codeOf(err))
		if !s.mayRefuse(l, k, err) {
			s.wrong("%s: %v", k, err)
		}
		return
	}
	s.note("answered: %s", k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if k == Drain && w.drains < 0 {
		w.drains = l.n
	}
	if k == Cancel && w.cancels < 0 {
		w.cancels = l.n
	}
	if taken != nil {
		w.checkpoints = append(w.checkpoints, taken.ID)
	}
}

func codeOf(err error) string {
	if f := fault.Of(err); f != nil {
		return string(f.Code)
	}
	return "no code"
}

// mayRefuse says whether something has happened because of which the job may refuse.
func (s *sim) mayRefuse(l *life, k Kind, err error) bool {
	switch {
	case l.ctx.Err() != nil, codeOf(err) == "job-over":
		return true
	case store.Failed(err) || s.hasHit(DiskFull, DiskBroken):
		return true
	case k == Checkpoint || k == Stop:
		return s.hasHit(BucketDown, BucketUnknown, Suspend)
	}
	return s.hasHit(Suspend)
}
