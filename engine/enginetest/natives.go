package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"padstone/connector"
	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// URNs of the native transforms.
const (
	SourceURN = "enginetest:transform:read:v1"
	SinkURN   = "enginetest:transform:write:v1"
)

// Natives is the registry of sources and sinks. Safe for concurrent use.
type Natives struct {
	mu      sync.Mutex
	sources map[string]*Source
	sinks   map[string]*Sink
}

func newNatives() *Natives { return &Natives{sources: map[string]*Source{}, sinks: map[string]*Sink{}} }

func (n *Natives) source(name string, s *Source) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := fmt.Sprintf("%s-%d", name, len(n.sources))
	n.sources[id] = s
	return id
}

func (n *Natives) sink(name string, s *Sink) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := fmt.Sprintf("%s-%d", name, len(n.sinks))
	n.sinks[id] = s
	return id
}

// Source implements connector.Registry.
func (n *Natives) Source(urn connector.URN) (connector.Source, bool) {
	return sources{n}, urn == SourceURN
}

// Sink implements connector.Registry.
func (n *Natives) Sink(urn connector.URN) (connector.Sink, bool) { return sinks{n}, urn == SinkURN }

// Element is an element of a source.
type Element struct {
	At    element.Time
	Value []byte // encoded with the coder that Read names
}

// At makes elements of one time.
func At(t element.Time, values ...[]byte) []Element {
	out := make([]Element, len(values))
	for i, v := range values {
		out[i] = Element{t, v}
	}
	return out
}

// Batch is what one poll of a source returns.
type Batch struct {
	Elements  []Element
	Watermark element.Time    // after it; 0 leaves it where it is
	Gate      <-chan struct{} // the batch does not come before it is closed; nil: at once
}

// Source is a source in memory with a script. Its position is the number of batches that were read, so that it resumes exactly.
type Source struct {
	Batches   []Batch
	Unbounded bool   // after the script nothing comes, but it goes on
	Ends      bool   // an unbounded one that ends after its script all the same
	Split     string // names its only split
	// OnOpen and OnPoll inject errors; n counts calls from 0. May be nil.
	OnOpen func(ctx context.Context, n int) error
	OnPoll func(ctx context.Context, n int) error

	mu struct {
		sync.Mutex
		opens, polls int
		durable      int // batches that the engine has called durable
	}
}

// Durable is the number of batches that the engine has called durable.
func (s *Source) Durable() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.durable
}

// Rewind sets what the engine has called durable back to what it was when a crash is simulated.
func (s *Source) Rewind(durable int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.durable = durable
}

// Rewind has all sources forget what the engine has called durable, as if the checkpoint of a job is older than that.
func (n *Natives) Rewind() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sources {
		s.Rewind(0)
	}
}

type sources struct{ natives *Natives }

func (s sources) Validate(config []byte) error {
	_, err := s.find(config)
	return err
}

func (s sources) find(config []byte) (*Source, error) {
	var c nativeConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	s.natives.mu.Lock()
	defer s.natives.mu.Unlock()
	if src := s.natives.sources[c.Name]; src != nil {
		return src, nil
	}
	return nil, fmt.Errorf("no source %q", c.Name)
}

func (s sources) Open(ctx context.Context, config []byte, state []connector.Position) (connector.Reader, error) {
	src, err := s.find(config)
	if err != nil {
		return nil, err
	}
	src.mu.Lock()
	n := src.mu.opens
	src.mu.opens++
	src.mu.Unlock()
	if src.OnOpen != nil {
		if err := src.OnOpen(ctx, n); err != nil {
			return nil, err
		}
	}
	r := &reader{source: src, watermark: element.MinTime}
	for _, p := range state {
		if r.next, err = strconv.Atoi(string(p.State)); err != nil {
			return nil, err
		}
	}
	if r.next < src.Durable() {
		return nil, fmt.Errorf("opened at batch %d, but %d were called durable", r.next, src.Durable())
	}
	for _, b := range src.Batches[:r.next] {
		r.advance(b)
	}
	return r, nil
}

type reader struct {
	source    *Source
	failed    bool // of no more use
	next      int
	watermark element.Time
}

func (r *reader) advance(b Batch) {
	if b.Watermark != 0 {
		r.watermark = b.Watermark
	}
}

// Poll returns the next batch of the script once its gate is open.
func (r *reader) Poll(ctx context.Context, _, _ int, wait time.Duration) (connector.Batch, error) {
	s := r.source
	if r.failed {
		return connector.Batch{}, fault.New(fault.Internal, "bundle-internal", "polled after it had failed")
	}
	s.mu.Lock()
	n := s.mu.polls
	s.mu.polls++
	s.mu.Unlock()
	if s.OnPoll != nil {
		if err := s.OnPoll(ctx, n); err != nil {
			r.failed = true
			return connector.Batch{}, err
		}
	}
	if r.next >= len(s.Batches) {
		if !s.Unbounded || s.Ends {
			return connector.Batch{Watermark: element.MaxTime, Done: true}, nil
		}
		return r.idle(ctx, nil, wait)
	}
	b := s.Batches[r.next]
	if b.Gate != nil {
		select {
		case <-b.Gate:
		default:
			return r.idle(ctx, b.Gate, wait)
		}
	}
	r.next++
	r.advance(b)
	out := connector.Batch{
		Count: len(b.Elements), MinTS: element.MaxTime, MaxTS: element.MinTime, Watermark: r.watermark,
		Positions: []connector.Position{{Split: r.source.Split, State: []byte(strconv.Itoa(r.next))}},
	}
	for _, e := range b.Elements {
		out.Data = append(coder.AppendHeader(out.Data, e.At, 1, nil, []byte{coder.NoFiring}), e.Value...)
		out.MinTS, out.MaxTS = min(out.MinTS, e.At), max(out.MaxTS, e.At)
	}
	return out, nil
}

// idle waits for the gate, at most as long as it is told, and returns nothing.
func (r *reader) idle(ctx context.Context, gate <-chan struct{}, wait time.Duration) (connector.Batch, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return connector.Batch{}, ctx.Err()
	case <-gate:
	case <-t.C:
	}
	return connector.Batch{Watermark: r.watermark}, nil
}

func (r *reader) Durable(positions []connector.Position) {
	r.source.mu.Lock()
	defer r.source.mu.Unlock()
	for _, p := range positions {
		n, _ := strconv.Atoi(string(p.State)) // the reader's own writing
		r.source.mu.durable = max(r.source.mu.durable, n)
	}
}

func (r *reader) Describe() []connector.SplitStatus { return nil }
func (r *reader) Close() error                      { return nil }

// sum adds encoded varints.
func sum(values [][]byte) int64 {
	total := int64(0)
	for _, v := range values {
		n, _ := strconv.ParseInt(Show("varint", v), 10, 64) // what Show prints parses
		total += n
	}
	return total
}
