package engine

import (
	"slices"
	"strconv"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/option"
)

const (
	// optionHideElements keeps elements, which may be private, out of messages.
	optionHideElements = "hide_elements"
	// optionDurability says how the job's commits become durable.
	optionDurability = "durability"
)

// Options lists the pipeline options that the engine reads, for DescribePipelineOptions: SDKs pass on what is listed there.
func Options() []*jobpb.PipelineOptionDescriptor {
	return slices.Concat(settingOptions(), []*jobpb.PipelineOptionDescriptor{
		{
			Name: optionHideElements, Type: jobpb.PipelineOptionType_BOOLEAN, Group: "padstone",
			Description: "Never show an element in messages, also not the one that user code fails on.",
		},
		{
			Name: optionDurability, Type: jobpb.PipelineOptionType_STRING, Group: "padstone",
			Description: "How commits become durable: frontier, sync, or none, which loses the job in a crash. Default: the server's.",
		},
		{
			Name: optionInterval, Type: jobpb.PipelineOptionType_INTEGER, Group: "padstone",
			Description: "Milliseconds from one checkpoint to the next; -1 for none. Default: the server's --checkpoint-interval.",
		},
		{
			Name: optionTimeout, Type: jobpb.PipelineOptionType_INTEGER, Group: "padstone",
			Description: "Milliseconds after which a checkpoint is given up; -1, the default, for none.",
		},
		{
			Name: optionPause, Type: jobpb.PipelineOptionType_INTEGER, Group: "padstone",
			Description: "The least milliseconds between the end of a checkpoint and the next one; -1, the default, for none.",
		},
	}, savepointOptions())
}

// optionInt reads a pipeline option. Integers arrive as strings, numbers or not at all. Spec: python PipelineOptions.
func optionInt(options *structpb.Struct, name string, fallback int) int {
	v := option.Value(options, name)
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
	v := option.Value(options, name)
	return v.GetBoolValue() || v.GetStringValue() == "true" // the latter from SDKs that do not know the option's type
}

// Experiments that a job may ask for. They leave out an optimisation and change no result.
const (
	ExperimentNoFusion  = "padstone_no_fusion"
	ExperimentNoLifting = "padstone_no_lifting"
	// ExperimentNoAssignment has SDKs assign all windows.
	ExperimentNoAssignment = "padstone_no_window_assignment"
)

// experiment tells whether the pipeline option experiments names the experiment. Spec: python DebugOptions.
func experiment(options *structpb.Struct, name string) bool {
	for _, v := range option.Value(options, "experiments").GetListValue().GetValues() {
		for one := range strings.SplitSeq(v.GetStringValue(), ",") { // Java and Go users may give several in one
			if strings.TrimSpace(one) == name {
				return true
			}
		}
	}
	return false
}
