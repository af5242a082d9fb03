package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

var bytesOperand = config.Operand{Format: config.Bytes, Coder: config.BytesCoder}

func (f *fixture) write(topic string) *config.Write {
	return &config.Write{
		Topic: topic, Key: bytesOperand, Value: bytesOperand, Window: plan.GlobalWindow,
		Producer: map[string]string{"bootstrap.servers": f.addr},
	}
}

func (f *fixture) openSink(cfg *config.Write) connector.Writer {
	f.t.Helper()
	snk, ok := Registry(zap.NewNop()).Sink(config.WriteURN)
	if !ok {
		f.t.Fatal("no sink")
	}
	f.sinks++
	as := connector.Identity{Job: f.t.Name() + fmt.Sprint(time.Now().UnixNano()), Stage: fmt.Sprint(f.sinks)} // a real broker remembers
	w, _, err := snk.Open(f.ctx, encodeConfig(f.t, cfg), as)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := w.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return w
}

// globalHeader is timestamp 0, one global window and pane NO_FIRING.
const globalHeader = "\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x0f"

func lp(s string) string { return string(appendString(nil, s)) }

func blockOf(elements ...string) element.Block {
	b := element.Block{Count: len(elements)}
	for _, e := range elements {
		b.Data = append(b.Data, e...)
	}
	return b
}

// content reads n records of a topic from its beginning, as "topic/partition key=value".
func (f *fixture) content(n int, topics ...string) []string {
	f.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.ConsumeTopics(topics...), kgo.DisableClientMetrics(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	var out []string
	for len(out) < n {
		fetches := client.PollFetches(f.ctx)
		if err := fetches.Err(); err != nil {
			f.t.Fatalf("%v; have %v", err, out)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			out = append(out, fmt.Sprintf("%s/%d %s=%s", r.Topic, r.Partition, show(r.Key), show(r.Value))+showHeaders(r.Headers))
		})
	}
	return out
}

func show(b []byte) string {
	if b == nil {
		return "null"
	}
	return string(b)
}

func showHeaders(headers []kgo.RecordHeader) string {
	var b strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&b, " %s:%s", h.Key, show(h.Value))
	}
	return b.String()
}

func TestPublish(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	w := f.openSink(f.write("out"))
	blocks := []element.Block{
		blockOf(globalHeader+lp("a")+lp("1"), globalHeader+lp("")+lp("2")),
		blockOf(),
		blockOf(globalHeader + lp("c") + lp("3")),
	}
	if err := w.Publish(f.ctx, f.numbered(blocks...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(f.ctx, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"out/0 a=1", "out/0 =2", "out/0 c=3"}
	if got := f.content(3, "out"); !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
}

// TestPublishMany: more than the client's buffer holds, in order, compressed.
func TestPublishMany(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	cfg := f.write("out")
	cfg.Producer["buffer.memory"] = "100000"
	cfg.Producer["compression.type"] = "zstd"
	w := f.openSink(cfg)
	var elements []string
	for i := range 2000 {
		elements = append(elements, globalHeader+lp("k")+lp(fmt.Sprintf("%0200d", i)))
	}
	if err := w.Publish(f.ctx, f.numbered(blockOf(elements...))); err != nil {
		t.Fatal(err)
	}
	if got := f.content(2000, "out"); !slices.IsSorted(got) || len(got) != 2000 {
		t.Fatalf("%d records", len(got))
	}
}

func TestPartitioning(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 7})
	w := f.openSink(f.write("out"))
	var elements []string
	for i := range 70 {
		elements = append(elements, globalHeader+lp(fmt.Sprintf("key-%d", i%10))+lp("v"))
	}
	if err := w.Publish(f.ctx, f.numbered(blockOf(elements...))); err != nil {
		t.Fatal(err)
	}
	got := f.content(70, "out")
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != 10 {
		t.Fatalf("10 keys are in %d places: %v", n, got)
	}
	// What Kafka's Java producer computes: (murmur2("key-0") & 0x7fffffff) % 7.
	if !slices.Contains(got, "out/"+fmt.Sprint(javaPartition("key-0", 7))+" key-0=v") {
		t.Fatalf("key-0 is elsewhere: %v", got)
	}
}

// javaPartition is written down from Kafka's definition of murmur2, not with the client's code.
func javaPartition(key string, n int) int {
	const m, r = 0x5bd1e995, 24
	data := []byte(key)
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data)
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int(h&0x7fffffff) % n
}

func TestDecodeOperands(t *testing.T) {
	varint := func(v int64) string { return string(binary.AppendUvarint(nil, uint64(v))) }
	double := func(v float64) string { return string(binary.BigEndian.AppendUint64(nil, math.Float64bits(v))) }
	for _, tc := range []struct {
		o    config.Operand
		in   string
		want string // in Kafka
		code fault.Code
	}{
		{o: bytesOperand, in: lp("x"), want: "x"},
		{o: config.Operand{Format: config.String, Coder: config.StringCoder}, in: lp("ü"), want: "ü"},
		{o: config.Operand{Format: config.Bytes, Coder: config.BytesCoder, Nullable: true}, in: "\x00", want: "null"},
		{o: config.Operand{Format: config.Bytes, Coder: config.BytesCoder, Nullable: true}, in: "\x01" + lp(""), want: ""},
		{o: config.Operand{Format: config.Int16, Coder: config.VarintCoder}, in: varint(-2), want: "\xff\xfe"},
		{o: config.Operand{Format: config.Int16, Coder: config.VarintCoder}, in: varint(40000), code: codeRecord},
		{o: config.Operand{Format: config.Int32, Coder: config.VarintCoder}, in: varint(-1), want: "\xff\xff\xff\xff"},
		{o: config.Operand{Format: config.Int32, Coder: config.VarintCoder}, in: varint(1 << 31), code: codeRecord},
		{o: config.Operand{Format: config.Int64, Coder: config.VarintCoder}, in: varint(math.MinInt64), want: "\x80\x00\x00\x00\x00\x00\x00\x00"},
		{o: config.Operand{Format: config.Float64, Coder: config.DoubleCoder}, in: double(1.5), want: "\x3f\xf8\x00\x00\x00\x00\x00\x00"},
		{o: config.Operand{Format: config.Float32, Coder: config.DoubleCoder}, in: double(1.5), want: "\x3f\xc0\x00\x00"},
		{o: bytesOperand, in: "\x05x", code: codeElement},
		{o: bytesOperand, in: "", code: codeElement},
		{o: config.Operand{Format: config.Bytes, Coder: config.BytesCoder, Nullable: true}, in: "", code: codeElement},
		{o: config.Operand{Format: config.Float64, Coder: config.DoubleCoder}, in: "\x01", code: codeElement},
		{o: config.Operand{Format: config.Int64, Coder: config.VarintCoder}, in: "\x80", code: codeElement},
	} {
		d, err := newDecoder(&config.Write{Topic: "t", Key: bytesOperand, Value: tc.o, Window: plan.GlobalWindow})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.block(nil, blockOf(globalHeader+lp("")+tc.in))
		if tc.code != "" {
			if f := fault.Of(err); f == nil || f.Code != tc.code {
				t.Errorf("%+v of % x: %v, %v", tc.o, tc.in, got, err)
			}
			continue
		}
		if err != nil || show(got[0].Value) != tc.want {
			t.Errorf("%+v of % x: %v, %v", tc.o, tc.in, got, err)
		}
	}
}

// TestHeaders: every coding of windows and panes is passed over.
func TestElementHeaders(t *testing.T) {
	ts := "\x80\x00\x00\x00\x00\x00\x00\x01"
	for _, tc := range []struct {
		name   string
		window plan.WindowCoding
		header string
		bad    bool
	}{
		{name: "global", window: plan.GlobalWindow, header: ts + "\x00\x00\x00\x01" + "\x0f"},
		{name: "two intervals", window: plan.IntervalWindow, header: ts + "\x00\x00\x00\x02" + ts + "\x90\x4e" + ts + "\x01" + "\x0f"},
		{name: "custom", window: plan.CustomWindow, header: ts + "\x00\x00\x00\x01" + ts + "\x03abc" + "\x0f"},
		{name: "one index", window: plan.GlobalWindow, header: ts + "\x00\x00\x00\x01" + "\x14\x81\x01"},
		{name: "two indices", window: plan.GlobalWindow, header: ts + "\x00\x00\x00\x01" + "\x24\x01\x02"},
		{name: "metadata", window: plan.GlobalWindow, header: ts + "\x00\x00\x00\x01" + "\x94\x01\x02\x08\x00"},
		{name: "unknown pane", window: plan.GlobalWindow, header: ts + "\x00\x00\x00\x01" + "\x30", bad: true},
		{name: "negative windows", window: plan.GlobalWindow, header: ts + "\xff\xff\xff\xff" + "\x0f", bad: true},
		{name: "short window", window: plan.IntervalWindow, header: ts + "\x00\x00\x00\x01" + "\x0f", bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := newDecoder(&config.Write{Topic: "t", Key: bytesOperand, Value: bytesOperand, Window: tc.window})
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.block(nil, blockOf(tc.header+lp("k")+lp("v"), tc.header+lp("k")+lp("v")))
			if tc.bad != (err != nil) {
				t.Fatalf("got %v, %v", got, err)
			}
			if err == nil && (len(got) != 2 || string(got[1].Key) != "k" || string(got[1].Value) != "v") {
				t.Fatalf("got %v", got)
			}
		})
	}
	d, err := newDecoder(&config.Write{Topic: "t", Key: bytesOperand, Value: bytesOperand, Window: plan.GlobalWindow})
	if err != nil {
		t.Fatal(err)
	}
	block := blockOf(globalHeader + lp("k") + lp("v"))
	for _, count := range []int{0, 2} {
		block.Count = count
		if _, err := d.block(nil, block); err == nil {
			t.Errorf("a block of 1 element that says %d decodes", count)
		}
	}
}

func rowSchema(names string) *pipepb.Schema {
	str, byt := pipepb.AtomicType_STRING, pipepb.AtomicType_BYTES
	atomic := func(t pipepb.AtomicType) *pipepb.FieldType {
		return &pipepb.FieldType{Nullable: true, TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: t}}
	}
	header := &pipepb.Schema{Fields: []*pipepb.Field{{Name: "value", Type: atomic(byt)}, {Name: "key", Type: atomic(str)}}}
	types := map[string]*pipepb.FieldType{
		"key": atomic(byt), "value": atomic(byt), "topic": atomic(str), "partition": atomic(pipepb.AtomicType_INT32),
		"timestamp": atomic(pipepb.AtomicType_INT64), "extra": atomic(str), "key:str": atomic(str), "partition:str": atomic(str),
		"headers": {TypeInfo: &pipepb.FieldType_ArrayType{ArrayType: &pipepb.ArrayType{ElementType: &pipepb.FieldType{
			TypeInfo: &pipepb.FieldType_RowType{RowType: &pipepb.RowType{Schema: header}},
		}}}},
		"headers:str": atomic(str),
	}
	s := &pipepb.Schema{}
	for name := range strings.FieldsSeq(names) {
		plain, _, _ := strings.Cut(name, ":")
		s.Fields = append(s.Fields, &pipepb.Field{Name: plain, Type: types[name]})
	}
	return s
}

func marshal(t *testing.T, s *pipepb.Schema) []byte {
	t.Helper()
	data, err := proto.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWriteRows(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 3, "other": 1})
	cfg := f.write("out")
	cfg.RowSchema = marshal(t, rowSchema("headers key topic partition timestamp value"))
	w := f.openSink(cfg)
	headers := "\x00\x00\x00\x02" + "\x02\x00" + lp("x") + lp("h") + "\x02\x01\x01" + lp("n")
	rows := []string{
		"\x06\x01\x0c" + headers + lp("k") + "\x05" + lp("v"),               // no topic, no partition
		"\x06\x01\x1a" + headers + lp("other") + lp("v"),                    // no key, no partition, no timestamp
		"\x06\x01\x34" + "\x00\x00\x00\x00" + lp("k") + "\x02",              // no topic, timestamp, value
		"\x06\x01\x14" + "\x00\x00\x00\x00" + lp("k") + "\x02" + lp("last"), // no topic, no timestamp
	}
	var elements []string
	for _, r := range rows {
		elements = append(elements, globalHeader+lp(r))
	}
	if err := w.Publish(f.ctx, f.numbered(blockOf(elements...))); err != nil {
		t.Fatal(err)
	}
	got := f.content(4, "out", "other")
	slices.Sort(got)
	want := []string{
		"other/0 null=v h:x n:null",
		fmt.Sprintf("out/%d k=v h:x n:null", javaPartition("k", 3)), "out/2 k=last", "out/2 k=null",
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	// A partition that the topic does not have.
	bad := globalHeader + lp("\x06\x01\x14"+"\x00\x00\x00\x00"+lp("k")+"\x09"+lp("v"))
	err := w.Publish(f.ctx, f.numbered(blockOf(bad)))
	if got := fault.Of(err); got == nil || got.Code != codeRecord || !strings.Contains(err.Error(), "no partition 9") {
		t.Fatalf("got %v", err)
	}
}

func TestRowSchemas(t *testing.T) {
	for _, tc := range []struct {
		fields, topic string
		text          string // of the error; "" for none
	}{
		{"key value", "t", ""},
		{"key value topic extra", "", ""},
		{"value", "t", `"key"`},
		{"key headers", "t", `"value"`},
		{"key value", "", "topic"},
		{"key:str value", "t", `"key" of the rows to write is not bytes`},
		{"key value headers:str", "t", `"headers"`},
		{"key value partition:str", "t", `"partition"`},
	} {
		_, err := newRowDecoder(marshal(t, rowSchema(tc.fields)), tc.topic)
		switch {
		case tc.text == "" && err != nil:
			t.Errorf("%s: %v", tc.fields, err)
		case tc.text != "" && (fault.Of(err) == nil || fault.Of(err).Code != codeSchema || !strings.Contains(err.Error(), tc.text)):
			t.Errorf("%s: got %v", tc.fields, err)
		}
	}
	if _, err := newRowDecoder([]byte("\xff"), "t"); err == nil {
		t.Error("a schema that does not decode is taken")
	}
}

func TestWriteRefused(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1}, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000"}))
	w := f.openSink(f.write("out"))
	big := globalHeader + lp("k") + lp(strings.Repeat("x", 5000))
	err := w.Publish(f.ctx, f.numbered(blockOf(globalHeader+lp("k")+lp("v"), big)))
	if got := fault.Of(err); got == nil || got.Code != codeRecord || got.Kind != fault.Pipeline || !strings.Contains(got.Error(), "5001 bytes") {
		t.Fatalf("got %v", err)
	}
	huge := globalHeader + lp("k") + lp(strings.Repeat("x", 3<<20)) // beyond max.request.size
	err = w.Publish(f.ctx, f.numbered(blockOf(huge)))
	if got := fault.Of(err); got == nil || got.Code != codeRecord || got.Kind != fault.Pipeline {
		t.Fatalf("got %v", err)
	}
	// The writer goes on after a refusal.
	if err := w.Publish(f.ctx, f.numbered(blockOf(globalHeader+lp("k")+lp("v")))); err != nil {
		t.Fatal(err)
	}
}

// TestSmallBatches: a topic takes records one by one whose batch, of max.request.size, it does not take.
func TestSmallBatches(t *testing.T) {
	for _, delivery := range []string{exactlyOnce, atLeastOnce} {
		f := newFixture(t, map[string]int32{"out": 1}, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "1100"}))
		cfg := f.write("out")
		cfg.Producer["padstone.delivery"] = delivery
		w := f.openSink(cfg)
		var want []string
		publish := func(sizes ...int) {
			t.Helper()
			elements := make([]string, len(sizes))
			for i, size := range sizes {
				value := fmt.Sprintf("%0*d", size, len(want))
				elements[i] = globalHeader + lp("k") + lp(value)
				want = append(want, value)
			}
			if err := w.Publish(f.ctx, f.numbered(blockOf(elements...))); err != nil {
				t.Fatalf("%s: %v", delivery, err)
			}
		}
		publish(slices.Repeat([]int{100}, 300)...)
		publish(1010) // as large as can be, and larger than the batches have become
		publish(slices.Repeat([]int{500}, 50)...)
		// What goes through does not cost a new client each time.
		var kept *cluster
		for rounds := 0; w.(*writer).kafka != kept; rounds++ {
			if rounds == 10 {
				t.Fatalf("%s: another client each time", delivery)
			}
			kept = w.(*writer).kafka
			publish(1010)
			publish(slices.Repeat([]int{100}, 100)...)
		}
		got := f.committed("out")
		if delivery == atLeastOnce { // what came before a batch was refused has come again
			slices.Sort(got)
			got = slices.Compact(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: got %d records, not %d: %.60q", delivery, len(got), len(want), got)
		}
		err := w.Publish(f.ctx, f.numbered(blockOf(globalHeader+lp("k")+lp(strings.Repeat("x", 1101)))))
		if got := fault.Of(err); got == nil || got.Code != codeRecord {
			t.Fatalf("got %v", err)
		}
	}
}

func TestSinkOpenRefuses(t *testing.T) {
	f := newFixture(t, nil, kfake.BrokerConfigs(nil))
	f.broker.Cluster().ControlKey(3, dropAutoCreate) // a broker without auto.create.topics.enable
	snk, _ := Registry(zap.NewNop()).Sink(config.WriteURN)
	start := time.Now()
	_, _, err := snk.Open(f.ctx, encodeConfig(t, f.write("nowhere")), connector.Identity{Job: "job", Stage: "stage"})
	if got := fault.Of(err); got == nil || got.Code != codeTopic || !strings.Contains(err.Error(), "nowhere") {
		t.Fatalf("got %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Fatalf("took %v", d)
	}
}

func TestAutoCreate(t *testing.T) {
	f := newFixture(t, nil)
	w := f.openSink(f.write("fresh"))
	if err := w.Publish(f.ctx, f.numbered(blockOf(globalHeader+lp("k")+lp("v")))); err != nil {
		t.Fatal(err)
	}
	if got := f.content(1, "fresh"); !slices.Equal(got, []string{"fresh/0 k=v"}) {
		t.Fatalf("got %v", got)
	}
}

// TestPublishOutage: Publish waits while the broker is away, goes on when it is back, and ends with its context.
func TestPublishOutage(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, map[string]int32{"out": 1}, keep(dir)...)
	w := f.openSink(f.write("out"))
	addr := f.broker.Addr()
	f.broker.Close()
	ctx, cancel := context.WithTimeoutCause(f.ctx, 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	block := f.numbered(blockOf(globalHeader + lp("k") + lp("v")))
	if err := w.Publish(ctx, block); err == nil || err.Error() != "enough" {
		t.Fatalf("got %v", err)
	}
	cfg := f.write("out")
	cfg.Producer["delivery.timeout.ms"] = "100"
	f.restart(addr, dir)
	limited := f.openSink(cfg)
	f.broker.Close()
	err := limited.Publish(f.ctx, block)
	if got := fault.Of(err); got == nil || got.Code != codeWrite || got.Kind != fault.Environment {
		t.Fatalf("got %v", err)
	}
	problem := w.(connector.Observed).Problem
	if why := problem(); why != "" {
		t.Errorf("a problem while nothing is written: %s", why)
	}
	f.restart(addr, dir) // the writer must first find out that its client was given up
	if err := w.Publish(f.ctx, nil); err != nil {
		t.Fatal(err)
	}
	f.broker.Close()
	written := make(chan error, 1)
	go func() { written <- w.Publish(f.ctx, block) }()
	for !strings.Contains(problem(), "do not take records") {
		select {
		case err := <-written:
			t.Fatalf("written without a broker: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	f.restart(addr, dir)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if why := problem(); why != "" {
		t.Errorf("a problem after all has been written: %s", why)
	}
	if got := f.content(1, "out"); !slices.Equal(got, []string{"out/0 k=v"}) {
		t.Fatalf("got %v", got)
	}
}
