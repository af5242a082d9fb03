package kafka

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"padstone/connector"
	"padstone/connector/kafka/broker"
	"padstone/connector/kafka/config"
	"padstone/engine/element"
)

const testTimeout = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a broker with a client of its own to write with and to look with.
type fixture struct {
	t      *testing.T
	ctx    context.Context
	broker *broker.Broker // nil when the broker is another one, at addr
	addr   string
	client *kgo.Client
	admin  *kadm.Client
	sinks  int    // opened so far, each with an identity of its own
	seq    uint64 // the last that numbered has given
}

// numbered gives blocks the next sequences of the test.
func (f *fixture) numbered(blocks ...element.Block) []connector.OutboxBlock {
	out := make([]connector.OutboxBlock, len(blocks))
	for i, b := range blocks {
		f.seq++
		out[i] = connector.OutboxBlock{Seq: f.seq, Block: b}
	}
	return out
}

func newFixture(t *testing.T, topics map[string]int32, opts ...broker.Option) *fixture {
	t.Helper()
	b, err := broker.Start("localhost:0", topics, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		b.Close()
		cancel()
	})
	return &fixture{t: t, ctx: ctx, broker: b, addr: b.Addr(), client: client, admin: kadm.NewClient(client)}
}

// put writes a record; ms is its event time, 0 for now.
func (f *fixture) put(topic string, partition int32, ms int64, key, value string, headers ...kgo.RecordHeader) {
	f.t.Helper()
	r := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: []byte(value), Headers: headers}
	if ms != 0 {
		r.Timestamp = time.UnixMilli(ms)
	}
	f.putRecord(r)
}

func (f *fixture) putRecord(r *kgo.Record) {
	f.t.Helper()
	for {
		err := f.client.ProduceSync(f.ctx, r).FirstErr()
		if err == nil {
			return
		}
		// A topic that was just made, or has grown, may not be known everywhere.
		if !strings.Contains(err.Error(), badPartitionText) && !isUnknownTopic(err) {
			f.t.Fatal(err)
		}
		f.client.ForceMetadataRefresh()
		time.Sleep(5 * time.Millisecond)
	}
}

// read returns a configuration that reads topics from the beginning, for a test to change.
func (f *fixture) read(topics ...string) *config.Read {
	return &config.Read{
		Topics: topics, Key: config.Bytes, Value: config.Bytes, Policy: config.CreateTime,
		Consumer: map[string]string{
			"bootstrap.servers": f.addr, "auto.offset.reset": "earliest", "fetch.max.wait.ms": "50", "padstone.idle.after.ms": "100",
		},
	}
}

func (f *fixture) log() *zap.Logger { return zaptest.NewLogger(f.t, zaptest.Level(zap.WarnLevel)) }

func encodeConfig(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (f *fixture) open(cfg *config.Read, state []connector.Position) *tested {
	f.t.Helper()
	src, ok := Registry(f.log()).Source(config.ReadURN)
	if !ok {
		f.t.Fatal("no source")
	}
	r, err := src.Open(f.ctx, encodeConfig(f.t, cfg), state)
	if err != nil {
		f.t.Fatal(err)
	}
	out := &tested{f: f, reader: r, state: map[string]connector.Position{}, watermark: element.MinTime}
	for _, p := range state {
		out.state[p.Split] = p
	}
	f.t.Cleanup(out.close)
	return out
}

// tested drives a reader and checks on each poll what holds for every source.
type tested struct {
	f         *fixture
	reader    connector.Reader
	closed    bool
	state     map[string]connector.Position
	watermark element.Time
	done      bool
	elements  []string // "key=value@ms"
}

func (r *tested) close() {
	if r.closed {
		return
	}
	r.closed = true
	if err := r.reader.Close(); err != nil {
		r.f.t.Error(err)
	}
}

func (r *tested) positions() []connector.Position {
	var out []connector.Position
	for _, p := range r.state {
		out = append(out, p)
	}
	return out
}

func (r *tested) poll(maxElements, maxBytes int, wait time.Duration) connector.Batch {
	r.f.t.Helper()
	b, err := r.reader.Poll(r.f.ctx, maxElements, maxBytes, wait)
	if err != nil {
		r.f.t.Fatal(err)
	}
	if b.Count > maxElements {
		r.f.t.Fatalf("%d elements of at most %d", b.Count, maxElements)
	}
	if b.Watermark < r.watermark {
		r.f.t.Fatalf("watermark went from %v to %v", r.watermark, b.Watermark)
	}
	r.watermark, r.done = b.Watermark, b.Done
	elements := decodeElements(r.f.t, b)
	r.elements = append(r.elements, elements...)
	for _, p := range b.Positions {
		r.state[p.Split] = p
	}
	return b
}

// until polls until ok.
func (r *tested) until(what string, ok func() bool) {
	r.f.t.Helper()
	for !ok() {
		if r.f.ctx.Err() != nil {
			r.f.t.Fatalf("never saw %s; have %d elements %v, watermark %v, %+v", what, len(r.elements), r.elements, r.watermark, r.reader.Describe())
		}
		r.poll(1000, 1<<20, 20*time.Millisecond)
	}
}

func (r *tested) untilCount(n int) {
	r.f.t.Helper()
	r.until(fmt.Sprintf("%d elements", n), func() bool { return len(r.elements) >= n })
}

// decodeElements checks the framing of a batch in the coder kv(nullable(bytes), nullable(bytes)).
func decodeElements(t *testing.T, b connector.Batch) []string {
	t.Helper()
	var out []string
	low, high := element.MaxTime, element.MinTime
	data := b.Data
	for len(data) > 0 {
		ts := element.Time(binary.BigEndian.Uint64(data) ^ (1 << 63))
		low, high = min(low, ts), max(high, ts)
		if binary.BigEndian.Uint32(data[8:]) != 1 || data[12] != 0x0f {
			t.Fatalf("header % x", data[:13])
		}
		data = data[13:]
		var text [2]string
		for i := range text {
			if data[0] == 0 {
				text[i], data = "null", data[1:]
				continue
			}
			v, rest, err := takeBytes(data[1:])
			if err != nil {
				t.Fatal(err)
			}
			text[i], data = string(v), rest
		}
		out = append(out, fmt.Sprintf("%s=%s@%d", text[0], text[1], ts))
	}
	if len(out) != b.Count || low != b.MinTS || high != b.MaxTS {
		t.Fatalf("batch says %d elements from %v to %v, has %d from %v to %v", b.Count, b.MinTS, b.MaxTS, len(out), low, high)
	}
	return out
}

func keep(dir string) []broker.Option { return broker.Keep(dir) }

// restart brings the broker back on its old address with what it kept in dir.
func (f *fixture) restart(addr, dir string) {
	f.t.Helper()
	b, err := broker.StartKept(addr, nil, dir)
	for ; err != nil; b, err = broker.StartKept(addr, nil, dir) { // somebody's connection may have the port
		if f.ctx.Err() != nil {
			f.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.broker = b
	f.t.Cleanup(func() { b.Close() })
}

// dropAutoCreate answers metadata requests as if they did not ask for topics to be made.
func dropAutoCreate(req kmsg.Request) (kmsg.Response, error, bool) {
	req.(*kmsg.MetadataRequest).AllowAutoTopicCreation = false
	return nil, nil, false
}

func nullRecord(topic string) *kgo.Record { return &kgo.Record{Topic: topic} }

// runTransactions commits, aborts, commits and aborts one record each, all at time 1.
func (f *fixture) runTransactions(topic string) {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.TransactionalID("tx-"+topic), kgo.DisableClientMetrics())
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			f.t.Fatal(err)
		}
		r := &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(end)), Timestamp: time.UnixMilli(1)}
		if err := client.ProduceSync(f.ctx, r).FirstErr(); err != nil {
			f.t.Fatal(err)
		}
		if err := client.EndTransaction(f.ctx, end); err != nil {
			f.t.Fatal(err)
		}
	}
}

func notIdle(s connector.SplitStatus) bool { return !s.Idle }

// blocksOf is one block of one element with key "k".
func blocksOf(value string) []element.Block {
	return []element.Block{blockOf(globalHeader + lp("k") + lp(value))}
}
