package harness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
)

// loss is why the last generation of a worker was lost.
type loss struct {
	mu         sync.Mutex
	generation int
	why        string
	changed    chan struct{} // closed when it is known of another one
}

// set makes it known why a generation was lost.
func (l *loss) set(generation int, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation, l.why = generation, why
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// known says that it was found out already. A boot program that gives up its worker ends later than that.
func (l *loss) known(generation int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation >= generation
}

// wait waits until it is known, or ctx ends.
func (l *loss) wait(ctx context.Context, generation int) string {
	for {
		l.mu.Lock()
		if l.generation >= generation {
			defer l.mu.Unlock()
			if l.generation > generation {
				return ""
			}
			return l.why
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ""
		}
	}
}

// Loss says why a generation of a worker was lost: how its process ended, and what it has logged last. It waits until that is known, three
// times Config.LossWait at most; "" when nothing is.
func (p *Pool) Loss(ctx context.Context, id fnapi.WorkerID, generation int) string {
	ctx, cancel := context.WithTimeout(ctx, 3*p.manager.cfg.LossWait)
	defer cancel()
	if s := p.slotOf(id); s != nil {
		return s.loss.wait(ctx, generation)
	}
	return ""
}

// slotOf returns the slot of a worker; nil when its supervisor has ended.
func (p *Pool) slotOf(id fnapi.WorkerID) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.mu.slots {
		if s.worker.ID() == id {
			return s
		}
	}
	return nil
}

// lost finds out why the harness was lost and makes it known.
func (s *slot) lost(ctx context.Context, run launched, generation int) {
	const linesMax = 5
	ctx, cancel := context.WithTimeout(ctx, s.pool.manager.cfg.LossWait)
	defer cancel()
	idle, again, why := s.isIdle(), s.loss.known(generation), s.hung()
	hung := why != ""
	if !hung {
		why = run.ended(ctx)
	}
	if lines := tail(s.pool.LastLogs(), linesMax); len(lines) > 0 {
		why += "; last log lines of the harness:\n  " + strings.Join(lines, "\n  ")
	}
	s.loss.set(generation, why)
	s.pool.log.Warn("harness lost", zap.String("worker", string(s.worker.ID())), zap.String("why", why))
	if idle && !again && !hung && ctx.Err() != context.Canceled {
		s.pool.tellIdle(s.worker.ID(), why)
	}
}

// isIdle says that nobody holds the harness: no bundle fails with it, whose message would say why it was lost.
func (s *slot) isIdle() bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.users == 0
}

// idleLosses are the losses of harnesses that nobody held.
type idleLosses struct {
	sync.Mutex
	told   time.Time // when the pool's user heard of one last
	untold int       // since then
}

// toldEvery is how often the pool's user hears of such losses.
const toldEvery = 10 * time.Second

// tellIdle has the pool's user hear that a harness was lost which nobody held: of the first one, and not too often of others.
func (p *Pool) tellIdle(id fnapi.WorkerID, why string) {
	l := &p.idle
	l.Lock()
	defer l.Unlock()
	if time.Since(l.told) < toldEvery {
		l.untold++
		return
	}
	more := ""
	if l.untold > 0 {
		more = fmt.Sprintf(" (and %d times since the last message)", l.untold)
	}
	l.told, l.untold = time.Now(), 0
	p.tell(id, fmt.Sprintf("harness %s was lost%s while it had nothing to do, and is started again: %s", id, more, why))
}

// megabytes words a number of bytes.
func megabytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
