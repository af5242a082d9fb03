package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/internal/fault"
)

// start finds the partitions and where to begin in each, and starts fetching. In order of precedence: the stored position; on
// resuming, the beginning, for the partition, or its topic, is younger than the job; start_read_time; the group's committed offset;
// auto.offset.reset.
func (r *reader) start(ctx context.Context, state []connector.Position) error {
	topics, err := r.kafka.partitions(ctx, r.cfg.Topics, false)
	if err != nil {
		return err
	}
	if byID, err := r.kafka.fetchesByID(ctx); err != nil {
		return err
	} else if !byID {
		for name, topic := range topics {
			topics[name] = topicInfo{partitions: topic.partitions}
		}
	}
	r.topics = topics
	fresh, err := r.restore(state)
	if err != nil {
		return err
	}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for p := range topics[topic].partitions {
			if r.mu.byID[splitID{topic, p}] == nil {
				s := newSplit(topic, p, topics[topic].id, r.now())
				fresh = append(fresh, s)
				r.addLocked(s)
			}
		}
	}
	if err := r.begin(ctx, fresh, len(state) > 0); err != nil {
		return err
	}
	if err := r.checkRange(ctx); err != nil {
		return err
	}
	r.assign(r.mu.splits)
	r.run()
	return nil
}

// restore makes a split of every stored position. It returns those of topics that were deleted and made anew, which have yet to begin:
// a position in the topic of before says nothing about this one.
func (r *reader) restore(state []connector.Position) ([]*split, error) {
	var anew []*split
	for _, stored := range state {
		topic, partition, p, err := parsePosition(stored)
		if err != nil {
			return nil, err
		}
		is, ok := r.topics[topic]
		if !ok {
			r.log.Info("position of a topic that is no longer read is left out", zap.String("topic", topic))
			continue
		}
		r.mu.read += p.Count
		r.mu.watermark = max(r.mu.watermark, p.Source)
		if started := time.UnixMilli(p.StartedMs); started.Before(r.startedAt) {
			r.startedAt = started
		}
		if p.Topic != "" && is.id != "" && p.Topic != is.id {
			if s := newSplit(topic, partition, is.id, r.now()); partition < is.partitions {
				s.count = p.Count
				r.addLocked(s)
				anew = append(anew, s)
			}
			continue
		}
		if partition >= is.partitions {
			return nil, fault.New(fault.Environment, codeOffset, "topic %q no longer has partition %d", topic, partition).
				WithHint("the topic was made anew with fewer partitions: start the pipeline as a new job")
		}
		s := newSplit(topic, partition, is.id, r.now())
		s.restore(p)
		r.addLocked(s)
	}
	for _, topic := range topicsOf(anew) {
		if r.set.consumer.reset == "none" {
			return nil, fault.New(fault.Environment, codeOffset, "topic %q was deleted and made anew, and auto.offset.reset is none", topic).
				WithHint("set auto.offset.reset to earliest or latest to read the new topic from its beginning, or start a new job")
		}
		r.log.Warn("a topic was deleted and made anew; it is read from its beginning", zap.String("topic", topic))
	}
	return anew, nil
}

// listing asks for offsets until every partition has answered: one may be without a leader for a moment.
func listing(
	ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics []string,
) (kadm.ListedOffsets, error) {
	return retrying(ctx, func() (kadm.ListedOffsets, error) {
		listed, err := list(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		return listed, err
	})
}

// begin sets where splits without a position start.
func (r *reader) begin(ctx context.Context, fresh []*split, resumed bool) error {
	if len(fresh) == 0 {
		return nil
	}
	if !resumed && r.cfg.StartMs == nil && r.set.consumer.group != "" {
		var err error
		if fresh, err = r.beginCommitted(ctx, fresh); err != nil || len(fresh) == 0 {
			return err
		}
	}
	list := r.kafka.admin.ListEndOffsets
	switch {
	case r.cfg.StartMs != nil:
		list = func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return r.kafka.admin.ListOffsetsAfterMilli(ctx, *r.cfg.StartMs, topics...)
		}
	case resumed, r.set.consumer.reset == "earliest":
		list = r.kafka.admin.ListStartOffsets
	case r.set.consumer.reset == "none":
		s := fresh[0]
		return fault.New(fault.Environment, codeOffset, "auto.offset.reset is none and group %q has no offset for topic %q partition %d",
			r.set.consumer.group, s.topic, s.partition)
	}
	listed, err := listing(ctx, list, topicsOf(fresh))
	if err != nil {
		return r.kafka.openError(err)
	}
	for _, s := range fresh {
		o, ok := listed.Lookup(s.topic, s.partition)
		if !ok || o.Offset < 0 {
			return fault.New(fault.Environment, codeRead, "topic %q partition %d does not say where it starts", s.topic, s.partition)
		}
		s.next = o.Offset
	}
	return nil
}

// beginCommitted starts splits at the group's offsets and returns those that have none.
func (r *reader) beginCommitted(ctx context.Context, fresh []*split) ([]*split, error) {
	committed, err := retrying(ctx, func() (kadm.OffsetResponses, error) {
		return r.kafka.admin.FetchOffsetsForTopics(ctx, r.set.consumer.group, topicsOf(fresh)...)
	})
	if errors.Is(err, kerr.GroupIDNotFound) {
		return fresh, nil
	}
	if err != nil {
		return nil, r.kafka.openError(err)
	}
	var rest []*split
	for _, s := range fresh {
		o, ok := committed.Lookup(s.topic, s.partition)
		switch {
		case ok && o.Err != nil:
			return nil, fault.New(fault.Environment, codeRead, "offsets of group %q for topic %q partition %d: %w",
				r.set.consumer.group, s.topic, s.partition, o.Err)
		case ok && o.At >= 0:
			s.next = o.At
		default:
			rest = append(rest, s)
		}
	}
	return rest, nil
}

// checkRange learns the ends and says where records were deleted before they could be read.
func (r *reader) checkRange(ctx context.Context) error {
	asked := r.now()
	ends, err := listing(ctx, r.kafka.admin.ListEndOffsets, r.cfg.Topics)
	if err != nil {
		return r.kafka.openError(err)
	}
	starts, err := listing(ctx, r.kafka.admin.ListStartOffsets, r.cfg.Topics)
	if err != nil {
		return r.kafka.openError(err)
	}
	for _, s := range r.mu.splits {
		if o, ok := starts.Lookup(s.topic, s.partition); ok && o.Offset > s.next {
			r.warnLost(s, o.Offset)
		}
		if o, ok := ends.Lookup(s.topic, s.partition); ok {
			s.end, s.checkedAt = o.Offset, asked
			if s.next > o.Offset {
				r.log.Warn("position is beyond the end of the partition; auto.offset.reset decides where to go on",
					zap.String("split", s.name()), zap.Int64("position", s.next), zap.Int64("end", o.Offset))
			}
		}
	}
	return nil
}

func (r *reader) warnLost(s *split, first int64) {
	r.log.Warn("records were deleted from Kafka before they could be read",
		zap.String("split", s.name()), zap.Int64("position", s.next), zap.Int64("first", first))
}

// assign tells the client to fetch splits from their next offsets.
func (r *reader) assign(splits []*split) {
	add := make(map[string]map[int32]kgo.Offset)
	for _, s := range splits {
		if add[s.topic] == nil {
			add[s.topic] = make(map[int32]kgo.Offset)
		}
		add[s.topic][s.partition] = kgo.NewOffset().At(s.next)
	}
	r.kafka.client.AddConsumePartitions(add)
}

func topicsOf(splits []*split) []string {
	seen := make(map[string]bool)
	for _, s := range splits {
		seen[s.topic] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
