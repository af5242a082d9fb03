package expansion

import (
	"encoding/json"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

// read expands a Kafka read: one transform without inputs and one output in the global window.
func (s *Service) read(x *expansion, metadata bool, requested map[string]string) error {
	if len(x.transform.GetInputs()) > 0 {
		return fault.New(fault.Pipeline, codeRequest, "a Kafka read takes no input")
	}
	o, err := parseOptions(x.transform.GetSpec().GetPayload())
	if err != nil {
		return err
	}
	cfg, err := readConfig(o, metadata)
	if err != nil {
		return err
	}
	x.honour(cfg, requested)
	data, err := json.Marshal(cfg)
	if err != nil {
		return fault.New(fault.Internal, codeRequest, "the configuration of a Kafka read: %w", err)
	}
	source, ok := s.connectors.Source(config.ReadURN)
	if !ok {
		return fault.New(fault.Internal, codeRequest, "there is no source for %s", config.ReadURN)
	}
	if err := source.Validate(data); err != nil {
		return err
	}
	coder, err := x.readCoder(cfg)
	if err != nil {
		return err
	}
	bounded := pipepb.IsBounded_UNBOUNDED
	if cfg.Bounded() {
		bounded = pipepb.IsBounded_BOUNDED
	}
	out := x.id("output")
	x.components.Pcollections[out] = &pipepb.PCollection{
		UniqueName: x.transform.GetUniqueName() + ".output", CoderId: coder, IsBounded: bounded, WindowingStrategyId: x.globalWindowing(),
	}
	x.transform.Outputs = map[string]string{"output": out}
	x.settle(config.ReadURN, data)
	return nil
}

// readConfig takes the options of ReadFromKafka. Spec: python/apache_beam/io/kafka.py ReadFromKafkaSchema, KafkaIO.java
// Read.Builder.setupExternalBuilder for the defaults.
func readConfig(o *options, metadata bool) (*config.Read, error) {
	cfg := &config.Read{Metadata: metadata, Consumer: takeStrings(o, "consumer_config")}
	topics, _ := take[[]any](o, "topics")
	for _, t := range topics {
		name, _ := t.(string)
		cfg.Topics = append(cfg.Topics, name)
	}
	key, _ := take[string](o, "key_deserializer")
	value, _ := take[string](o, "value_deserializer")
	policy, _ := take[string](o, "timestamp_policy")
	cfg.Policy = config.TimestampPolicy(policy)
	cfg.StartMs = takeNumber(o, "start_read_time")
	cfg.MaxRecords = takeNumber(o, "max_num_records")
	cfg.MaxSeconds = takeNumber(o, "max_read_time")
	cfg.CommitOffsets, _ = take[bool](o, "commit_offset_in_finalize")
	cfg.DiscoverySeconds = takeNumber(o, "dynamic_read_poll_interval_seconds")

	// How long a poll may block does not matter where records are taken as they come.
	if timeout := takeNumber(o, "consumer_polling_timeout"); timeout != nil && *timeout <= 0 {
		return nil, fault.New(fault.Pipeline, codeOption, "option \"consumer_polling_timeout\" is %d; it must be above 0", *timeout)
	}
	// What the source emits is spread over all workers anyway, exactly once, whatever these ask for.
	take[bool](o, "redistribute")
	take[bool](o, "allow_duplicates")
	take[bool](o, "offset_deduplication")
	takeNumber(o, "redistribute_num_keys")
	// These belong to consumer_factory_fn_class and mean nothing without it; that one is refused.
	if _, given := o.values["consumer_factory_fn_class"].(string); !given {
		takeStrings(o, "consumer_factory_fn_params")
	}
	if err := o.done(); err != nil {
		return nil, err
	}
	var err error
	if cfg.Key, err = config.Deserializer(key); err != nil {
		return nil, err
	}
	if cfg.Value, err = config.Deserializer(value); err != nil {
		return nil, err
	}
	return cfg, nil
}

// readCoder adds the coder of the output: rows with metadata, otherwise KVs of nullable values, as KafkaIO has them, or not nullable
// where cfg says so.
func (x *expansion) readCoder(cfg *config.Read) (string, error) {
	if cfg.Metadata {
		schema, err := proto.MarshalOptions{Deterministic: true}.Marshal(config.RecordSchema())
		if err != nil {
			return "", fault.New(fault.Internal, codeRequest, "the schema of Kafka records: %w", err)
		}
		return x.coder("coder_record", "beam:coder:row:v1", schema), nil
	}
	var parts []string
	for _, part := range []struct {
		format   config.Format
		required bool
	}{{cfg.Key, cfg.KeyRequired}, {cfg.Value, cfg.ValueRequired}} {
		kind, ok := part.format.Coder()
		if !ok {
			return "", fault.New(fault.Internal, codeRequest, "format %q has no coder", part.format)
		}
		id := x.coder("coder_"+string(kind), "beam:coder:"+string(kind)+":v1", nil)
		if !part.required {
			id = x.coder("coder_nullable_"+string(kind), "beam:coder:nullable:v1", nil, id)
		}
		parts = append(parts, id)
	}
	return x.coder("coder_kv", "beam:coder:kv:v1", nil, parts...), nil
}

// honour takes over the output coder that the request asks for, as far as it is about nulls: a user's type hint tuple[bytes, bytes]
// has none. Any other coder, such as Python's pickler where there is no hint, is passed over: the SDK takes the answer's.
func (x *expansion) honour(cfg *config.Read, requested map[string]string) {
	if len(requested) != 1 || cfg.Metadata {
		return
	}
	for _, id := range requested {
		kv := x.components.GetCoders()[id]
		parts := kv.GetComponentCoderIds()
		if kv.GetSpec().GetUrn() != "beam:coder:kv:v1" || len(parts) != 2 {
			return
		}
		key, keyNull := x.unwrap(parts[0])
		value, valueNull := x.unwrap(parts[1])
		keyCoder, _ := cfg.Key.Coder()
		valueCoder, _ := cfg.Value.Coder()
		if key.GetSpec().GetUrn() == "beam:coder:"+string(keyCoder)+":v1" &&
			value.GetSpec().GetUrn() == "beam:coder:"+string(valueCoder)+":v1" {
			cfg.KeyRequired, cfg.ValueRequired = !keyNull, !valueNull
		}
	}
}

// globalWindowing adds the default windowing strategy and returns its id.
func (x *expansion) globalWindowing() string {
	id := x.id("windowing_global")
	x.components.WindowingStrategies[id] = &pipepb.WindowingStrategy{
		WindowFn:         &pipepb.FunctionSpec{Urn: "beam:window_fn:global_windows:v1"},
		MergeStatus:      pipepb.MergeStatus_NON_MERGING,
		WindowCoderId:    x.coder("coder_global_window", "beam:coder:global_window:v1", nil),
		Trigger:          &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		AccumulationMode: pipepb.AccumulationMode_DISCARDING,
		OutputTime:       pipepb.OutputTime_END_OF_WINDOW,
		ClosingBehavior:  pipepb.ClosingBehavior_EMIT_IF_NONEMPTY,
		OnTimeBehavior:   pipepb.OnTimeBehavior_FIRE_ALWAYS,
	}
	return id
}
