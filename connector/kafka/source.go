package kafka

import (
	"context"
	"time"

	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
)

// Registry resolves config.ReadURN and config.WriteURN.
func Registry(log *zap.Logger) connector.Registry {
	log = log.Named("kafka")
	return registry{source: &source{log: log, now: time.Now}, sink: &sink{log: log}}
}

type registry struct {
	source *source
	sink   *sink
}

// Source implements connector.Registry.
func (r registry) Source(urn connector.URN) (connector.Source, bool) {
	if urn != config.ReadURN {
		return nil, false
	}
	return r.source, true
}

// Sink implements connector.Registry.
func (r registry) Sink(urn connector.URN) (connector.Sink, bool) {
	if urn != config.WriteURN {
		return nil, false
	}
	return r.sink, true
}

// source is the kind of source behind config.ReadURN.
type source struct {
	log *zap.Logger
	now func() time.Time
}

// Validate implements connector.Source.
func (s *source) Validate(data []byte) error {
	_, _, err := parseConsumer(data)
	return err
}

// Open implements connector.Source. It returns within about openTimeout.
func (s *source) Open(ctx context.Context, data []byte, state []connector.Position) (connector.Reader, error) {
	cfg, set, err := parseConsumer(data)
	if err != nil {
		return nil, err
	}
	kafka, err := newCluster(set)
	if err != nil {
		return nil, err
	}
	r := newReader(cfg, set, kafka, s.log, s.now)
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := r.start(opening, state); err != nil {
		kafka.client.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return r, nil
}
