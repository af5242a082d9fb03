package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"padstone/connector/kafka/broker"
	"padstone/internal/fault"
)

const testTimeout = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStartRefuses(t *testing.T) {
	for _, tc := range []struct {
		addr   string
		topics map[string]int32
	}{
		{addr: "localhost"},
		{addr: "localhost:http"},
		{addr: "0.0.0.0:0"},
		{addr: "kafka.example.com:9092"},
		{addr: "localhost:0", topics: map[string]int32{"t": 0}},
		{addr: "localhost:0", topics: map[string]int32{"t": 100000}},
		{addr: "localhost:0", topics: map[string]int32{"not a topic": 1}},
	} {
		b, err := broker.Start(tc.addr, tc.topics)
		if err == nil {
			b.Close()
			t.Errorf("Start(%q, %v): want an error", tc.addr, tc.topics)
		} else if f := fault.Of(err); f != nil && f.Code != "kafka-embedded" {
			t.Errorf("Start(%q, %v): %v", tc.addr, tc.topics, err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	b, err := broker.Start("localhost:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if other, err := broker.Start(b.Addr(), nil); err == nil {
		other.Close()
		t.Fatal("two brokers on one port")
	}
}

// TestKeep writes, closes, starts again on the same directory and reads.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	start := func() (*broker.Broker, *kgo.Client) {
		b, err := broker.StartKept("localhost:0", map[string]int32{"orders": 2}, dir)
		if err != nil {
			t.Fatal(err)
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("orders"), kgo.DisableClientMetrics(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		return b, client
	}
	b, client := start()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("one")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	client.Close()
	b.Close()

	b, client = start()
	defer b.Close()
	defer client.Close()
	fetches := client.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if records := fetches.Records(); len(records) != 1 || string(records[0].Value) != "one" {
		t.Fatalf("after a restart the topic holds %v", records)
	}
}
