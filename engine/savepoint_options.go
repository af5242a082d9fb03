package engine

import (
	"encoding/json"
	"fmt"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/inventory"
	"padstone/internal/fault"
	"padstone/internal/option"
	"padstone/jobserver"
)

// Options of a start from a savepoint. Spec: FlinkPipelineOptions savepointPath, allowNonRestoredState (Java); GoogleCloudOptions
// transform_name_mapping (Python), which the SDK declares itself.
const (
	optionSavepoint        = "savepoint_path"
	optionAllowNonRestored = "allow_non_restored_state"
	optionNameMapping      = "transform_name_mapping"
	optionDryRun           = "savepoint_dry_run"
)

// savepointOptions are those of a start from a savepoint.
func savepointOptions() []*jobpb.PipelineOptionDescriptor {
	return []*jobpb.PipelineOptionDescriptor{
		{
			Name: optionSavepoint, Type: jobpb.PipelineOptionType_STRING, Group: "padstone",
			Description: "Start from a savepoint: the URL of a repository of checkpoints, with /JOB and /ID of one of them behind it.",
		},
		{
			Name: optionAllowNonRestored, Type: jobpb.PipelineOptionType_BOOLEAN, Group: "padstone",
			Description: "Drop what the savepoint holds for transforms that the pipeline no longer has.",
		},
		{
			Name: optionDryRun, Type: jobpb.PipelineOptionType_BOOLEAN, Group: "padstone",
			Description: "With a savepoint: start nothing, but say in the refusal what would be carried over and what would not.",
		},
	}
}

// matchOptions reads how a pipeline is to be matched with an earlier one. Errors: invalid-name-mapping.
func matchOptions(spec jobserver.Spec) (inventory.Options, error) {
	o := inventory.Options{AllowNonRestored: optionBool(spec.Options, optionAllowNonRestored), Names: make(map[string]string)}
	bad := func(why string) error {
		return fault.New(fault.Pipeline, "invalid-name-mapping", "--%s: %s", optionNameMapping, why).
			WithHint(`give a JSON object of old names and new ones: {"Old name": "New name"}`)
	}
	switch k := option.Value(spec.Options, optionNameMapping).GetKind().(type) {
	case nil, *structpb.Value_NullValue:
	case *structpb.Value_StringValue: // as SDKs send it that do not know the option
		if err := json.Unmarshal([]byte(k.StringValue), &o.Names); k.StringValue != "" && err != nil {
			return o, bad(err.Error())
		}
	case *structpb.Value_StructValue:
		for old, v := range k.StructValue.GetFields() {
			name, ok := v.GetKind().(*structpb.Value_StringValue)
			if !ok {
				return o, bad(fmt.Sprintf("the new name of %q is no string", old))
			}
			o.Names[old] = name.StringValue
		}
	default:
		return o, bad("it is no object")
	}
	return o, nil
}
