package kafka

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// split is one topic partition.
type split struct {
	topic     string
	partition int32
	id        topicID // of the topic

	next      int64        // offset of the next record to poll
	seen      element.Time // largest event time polled (LogAppendTime: the last); MinTime before the first
	watermark element.Time
	count     int64 // records polled in the life of the job
	moved     bool  // the position is not yet in a Batch

	end       int64     // offset after the last record, -1 while unknown
	checkedAt time.Time // when end was asked for
	activeAt  time.Time // when the last record was polled, or the split came to be
	committed int64     // durable offset, -1 before the first
}

func newSplit(topic string, partition int32, id topicID, now time.Time) *split {
	return &split{
		topic: topic, partition: partition, id: id, moved: true,
		seen: element.MinTime, watermark: element.MinTime, end: -1, activeAt: now, committed: -1,
	}
}

// name is stable: topics may hold hyphens, but what follows the last one is the partition.
func (s *split) name() string { return s.topic + "-" + strconv.Itoa(int(s.partition)) }

// caughtUp reports that everything that was in the partition when its end was asked for has been polled.
func (s *split) caughtUp() bool { return s.end >= 0 && s.next >= s.end }

// position is the JSON of a split's durable state.
type position struct {
	Next      int64        `json:"next"`
	Seen      element.Time `json:"seen"`
	Watermark element.Time `json:"watermark"`
	Count     int64        `json:"count"`
	Topic     topicID      `json:"topic,omitempty"`
	// Source is the watermark of the whole source, so that it does not go back when a job goes on.
	Source element.Time `json:"source_watermark"`
	// StartedMs is when the job first opened the source, for max_read_time.
	StartedMs int64 `json:"started_ms"`
}

func (s *split) position(startedAt time.Time, source element.Time) (connector.Position, error) {
	state, err := json.Marshal(position{
		Next: s.next, Seen: s.seen, Watermark: s.watermark, Count: s.count, Topic: s.id, Source: source, StartedMs: startedAt.UnixMilli(),
	})
	if err != nil {
		return connector.Position{}, fault.New(fault.Internal, codePosition, "split %s: %w", s.name(), err)
	}
	return connector.Position{Split: s.name(), State: state}, nil
}

// parsePosition reads what position wrote.
func parsePosition(p connector.Position) (topic string, partition int32, state position, err error) {
	i := strings.LastIndexByte(p.Split, '-')
	if i <= 0 {
		return "", 0, position{}, badPosition(p, fmt.Errorf("no partition in its name"))
	}
	n, err := strconv.ParseInt(p.Split[i+1:], 10, 32)
	if err != nil || n < 0 {
		return "", 0, position{}, badPosition(p, fmt.Errorf("no partition in its name"))
	}
	if err := json.Unmarshal(p.State, &state); err != nil {
		return "", 0, position{}, badPosition(p, err)
	}
	if state.Next < 0 || state.Count < 0 {
		return "", 0, position{}, badPosition(p, fmt.Errorf("negative offset or count"))
	}
	return p.Split[:i], int32(n), state, nil
}

func badPosition(p connector.Position, err error) error {
	return fault.New(fault.Corruption, codePosition, "the stored position of split %q does not read back: %w", p.Split, err)
}

// restore takes over a stored position.
func (s *split) restore(p position) {
	s.next, s.seen, s.watermark, s.count = p.Next, p.Seen, p.Watermark, p.Count
	s.committed, s.moved = p.Next, false
}
