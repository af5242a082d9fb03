package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
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

// Marks implements connector.Marker.
func (s *sink) Marks(data []byte) bool {
	_, set, err := parseProducer(data)
	return err == nil && set.producer.exactlyOnce
}

// Open implements connector.Sink. It returns within about openTimeout when there is nothing to connect to; brokers that answer may
// take fenceTimeout more to give out the transactional id.
func (s *sink) Open(ctx context.Context, data []byte, as connector.Identity) (connector.Writer, uint64, error) {
	cfg, set, err := parseProducer(data)
	if err != nil {
		return nil, 0, err
	}
	dec, err := newDecoder(cfg)
	if err != nil {
		return nil, 0, err
	}
	w := &writer{cfg: cfg, set: set, decode: dec, log: s.log, batch: batches{most: set.producer.requestMax}}
	if set.producer.exactlyOnce {
		w.txn = newTransactions(as, set)
	}
	if err := w.connect(ctx); err != nil {
		return nil, 0, err
	}
	if w.txn == nil {
		return w, 0, nil
	}
	return w, w.txn.mark, nil
}

// writer implements connector.Writer.
type writer struct {
	cfg    *config.Write
	set    *settings
	decode *decoder
	log    *zap.Logger
	txn    *transactions // nil: at-least-once
	kafka  *cluster      // nil after a Publish has failed with records under way
	batch  batches

	problem atomic.Pointer[string] // why a Publish takes long; nil: it does not
}

// connect connects, again and again within fenceTimeout while brokers answer with errors that pass by themselves, as they do while the
// coordinator of the transactions moves.
func (w *writer) connect(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	for {
		err := w.connectOnce(ctx)
		var broker *kerr.Error
		if err == nil || !errors.As(err, &broker) || !broker.Retriable || isUnknownTopic(err) {
			return err
		}
		select {
		case <-time.After(metadataRetry):
		case <-within.Done():
			return err
		}
	}
}

// connectOnce makes the client, checks that the topic is there and, with transactions, finds out how far the last client came.
func (w *writer) connectOnce(ctx context.Context) error {
	more := []kgo.Opt{w.batch.option()}
	if w.txn != nil {
		more = append(more, w.txn.options(&w.set.producer)...)
	}
	kafka, err := newCluster(w.set, more...)
	if err != nil {
		return err
	}
	if err = w.reach(ctx, kafka); err == nil && w.txn != nil {
		if err = w.enter(ctx, kafka); err != nil {
			w.rollBack(kafka)
		}
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

// reach checks that brokers answer and that the topic is there.
func (w *writer) reach(ctx context.Context, kafka *cluster) error {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if w.cfg.Topic == "" {
		if err := kafka.client.Ping(opening); err != nil {
			return kafka.openError(err)
		}
		return nil
	}
	_, err := kafka.partitions(opening, []string{w.cfg.Topic}, true)
	return err
}

// stuckAfter is how long a Publish waits for brokers before the log says so, and between two such lines; slowAfter how long before the
// job's description does.
const (
	stuckAfter = 10 * time.Second
	slowAfter  = 2 * time.Second
)

// Problem implements connector.Observed.
func (w *writer) Problem() string {
	if text := w.problem.Load(); text != nil {
		return *text
	}
	return ""
}

// Publish implements connector.Writer. While brokers are away it waits, and the client goes on trying. When it fails, the client is
// closed, because what it still held could otherwise be written after a later Publish of the same blocks. A client that has lost its
// transaction is replaced at once: the new one knows whether the writer itself was replaced. So is one whose batches were too large for
// a topic, by one that makes smaller ones.
func (w *writer) Publish(ctx context.Context, blocks []connector.OutboxBlock) error {
	for lost := false; ; {
		err := w.publish(ctx, blocks)
		var large *tooLargeError
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case w.txn != nil && isFenced(err) && !lost:
			w.log.Warn("a transaction was lost; going on with another", zap.String("transactional_id", w.txn.id), zap.Error(err))
			lost = true
		case errors.As(err, &large) && w.batch.refused(large):
			w.log.Info("a batch was too large; going on with smaller ones", zap.String("topic", large.topic),
				zap.Int32("bytes", w.batch.of(large.topic)))
			w.abandon()
		default:
			return err
		}
	}
}

// publish is one attempt.
func (w *writer) publish(ctx context.Context, blocks []connector.OutboxBlock) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if w.kafka == nil {
		if err := w.connect(ctx); err != nil {
			return err
		}
	}
	var records []*kgo.Record
	last := uint64(0)
	for _, b := range blocks {
		if w.txn != nil && b.Seq <= w.txn.mark {
			continue // an attempt before this one came so far, though it was not told
		}
		var err error
		if records, err = w.decode.block(records, b.Block); err != nil {
			return err
		}
		last = b.Seq
	}
	if last == 0 {
		return nil
	}
	if w.batch.grow(records) {
		w.abandon()
		return w.publish(ctx, blocks)
	}
	if limit := w.set.producer.delivery; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fault.New(fault.Environment, codeWrite,
			"brokers %s did not take %d records within delivery.timeout.ms, %v", w.kafka.servers, len(records), limit))
		defer cancel()
	}
	err := w.watched(len(records), func() error {
		if w.txn != nil {
			return w.commit(ctx, records, last)
		}
		return w.produce(ctx, records)
	})
	if err == nil || (w.txn == nil && ctx.Err() == nil) {
		return err
	}
	w.abandon()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watched runs write, and tells while it takes long.
func (w *writer) watched(records int, write func() error) error {
	done := make(chan error, 1)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { done <- write() })
	ticker := time.NewTicker(slowAfter)
	defer ticker.Stop()
	defer w.problem.Store(nil)
	for n := 1; ; n++ {
		select {
		case err := <-done:
			return err
		case <-ticker.C:
			text := fmt.Sprintf("brokers %s do not take records: %v", w.kafka.servers, cmp.Or(w.kafka.hook.last(), errSlow))
			w.problem.Store(&text)
			if n%int(stuckAfter/slowAfter) != 0 {
				continue
			}
			w.log.Warn("waiting for brokers to take records", zap.String("topic", w.cfg.Topic), zap.Int("records", records),
				zap.String("brokers", w.kafka.servers), zap.Error(w.kafka.hook.last()))
		}
	}
}

// errSlow is what is known of brokers that are connected and do not answer.
var errSlow = errors.New("no answer yet")

// abandon throws the client away, if there is one, and with it what it has not written yet.
func (w *writer) abandon() {
	if w.kafka == nil {
		return
	}
	if w.txn != nil {
		w.rollBack(w.kafka)
	}
	w.kafka.client.Close()
	w.kafka = nil
}

// produce hands the records to the client and waits for all promises, or for the end of ctx. A transaction of which one record was not
// taken is lost, and its client with it: the others are not waited for, since the client (franz-go 1.22.2) may have forgotten one of a
// topic that it has just come to know.
func (w *writer) produce(ctx context.Context, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	flushing, enough := context.WithCancel(ctx)
	defer enough()
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
				first = w.classify(r, err, records)
			}
			if w.txn != nil && !isFollowUp(err) {
				enough()
			}
		})
	}
	// Flush returns when every promise has been called, or enough is known, so first is complete then.
	err := w.kafka.client.Flush(flushing)
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

// classify returns the *fault.Error of a record that was not taken, one of records.
func (w *writer) classify(r *kgo.Record, err error, records []*kgo.Record) error {
	if errors.Is(err, kerr.MessageTooLarge) { // for the size of its batch
		largest, size := largestOf(records, r.Topic)
		return writeError(largest, &tooLargeError{topic: r.Topic, largest: size, err: err})
	}
	if r.Partition != anyPartition && strings.Contains(err.Error(), badPartitionText) {
		return fault.New(fault.Pipeline, codeRecord, "topic %q has no partition %d", r.Topic, r.Partition)
	}
	return writeError(r, err)
}

// Close implements connector.Writer.
func (w *writer) Close() error {
	if w.kafka != nil { // no transaction is open between two calls of Publish
		w.kafka.client.Close()
		w.kafka = nil
	}
	return nil
}
