package capture

import (
	"context"
	"strconv"
	"time"

	"padstone/connector"
	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/internal/bench/saturate"
)

// sourceURN names the source that gives elements of the sample, without end. Its configuration is how many at a time.
const sourceURN = "padstone:transform:bench_source:v1"

// source stands for what makes the input of a stage: it gives blocks of a size, which the bundles of the stage then have.
type source struct {
	sample  *saturate.Sample
	scanner *coder.Scanner
}

// Opaque implements connector.Opaque.
func (s *source) Opaque() {}

// Validate implements connector.Source.
func (s *source) Validate(config []byte) error {
	_, err := strconv.Atoi(string(config))
	return err
}

// Open implements connector.Source.
func (s *source) Open(_ context.Context, config []byte, _ []connector.Position) (connector.Reader, error) {
	n, err := strconv.Atoi(string(config))
	return &reader{source: s, size: n}, err
}

// reader gives the sample, round and round.
type reader struct {
	source *source
	size   int
	given  int
}

// Poll implements connector.Reader.
func (r *reader) Poll(_ context.Context, elementsMax, _ int, _ time.Duration) (connector.Batch, error) {
	var data []byte
	for message := range r.source.sample.Cut(r.given, min(r.size, elementsMax)) {
		data = append(data, message...)
	}
	count, minTS, maxTS, err := r.source.scanner.Stat(data)
	r.given += count
	// It never ends: what waits for its watermark is not what is measured.
	return connector.Batch{Data: data, Count: count, MinTS: minTS, MaxTS: maxTS, Watermark: element.MinTime}, err
}

// Durable implements connector.Reader.
func (r *reader) Durable([]connector.Position) {}

// Describe implements connector.Reader.
func (r *reader) Describe() []connector.SplitStatus { return nil }

// Close implements connector.Reader.
func (r *reader) Close() error { return nil }
