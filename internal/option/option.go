package option

import (
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
)

// key is the name of an option among those of a job.
func key(name string) string { return "beam:option:" + name + ":v1" }

// Value returns what an option was sent as; nil when it was not.
func Value(options *structpb.Struct, name string) *structpb.Value {
	return options.GetFields()[key(name)]
}

// Set sets an option to a text.
func Set(options *structpb.Struct, name, text string) {
	if options.Fields == nil {
		options.Fields = make(map[string]*structpb.Value)
	}
	options.Fields[key(name)] = structpb.NewStringValue(text)
}

// Text returns an option that is a text; "" when it is absent or none.
func Text(options *structpb.Struct, name string) string { return Value(options, name).GetStringValue() }

// Texts returns the values of an option that may be given several times, numbers in words. They arrive as a list, or as one value from
// SDKs that do not know the option.
func Texts(options *structpb.Struct, name string) (texts []string) {
	v := Value(options, name)
	values := v.GetListValue().GetValues()
	if v.GetListValue() == nil && v != nil {
		values = []*structpb.Value{v}
	}
	for _, one := range values {
		switch k := one.GetKind().(type) {
		case *structpb.Value_StringValue:
			if k.StringValue != "" {
				texts = append(texts, k.StringValue)
			}
		case *structpb.Value_NumberValue:
			texts = append(texts, strconv.FormatFloat(k.NumberValue, 'f', -1, 64))
		}
	}
	return texts
}
