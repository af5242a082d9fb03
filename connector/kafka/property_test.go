package kafka

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

func readWith(consumer map[string]string) *config.Read {
	c := map[string]string{"bootstrap.servers": "h:9092"}
	for k, v := range consumer {
		c[k] = v
	}
	return &config.Read{Topics: []string{"t"}, Key: config.Bytes, Value: config.Bytes, Policy: config.CreateTime, Consumer: c}
}

func writeWith(producer map[string]string) *config.Write {
	p := map[string]string{"bootstrap.servers": "h:9092"}
	for k, v := range producer {
		p[k] = v
	}
	return &config.Write{Topic: "t", Key: bytesOperand, Value: bytesOperand, Window: plan.GlobalWindow, Producer: p}
}

func TestConsumerProperties(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		text        string // in the error; "" for none
	}{
		{"fetch.min.bytes", "1", ""},
		{"fetch.min.bytes", "one", `property "fetch.min.bytes" is "one"`},
		{"fetch.max.bytes", "-1", "fetch.max.bytes"},
		{"fetch.max.wait.ms", "500", ""},
		{"max.partition.fetch.bytes", "1048576", ""},
		{"max.poll.records", "0", "max.poll.records"},
		{"request.timeout.ms", "30000", ""},
		{"request.timeout.ms", "1", "request.timeout.ms"},
		{"auto.offset.reset", "earliest", ""},
		{"auto.offset.reset", "newest", "one of earliest, latest, none"},
		{"isolation.level", "read_committed", ""},
		{"session.timeout.ms", "whatever, it has no effect", ""},
		{"key.deserializer", "x", ""},
		{"check.crcs", "False", ""},
		{"check.crcs", "no", "true or false"},
		{"retry.backoff.ms", "50", ""},
		{"interceptor.classes", "x", `property "interceptor.classes" is not supported`},
		{"acks", "all", `property "acks" is not supported`},
		{"bootstrap.servers", " , ", "bootstrap.servers"},
		{"enable.auto.commit", "true", "needs group.id"},
		{"padstone.max.delay.ms", "1000", ""},
		{"padstone.idle.watermark", "later", "one of hold, now"},
		{"client.id", strings.Repeat("x", 300), "the Kafka client does not take the configuration"},
		{"security.protocol", "SASL", "one of PLAINTEXT, SSL"},
		{"sasl.mechanism", "PLAIN", "needs security.protocol"},
		{"ssl.truststore.location", "x.pem", "needs security.protocol"},
	} {
		_, _, err := parseConsumer(encodeConfig(t, readWith(map[string]string{tc.name: tc.value})))
		checkProperty(t, tc.name+"="+tc.value, err, tc.text)
	}
	if _, _, err := parseConsumer(encodeConfig(t, &config.Read{
		Topics: []string{"t"}, Key: config.Bytes, Value: config.Bytes, Policy: config.CreateTime,
	})); err == nil || !strings.Contains(err.Error(), "bootstrap.servers") {
		t.Errorf("without bootstrap.servers: %v", err)
	}
	late := readWith(map[string]string{"padstone.max.delay.ms": "5"})
	late.Policy = config.ProcessingTime
	_, _, err := parseConsumer(encodeConfig(t, late))
	checkProperty(t, "delay with ProcessingTime", err, "CreateTime only")
}

func checkProperty(t *testing.T, what string, err error, text string) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	f := fault.Of(err)
	if f == nil || f.Code != codeProperty || f.Kind != fault.Pipeline || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v, want %q", what, err, text)
	}
}

func TestProducerProperties(t *testing.T) {
	for _, tc := range []struct {
		given map[string]string
		text  string
	}{
		{nil, ""},
		{map[string]string{"acks": "1"}, ""},
		{map[string]string{"acks": "-1", "enable.idempotence": "true"}, ""},
		{map[string]string{"acks": "0", "enable.idempotence": "true"}, "enable.idempotence"},
		{map[string]string{"acks": "2"}, "acks"},
		{map[string]string{"enable.idempotence": "false", "max.in.flight.requests.per.connection": "1"}, ""},
		{map[string]string{"max.in.flight.requests.per.connection": "10"}, ""},
		{map[string]string{"max.in.flight.requests.per.connection": "10", "enable.idempotence": "true"}, "at most 5"},
		{map[string]string{"compression.type": "zstd", "linger.ms": "20", "batch.size": "1000"}, ""},
		{map[string]string{"compression.type": "brotli"}, "compression.type"},
		{map[string]string{"max.request.size": "5000000", "buffer.memory": "1000000"}, ""},
		{map[string]string{"retries": "3", "delivery.timeout.ms": "30000"}, ""},
		{map[string]string{"partitioner.class": roundRobin}, ""},
		{map[string]string{"partitioner.class": "com.example.Mine"}, "partitioner.class"},
		{map[string]string{"transactional.id": "x"}, `property "transactional.id" is not supported`},
		{map[string]string{"group.id": "x"}, `property "group.id" is not supported`},
	} {
		_, _, err := parseProducer(encodeConfig(t, writeWith(tc.given)))
		checkProperty(t, "producer properties", err, tc.text)
	}
}

func TestBackoff(t *testing.T) {
	f := backoff(0, 0)
	var got []time.Duration
	for _, tries := range []int{0, 1, 2, 3, 4, 5, 1000} {
		got = append(got, f(tries)/time.Millisecond)
	}
	if want := []time.Duration{100, 100, 200, 400, 800, 1000, 1000}; !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
}

// TestPropertiesAreDocumented: docs/kafka.md has every property that is understood, and none that is not.
func TestPropertiesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "kafka.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tables, found := strings.Cut(string(text), "## Properties")
	if !found {
		t.Fatal("docs/kafka.md has no section Properties")
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| (`[a-z0-9.`, ]+`) \\|").FindAllStringSubmatch(tables, -1) {
		for name := range strings.SplitSeq(m[1], ",") {
			documented[strings.Trim(name, "` ")] = true
		}
	}
	known := consumerProperties()
	for name, p := range producerProperties() {
		known[name] = p
	}
	for name := range known {
		if !documented[name] {
			t.Errorf("property %s is not in docs/kafka.md", name)
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("docs/kafka.md has property %s, which is not understood", name)
	}
}

func TestConfigRefused(t *testing.T) {
	negative, zero := int64(-1), int64(0)
	for name, tc := range map[string]struct {
		change func(*config.Read)
		code   fault.Code
	}{
		"no topic":         {func(c *config.Read) { c.Topics = nil }, "kafka-option"},
		"same topic twice": {func(c *config.Read) { c.Topics = []string{"a", "a"} }, "kafka-option"},
		"policy":           {func(c *config.Read) { c.Policy = "Mine" }, "kafka-option"},
		"format":           {func(c *config.Read) { c.Key = "avro" }, "kafka-deserializer"},
		"metadata":         {func(c *config.Read) { c.Metadata, c.Value = true, config.String }, "kafka-deserializer"},
		"start":            {func(c *config.Read) { c.StartMs = &negative }, "kafka-option"},
		"records":          {func(c *config.Read) { c.MaxRecords = &zero }, "kafka-option"},
		"seconds":          {func(c *config.Read) { c.MaxSeconds = &negative }, "kafka-option"},
		"discovery":        {func(c *config.Read) { c.DiscoverySeconds = &zero }, "kafka-option"},
		"no group":         {func(c *config.Read) { c.CommitOffsets = true }, "kafka-option"},
	} {
		cfg := readWith(nil)
		tc.change(cfg)
		_, _, err := parseConsumer(encodeConfig(t, cfg))
		if f := fault.Of(err); f == nil || f.Code != tc.code || f.Kind != fault.Pipeline {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, change := range map[string]func(*config.Write){
		"no topic":   func(c *config.Write) { c.Topic = "" },
		"window":     func(c *config.Write) { c.Window = "" },
		"serializer": func(c *config.Write) { c.Value.Coder = config.VarintCoder },
	} {
		cfg := writeWith(nil)
		change(cfg)
		if _, _, err := parseProducer(encodeConfig(t, cfg)); fault.KindOf(err) != fault.Pipeline || err == nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := parseConsumer([]byte("{")); err == nil {
		t.Error("broken JSON is taken")
	}
}
