package kafka

import (
	"maps"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
)

// batches is how large the batches are in which a writer sends records: up to max.request.size, until brokers have refused one. They
// measure batches, not records, by the topic's max.message.bytes, and refuse one that is too large as a whole, however small its records
// are. Where Kafka's own producer splits such a batch, the client gives it up; so the writer publishes the same records again, in smaller
// ones. At-least-once may then write again what came before the refusal.
type batches struct {
	most int32            // max.request.size
	less map[string]int32 // of topics that have refused batches
}

func (b *batches) of(topic string) int32 {
	if limit, ok := b.less[topic]; ok {
		return limit
	}
	return b.most
}

// option has a client obey the sizes as they are now.
func (b *batches) option() kgo.Opt {
	now := batches{most: b.most, less: maps.Clone(b.less)}
	return kgo.ProducerBatchMaxBytesFn(now.of)
}

// refused makes the batches of a topic smaller. It is false when the topic's largest record has a batch for itself already.
func (b *batches) refused(e *tooLargeError) bool {
	limit := b.of(e.topic)
	if e.largest >= limit {
		return false
	}
	b.set(e.topic, max(e.largest, limit/2))
	return true
}

// grow reports whether a record needs larger batches than its topic has had so far, and makes them that large.
func (b *batches) grow(records []*kgo.Record) bool {
	if len(b.less) == 0 {
		return false
	}
	grown := false
	for _, r := range records {
		if size := batchOf(r); size > b.of(r.Topic) && size <= b.most {
			b.set(r.Topic, size)
			grown = true
		}
	}
	return grown
}

func (b *batches) set(topic string, limit int32) {
	if b.less == nil {
		b.less = make(map[string]int32)
	}
	b.less[topic] = max(limit, batchLeast)
}

// tooLargeError says that brokers have refused a batch for its size.
type tooLargeError struct {
	topic   string
	largest int32 // batchOf the largest record that was to be written to the topic
	err     error
}

func (e *tooLargeError) Error() string { return e.err.Error() }
func (e *tooLargeError) Unwrap() error { return e.err }

// batchLeast is the smallest limit that the client takes; batchOverhead what it counts for a batch without records.
const (
	batchLeast    = 512
	batchOverhead = 65
)

// batchOf is the size of a batch with nothing but the record, before compression, as the client counts it. Spec: Kafka's record batch,
// version 2.
func batchOf(r *kgo.Record) int32 {
	n := 3 + withLength(len(r.Key)) + withLength(len(r.Value)) + kbin.VarintLen(int32(len(r.Headers)))
	for _, h := range r.Headers {
		n += withLength(len(h.Key)) + withLength(len(h.Value))
	}
	return int32(batchOverhead + withLength(n))
}

func withLength(n int) int { return kbin.VarintLen(int32(n)) + n }

// largestOf returns the record of a topic that needs the largest batch.
func largestOf(records []*kgo.Record, topic string) (largest *kgo.Record, size int32) {
	for _, r := range records {
		if n := batchOf(r); r.Topic == topic && n > size {
			largest, size = r, n
		}
	}
	return largest, size
}
