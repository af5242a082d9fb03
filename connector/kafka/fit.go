package kafka

import (
	"encoding/json"

	"padstone/connector/kafka/config"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// rowProgram is the framing program of a row: its length, then its bytes.
const rowProgram = "lp"

// program returns the framing program of a value with the coder. Spec: package coder.
func program(c config.Coder) string {
	switch c {
	case config.VarintCoder:
		return "varint"
	case config.DoubleCoder:
		return "fixed(8)"
	default:
		return "lp"
	}
}

// fitKV finds out which parts of a KV element may be null; ok is false when the program is not that of such a KV at all.
func fitKV(element string, key, value config.Coder) (keyNull, valueNull, ok bool) {
	wrap := func(c config.Coder, null bool) string {
		if null {
			return "nullable(" + program(c) + ")"
		}
		return program(c)
	}
	for _, k := range []bool{true, false} {
		for _, v := range []bool{true, false} {
			if element == "kv("+wrap(key, k)+","+wrap(value, v)+")" {
				return k, v, true
			}
		}
	}
	return false, false, false
}

// Fit implements connector.Fitter: an output type that the user gave, tuple[bytes, bytes] for example, has no null.
func (s *source) Fit(data []byte, element string, window plan.WindowCoding) ([]byte, error) {
	cfg, err := config.ParseRead(data)
	if err != nil {
		return nil, err
	}
	if window != plan.GlobalWindow {
		return nil, fault.New(fault.Pipeline, codeType, "a Kafka read puts its output into the global window, not into %s windows", window)
	}
	if cfg.Metadata {
		if element != rowProgram {
			return nil, fault.New(fault.Pipeline, codeType, "a Kafka read with metadata yields rows, not %s", element).
				WithHint("take the output type off the read")
		}
		return data, nil
	}
	key, _ := cfg.Key.Coder()
	value, _ := cfg.Value.Coder()
	keyNull, valueNull, ok := fitKV(element, key, value)
	if !ok {
		return nil, fault.New(fault.Pipeline, codeType, "a Kafka read yields pairs of %s and %s, not %s", cfg.Key, cfg.Value, element).
			WithHint("take the output type off the read, or give it the types of its deserializers")
	}
	cfg.KeyRequired, cfg.ValueRequired = !keyNull, !valueNull
	return encode(cfg)
}

// Fit implements connector.Fitter.
func (s *sink) Fit(data []byte, element string, window plan.WindowCoding) ([]byte, error) {
	cfg, err := config.ParseWrite(data)
	if err != nil {
		return nil, err
	}
	cfg.Window = window
	if cfg.RowSchema != nil {
		if element != rowProgram {
			return nil, fault.New(fault.Pipeline, codeType, "a Kafka write with headers takes rows, not %s", element)
		}
		return encode(cfg)
	}
	var ok bool
	cfg.Key.Nullable, cfg.Value.Nullable, ok = fitKV(element, cfg.Key.Coder, cfg.Value.Coder)
	if !ok {
		return nil, fault.New(fault.Pipeline, codeType, "a Kafka write takes pairs of %s and %s, not %s",
			cfg.Key.Coder, cfg.Value.Coder, element).
			WithHint("give the input the types of the serializers, for example .with_output_types(typing.Tuple[bytes, bytes])")
	}
	return encode(cfg)
}

func encode(cfg any) ([]byte, error) {
	data, err := json.Marshal(cfg)
	if err != nil {
		return nil, fault.New(fault.Internal, codeType, "the configuration of a Kafka transform: %w", err)
	}
	return data, nil
}
