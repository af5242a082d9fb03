package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// realFixture is a fixture on the broker of PADSTONE_KAFKA, with topics of its own, for what the embedded broker does otherwise.
func realFixture(t *testing.T, configs map[string]*string) (*fixture, string) {
	t.Helper()
	return realPartitions(t, 2, configs)
}

func realPartitions(t *testing.T, partitions int32, configs map[string]*string) (*fixture, string) {
	t.Helper()
	addr := os.Getenv("PADSTONE_KAFKA")
	if addr == "" {
		t.Skip("PADSTONE_KAFKA names no broker")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*testTimeout)
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, ctx: ctx, client: client, admin: kadm.NewClient(client), addr: addr}
	topic := fmt.Sprintf("%s-%d", strings.ReplaceAll(strings.ToLower(t.Name()), "/", "-"), time.Now().UnixNano())
	if _, err := f.admin.CreateTopic(ctx, partitions, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := f.admin.DeleteTopic(ctx, topic); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Error(err)
		}
		client.Close()
		cancel()
	})
	return f, topic
}

// TestRealRoundTrip writes with the sink, reads with the source, resumes, commits group offsets and goes on as a new job.
func TestRealRoundTrip(t *testing.T) {
	f, topic := realFixture(t, nil)
	w := f.openSink(f.write(topic))
	for i := range 50 {
		if err := w.Publish(f.ctx, f.numbered(blocksOf(fmt.Sprint(i))...)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := f.read(topic)
	cfg.Consumer["group.id"], cfg.CommitOffsets = topic, true
	r := f.open(cfg, nil)
	for len(r.elements) < 20 {
		r.poll(20-len(r.elements), 1<<20, 100*time.Millisecond)
	}
	first := slices.Clone(r.elements)
	r.reader.Durable(r.positions())
	r.close()
	resumed := f.open(cfg, r.positions())
	resumed.untilCount(30)
	all := append(first, resumed.elements...)
	slices.Sort(all)
	if len(slices.Compact(all)) != 50 {
		t.Fatalf("%d elements: %v", len(all), all)
	}
	fresh := f.open(cfg, nil)
	fresh.untilCount(30)
	fresh.until("idle partitions", func() bool {
		return !slices.ContainsFunc(fresh.reader.Describe(), notIdle)
	})
}

// TestRealLogAppendTime: the broker's times, and a watermark near now when all is read.
func TestRealLogAppendTime(t *testing.T) {
	kind := "LogAppendTime"
	f, topic := realFixture(t, map[string]*string{"message.timestamp.type": &kind})
	before := element.Time(time.Now().UnixMilli())
	f.put(topic, 0, 1000, "", "x")
	cfg := f.read(topic)
	cfg.Policy = config.LogAppendTime
	r := f.open(cfg, nil)
	r.untilCount(1)
	r.until("a watermark beyond the record", func() bool { return r.watermark > before })
	cfg.Policy = config.CreateTime
	wrong := f.open(cfg, nil)
	for f.ctx.Err() == nil {
		if _, err := wrong.reader.Poll(f.ctx, 1, 1, 100*time.Millisecond); err != nil {
			if fault.Of(err).Code != codeTimestamp {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("no error")
}

// TestRealTransactions: aborted records are not seen and a partition that ends in markers counts as read.
func TestRealTransactions(t *testing.T) {
	f, topic := realFixture(t, nil)
	f.runTransactions(topic)
	cfg := f.read(topic)
	cfg.Consumer["isolation.level"] = "read_committed"
	r := f.open(cfg, nil)
	r.untilCount(2)
	r.until("idle partitions", func() bool { return !slices.ContainsFunc(r.reader.Describe(), notIdle) })
	if !slices.Equal(r.elements, []string{"null=true@1", "null=true@1"}) {
		t.Fatalf("got %v", r.elements)
	}
}

// TestRealRefusals: what a broker says about topics and records.
func TestRealRefusals(t *testing.T) {
	limit := "2000"
	f, topic := realFixture(t, map[string]*string{"max.message.bytes": &limit})
	w := f.openSink(f.write(topic))
	err := w.Publish(f.ctx, f.numbered(blocksOf(strings.Repeat("x", 5000))...))
	if got := fault.Of(err); got == nil || got.Code != codeRecord || got.Kind != fault.Pipeline {
		t.Fatalf("got %v", err)
	}
	if _, err := f.admin.DeleteTopic(f.ctx, topic); err != nil {
		t.Fatal(err)
	}
	src, _ := Registry(f.log()).Source(config.ReadURN)
	if _, err := src.Open(f.ctx, encodeConfig(t, f.read(topic)), nil); fault.Of(err) == nil || fault.Of(err).Code != codeTopic {
		t.Fatalf("got %v", err)
	}
}
