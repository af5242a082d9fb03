package scheduler

import (
	"fmt"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// Status is the picture of one stage.
type Status struct {
	Input, Output  element.Time
	PendingCount   int64
	PendingBytes   int64
	InFlight       int
	Waiting        string // why the stage does not progress; "" when it does or has nothing to do
	NextEvent      element.Time
	NextProcessing element.Time
}

// Status returns the picture of the stage with the index.
func (s *Scheduler) Status(index int) Status {
	st := s.stages[index]
	event, processing := st.nextTimer()
	return Status{
		Input: st.in, Output: st.out, PendingCount: st.pending.count, PendingBytes: st.pending.bytes, InFlight: st.running,
		Waiting: s.waiting(st), NextEvent: event, NextProcessing: processing,
	}
}

// Input returns the input watermark of the stage with the index.
func (s *Scheduler) Input(index int) element.Time { return s.stages[index].in }

// waiting says in words why a stage with work does not run, or what holds its watermark.
func (s *Scheduler) waiting(st *stage) string {
	if st.running > 0 || st.idle() {
		return ""
	}
	if st.def.Kind == plan.TestStream {
		if busy := s.busyStage(); busy != nil {
			return fmt.Sprintf("its next event waits until %q has come to rest", busy.def.Name)
		}
		return ""
	}
	if text := s.suspected(st); text != "" {
		return text
	}
	if st.retryAt > s.now {
		return fmt.Sprintf("waits until %v before the failed bundle runs again", st.retryAt)
	}
	if c := s.backPressure(st); c != nil {
		return fmt.Sprintf("back-pressure: %q has %d bytes waiting", c.def.Name, c.pending.bytes)
	}
	if s.anyDue(st) {
		if st.def.Kind == plan.Harness && s.envs[st.def.Env] == nil {
			return fmt.Sprintf("timers that are due wait for a harness of environment %q", st.def.Env)
		}
		return "timers that are due wait for their turn"
	}
	for g := range st.queues {
		if st.queues[g].len() == 0 {
			continue
		}
		if sd := s.sideBlocking(st, st.queues[g].first()); sd != nil {
			return fmt.Sprintf("waits for side input %q of %q, whose watermark is %v", sd.def.Local, sd.def.Transform, sd.watermark())
		}
		if st.def.Env != "" && s.envs[st.def.Env] == nil {
			return fmt.Sprintf("waits for a harness of environment %q", st.def.Env)
		}
		if st.batch && st.in < element.MaxTime {
			return "collects its bounded input"
		}
	}
	if len(st.delayed) > 0 {
		return fmt.Sprintf("%d restrictions wait until %v", len(st.delayed), st.delayed[0].AvailableAt)
	}
	if hold := st.holds.Min(); hold < element.MaxTime && hold < st.in {
		return fmt.Sprintf("its output watermark is held at %v by timers or unfired panes", hold)
	}
	return ""
}

// anyDue says whether the stage has a timer to fire.
func (s *Scheduler) anyDue(st *stage) bool {
	for g := range st.timers {
		if s.due(st, g) {
			return true
		}
	}
	return false
}

// suspected says in words that inputs wait to run again.
func (s *Scheduler) suspected(st *stage) string {
	for _, sp := range st.suspects {
		if t := sp.totals(); sp.retryAt > s.now {
			return fmt.Sprintf("waits until %v before the next %d items of a bundle run again, which failed %d times and lost their harness "+
				"%d times", sp.retryAt, sp.limit(), t.raised+t.wrong, t.losses)
		}
	}
	return ""
}

// Bundles returns how many bundles are in flight.
func (s *Scheduler) Bundles() int { return len(s.bundles) }

// Splittable says whether a bundle in flight processes restrictions, which a drain has to checkpoint.
func (s *Scheduler) Splittable(b BundleID) bool {
	start := s.bundles[b]
	return start != nil && s.stages[start.Stage].def.Splittable != nil
}
