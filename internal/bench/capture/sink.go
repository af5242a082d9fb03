package capture

import (
	"bytes"
	"context"
	"sync"

	"padstone/connector"
	"padstone/engine/coder"
)

// sinkURN names the sink that keeps elements.
const sinkURN = "padstone:transform:bench_sample:v1"

// Registry adds the sink that keeps elements, and the source that gives them again, to the native transforms of a server.
type Registry struct {
	connector.Registry
	sink   *sink
	source *source
}

// NewRegistry returns a registry for an engine, and an Executor, to capture with.
func NewRegistry(natives connector.Registry) *Registry {
	s := &sink{full: make(chan struct{})}
	return &Registry{Registry: natives, sink: s, source: &source{}}
}

// Source implements connector.Registry.
func (r *Registry) Source(urn connector.URN) (connector.Source, bool) {
	if urn == sourceURN {
		return r.source, true
	}
	return r.Registry.Source(urn)
}

// Sink implements connector.Registry.
func (r *Registry) Sink(urn connector.URN) (connector.Sink, bool) {
	if urn == sinkURN {
		return r.sink, true
	}
	return r.Registry.Sink(urn)
}

// sink keeps the first elements that are written to it.
type sink struct {
	full chan struct{} // closed once it has enough

	mu struct {
		sync.Mutex
		scanner     *coder.Scanner
		elementsMax int
		bytesMax    int
		elements    [][]byte
		bytes       int
	}
}

// expect says how elements are encoded, and how many of them are enough.
func (s *sink) expect(scanner *coder.Scanner, elementsMax, bytesMax int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.scanner, s.mu.elementsMax, s.mu.bytesMax = scanner, elementsMax, bytesMax
}

// framing says how the elements are encoded.
func (s *sink) framing() *coder.Scanner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.scanner
}

// taken returns the elements.
func (s *sink) taken() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.elements
}

// Opaque implements connector.Opaque.
func (s *sink) Opaque() {}

// Validate implements connector.Sink.
func (s *sink) Validate([]byte) error { return nil }

// Open implements connector.Sink.
func (s *sink) Open(context.Context, []byte, connector.Identity) (connector.Writer, uint64, error) {
	return s, 0, nil
}

// Close implements connector.Writer.
func (s *sink) Close() error { return nil }

// Publish implements connector.Writer: what is too much is dropped.
func (s *sink) Publish(_ context.Context, blocks []connector.OutboxBlock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range blocks {
		if s.enoughLocked() {
			return nil
		}
		err := s.mu.scanner.Scan(b.Block.Data, func(e *coder.Elem) error {
			if !s.enoughLocked() {
				s.mu.elements, s.mu.bytes = append(s.mu.elements, bytes.Clone(e.Raw)), s.mu.bytes+len(e.Raw)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if s.enoughLocked() {
			close(s.full)
		}
	}
	return nil
}

func (s *sink) enoughLocked() bool {
	return len(s.mu.elements) >= s.mu.elementsMax || s.mu.bytes >= s.mu.bytesMax
}
