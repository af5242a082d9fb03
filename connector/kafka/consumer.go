package kafka

import (
	"maps"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

// consumerSettings is what the properties say about reading, beyond options of the client.
type consumerSettings struct {
	group       string
	reset       string // "earliest", "latest" or "none"
	pollMax     int    // most records of one poll; 0: no limit of its own
	autoCommit  bool
	commitEvery time.Duration

	policy policy
}

// Defaults that are Kafka's own, where the client has others, and ours.
const (
	fetchWaitDefault       = 500 * time.Millisecond // fetch.max.wait.ms
	commitEveryDefault     = 5 * time.Second        // auto.commit.interval.ms
	commitEveryMin         = 100 * time.Millisecond // how often offsets go to Kafka with commit_offset_in_finalize
	idleAfterDefault       = 2 * time.Second        // padstone.idle.after.ms
	spanMax                = 1000 * time.Hour       // longest span in milliseconds that a property may give
	resetDefault           = "latest"
	idleWatermarkHold      = "hold"
	idleWatermarkNow       = "now"
	propertyIdleAfter      = "padstone.idle.after.ms"
	propertyIdleWatermark  = "padstone.idle.watermark"
	propertyMaxOutOfOrder  = "padstone.max.delay.ms"
	propertyMaxPollRecords = "max.poll.records"
)

// consumerProperties are the properties that consumer_config may have.
func consumerProperties() map[string]property {
	known := commonProperties()
	maps.Copy(known, map[string]property{
		"auto.offset.reset": oneOf(func(s *settings, v string) { s.consumer.reset = v }, "earliest", "latest", "none"),
		"group.id":          text(func(s *settings, v string) { s.consumer.group = v }),
		"isolation.level": oneOf(func(s *settings, v string) {
			if v == "read_committed" {
				s.opts = append(s.opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
			}
		}, "read_committed", "read_uncommitted"),
		"fetch.min.bytes":           option(number, 0, math.MaxInt32, func(n int64) kgo.Opt { return kgo.FetchMinBytes(int32(n)) }),
		"fetch.max.bytes":           option(number, 1, 1<<30, func(n int64) kgo.Opt { return kgo.FetchMaxBytes(int32(n)) }),
		"max.partition.fetch.bytes": option(number, 1, 1<<30, func(n int64) kgo.Opt { return kgo.FetchMaxPartitionBytes(int32(n)) }),
		"fetch.max.wait.ms": millis(10*time.Millisecond, 15*time.Minute, func(s *settings, d time.Duration) {
			s.opts = append(s.opts, kgo.FetchMaxWait(d))
		}),
		propertyMaxPollRecords: number(1, math.MaxInt32, func(s *settings, n int64) { s.consumer.pollMax = int(n) }),
		"client.rack":          text(func(s *settings, v string) { s.opts = append(s.opts, kgo.Rack(v)) }),
		"check.crcs": boolean(func(s *settings, on bool) {
			if !on {
				s.opts = append(s.opts, kgo.DisableFetchCRCValidation())
			}
		}),
		"enable.auto.commit": boolean(func(s *settings, on bool) { s.consumer.autoCommit = on }),
		"auto.commit.interval.ms": millis(commitEveryMin, spanMax, func(s *settings, d time.Duration) {
			s.consumer.commitEvery = d
		}),

		propertyIdleAfter:     millis(time.Millisecond, spanMax, func(s *settings, d time.Duration) { s.consumer.policy.idleAfter = d }),
		propertyMaxOutOfOrder: millis(0, spanMax, func(s *settings, d time.Duration) { s.consumer.policy.maxDelay = d }),
		propertyIdleWatermark: oneOf(func(s *settings, v string) {
			s.consumer.policy.advanceIdle = v == idleWatermarkNow
		}, idleWatermarkHold, idleWatermarkNow),

		"key.deserializer":              without("ReadFromKafka's key_deserializer says it"),
		"value.deserializer":            without("ReadFromKafka's value_deserializer says it"),
		"session.timeout.ms":            without("partitions are assigned without a consumer group"),
		"heartbeat.interval.ms":         without("partitions are assigned without a consumer group"),
		"max.poll.interval.ms":          without("partitions are assigned without a consumer group"),
		"partition.assignment.strategy": without("partitions are assigned without a consumer group"),
		"group.instance.id":             without("partitions are assigned without a consumer group"),
		"group.protocol":                without("partitions are assigned without a consumer group"),
		"group.remote.assignor":         without("partitions are assigned without a consumer group"),
		"exclude.internal.topics":       without("topics are given by name"),
		"allow.auto.create.topics":      without("reading never creates a topic; a missing one is an error"),
	})
	return known
}

// parseConsumer checks a configuration as far as it can be without a broker.
func parseConsumer(data []byte) (*config.Read, *settings, error) {
	cfg, err := config.ParseRead(data)
	if err != nil {
		return nil, nil, err
	}
	s, err := parse(cfg.Consumer, consumerProperties())
	if err != nil {
		return nil, nil, err
	}
	c := &s.consumer
	if c.reset == "" {
		c.reset = resetDefault
	}
	if c.autoCommit && c.group == "" {
		return nil, nil, fault.New(fault.Pipeline, codeProperty, "property \"enable.auto.commit\" needs group.id")
	}
	switch {
	case cfg.CommitOffsets:
		c.commitEvery = commitEveryMin
	case c.commitEvery == 0:
		c.commitEvery = commitEveryDefault
	}
	c.policy.kind = cfg.Policy
	if c.policy.idleAfter == 0 {
		c.policy.idleAfter = idleAfterDefault
	}
	if cfg.Policy != config.CreateTime && (c.policy.maxDelay > 0 || c.policy.advanceIdle) {
		return nil, nil, fault.New(fault.Pipeline, codeProperty, "properties %q and %q go with timestamp_policy CreateTime only, not %s",
			propertyMaxOutOfOrder, propertyIdleWatermark, cfg.Policy)
	}
	// The order matters: a later option wins, and those of the user come after the defaults.
	s.opts = append([]kgo.Opt{kgo.ClientID(clientID), kgo.FetchMaxWait(fetchWaitDefault), c.resetOption()}, s.opts...)
	// Control records take offsets, too: without them a partition that ends in a commit marker would never look read to its end.
	s.opts = append(s.opts, kgo.KeepControlRecords())
	return cfg, s, s.check()
}

// resetOption says where to go on when the broker has deleted the offset that is wanted.
func (c *consumerSettings) resetOption() kgo.Opt {
	switch strings.ToLower(c.reset) {
	case "earliest":
		return kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	case "none":
		return kgo.ConsumeResetOffset(kgo.NoResetOffset())
	default:
		return kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd())
	}
}

// commits reports whether group offsets are to be committed.
func (c *consumerSettings) commits(cfg *config.Read) bool { return cfg.CommitOffsets || c.autoCommit }
