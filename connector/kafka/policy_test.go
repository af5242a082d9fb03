package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/engine/element"
)

func appended(ms int64) *kgo.Record {
	return &kgo.Record{Topic: "in", Timestamp: time.UnixMilli(ms), Attrs: kgo.NewRecordAttrs(kgo.RecordAttrsOpts{TimestampType: 1})}
}

// TestLogAppendTime: the broker's time; near now once read to the end, and tolerant of a setting that is changed midway.
func TestLogAppendTime(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	p := policy{kind: config.LogAppendTime, idleAfter: time.Second}
	s := newSplit("in", 0, "", now)
	if w := p.watermark(s, now); w != element.MinTime {
		t.Fatalf("before anything is known the watermark is %v", w)
	}
	created := &kgo.Record{Topic: "in", Timestamp: time.UnixMilli(5)}
	if _, err := p.timestamp(s, created, 0); err == nil {
		t.Fatal("a first record with the producer's time is taken")
	}
	ts, err := p.timestamp(s, appended(900_000), 0)
	if err != nil || ts != 900_000 {
		t.Fatal(ts, err)
	}
	s.seen, s.next = ts, 1
	if w := p.watermark(s, now); w != 900_000 {
		t.Fatalf("watermark %v", w)
	}
	if ts, err := p.timestamp(s, created, 0); err != nil || ts != 900_000 {
		t.Fatal(ts, err)
	}
	s.end, s.checkedAt = 2, now
	if w := p.watermark(s, now); w != 900_000 {
		t.Fatalf("with a record to read the watermark is %v", w)
	}
	s.next = 2
	if w := p.watermark(s, now); w != 998_000 {
		t.Fatalf("read to the end the watermark is %v", w)
	}
}

func TestCreateTime(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, tc := range []struct {
		name  string
		p     policy
		split split
		want  element.Time
	}{
		{"nothing read", policy{}, split{seen: element.MinTime}, element.MinTime},
		{"nothing read, delay", policy{maxDelay: time.Second}, split{seen: element.MinTime}, element.MinTime},
		{"largest", policy{}, split{seen: 500}, 500},
		{"delay", policy{maxDelay: 100 * time.Millisecond}, split{seen: 500}, 400},
		{"future", policy{maxDelay: time.Second}, split{seen: 2_000_000}, 999_000},
		{"caught up", policy{}, split{seen: 500, next: 7, end: 7, checkedAt: now}, 500},
		{"caught up, follows now", policy{advanceIdle: true, maxDelay: time.Second}, split{seen: 500, next: 7, end: 7, checkedAt: now}, 999_000},
		{"nothing read, follows now", policy{advanceIdle: true}, split{seen: element.MinTime, checkedAt: now}, element.MinTime},
		{"never back", policy{}, split{seen: 500, watermark: 700}, 700},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.p.kind = config.CreateTime
			if tc.split.watermark == 0 {
				tc.split.watermark = element.MinTime
			}
			if got := tc.p.watermark(&tc.split, now); got != tc.want {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestSourceWatermark(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	long := now.Add(-time.Hour)
	at := func(seen element.Time, end int64, active time.Time) *split {
		return &split{seen: seen, watermark: element.MinTime, next: 5, end: end, checkedAt: now, activeAt: active}
	}
	p := policy{kind: config.CreateTime, idleAfter: time.Second}
	for _, tc := range []struct {
		name   string
		splits []*split
		want   element.Time
	}{
		{"no split", nil, element.MinTime},
		{"smallest", []*split{at(100, 5, now), at(200, 5, now)}, 100},
		{"idle left out", []*split{at(100, 5, long), at(200, 5, now)}, 200},
		{"unknown end is not idle", []*split{at(100, -1, long), at(200, 5, now)}, 100},
		{"behind is not idle", []*split{at(100, 6, long), at(200, 5, now)}, 100},
		{"empty left out", []*split{at(element.MinTime, 5, long), at(200, 5, now)}, 200},
		{"all idle", []*split{at(100, 5, long), at(300, 5, long), at(200, 5, long)}, 300},
	} {
		if got := p.source(tc.splits, now); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestPositionRoundTrip(t *testing.T) {
	now := time.UnixMilli(77)
	s := newSplit("a-topic-with-3", 12, "7", now)
	s.next = 42
	s.seen, s.watermark, s.count = 5, 4, 3
	p, err := s.position(now, 4)
	if err != nil || p.Split != "a-topic-with-3-12" {
		t.Fatal(p, err)
	}
	topic, partition, got, err := parsePosition(p)
	want := position{Next: 42, Seen: 5, Watermark: 4, Count: 3, Topic: "7", Source: 4, StartedMs: 77}
	if err != nil || topic != "a-topic-with-3" || partition != 12 || got != want {
		t.Fatal(topic, partition, got, err)
	}
}
