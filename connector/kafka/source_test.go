package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// TestReadSeveralPartitions: everything arrives once, in the order of its partition, with the producer's times.
func TestReadSeveralPartitions(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 3})
	var want []string
	for i := range 300 {
		ms := int64(1000 + (i*37)%100) // out of order
		f.client.Produce(f.ctx, &kgo.Record{
			Topic: "in", Partition: int32(i % 3), Key: []byte("k"), Value: []byte(fmt.Sprint(i)), Timestamp: time.UnixMilli(ms),
		}, nil)
		want = append(want, fmt.Sprintf("k=%d@%d", i, ms))
	}
	if err := f.client.Flush(f.ctx); err != nil {
		t.Fatal(err)
	}
	r := f.open(f.read("in"), nil)
	r.untilCount(300)
	got := slices.Clone(r.elements)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	r.until("watermark at the largest time", func() bool { return r.watermark == 1099 })
	if r.poll(10, 1000, time.Millisecond).Count != 0 || len(r.elements) != 300 {
		t.Fatal("an element came twice")
	}
}

// TestPollLimits: counts are exact and bytes about so, whatever the client has fetched.
func TestPollLimits(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	for i := range 50 {
		f.put("in", 0, int64(1+i), "k", strings.Repeat("x", 100))
	}
	r := f.open(f.read("in"), nil)
	for len(r.elements) < 30 {
		if b := r.poll(7, 1<<20, 50*time.Millisecond); b.Count > 7 {
			t.Fatalf("%d elements", b.Count)
		}
	}
	for len(r.elements) < 50 {
		if b := r.poll(1000, 250, 50*time.Millisecond); b.Count > 3 {
			t.Fatalf("%d elements in %d bytes", b.Count, len(b.Data))
		}
	}
	for i, e := range r.elements {
		if !strings.HasSuffix(e, fmt.Sprintf("@%d", 1+i)) {
			t.Fatalf("element %d is %s", i, e)
		}
	}
	start := time.Now()
	if b := r.poll(7, 1<<20, 0); b.Count != 0 || time.Since(start) > time.Second {
		t.Fatal("a poll without wait waited")
	}
}

// TestResume: a second reader with the positions after any batch goes on exactly there, also when records are pending.
func TestResume(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2})
	for i := range 40 {
		f.put("in", int32(i%2), int64(100+i), "", fmt.Sprint(i))
	}
	var all []string
	var state []connector.Position
	for len(all) < 40 {
		r := f.open(f.read("in"), state)
		n := 0
		for n < 7 && len(all)+n < 40 {
			b := r.poll(3, 1<<20, 50*time.Millisecond)
			n += b.Count
		}
		all = append(all, r.elements...)
		state = r.positions()
		r.close()
	}
	slices.Sort(all)
	if len(slices.Compact(all)) != 40 {
		t.Fatalf("%d elements: %v", len(all), all)
	}
	r := f.open(f.read("in"), state)
	r.poll(10, 1<<20, 0)
	if r.watermark < 138 {
		t.Fatalf("the watermark after resuming is %v", r.watermark)
	}
}

// TestLatestIsDecidedOnce: what is written between two openings is read, though the job started at the end.
func TestLatestIsDecidedOnce(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2})
	f.put("in", 0, 1, "", "old")
	cfg := f.read("in")
	delete(cfg.Consumer, "auto.offset.reset")
	r := f.open(cfg, nil)
	if b := r.poll(10, 1000, 0); len(b.Positions) != 2 {
		t.Fatalf("the first batch has positions %v", b.Positions)
	}
	r.close()
	f.put("in", 0, 2, "", "new")
	f.put("in", 1, 3, "", "newer")
	r = f.open(cfg, r.positions())
	r.untilCount(2)
	slices.Sort(r.elements)
	if !slices.Equal(r.elements, []string{"=new@2", "=newer@3"}) {
		t.Fatalf("got %v", r.elements)
	}
}

func TestStartReadTime(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2})
	for i := range 10 {
		f.put("in", int32(i%2), int64(1000*(i+1)), "", fmt.Sprint(i))
	}
	cfg := f.read("in")
	start := int64(5500)
	cfg.StartMs = &start
	r := f.open(cfg, nil)
	r.untilCount(5)
	r.poll(100, 1<<20, 20*time.Millisecond)
	slices.Sort(r.elements)
	if strings.Join(r.elements, " ") != "=5@6000 =6@7000 =7@8000 =8@9000 =9@10000" {
		t.Fatalf("got %v", r.elements)
	}
}

func TestMaxNumRecords(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2})
	for i := range 20 {
		f.put("in", int32(i%2), int64(1+i), "", fmt.Sprint(i))
	}
	cfg := f.read("in")
	n := int64(13)
	cfg.MaxRecords = &n
	r := f.open(cfg, nil)
	for len(r.elements) < 6 {
		r.poll(3, 1<<20, 50*time.Millisecond)
	}
	first := slices.Clone(r.elements)
	r.close()
	r = f.open(cfg, r.positions())
	r.until("the end", func() bool { return r.done })
	if len(first)+len(r.elements) != 13 || r.watermark != element.MaxTime {
		t.Fatalf("%d and %d elements, watermark %v", len(first), len(r.elements), r.watermark)
	}
	r = f.open(cfg, r.positions())
	if b := r.poll(10, 1000, time.Second); !b.Done || b.Count != 0 {
		t.Fatalf("an exhausted source gives %+v", b)
	}
}

func TestMaxReadTime(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	cfg := f.read("in")
	seconds := int64(1)
	cfg.MaxSeconds = &seconds
	r := f.open(cfg, nil)
	f.put("in", 0, 7, "", "x")
	r.until("the end", func() bool { return r.done })
	if len(r.elements) != 1 || r.watermark != element.MaxTime {
		t.Fatalf("%v, watermark %v", r.elements, r.watermark)
	}
}

// TestIdlePartitionDoesNotHold: event times are years ago, one partition is empty, one has a few old records, one goes on.
func TestIdlePartitionDoesNotHold(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 3})
	f.put("in", 1, 1000, "", "few")
	f.put("in", 2, 5000, "", "a")
	r := f.open(f.read("in"), nil)
	r.until("the faster partition's watermark", func() bool { return r.watermark == 5000 })
	f.put("in", 2, 9000, "", "b")
	r.until("the next watermark", func() bool { return r.watermark == 9000 })
	for _, s := range r.reader.Describe() {
		if s.End != s.Position {
			t.Errorf("split %+v is not at its end", s)
		}
	}
	// A partition that wakes up does not take the watermark back (poll checks that), and is read.
	f.put("in", 0, 2000, "", "late")
	r.untilCount(4)
	if r.watermark != 9000 {
		t.Fatalf("watermark %v", r.watermark)
	}
}

// TestActivePartitionHolds: a partition that still has records to read holds the watermark at its own.
func TestActivePartitionHolds(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2})
	for i := range 20 {
		f.put("in", 0, int64(100+i), "", "slow")
	}
	f.put("in", 1, 9000, "", "fast")
	cfg := f.read("in")
	cfg.Consumer["padstone.idle.after.ms"] = "60000"
	r := f.open(cfg, nil)
	r.untilCount(21)
	if r.watermark != 119 {
		t.Fatalf("watermark %v", r.watermark)
	}
}

func TestProcessingTime(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	f.put("in", 0, 1000, "", "x")
	before := element.Time(time.Now().UnixMilli())
	cfg := f.read("in")
	cfg.Policy = config.ProcessingTime
	r := f.open(cfg, nil)
	b := r.poll(10, 1000, 20*time.Millisecond)
	for b.Count == 0 {
		b = r.poll(10, 1000, 20*time.Millisecond) // which fails the test when its time is over
	}
	if b.MinTS < before || b.Watermark != b.MinTS {
		t.Fatalf("element at %v, watermark %v, written at %v", b.MinTS, b.Watermark, before)
	}
	last := r.watermark
	r.until("a later watermark without records", func() bool { return r.watermark > last })
}

// TestPolicyMismatch: a topic whose timestamps are of another type than the policy wants is refused, naming the record.
func TestPolicyMismatch(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	f.put("in", 0, 1000, "", "x")
	cfg := f.read("in")
	cfg.Policy = config.LogAppendTime
	r := f.open(cfg, nil)
	for f.ctx.Err() == nil {
		if _, err := r.reader.Poll(f.ctx, 10, 1000, 20*time.Millisecond); err != nil {
			got := fault.Of(err)
			if got.Code != codeTimestamp || got.Kind != fault.Pipeline || !strings.Contains(err.Error(), `"in" partition 0 offset 0`) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no error")
}

func TestCreateTimeDelayAndIdleNow(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	f.put("in", 0, 50_000, "", "x")
	cfg := f.read("in")
	cfg.Consumer["padstone.max.delay.ms"] = "20000"
	r := f.open(cfg, nil)
	r.untilCount(1)
	if r.watermark != 30_000 {
		t.Fatalf("watermark %v", r.watermark)
	}
	cfg.Consumer["padstone.idle.watermark"] = "now"
	r = f.open(cfg, nil)
	near := element.Time(time.Now().Add(-time.Minute).UnixMilli())
	r.until("the wall clock", func() bool { return r.watermark > near })
}

func TestDiscovery(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	cfg := f.read("in")
	cfg.Consumer["auto.offset.reset"] = "latest" // a partition younger than the job is read from its start all the same
	every := int64(1)
	cfg.DiscoverySeconds = &every
	r := f.open(cfg, nil)
	r.poll(1, 1, 0)
	if _, err := f.admin.CreatePartitions(f.ctx, 1, "in"); err != nil {
		t.Fatal(err)
	}
	f.put("in", 1, 5, "", "new")
	r.untilCount(1)
	if len(r.reader.Describe()) != 2 {
		t.Fatalf("splits %+v", r.reader.Describe())
	}

	// Without an interval of the user's, too; a partition that is new at the next opening is read from its start as well.
	cfg.DiscoverySeconds = nil
	r.close()
	r = f.open(cfg, r.positions())
	if _, err := f.admin.CreatePartitions(f.ctx, 1, "in"); err != nil {
		t.Fatal(err)
	}
	f.put("in", 2, 6, "", "newer")
	r.untilCount(1)
	r.close()
	if _, err := f.admin.CreatePartitions(f.ctx, 1, "in"); err != nil {
		t.Fatal(err)
	}
	f.put("in", 3, 7, "", "newest")
	r = f.open(cfg, r.positions())
	r.untilCount(1)
	if r.elements[0] != "=newest@7" {
		t.Fatalf("got %v", r.elements)
	}
}

// TestTopicMadeAnew: what comes under the name of a topic that was deleted is read from its beginning, however far the one before was.
func TestTopicMadeAnew(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 2, "other": 1})
	for i := range 4 {
		f.put("in", int32(i%2), int64(1+i), "", fmt.Sprint("old", i))
	}
	f.put("other", 0, 1, "", "other")
	r := f.open(f.read("in", "other"), nil)
	r.untilCount(5)
	if _, err := f.admin.DeleteTopic(f.ctx, "in"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.admin.CreateTopic(f.ctx, 1, 1, nil, "in"); err != nil {
		t.Fatal(err)
	}
	f.client.PurgeTopicsFromProducing("in")
	for i := range 9 {
		f.put("in", 0, int64(10+i), "", fmt.Sprint("new", i))
	}
	for { // who reads notices
		_, err := r.reader.Poll(f.ctx, 1000, 1<<20, 20*time.Millisecond)
		if got := fault.Of(err); got != nil && got.Code == codeTopic {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.close()
	cfg := f.read("in", "other")
	cfg.Consumer["auto.offset.reset"] = "latest"
	again := f.open(cfg, r.positions())
	again.untilCount(9)
	again.close()
	if again.elements[0] != "=new0@10" {
		t.Fatalf("got %v", again.elements)
	}
	if last := f.open(cfg, again.positions()); last.poll(10, 1<<20, 100*time.Millisecond).Count != 0 {
		t.Fatalf("got %v again", last.elements)
	}
	cfg.Consumer["auto.offset.reset"], cfg.Consumer["group.id"] = "none", "g"
	src, _ := Registry(zap.NewNop()).Source(config.ReadURN)
	_, err := src.Open(f.ctx, encodeConfig(t, cfg), r.positions())
	if got := fault.Of(err); got == nil || got.Code != codeOffset || !strings.Contains(got.Error(), "made anew") {
		t.Fatalf("got %v", err)
	}
}

func TestGroupOffsets(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	for i := range 6 {
		f.put("in", 0, int64(1+i), "", fmt.Sprint(i))
	}
	cfg := f.read("in")
	cfg.Consumer["group.id"] = "readers"
	cfg.CommitOffsets = true
	r := f.open(cfg, nil)
	for len(r.elements) < 4 {
		r.poll(4-len(r.elements), 1<<20, 50*time.Millisecond)
	}
	committed := func() int64 {
		offsets, err := f.admin.FetchOffsetsForTopics(f.ctx, "readers", "in")
		if errors.Is(err, kerr.GroupIDNotFound) {
			return -1
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _ := offsets.Lookup("in", 0)
		return o.At
	}
	if at := committed(); at != -1 {
		t.Fatalf("offset %d is committed before anything is durable", at)
	}
	r.reader.Durable(r.positions())
	r.close() // commits what is left
	if at := committed(); at != 4 {
		t.Fatalf("committed %d", at)
	}
	if got := r.reader.Describe()[0].Committed; got != 4 {
		t.Fatalf("Describe says %d is committed", got)
	}
	// A new job with the group goes on behind it; a resumed one at its own position.
	fresh := f.open(cfg, nil)
	fresh.untilCount(2)
	if !slices.Equal(fresh.elements, []string{"=4@5", "=5@6"}) {
		t.Fatalf("got %v", fresh.elements)
	}
}

func TestNulls(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	for _, r := range []kgo.Record{{}, {Key: []byte{}, Value: []byte{}}, {Key: []byte("k")}, {Value: []byte("v")}} {
		r.Topic, r.Timestamp = "in", time.UnixMilli(1)
		f.putRecord(&r)
	}
	r := f.open(f.read("in"), nil)
	r.untilCount(4)
	if !slices.Equal(r.elements, []string{"null=null@1", "=@1", "k=null@1", "null=v@1"}) {
		t.Fatalf("got %v", r.elements)
	}
}

// TestTransactions: aborted records are not seen with read_committed, and a partition that ends in markers counts as read.
func TestTransactions(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	f.runTransactions("in")
	cfg := f.read("in")
	cfg.Consumer["isolation.level"] = "read_committed"
	r := f.open(cfg, nil)
	r.untilCount(2)
	r.until("the end of the partition", func() bool { return r.reader.Describe()[0].Idle })
	if !slices.Equal(r.elements, []string{"null=true@1", "null=true@1"}) {
		t.Fatalf("got %v", r.elements)
	}
}

func TestLeaderChange(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	if _, _, err := f.broker.Cluster().AddNode(-1, 0); err != nil {
		t.Fatal(err)
	}
	f.put("in", 0, 1, "", "before")
	r := f.open(f.read("in"), nil)
	r.untilCount(1)
	to := 1 - f.broker.Cluster().LeaderFor("in", 0)
	if err := f.broker.Cluster().MoveTopicPartition("in", 0, to); err != nil {
		t.Fatal(err)
	}
	f.put("in", 0, 2, "", "after")
	r.untilCount(2)
}

// TestOutage: a broker that goes away shows in Describe and does not fail the reader.
func TestOutage(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, map[string]int32{"in": 1}, keep(dir)...)
	f.put("in", 0, 1, "", "before")
	r := f.open(f.read("in"), nil)
	r.untilCount(1)
	addr := f.broker.Addr()
	f.broker.Close()
	r.until("a problem", func() bool { return r.reader.Describe()[0].Problem != "" })
	f.restart(addr, dir)
	f.put("in", 0, 2, "", "after")
	r.untilCount(2)
	r.until("no problem", func() bool { return r.reader.Describe()[0].Problem == "" })
	if !slices.Equal(r.elements, []string{"=before@1", "=after@2"}) {
		t.Fatalf("got %v", r.elements)
	}
}

func TestOpenRefuses(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := listener.Addr().String()
	listener.Close()
	for name, tc := range map[string]struct {
		change func(*config.Read)
		state  []connector.Position
		code   fault.Code
		kind   fault.Kind
		text   string
	}{
		"unreachable": {
			change: func(c *config.Read) { c.Consumer["bootstrap.servers"] = dead },
			code:   codeUnreachable, kind: fault.Environment, text: dead + " answered: unable to dial",
		},
		"missing topic": {
			change: func(c *config.Read) { c.Topics = []string{"in", "nowhere"} },
			code:   codeTopic, kind: fault.Environment, text: `"nowhere"`,
		},
		"no offset": {
			change: func(c *config.Read) { c.Consumer["auto.offset.reset"], c.Consumer["group.id"] = "none", "g" },
			code:   codeOffset, kind: fault.Environment, text: `group "g"`,
		},
		"unreadable position": {
			state: []connector.Position{{Split: "in-0", State: []byte("{")}},
			code:  codePosition, kind: fault.Corruption, text: `"in-0"`,
		},
		"fewer partitions": {
			state: []connector.Position{{Split: "in-7", State: []byte("{}")}},
			code:  codeOffset, kind: fault.Environment, text: "partition 7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := f.read("in")
			if tc.change != nil {
				tc.change(cfg)
			}
			src, _ := Registry(zap.NewNop()).Source(config.ReadURN)
			start := time.Now()
			r, err := src.Open(context.Background(), encodeConfig(t, cfg), tc.state)
			if err == nil {
				r.Close()
				t.Fatal("opened")
			}
			got := fault.Of(err)
			if got == nil || got.Code != tc.code || got.Kind != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v", err)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Fatalf("took %v", d)
			}
		})
	}
}

func TestPollAfterCancel(t *testing.T) {
	f := newFixture(t, map[string]int32{"in": 1})
	r := f.open(f.read("in"), nil)
	ctx, cancel := context.WithCancelCause(f.ctx)
	reason := errors.New("stop")
	cancel(reason)
	if _, err := r.reader.Poll(ctx, 10, 1000, time.Minute); !errors.Is(err, reason) {
		t.Fatalf("got %v", err)
	}
}
