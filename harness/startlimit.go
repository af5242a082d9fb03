package harness

import (
	"context"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// limitStart bounds a start by Config.StartTimeout from its beginning or the last sign of life: a line that the harness has printed since,
// as boot programs do that install packages for minutes, or that it is at work, where that can be seen: on a machine that has much to do
// imports alone may take so long. One that hangs does neither. The cause of the end is a fault.
func (s *slot) limitStart(ctx context.Context) (context.Context, context.CancelFunc) {
	cfg := &s.pool.manager.cfg
	limited, end := context.WithCancelCause(ctx)
	begun := time.Now()
	s.heard.Store(begun.UnixNano())
	s.pool.starting.Add(1)
	s.pool.running.Go(func() { // the supervisor runs, so nobody waits for the last of them yet
		defer s.pool.starting.Add(-1)
		worked := s.processorTime(limited)
		for wait := cfg.StartTimeout; ; {
			timer := time.NewTimer(wait)
			select {
			case <-limited.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if works := s.processorTime(limited); works > 0 {
				if works-worked >= cfg.StartTimeout/1000 { // one that hangs, or dials in vain, uses less
					s.heard.Store(time.Now().UnixNano())
				}
				s.pool.log.Info("harness is still starting", zap.String("worker", string(s.worker.ID())),
					zap.Duration("for", time.Since(begun)), zap.Duration("processor", works), zap.Duration("of it since the last look", works-worked))
				worked = works
			}
			if wait = time.Until(time.Unix(0, s.heard.Load()).Add(cfg.StartTimeout)); wait <= 0 || time.Since(begun) >= cfg.StartTimeoutMax {
				end(s.late(time.Since(begun)))
				return
			}
			wait = min(wait, cfg.StartTimeoutMax-time.Since(begun))
		}
	})
	return limited, func() { end(nil) }
}

// processorTime is what the harness that starts has used; 0 when that is not known.
func (s *slot) processorTime(ctx context.Context) time.Duration {
	run := s.coming.Load()
	if run == nil {
		return 0
	}
	var groups groups
	u, _ := measure(ctx, run.launched, &groups)
	return u.CPU
}

// late is the fault of a harness that has not connected in time.
func (s *slot) late(after time.Duration) error {
	nor := ""
	if s.pool.target.docker != nil && !s.worker.Provisioned() {
		nor = ", nor did it reach the server at " + s.worker.Endpoint()
	}
	if s.pool.target.external != nil && !s.worker.Provisioned() {
		return fault.New(fault.Environment, codeTimeout, "%s was asked for a worker, which did not connect to the server at %s within %s",
			s.pool.describe(), s.worker.Endpoint(), after.Round(100*time.Millisecond)).
			WithHint("see the pool's own log, and whether its workers reach that address: --worker-endpoint and --advertised-worker-host " +
				"of `padstone serve` say what it is")
	}
	return fault.New(fault.Environment, codeTimeout, "%s did not connect within %s%s",
		s.pool.describe(), after.Round(100*time.Millisecond), nor).
		WithHint("see the harness's log lines; until it is there it must be at work, or print or log something, every %s",
			s.pool.manager.cfg.StartTimeout)
}

// hear notes that a harness that starts has logged or printed something.
func (p *Pool) hear(id fnapi.WorkerID) {
	if p.starting.Load() == 0 {
		return
	}
	if s := p.slotOf(id); s != nil {
		s.heard.Store(time.Now().UnixNano())
	}
}
