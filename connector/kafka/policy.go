package kafka

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// policy gives records their event time and splits their watermark. Spec: TimestampPolicyFactory.java and
// CustomTimestampPolicyWithLimitedDelay.java; where we differ from them is said below.
//
//   - ProcessingTime: an element's time is when it was polled; the watermark is now.
//   - LogAppendTime: the broker's time; the watermark is that of the last record and, for a partition that is read to its end,
//     two seconds before the time at which the end was asked for.
//   - CreateTime: the producer's time; the watermark is the largest so far, at most now, less maxDelay. A partition that is read
//     to its end and had no record for idleAfter is idle and left out of the source's watermark. When all are idle the source's
//     watermark goes to the largest of theirs and stays there. KafkaIO instead moves an idle partition's watermark to the wall
//     clock, which makes every later record of a replay or of a slow producer late; advanceIdle asks for that.
type policy struct {
	kind        config.TimestampPolicy
	maxDelay    time.Duration // how far out of order a partition may be; CreateTime only
	idleAfter   time.Duration
	advanceIdle bool // CreateTime only: idle partitions follow the wall clock
}

// logAppendIdleDelta allows for what the broker has taken and not yet shown. Spec: LogAppendTimePolicy.IDLE_WATERMARK_DELTA.
const logAppendIdleDelta = 2 * time.Second

// timestamp returns the event time of a record that was polled at now. An error means that the topic does not fit the policy.
func (p *policy) timestamp(s *split, r *kgo.Record, now element.Time) (element.Time, error) {
	at := eventTime(r.Timestamp)
	_, kind := timestampName(r)
	switch p.kind {
	case config.CreateTime:
		if kind != string(config.CreateTime) {
			return 0, p.mismatch(r, kind)
		}
		return at, nil
	case config.LogAppendTime:
		if kind == string(config.LogAppendTime) {
			return at, nil
		}
		if s.seen == element.MinTime {
			return 0, p.mismatch(r, kind)
		}
		return s.seen, nil // the topic's setting was changed: the record is no older than the one before
	default:
		return now, nil
	}
}

func (p *policy) mismatch(r *kgo.Record, kind string) error {
	return fault.New(fault.Pipeline, codeTimestamp,
		"timestamp_policy is %s but topic %q partition %d offset %d has a timestamp of type %s", p.kind, r.Topic, r.Partition, r.Offset, kind).
		WithHint("choose the policy of the topic's message.timestamp.type, or ProcessingTime")
}

// watermark returns the split's watermark at now: a promise about records that are still to be polled.
func (p *policy) watermark(s *split, now time.Time) element.Time {
	at := eventTime(now)
	w := s.seen
	switch p.kind {
	case config.CreateTime:
		w = min(w, at)
		// The guard on w is KafkaIO's: a partition of which nothing was read promises nothing.
		if p.advanceIdle && s.caughtUp() && w > 0 {
			w = max(w, eventTime(s.checkedAt))
		}
		if w > element.MinTime {
			w = w.Add(-p.maxDelay.Milliseconds())
		}
	case config.LogAppendTime:
		if s.caughtUp() {
			w = max(w, eventTime(s.checkedAt.Add(-logAppendIdleDelta)))
		}
	default:
		w = at
	}
	s.watermark = max(s.watermark, w)
	return s.watermark
}

// idle reports whether the split is read to its end, seen after its last record, and has been so for idleAfter.
func (p *policy) idle(s *split, now time.Time) bool {
	return s.caughtUp() && now.Sub(s.activeAt) >= p.idleAfter
}

// source returns the watermark of all splits together; the caller keeps it from going back.
func (p *policy) source(splits []*split, now time.Time) element.Time {
	low, high := element.MaxTime, element.MinTime
	held := false
	for _, s := range splits {
		w := p.watermark(s, now)
		high = max(high, w)
		if p.kind == config.CreateTime && p.idle(s, now) {
			continue
		}
		held = true
		low = min(low, w)
	}
	if !held {
		return high
	}
	return low
}

// eventTime clamps a wall-clock time to Beam's range.
func eventTime(t time.Time) element.Time {
	return min(max(element.Time(t.UnixMilli()), element.MinTime), element.MaxTime)
}
