package kafka

import (
	"maps"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

// producerSettings is what the properties say about writing, beyond options of the client.
type producerSettings struct {
	acks        string // "all", "1", "0"
	idempotence *bool
	inflight    int
	partitioner string
	ignoreKeys  bool
	requestMax  int32
	// delivery is how long one Publish may take; 0: as long as the job runs. It is not an option of the client, which would count
	// from a record's timestamp, and that may be the user's.
	delivery time.Duration

	guarantee   string // padstone.delivery; "": not said
	exactlyOnce bool   // what that comes to
	marksTopic  string
	txnTimeout  time.Duration
}

// Defaults that are Kafka's own, where the client has others, and ours.
const (
	lingerDefault     = 5 * time.Millisecond // linger.ms, as of Kafka 4
	requestMaxDefault = 1 << 20              // max.request.size
	bufferDefault     = 32 << 20             // buffer.memory
	inflightDefault   = 5                    // max.in.flight.requests.per.connection

	exactlyOnce = "exactly-once"
	atLeastOnce = "at-least-once"

	roundRobin = "org.apache.kafka.clients.producer.RoundRobinPartitioner"
)

// producerProperties are the properties that producer_config may have.
func producerProperties() map[string]property {
	known := commonProperties()
	maps.Copy(known, map[string]property{
		"acks": oneOf(func(s *settings, v string) {
			s.producer.acks = v
			if v == "-1" {
				s.producer.acks = "all"
			}
		}, "all", "-1", "1", "0"),
		"enable.idempotence": boolean(func(s *settings, on bool) { s.producer.idempotence = &on }),
		"compression.type":   oneOf(setCompression, "none", "gzip", "snappy", "lz4", "zstd"),
		"linger.ms": millis(0, time.Minute, func(s *settings, d time.Duration) {
			s.opts = append(s.opts, kgo.ProducerLinger(d))
		}),
		"delivery.timeout.ms": millis(time.Millisecond, spanMax, func(s *settings, d time.Duration) { s.producer.delivery = d }),
		"retries":             number(0, math.MaxInt32, func(s *settings, n int64) { s.opts = append(s.opts, kgo.RecordRetries(int(n))) }),
		"max.in.flight.requests.per.connection": number(1, math.MaxInt32, func(s *settings, n int64) {
			s.producer.inflight = int(n)
		}),
		"max.request.size": number(512, 100<<20, func(s *settings, n int64) { s.producer.requestMax = int32(n) }),
		"buffer.memory":    option(number, 1, math.MaxInt32, func(n int64) kgo.Opt { return kgo.MaxBufferedBytes(int(n)) }),
		"partitioner.class": oneOf(func(s *settings, v string) { s.producer.partitioner = v },
			roundRobin, "org.apache.kafka.clients.producer.internals.DefaultPartitioner",
			"org.apache.kafka.clients.producer.UniformStickyPartitioner"),
		"partitioner.ignore.keys": boolean(func(s *settings, on bool) { s.producer.ignoreKeys = on }),

		"padstone.delivery":    oneOf(func(s *settings, v string) { s.producer.guarantee = v }, exactlyOnce, atLeastOnce),
		"padstone.marks.topic": text(func(s *settings, v string) { s.producer.marksTopic = v }),
		"transaction.timeout.ms": millis(time.Second, 15*time.Minute, func(s *settings, d time.Duration) {
			s.producer.txnTimeout = d
		}),

		"key.serializer":       without("WriteToKafka's key_serializer says it"),
		"value.serializer":     without("WriteToKafka's value_serializer says it"),
		"batch.size":           without("a bundle is there as a whole, so batches fill up to max.request.size"),
		"max.block.ms":         without("publishing waits for as long as the job runs"),
		"metadata.max.idle.ms": without("a topic is known for as long as it is written to"),
		"partitioner.adaptive.partitioning.enable": without("keyless records stay with a partition for a batch"),
		"partitioner.availability.timeout.ms":      without("keyless records go to partitions with a leader"),
		"compression.gzip.level":                   without("the codec's default level is used"),
		"compression.lz4.level":                    without("the codec's default level is used"),
		"compression.zstd.level":                   without("the codec's default level is used"),
	})
	return known
}

func setCompression(s *settings, v string) {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[v]
	s.opts = append(s.opts, kgo.ProducerBatchCompression(codec))
}

// parseProducer checks a configuration as far as it can be without a broker.
func parseProducer(data []byte) (*config.Write, *settings, error) {
	cfg, err := config.ParseWrite(data)
	if err != nil {
		return nil, nil, err
	}
	s, err := parse(cfg.Producer, producerProperties())
	if err != nil {
		return nil, nil, err
	}
	acks, err := s.producer.acknowledgement()
	if err != nil {
		return nil, nil, err
	}
	p := &s.producer
	if p.requestMax == 0 {
		p.requestMax = requestMaxDefault
	}
	if p.marksTopic == "" {
		p.marksTopic = marksTopicDefault
	}
	if p.txnTimeout == 0 {
		p.txnTimeout = txnTimeoutDefault
	}
	// The order matters: a later option wins, and those of the user come after the defaults.
	s.opts = append([]kgo.Opt{
		kgo.ClientID(clientID), kgo.ProducerLinger(lingerDefault),
		kgo.MaxBufferedBytes(bufferDefault), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, s.opts...)
	s.opts = append(s.opts, acks...)
	s.opts = append(s.opts, kgo.ProducerBatchMaxBytes(p.requestMax), kgo.RecordPartitioner(p.choose()), kgo.AllowAutoTopicCreation())
	return cfg, s, s.check()
}

// acknowledgement resolves acks and enable.idempotence as Kafka's producer does: idempotence is on unless acks say otherwise, and
// asking for both is an error. Who asks for less than idempotence gets at-least-once. Spec: KIP-679.
func (p *producerSettings) acknowledgement() ([]kgo.Opt, error) {
	strong := p.acks == "" || p.acks == "all"
	wanted := p.idempotence != nil && *p.idempotence
	if wanted && !strong {
		return nil, fault.New(fault.Pipeline, codeProperty, "property \"enable.idempotence\" needs acks=all, not acks=%s", p.acks)
	}
	if wanted && p.inflight > inflightDefault {
		return nil, fault.New(fault.Pipeline, codeProperty,
			"property \"enable.idempotence\" allows at most %d in max.in.flight.requests.per.connection", inflightDefault)
	}
	idempotent := strong && p.inflight <= inflightDefault && (p.idempotence == nil || wanted)
	if p.guarantee == exactlyOnce && !idempotent {
		return nil, fault.New(fault.Pipeline, codeProperty,
			"property \"padstone.delivery\" can be exactly-once only with acks=all, idempotence, and at most %d requests in flight",
			inflightDefault)
	}
	p.exactlyOnce = idempotent && p.guarantee != atLeastOnce
	if idempotent {
		return []kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks())}, nil
	}
	acks := kgo.AllISRAcks()
	switch p.acks {
	case "1":
		acks = kgo.LeaderAck()
	case "0":
		acks = kgo.NoAck()
	}
	inflight := p.inflight
	if inflight == 0 {
		inflight = inflightDefault
	}
	return []kgo.Opt{kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(inflight)}, nil
}
