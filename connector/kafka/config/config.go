package config

import (
	"encoding/json"
	"math"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// The URNs of the native transforms. The payload of each is the JSON of Read or Write.
const (
	ReadURN  connector.URN = "padstone:transform:kafka_read:v1"
	WriteURN connector.URN = "padstone:transform:kafka_write:v1"
)

// TimestampPolicy is KafkaIO's choice of event time. Spec: python/apache_beam/io/kafka.py ReadFromKafka.
type TimestampPolicy string

const (
	ProcessingTime TimestampPolicy = "ProcessingTime"
	CreateTime     TimestampPolicy = "CreateTime"
	LogAppendTime  TimestampPolicy = "LogAppendTime"
)

// Read configures the source.
//
// Elements are KV<nullable K, nullable V>, coder kv(nullable(Key.Coder()), nullable(Value.Coder())), without a nullable where the
// pipeline's coder has none; with Metadata they are rows of RecordSchema, which stand in an element with their length in front: no
// runner frames the row coder by itself.
type Read struct {
	Topics   []string          `json:"topics"`
	Consumer map[string]string `json:"consumer_config"` // Kafka's own property names
	Key      Format            `json:"key"`
	Value    Format            `json:"value"`
	Metadata bool              `json:"metadata,omitempty"`
	// KeyRequired and ValueRequired say that the element's coder has no null there: a null then is an error.
	KeyRequired   bool `json:"key_required,omitempty"`
	ValueRequired bool `json:"value_required,omitempty"`

	Policy TimestampPolicy `json:"timestamp_policy"`
	// StartMs is the event time in milliseconds since the epoch to start at, nil: committed offsets or auto.offset.reset.
	StartMs *int64 `json:"start_ms,omitempty"`
	// MaxRecords and MaxSeconds bound the source; nil: unbounded.
	MaxRecords *int64 `json:"max_records,omitempty"`
	MaxSeconds *int64 `json:"max_seconds,omitempty"`
	// CommitOffsets commits group offsets to Kafka once they are durable here. Needs group.id.
	CommitOffsets bool `json:"commit_offsets,omitempty"`
	// DiscoverySeconds is how often to look for new partitions; nil: only when the source opens.
	DiscoverySeconds *int64 `json:"discovery_seconds,omitempty"`
}

// Bounded reports whether the source ends by itself.
func (r *Read) Bounded() bool { return r.MaxRecords != nil || r.MaxSeconds != nil }

// Operand describes the key or the value of a KV element that the sink takes.
type Operand struct {
	Format   Format `json:"format"`             // in Kafka
	Coder    Coder  `json:"coder"`              // in the element
	Nullable bool   `json:"nullable,omitempty"` // the element's coder is nullable(Coder)
}

// Write configures the sink. Elements are either KV of Key and Value or, with RowSchema, rows with their length in front.
type Write struct {
	Topic    string            `json:"topic"`
	Producer map[string]string `json:"producer_config"` // Kafka's own property names
	Key      Operand           `json:"key"`
	Value    Operand           `json:"value"`
	// RowSchema is a serialised org.apache.beam.model.pipeline.v1.Schema with the fields key, value, and optionally headers,
	// topic, partition and timestamp.
	RowSchema []byte `json:"row_schema,omitempty"`
	// Window is the coding of the windows that the elements carry.
	Window plan.WindowCoding `json:"window"`
}

// ParseRead reads and checks the JSON of a Read.
func ParseRead(data []byte) (*Read, error) {
	r := &Read{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fault.New(fault.Pipeline, "kafka-option", "the configuration of a Kafka read is not valid: %w", err)
	}
	return r, r.check()
}

func (r *Read) check() error {
	if len(r.Topics) == 0 {
		return option("topics is empty").WithHint("name at least one topic")
	}
	seen := make(map[string]bool, len(r.Topics))
	for _, t := range r.Topics {
		if t == "" || seen[t] {
			return option("topics has an empty or repeated name %q", t)
		}
		seen[t] = true
	}
	if err := r.checkFormats(); err != nil {
		return err
	}
	switch r.Policy {
	case ProcessingTime, CreateTime, LogAppendTime:
	default:
		return option("timestamp_policy %q is not one of ProcessingTime, CreateTime, LogAppendTime", r.Policy)
	}
	if r.StartMs != nil && (*r.StartMs < 0 || *r.StartMs > int64(element.MaxTime)) {
		return option("start_read_time %d is not a time in milliseconds since the epoch", *r.StartMs)
	}
	for _, o := range []struct {
		name string
		n    *int64
		max  int64
	}{
		{"max_num_records", r.MaxRecords, math.MaxInt64},
		{"max_read_time", r.MaxSeconds, secondsMax},
		{"dynamic_read_poll_interval_seconds", r.DiscoverySeconds, secondsMax},
	} {
		if o.n != nil && (*o.n <= 0 || *o.n > o.max) {
			return option("%s is %d; it must be above 0 and at most %d", o.name, *o.n, o.max)
		}
	}
	if r.CommitOffsets && r.Consumer["group.id"] == "" {
		return option("commit_offset_in_finalize needs a group to commit for").WithHint("set group.id in consumer_config")
	}
	return nil
}

// secondsMax bounds spans given in seconds to a hundred years, so that they fit a time.Duration with room to add.
const secondsMax = 100 * 365 * 24 * 60 * 60

func (r *Read) checkFormats() error {
	for _, f := range []Format{r.Key, r.Value} {
		if _, ok := f.Coder(); !ok {
			return fault.New(fault.Pipeline, "kafka-deserializer", "format %q is not known", f)
		}
		// Spec: KafkaIO.java RowsWithMetadata.Builder.buildExternal.
		if r.Metadata && f != Bytes {
			return fault.New(fault.Pipeline, "kafka-deserializer", "with_metadata reads keys and values as bytes, not as %s", f).
				WithHint("leave out key_deserializer and value_deserializer")
		}
	}
	return nil
}

// ParseWrite reads and checks the JSON of a Write.
func ParseWrite(data []byte) (*Write, error) {
	w := &Write{}
	if err := json.Unmarshal(data, w); err != nil {
		return nil, fault.New(fault.Pipeline, "kafka-option", "the configuration of a Kafka write is not valid: %w", err)
	}
	return w, w.check()
}

func (w *Write) check() error {
	if w.Topic == "" && w.RowSchema == nil {
		return option("topic is empty").WithHint("name the topic to write to")
	}
	switch w.Window {
	case plan.GlobalWindow, plan.IntervalWindow, plan.CustomWindow:
	default:
		return option("window coding %q is not known", w.Window)
	}
	if w.RowSchema != nil {
		return nil
	}
	for _, o := range []Operand{w.Key, w.Value} {
		if c, ok := o.Format.Coder(); !ok || c != o.Coder {
			return fault.New(fault.Pipeline, "kafka-serializer", "a value with coder %q cannot be written as %q", o.Coder, o.Format).
				WithHint("give the input the type that the serializer takes, for example " +
					".with_output_types(typing.Tuple[bytes, bytes]) for ByteArraySerializer")
		}
	}
	return nil
}

func option(format string, args ...any) *fault.Error {
	return fault.New(fault.Pipeline, "kafka-option", format, args...)
}
