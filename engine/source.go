package engine

import (
	"sync"
	"time"

	"padstone/connector"
	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/internal/fault"
)

// source is the reader of a Source stage.
type source struct {
	mu        sync.Mutex       // the bundle opens it, others describe it
	reader    connector.Reader // nil before it is opened, and after it has failed
	opened    bool             // at least once
	watermark element.Time

	// Of the driver: how fast it reads.
	pace      float64       // elements a second
	lookedAt  time.Duration // when that was last looked at
	lookedOut int64         // what it had read by then
}

// behind is how many records there are that it has yet to read, as far as it knows.
func (s *source) behind() (n int64) {
	s.mu.Lock()
	reader := s.reader
	s.mu.Unlock()
	if reader == nil {
		return 0
	}
	for _, split := range reader.Describe() {
		if split.End > split.Position {
			n += split.End - split.Position
		}
	}
	return n
}

// current returns the reader, or nil.
func (s *source) current() connector.Reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reader
}

func (s *source) wasOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// runSource polls a native source, opening it first. A reader that has failed may have lost what it had fetched: another takes its
// place, at the positions that are committed.
func (j *job) runSource(start *scheduler.Start, w *profile.Watch) (*bundle.Result, error) {
	src := j.sources[start.Stage]
	src.mu.Lock()
	reader, last := src.reader, src.watermark
	src.mu.Unlock()
	if reader == nil {
		var err error
		if reader, err = j.openSource(start.Stage); err != nil {
			return nil, err
		}
		src.mu.Lock()
		src.reader, src.opened = reader, true
		src.mu.Unlock()
	}
	w.To(profile.Process)
	res, err := j.runner.Source(j.ctx, start, reader, last, w)
	if err != nil {
		src.mu.Lock()
		src.reader = nil
		src.mu.Unlock()
		j.warn(reader.Close(), "closing a source that has failed")
	}
	return res, err
}

// openSource opens a native source at the positions of its last commit.
func (j *job) openSource(stage int) (connector.Reader, error) {
	def := j.plan.Stages[stage]
	s, ok := j.cfg.Natives.Source(connector.URN(def.Native.URN))
	if !ok {
		return nil, fault.New(fault.Internal, "bad-plan", "no native source %q", def.Native.URN).In(def.Name)
	}
	// A reader takes the positions that it gets for durable ones, and tells others so.
	if err := j.store.WaitDurable(j.ctx, j.store.Applied()); err != nil {
		return nil, err
	}
	entries, err := j.store.Positions(uint32(stage))
	if err != nil {
		return nil, err
	}
	var at []connector.Position
	for _, e := range entries {
		at = append(at, connector.Position{Split: e.Name, State: e.Value})
	}
	return s.Open(j.ctx, def.Native.Config, at)
}
