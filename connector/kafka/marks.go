package kafka

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"padstone/internal/fault"
)

// The topic of marks. All of it is in one partition, so that adding partitions cannot lose a mark, and it is compacted often, because
// opening a sink reads it from its beginning.
const (
	marksTopicDefault = "padstone-marks"
	marksPartition    = 0
	marksReplicas     = 3 // at most; a smaller cluster has one on each broker
	marksFetchWait    = 100 * time.Millisecond
)

// Keys of a sink's records in the topic of marks: its transactional id with one of these behind it.
const (
	markSuffix  = "#mark"  // value: the sequence, in decimal, of the last block that this transaction and those before it wrote
	ownerSuffix = "#owner" // value: the writer that has the transactional id
	probeSuffix = "#probe" // no value: somebody has looked
)

// recordsHeader of a mark says how many records have been written up to it, in decimal.
const recordsHeader = "records"

// marks is what the topic says about one sink.
type marks struct {
	owner   string
	mark    uint64
	records int64     // up to the mark
	at      time.Time // of the mark
}

// ensureMarks makes the topic of marks if there is none, and refuses one that forgets.
func (c *cluster) ensureMarks(ctx context.Context, topic string, log *zap.Logger) error {
	configs, err := retrying(ctx, func() (kadm.ResourceConfigs, error) { return c.admin.DescribeTopicConfigs(ctx, topic) })
	if err == nil {
		var found kadm.ResourceConfig
		if found, err = configs.On(topic, nil); err == nil {
			err = found.Err
		}
		if err == nil {
			return checkMarks(topic, found)
		}
	}
	switch {
	case isUnknownTopic(err):
		return c.createMarks(ctx, topic, log)
	case isAuth(err):
		log.Warn("the topic of marks may not be described; make sure that its cleanup.policy is compact", zap.String("topic", topic))
		return nil
	}
	return c.openError(err)
}

// checkMarks refuses a topic whose old records are deleted: a mark that is as old as a sink is quiet would be lost.
func checkMarks(topic string, found kadm.ResourceConfig) error {
	for _, entry := range found.Configs {
		if entry.Key == "cleanup.policy" && entry.MaybeValue() != "compact" {
			return fault.New(fault.Environment, codeMarks, "topic %q, which says how far sinks have come, has cleanup.policy=%s, not compact",
				topic, entry.MaybeValue()).
				WithHint("set the topic's cleanup.policy to compact, or name another one in padstone.marks.topic")
		}
	}
	return nil
}

// createMarks makes the topic of marks with up to three replicas, two of which must take a write.
func (c *cluster) createMarks(ctx context.Context, topic string, log *zap.Logger) error {
	brokers, err := c.admin.ListBrokers(ctx)
	if err != nil {
		return c.openError(err)
	}
	replicas := int16(min(len(brokers), marksReplicas))
	configs := map[string]*string{
		"cleanup.policy": kmsg.StringPtr("compact"), "segment.bytes": kmsg.StringPtr("8388608"), "segment.ms": kmsg.StringPtr("600000"),
		"min.cleanable.dirty.ratio": kmsg.StringPtr("0.1"),
	}
	if replicas == marksReplicas {
		configs["min.insync.replicas"] = kmsg.StringPtr("2")
	}
	resp, err := c.admin.CreateTopic(ctx, 1, max(replicas, 1), configs, topic)
	if err == nil {
		err = resp.Err
	}
	switch {
	case err == nil:
		log.Info("made the topic of marks", zap.String("topic", topic), zap.Int16("replicas", replicas))
	case errors.Is(err, kerr.TopicAlreadyExists): // another sink was quicker
	case isAuth(err), errors.As(err, new(*kerr.Error)):
		return fault.New(fault.Environment, codeMarks, "topic %q, which says how far sinks have come, cannot be made: %w", topic, err).
			WithHint("make it yourself: one partition, cleanup.policy=compact; or set padstone.delivery to at-least-once")
	default:
		return c.openError(err)
	}
	_, err = c.partitions(ctx, []string{topic}, false)
	return err
}

// readMarks reads what the topic says about the transactional id, up to the offset end, at which there is a record. No transaction of
// the id but the one that wrote that record may be open. It reads uncommitted records and follows the markers of transactions
// itself, because the end of what readers of committed records see may be held up by any other sink that uses the topic.
func readMarks(ctx context.Context, s *settings, topic, id string, end int64) (marks, error) {
	from := map[string]map[int32]kgo.Offset{topic: {marksPartition: kgo.NewOffset().AtStart()}}
	client, err := kgo.NewClient(append(slices.Clone(s.opts), kgo.ConsumePartitions(from), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(marksFetchWait))...)
	if err != nil {
		return marks{}, fault.New(fault.Pipeline, codeProperty, "the Kafka client does not take the configuration: %w", err)
	}
	defer client.Close()
	reading := newMarkReader(id)
	for next := int64(-1); next < end; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return marks{}, fault.New(fault.Environment, codeMarks, "reading topic %q up to offset %d: %w", topic, end, context.Cause(ctx))
		}
		for _, e := range fetches.Errors() {
			if err := readError(e.Topic, e.Partition, e.Err); err != nil {
				return marks{}, err
			}
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset
			if next < end && err == nil {
				err = reading.add(r)
			}
		})
		if err != nil {
			return marks{}, err
		}
	}
	return reading.committed, nil
}

// markReader follows the transactions of one transactional id.
type markReader struct {
	mark, owner []byte // keys
	committed   marks
	open        map[int64]openMarks // by producer id; an id that has expired gets another one
}

// openMarks is what a transaction has written.
type openMarks struct {
	epoch int16
	marks marks
}

func newMarkReader(id string) *markReader {
	return &markReader{mark: []byte(id + markSuffix), owner: []byte(id + ownerSuffix), open: make(map[int64]openMarks)}
}

// add takes in the next record of the topic.
func (m *markReader) add(r *kgo.Record) error {
	if r.Attrs.IsControl() {
		return m.end(r)
	}
	isMark := bytes.Equal(r.Key, m.mark)
	if !isMark && !bytes.Equal(r.Key, m.owner) {
		return nil
	}
	o, ok := m.open[r.ProducerID]
	if !ok || o.epoch != r.ProducerEpoch { // a transaction is of one epoch: what is left of an earlier one did not end in a commit
		o = openMarks{epoch: r.ProducerEpoch, marks: m.committed}
	}
	if isMark {
		n, err := strconv.ParseUint(string(r.Value), 10, 64)
		if err != nil {
			return fault.New(fault.Corruption, codeMarks, "offset %d of topic %q: a mark is %q", r.Offset, r.Topic, r.Value)
		}
		o.marks.mark, o.marks.at, o.marks.records = n, r.Timestamp, recordsOf(r)
	} else {
		o.marks.owner = string(r.Value)
	}
	m.open[r.ProducerID] = o
	return nil
}

// recordsOf reads the header of a mark; 0 when it has none.
func recordsOf(r *kgo.Record) int64 {
	for _, h := range r.Headers {
		if n, err := strconv.ParseInt(string(h.Value), 10, 64); h.Key == recordsHeader && err == nil {
			return n
		}
	}
	return 0
}

// end takes in the marker that ends a transaction. Spec: kafka clients ControlRecordType.
func (m *markReader) end(r *kgo.Record) error {
	var key kmsg.ControlRecordKey
	if err := key.ReadFrom(r.Key); err != nil {
		return fault.New(fault.Corruption, codeMarks, "offset %d of topic %q: a transaction's marker: %w", r.Offset, r.Topic, err)
	}
	if o, ok := m.open[r.ProducerID]; ok && key.Type == kmsg.ControlRecordKeyTypeCommit {
		m.committed = o.marks
	}
	delete(m.open, r.ProducerID)
	return nil
}

// markRecord is a record for the topic of marks.
func markRecord(topic, id, suffix, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: marksPartition, Key: []byte(id + suffix), Value: []byte(value)}
}
