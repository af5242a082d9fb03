package scheduler

import (
	"padstone/engine/element"
	"padstone/engine/plan"
)

// startReplay starts the next event of a TestStream when nothing else in the job can go on: all that the event before brought about
// has happened, and been committed. Spec: beam_runner_api.proto TestStreamPayload.
func (s *Scheduler) startReplay(actions []Action) []Action {
	st := s.replay()
	if st == nil || s.busyStage() != nil {
		return actions
	}
	b := &Start{Stage: st.index, InputWatermark: st.in, OutputWatermark: st.out, Now: s.now}
	s.begin(st, b)
	return append(actions, *b)
}

// replay returns the TestStream whose script is not at its end, or nil.
func (s *Scheduler) replay() *stage {
	for _, st := range s.stages {
		if st.def.Kind == plan.TestStream && !st.done {
			return st
		}
	}
	return nil
}

// replaying says whether processing time is a script's.
func (s *Scheduler) replaying() bool { return s.replay() != nil }

// busyStage returns a stage that has not come to rest, or nil.
func (s *Scheduler) busyStage() *stage {
	for _, st := range s.stages {
		if !s.resting(st) {
			return st
		}
	}
	return nil
}

// resting says whether the stage runs nothing, and can start nothing before the script goes on. What waits for a side input rests,
// and so does what waits for its time; what waits for a free harness does not.
func (s *Scheduler) resting(st *stage) bool {
	switch {
	case st.running > 0, st.retryAt > s.now, len(st.suspects) > 0:
		return false
	case st.def.Kind == plan.Impulse, st.def.Kind == plan.Source:
		return st.done
	case st.batch && st.in < element.MaxTime:
		return true // it collects
	}
	for g := range st.queues {
		if st.keyed && s.due(st, g) {
			return false
		}
		for _, b := range st.queues[g].blocks[st.queues[g].head:] {
			if sd := s.sideBlocking(st, b); sd == nil || sd.asked(b) {
				return false
			}
			if st.keyed {
				break // the key group's other blocks wait behind this one
			}
		}
	}
	return true
}
