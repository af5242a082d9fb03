package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/engine/element"
)

// reader implements connector.Reader. Poll's goroutine owns pending and encode; mu guards what others look at.
type reader struct {
	cfg       *config.Read
	set       *settings
	kafka     *cluster
	log       *zap.Logger
	now       func() time.Time
	startedAt time.Time // first opening in the life of the job; for max_read_time

	topics map[string]topicInfo // as they were when the reader was opened

	encode  encoder
	pending []fetched // polled from the client, not yet returned
	lastLen int       // size of the last batch, the guess for the next

	mu struct {
		sync.Mutex
		splits    []*split // sorted as they were found
		byID      map[splitID]*split
		read      int64 // records returned in the life of the job
		watermark element.Time
		done      bool
		problem   string // why brokers cannot be asked, or ""
	}

	commit chan struct{} // offsets wait to be committed; nil when they never are
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

type splitID struct {
	topic     string
	partition int32
}

// fetched is a run of records of one partition.
type fetched struct {
	split   *split
	records []*kgo.Record
}

func newReader(cfg *config.Read, set *settings, kafka *cluster, log *zap.Logger, now func() time.Time) *reader {
	r := &reader{
		cfg: cfg, set: set, kafka: kafka, log: log, now: now, startedAt: now(),
		encode: encoder{
			key: cfg.Key, value: cfg.Value, keyRequired: cfg.KeyRequired, valueRequired: cfg.ValueRequired, metadata: cfg.Metadata,
		},
	}
	r.mu.byID = make(map[splitID]*split)
	r.mu.watermark = element.MinTime
	if set.consumer.commits(cfg) {
		r.commit = make(chan struct{}, 1)
	}
	return r
}

// addLocked adds a split; mu is held, or the reader is not shared yet.
func (r *reader) addLocked(s *split) {
	r.mu.splits = append(r.mu.splits, s)
	r.mu.byID[splitID{s.topic, s.partition}] = s
}

// Poll implements connector.Reader. After an error the reader is of no more use and is to be closed.
func (r *reader) Poll(ctx context.Context, maxElements, maxBytes int, wait time.Duration) (connector.Batch, error) {
	limit := max(maxElements, 1)
	if r.set.consumer.pollMax > 0 {
		limit = min(limit, r.set.consumer.pollMax)
	}
	limit, wait = r.bound(limit, wait)
	if len(r.pending) == 0 && limit > 0 {
		if err := r.fetch(ctx, limit, wait); err != nil {
			return connector.Batch{}, err
		}
	}
	return r.take(limit, max(maxBytes, 1))
}

// bound cuts a poll down to what max_num_records and max_read_time leave. A limit of 0 means that the source is exhausted.
func (r *reader) bound(limit int, wait time.Duration) (int, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cfg.MaxRecords != nil {
		left := *r.cfg.MaxRecords - r.mu.read
		limit = int(min(int64(limit), max(left, 0)))
	}
	if r.cfg.MaxSeconds != nil {
		left := r.startedAt.Add(time.Duration(*r.cfg.MaxSeconds) * time.Second).Sub(r.now())
		wait = min(wait, left)
		if left <= 0 {
			limit = 0
		}
	}
	r.mu.done = r.mu.done || limit == 0
	if r.mu.done {
		return 0, 0
	}
	return limit, wait
}

// fetch waits for records of the client.
func (r *reader) fetch(ctx context.Context, limit int, wait time.Duration) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var fetches kgo.Fetches
	if wait <= 0 {
		//lint:ignore SA1012 the client documents nil as: only what is there
		fetches = r.kafka.client.PollRecords(nil, limit)
	} else {
		waiting, cancel := context.WithTimeout(ctx, wait)
		fetches = r.kafka.client.PollRecords(waiting, limit)
		cancel()
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range fetches {
		for _, t := range f.Topics {
			for i := range t.Partitions {
				if err := r.acceptLocked(t.Topic, &t.Partitions[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// acceptLocked takes over what was fetched of one partition; mu is held.
func (r *reader) acceptLocked(topic string, p *kgo.FetchPartition) error {
	if p.Err != nil && !isTimeout(p.Err) {
		if err := readError(topic, p.Partition, p.Err); err != nil {
			return err
		}
		var loss *kgo.ErrDataLoss
		if errors.As(p.Err, &loss) {
			r.log.Warn("the broker lost records that it had shown", zap.Error(p.Err))
		} else {
			r.problemLocked(p.Err)
		}
	}
	s := r.mu.byID[splitID{topic, p.Partition}]
	if s == nil || len(p.Records) == 0 {
		return nil
	}
	if p.LogStartOffset > s.next {
		r.warnLost(s, p.LogStartOffset)
	}
	r.pending = append(r.pending, fetched{s, p.Records})
	return nil
}

// take encodes pending records up to the limits and says how far that gets the splits.
func (r *reader) take(limit, maxBytes int) (connector.Batch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	b := connector.Batch{MinTS: element.MaxTime, MaxTS: element.MinTime}
	if len(r.pending) > 0 {
		b.Data = make([]byte, 0, min(maxBytes, r.lastLen)+4096)
	}
	for len(r.pending) > 0 && b.Count < limit && len(b.Data) < maxBytes {
		run := &r.pending[0]
		n, err := r.takeRunLocked(&b, run, limit, maxBytes, now)
		if err != nil {
			return connector.Batch{}, err
		}
		if run.records = run.records[n:]; len(run.records) == 0 {
			r.pending = r.pending[1:]
		}
	}
	r.lastLen = len(b.Data) + len(b.Data)/8
	r.mu.read += int64(b.Count)
	r.mu.done = r.mu.done || (r.cfg.MaxRecords != nil && r.mu.read >= *r.cfg.MaxRecords)
	r.mu.watermark = max(r.mu.watermark, r.set.consumer.policy.source(r.mu.splits, now))
	b.Watermark = r.mu.watermark
	if r.mu.done {
		r.pending = nil
		b.Done, b.Watermark = true, element.MaxTime
	}
	for _, s := range r.mu.splits {
		if !s.moved {
			continue
		}
		p, err := s.position(r.startedAt, r.mu.watermark)
		if err != nil {
			return connector.Batch{}, err
		}
		s.moved = false
		b.Positions = append(b.Positions, p)
	}
	return b, nil
}

// takeRunLocked encodes records of one partition and returns how many it has taken, control records included.
func (r *reader) takeRunLocked(b *connector.Batch, run *fetched, limit, maxBytes int, now time.Time) (int, error) {
	s, policy := run.split, &r.set.consumer.policy
	for i, rec := range run.records {
		if b.Count >= limit || len(b.Data) >= maxBytes {
			return i, nil
		}
		s.next, s.moved = rec.Offset+1, true
		if rec.Attrs.IsControl() {
			continue
		}
		ts, err := policy.timestamp(s, rec, eventTime(now))
		if err != nil {
			return 0, err
		}
		if b.Data, err = r.encode.append(b.Data, rec, ts); err != nil {
			return 0, err
		}
		if policy.kind == config.LogAppendTime {
			s.seen = ts
		} else {
			s.seen = max(s.seen, ts)
		}
		s.count++
		s.activeAt = now
		b.Count++
		b.MinTS, b.MaxTS = min(b.MinTS, ts), max(b.MaxTS, ts)
	}
	return len(run.records), nil
}

// Durable implements connector.Reader.
func (r *reader) Durable(positions []connector.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range positions {
		topic, partition, state, err := parsePosition(p)
		if err != nil {
			r.log.Error("a position that became durable does not read back", zap.Error(err))
			continue
		}
		if s := r.mu.byID[splitID{topic, partition}]; s != nil {
			s.committed = state.Next
		}
	}
	select {
	case r.commit <- struct{}{}:
	default: // one is waiting already, or nothing is ever committed
	}
}

// Describe implements connector.Reader.
func (r *reader) Describe() []connector.SplitStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	out := make([]connector.SplitStatus, 0, len(r.mu.splits))
	for _, s := range r.mu.splits {
		out = append(out, connector.SplitStatus{
			Split: s.name(), Position: s.next, End: max(s.end, s.next), Committed: s.committed,
			Watermark: s.watermark.String(), Idle: r.set.consumer.policy.idle(s, now), Problem: r.mu.problem,
		})
		if s.end < 0 {
			out[len(out)-1].End = -1
		}
	}
	return out
}

// Close implements connector.Reader. It waits for the reader's goroutines and commits the last durable offsets.
func (r *reader) Close() error {
	r.stop()
	r.wg.Wait()
	r.kafka.client.Close()
	return nil
}
