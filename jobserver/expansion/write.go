package expansion

import (
	"encoding/json"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// write expands a Kafka write: a transform with one input and no output, and the native write as its only step.
func (s *Service) write(x *expansion, headers bool) error {
	in, err := x.input()
	if err != nil {
		return err
	}
	o, err := parseOptions(x.transform.GetSpec().GetPayload())
	if err != nil {
		return err
	}
	cfg := &config.Write{Producer: takeStrings(o, "producer_config")}
	cfg.Topic, _ = take[string](o, "topic")
	key, _ := take[string](o, "key_serializer")
	value, _ := take[string](o, "value_serializer")
	if err := o.done(); err != nil {
		return err
	}
	if cfg.Key.Format, err = config.Serializer(key); err != nil {
		return err
	}
	if cfg.Value.Format, err = config.Serializer(value); err != nil {
		return err
	}
	if cfg.Window, err = x.windowCoding(in); err != nil {
		return err
	}
	if headers {
		err = x.rowInput(cfg, in)
	} else {
		err = x.kvInput(cfg, in)
	}
	if err != nil {
		return err
	}
	return s.settleWrite(x, cfg)
}

func (s *Service) settleWrite(x *expansion, cfg *config.Write) error {
	data, err := json.Marshal(cfg)
	if err != nil {
		return fault.New(fault.Internal, codeRequest, "the configuration of a Kafka write: %w", err)
	}
	sink, ok := s.connectors.Sink(config.WriteURN)
	if !ok {
		return fault.New(fault.Internal, codeRequest, "there is no sink for %s", config.WriteURN)
	}
	if err := sink.Validate(data); err != nil {
		return err
	}
	x.settleWithin(config.WriteURN, data, "Publish")
	return nil
}

// windowCoding says how the windows of the input are encoded. A window coder that is not one of Beam's own reaches the sink in the
// custom coding.
func (x *expansion) windowCoding(in *pipepb.PCollection) (plan.WindowCoding, error) {
	strategy := x.components.GetWindowingStrategies()[in.GetWindowingStrategyId()]
	coder := x.components.GetCoders()[strategy.GetWindowCoderId()]
	switch coder.GetSpec().GetUrn() {
	case "":
		return "", fault.New(fault.Pipeline, codeRequest, "the input's windowing strategy %q has no window coder",
			in.GetWindowingStrategyId())
	case "beam:coder:global_window:v1":
		return plan.GlobalWindow, nil
	case "beam:coder:interval_window:v1":
		return plan.IntervalWindow, nil
	default:
		return plan.CustomWindow, nil
	}
}

// kvInput reads the coders of keys and values out of the input's coder, kv(K, V).
func (x *expansion) kvInput(cfg *config.Write, in *pipepb.PCollection) error {
	coder := x.components.GetCoders()[in.GetCoderId()]
	parts := coder.GetComponentCoderIds()
	if coder.GetSpec().GetUrn() != "beam:coder:kv:v1" || len(parts) != 2 {
		return x.refuseCoder(coder, "a KV of key and value")
	}
	for i, operand := range []*config.Operand{&cfg.Key, &cfg.Value} {
		part, null := x.unwrap(parts[i])
		operand.Nullable = null
		want, _ := operand.Format.Coder()
		if part.GetSpec().GetUrn() != "beam:coder:"+string(want)+":v1" {
			return x.refuseCoder(part, "what "+string(operand.Format)+" needs, "+string(want)+",")
		}
		operand.Coder = want
	}
	return nil
}

// unwrap returns a coder without the nullable around it, and whether there was one.
func (x *expansion) unwrap(id string) (*pipepb.Coder, bool) {
	c := x.components.GetCoders()[id]
	if c.GetSpec().GetUrn() == "beam:coder:nullable:v1" && len(c.GetComponentCoderIds()) == 1 {
		return x.components.GetCoders()[c.GetComponentCoderIds()[0]], true
	}
	return c, false
}

// rowInput takes over the schema of the input's row coder.
func (x *expansion) rowInput(cfg *config.Write, in *pipepb.PCollection) error {
	if cfg.Key.Format != config.Bytes || cfg.Value.Format != config.Bytes {
		return fault.New(fault.Pipeline, "kafka-serializer", "a write with headers takes bytes, not %s and %s",
			cfg.Key.Format, cfg.Value.Format).WithHint("leave out key_serializer and value_serializer")
	}
	coder := x.components.GetCoders()[in.GetCoderId()]
	if coder.GetSpec().GetUrn() != "beam:coder:row:v1" {
		return x.refuseCoder(coder, "a row with key, value and headers")
	}
	if len(coder.GetSpec().GetPayload()) == 0 {
		return fault.New(fault.Pipeline, "kafka-row-schema", "the rows to write have no fields").
			WithHint("make each row with at least key: bytes and value: bytes")
	}
	cfg.RowSchema = coder.GetSpec().GetPayload()
	return nil
}

func (x *expansion) refuseCoder(coder *pipepb.Coder, want string) error {
	return fault.New(fault.Pipeline, codeCoder, "the input's coder %q is not %s as this write takes it", coder.GetSpec().GetUrn(), want).
		WithHint("give the step before it an output type, .with_output_types(typing.Tuple[bytes, bytes]) for example, or rows for headers")
}
