package kafka

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// sink is the kind of sink behind config.WriteURN.
type sink struct{ log *zap.Logger }

// Validate implements connector.Sink.
func (s *sink) Validate(data []byte) error {
	cfg, _, err := parseProducer(data)
	if err != nil {
		return err
	}
	_, err = newDecoder(cfg)
	return err
}

// Open implements connector.Sink. It returns within about openTimeout. job and stage name nothing yet: an idempotent producer has
// no identity beyond its connection.
func (s *sink) Open(ctx context.Context, data []byte, _, _ string) (connector.Writer, error) {
	cfg, set, err := parseProducer(data)
	if err != nil {
		return nil, err
	}
	dec, err := newDecoder(cfg)
	if err != nil {
		return nil, err
	}
	w := &writer{cfg: cfg, set: set, decode: dec, log: s.log}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// writer implements connector.Writer.
type writer struct {
	cfg    *config.Write
	set    *settings
	decode *decoder
	log    *zap.Logger
	kafka  *cluster // nil after a Publish was given up with records under way
}

// connect makes the client and checks that the topic is there.
func (w *writer) connect(ctx context.Context) error {
	kafka, err := newCluster(w.set)
	if err != nil {
		return err
	}
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if w.cfg.Topic == "" {
		err = kafka.client.Ping(opening)
		if err != nil {
			err = kafka.openError(err)
		}
	} else {
		_, err = kafka.partitions(opening, []string{w.cfg.Topic}, true)
	}
	if err != nil {
		kafka.client.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	w.kafka = kafka
	return nil
}

// stuckAfter is how long a Publish waits for brokers before the log says so, and between two such lines.
const stuckAfter = 10 * time.Second

// Publish implements connector.Writer. While brokers are away it waits, and the client goes on trying. When ctx or
// delivery.timeout.ms ends first, the client is closed, because what it still held could otherwise be written after a later Publish
// of the same blocks.
func (w *writer) Publish(ctx context.Context, blocks []element.Block) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if w.kafka == nil {
		if err := w.connect(ctx); err != nil {
			return err
		}
	}
	var records []*kgo.Record
	for _, b := range blocks {
		var err error
		if records, err = w.decode.block(records, b); err != nil {
			return err
		}
	}
	if limit := w.set.producer.delivery; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fault.New(fault.Environment, codeWrite,
			"brokers %s did not take %d records within delivery.timeout.ms, %v", w.kafka.servers, len(records), limit))
		defer cancel()
	}
	done := make(chan error, 1)
	var producing sync.WaitGroup
	defer producing.Wait()
	producing.Go(func() { done <- w.produce(ctx, records) })
	ticker := time.NewTicker(stuckAfter)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if ctx.Err() != nil && err != nil {
				w.abandon()
				return context.Cause(ctx)
			}
			return err
		case <-ticker.C:
			w.log.Warn("waiting for brokers to take records", zap.String("topic", w.cfg.Topic), zap.Int("records", len(records)),
				zap.String("brokers", w.kafka.servers), zap.Error(w.kafka.hook.last()))
		}
	}
}

func (w *writer) abandon() {
	w.kafka.client.Close()
	w.kafka = nil
}

// produce hands the records to the client and waits for all promises, or for the end of ctx.
func (w *writer) produce(ctx context.Context, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	var mu sync.Mutex
	var first error
	for _, r := range records {
		w.kafka.client.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil || (isFollowUp(first) && !isFollowUp(err)) {
				first = w.classify(r, err)
			}
		})
	}
	// Flush returns when every promise has been called, so first is complete then.
	err := w.kafka.client.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	if first != nil {
		return first
	}
	return err
}

// isFollowUp reports an error that only says that the publishing was given up.
func isFollowUp(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrAborting)
}

// classify returns the *fault.Error of a record that was not taken.
func (w *writer) classify(r *kgo.Record, err error) error {
	if r.Partition != anyPartition && strings.Contains(err.Error(), badPartitionText) {
		return fault.New(fault.Pipeline, codeRecord, "topic %q has no partition %d", r.Topic, r.Partition)
	}
	return writeError(r, err)
}

// Close implements connector.Writer.
func (w *writer) Close() error {
	if w.kafka != nil {
		w.abandon()
	}
	return nil
}
