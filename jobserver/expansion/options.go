package expansion

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/row"
	"padstone/internal/fault"
)

// options is the configuration of an external transform by field name, in snake case. Take every field that is understood, then
// call done: what is left and not null is refused by name.
type options struct {
	values map[string]any
	err    error // the first field of the wrong type
}

// parseOptions decodes an ExternalConfigurationPayload. Spec: external_transforms.proto.
func parseOptions(payload []byte) (*options, error) {
	config := &pipepb.ExternalConfigurationPayload{}
	if err := proto.Unmarshal(payload, config); err != nil {
		return nil, fault.New(fault.Pipeline, codeRequest, "the transform's configuration does not decode: %w", err)
	}
	coder, err := row.New(config.GetSchema())
	if err != nil {
		return nil, fault.New(fault.Pipeline, codeOption, "the transform's configuration has a type that is not supported: %w", err)
	}
	values, rest, err := coder.Decode(config.GetPayload())
	if err != nil || len(rest) > 0 {
		return nil, fault.New(fault.Pipeline, codeRequest, "the transform's configuration does not decode: %v, %d bytes left",
			err, len(rest))
	}
	o := &options{values: make(map[string]any, len(values))}
	for i, name := range coder.Names() {
		name = snake(name)
		if _, twice := o.values[name]; twice {
			return nil, fault.New(fault.Pipeline, codeOption, "option %q is given twice", name)
		}
		o.values[name] = values[i]
	}
	return o, nil
}

// snake turns consumerConfig and ConsumerConfig, as Java and Go name fields, into consumer_config, as Python does.
func snake(name string) string {
	var b strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) {
			if i > 0 {
				b.WriteByte('_')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// take removes an option and returns it, or the zero value and false when it is missing or null.
func take[T any](o *options, name string) (T, bool) {
	var zero T
	v, ok := o.values[name]
	delete(o.values, name)
	if !ok || v == nil {
		return zero, false
	}
	out, ok := v.(T)
	if !ok && o.err == nil {
		o.err = fault.New(fault.Pipeline, codeOption, "option %q has the type %T, not %T", name, v, zero)
	}
	return out, ok
}

// takeNumber is take for an optional number.
func takeNumber(o *options, name string) *int64 {
	if n, ok := take[int64](o, name); ok {
		return &n
	}
	return nil
}

// takeStrings is take for a map of strings.
func takeStrings(o *options, name string) map[string]string {
	given, _ := take[map[string]any](o, name)
	out := make(map[string]string, len(given))
	for k, v := range given {
		s, ok := v.(string)
		if !ok && o.err == nil {
			o.err = fault.New(fault.Pipeline, codeOption, "option %q has a value for %q that is no string", name, k)
		}
		out[k] = s
	}
	return out
}

// done returns what was wrong with the options that were taken, or refuses the first one that was not.
func (o *options) done() error {
	if o.err != nil {
		return o.err
	}
	for _, name := range slices.Sorted(maps.Keys(o.values)) {
		if v := o.values[name]; v != nil && v != false {
			return fault.New(fault.Pipeline, codeOption, "option %q is not supported", name).
				WithHint("leave the option out; docs/kafka.md lists those that are understood")
		}
	}
	return nil
}
