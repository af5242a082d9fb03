package engine

import (
	"strconv"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// Options lists the pipeline options that the engine reads, for DescribePipelineOptions: SDKs pass on what is listed there.
func Options() []*jobpb.PipelineOptionDescriptor {
	return []*jobpb.PipelineOptionDescriptor{
		{
			Name: "max_bundle_size", Type: jobpb.PipelineOptionType_INTEGER, Group: "padstone",
			Description: "The most elements a bundle takes. Default 100000.",
		},
	}
}

// optionInt reads a pipeline option. Integers arrive as strings, numbers or not at all. Spec: python PipelineOptions.
func optionInt(options *structpb.Struct, name string, fallback int) int {
	v := options.GetFields()["beam:option:"+name+":v1"]
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		return int(k.NumberValue)
	case *structpb.Value_StringValue:
		if n, err := strconv.Atoi(k.StringValue); err == nil {
			return n
		}
	}
	return fallback
}

// optionBool reads a pipeline option. Spec: python PipelineOptions.
func optionBool(options *structpb.Struct, name string) bool {
	return options.GetFields()["beam:option:"+name+":v1"].GetBoolValue()
}
