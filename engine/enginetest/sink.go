package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"padstone/connector"
	"padstone/engine/coder"
	"padstone/engine/plan"
)

// Sink is a sink in memory.
type Sink struct {
	// OnPublish may fail a call; n counts calls from 0. It is called before anything is taken, without locks. May be nil.
	OnPublish func(n int) error
	// Marked makes it keep a mark of how far it has come, as Kafka's does: nothing is taken twice.
	Marked bool

	mu struct {
		sync.Mutex
		calls  int
		marks  []mark // after each call that was taken
		texts  []string
		values [][]byte
		more   chan struct{} // closed and replaced when texts grows
	}
}

// mark is how far a Marked sink has come.
type mark struct {
	seq   uint64 // of the outbox
	texts int    // that were there then
}

// Texts returns everything that was published, in order, as Show prints it; elements in an interval window end in "@" and the
// window's end in milliseconds.
func (s *Sink) Texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.texts)
}

// Distinct returns what was published, sorted, each text once: an interrupted job may publish again what it was not yet sure of.
func (s *Sink) Distinct() []string {
	texts := s.Texts()
	slices.Sort(texts)
	return slices.Compact(texts)
}

// Reset replaces what was published: when a crash is simulated by going back to an earlier picture of the disk, the outside is put
// back to what it had seen then, its mark included.
func (s *Sink) Reset(texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.texts = slices.Clone(texts)
	s.mu.marks = slices.DeleteFunc(s.mu.marks, func(m mark) bool { return m.texts > len(texts) })
}

// Freeze calls fn while nothing can be published, with all that was.
func (s *Sink) Freeze(fn func(texts []string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(slices.Clone(s.mu.texts))
}

// Await waits until cond holds of what was published.
func (s *Sink) Await(ctx context.Context, cond func(texts []string) bool) error {
	for {
		s.mu.Lock()
		ok := cond(s.mu.texts)
		if s.mu.more == nil {
			s.mu.more = make(chan struct{})
		}
		more := s.mu.more
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("the sink has not taken what was awaited, but %q: %w", s.Texts(), ctx.Err())
		}
	}
}

type sinks struct{ natives *Natives }

func (s sinks) find(config []byte) (*Sink, nativeConfig, error) {
	var c nativeConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, c, err
	}
	s.natives.mu.Lock()
	defer s.natives.mu.Unlock()
	if sink := s.natives.sinks[c.Name]; sink != nil {
		return sink, c, nil
	}
	return nil, c, fmt.Errorf("no sink %q", c.Name)
}

func (s sinks) Validate(config []byte) error {
	_, _, err := s.find(config)
	return err
}

// Marks implements connector.Marker.
func (s sinks) Marks(config []byte) bool {
	sink, _, err := s.find(config)
	return err == nil && sink.Marked
}

func (s sinks) Open(_ context.Context, config []byte, _ connector.Identity) (connector.Writer, uint64, error) {
	sink, c, err := s.find(config)
	if err != nil {
		return nil, 0, err
	}
	shape := parseShape(c.Coder)
	program, err := coder.Compile(shape.program())
	if err != nil {
		return nil, 0, err
	}
	w := &writer{sink: sink, shape: shape, scanner: coder.NewScanner(program, plan.WindowCoding(c.Windows))}
	return w, sink.written(), nil
}

type writer struct {
	sink    *Sink
	shape   shape
	scanner *coder.Scanner
}

// written is the mark, 0 when there is none.
func (s *Sink) written() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.mu.marks); n > 0 {
		return s.mu.marks[n-1].seq
	}
	return 0
}

func (w *writer) Publish(_ context.Context, blocks []connector.OutboxBlock) error {
	s := w.sink
	s.mu.Lock()
	n := s.mu.calls
	s.mu.calls++
	s.mu.Unlock()
	if s.OnPublish != nil {
		if err := s.OnPublish(n); err != nil {
			return err
		}
	}
	var texts []string
	upTo := s.written()
	for _, out := range blocks {
		if out.Seq <= upTo {
			continue
		}
		upTo = out.Seq
		b := out.Block
		count := 0
		err := w.scanner.Scan(b.Data, func(e *coder.Elem) error {
			count++
			text, _, err := w.shape.show(e.Value)
			if len(e.Windows) > 0 {
				text += fmt.Sprintf("@%d", WindowEnd(e.Windows))
			}
			texts = append(texts, text)
			return err
		})
		if err != nil {
			return err
		}
		if count != b.Count {
			return errors.New("a block's count is not that of its elements")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.texts = append(s.mu.texts, texts...)
	if s.Marked {
		s.mu.marks = append(s.mu.marks, mark{upTo, len(s.mu.texts)})
	}
	if s.mu.more != nil {
		close(s.mu.more)
		s.mu.more = nil
	}
	return nil
}

func (w *writer) Close() error { return nil }
