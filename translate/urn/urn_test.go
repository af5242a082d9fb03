package urn_test

import (
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/translate/urn"
)

// of reads the beam_urn option of an enum value.
func of(v protoreflect.Enum) string {
	options := v.Descriptor().Values().ByNumber(v.Number()).Options()
	return proto.GetExtension(options, pipepb.E_BeamUrn).(string)
}

// TestAgainstProtos holds the constants to the options in the model's protos.
func TestAgainstProtos(t *testing.T) {
	for got, v := range map[string]protoreflect.Enum{
		urn.Impulse:                  pipepb.StandardPTransforms_IMPULSE,
		urn.ParDo:                    pipepb.StandardPTransforms_PAR_DO,
		urn.Flatten:                  pipepb.StandardPTransforms_FLATTEN,
		urn.CombineGlobally:          pipepb.StandardPTransforms_COMBINE_GLOBALLY,
		urn.GroupByKey:               pipepb.StandardPTransforms_GROUP_BY_KEY,
		urn.AssignWindows:            pipepb.StandardPTransforms_ASSIGN_WINDOWS,
		urn.TestStream:               pipepb.StandardPTransforms_TEST_STREAM,
		urn.MapWindows:               pipepb.StandardPTransforms_MAP_WINDOWS,
		urn.MergeWindows:             pipepb.StandardPTransforms_MERGE_WINDOWS,
		urn.ToString:                 pipepb.StandardPTransforms_TO_STRING,
		urn.Read:                     pipepb.StandardPTransforms_READ,
		urn.CreateView:               pipepb.StandardPTransforms_CREATE_VIEW,
		urn.CombinePerKey:            pipepb.StandardPTransforms_COMBINE_PER_KEY,
		urn.Reshuffle:                pipepb.StandardPTransforms_RESHUFFLE,
		urn.RedistributeArbitrarily:  pipepb.StandardPTransforms_REDISTRIBUTE_ARBITRARILY,
		urn.RedistributeByKey:        pipepb.StandardPTransforms_REDISTRIBUTE_BY_KEY,
		urn.CombinePrecombine:        pipepb.StandardPTransforms_COMBINE_PER_KEY_PRECOMBINE,
		urn.CombineMerge:             pipepb.StandardPTransforms_COMBINE_PER_KEY_MERGE_ACCUMULATORS,
		urn.CombineExtract:           pipepb.StandardPTransforms_COMBINE_PER_KEY_EXTRACT_OUTPUTS,
		urn.CombineConvert:           pipepb.StandardPTransforms_COMBINE_PER_KEY_CONVERT_TO_ACCUMULATORS,
		urn.CombineGroupedValues:     pipepb.StandardPTransforms_COMBINE_GROUPED_VALUES,
		urn.PairWithRestriction:      pipepb.StandardPTransforms_PAIR_WITH_RESTRICTION,
		urn.SplitAndSize:             pipepb.StandardPTransforms_SPLIT_AND_SIZE_RESTRICTIONS,
		urn.ProcessSizedElements:     pipepb.StandardPTransforms_PROCESS_SIZED_ELEMENTS_AND_RESTRICTIONS,
		urn.TruncateSized:            pipepb.StandardPTransforms_TRUNCATE_SIZED_RESTRICTION,
		urn.CoderBytes:               pipepb.StandardCoders_BYTES,
		urn.CoderStringUTF8:          pipepb.StandardCoders_STRING_UTF8,
		urn.CoderBool:                pipepb.StandardCoders_BOOL,
		urn.CoderVarint:              pipepb.StandardCoders_VARINT,
		urn.CoderDouble:              pipepb.StandardCoders_DOUBLE,
		urn.CoderKV:                  pipepb.StandardCoders_KV,
		urn.CoderIterable:            pipepb.StandardCoders_ITERABLE,
		urn.CoderStateBackedIterable: pipepb.StandardCoders_STATE_BACKED_ITERABLE,
		urn.CoderTimer:               pipepb.StandardCoders_TIMER,
		urn.CoderIntervalWindow:      pipepb.StandardCoders_INTERVAL_WINDOW,
		urn.CoderGlobalWindow:        pipepb.StandardCoders_GLOBAL_WINDOW,
		urn.CoderCustomWindow:        pipepb.StandardCoders_CUSTOM_WINDOW,
		urn.CoderLengthPrefix:        pipepb.StandardCoders_LENGTH_PREFIX,
		urn.CoderWindowedValue:       pipepb.StandardCoders_WINDOWED_VALUE,
		urn.CoderParamWindowedValue:  pipepb.StandardCoders_PARAM_WINDOWED_VALUE,
		urn.CoderNullable:            pipepb.StandardCoders_NULLABLE,
		urn.CoderRow:                 pipepb.StandardCoders_ROW,
		urn.CoderShardedKey:          pipepb.StandardCoders_SHARDED_KEY,
		urn.GlobalWindows:            pipepb.GlobalWindowsPayload_PROPERTIES,
		urn.FixedWindows:             pipepb.FixedWindowsPayload_PROPERTIES,
		urn.SlidingWindows:           pipepb.SlidingWindowsPayload_PROPERTIES,
		urn.SessionWindows:           pipepb.SessionWindowsPayload_PROPERTIES,
		urn.SideIterable:             pipepb.StandardSideInputTypes_ITERABLE,
		urn.SideMultimap:             pipepb.StandardSideInputTypes_MULTIMAP,
		urn.StateBag:                 pipepb.StandardUserStateTypes_BAG,
		urn.StateMultimap:            pipepb.StandardUserStateTypes_MULTIMAP,
		urn.StateOrderedList:         pipepb.StandardUserStateTypes_ORDERED_LIST,
		urn.RequiresStateful:         pipepb.StandardRequirements_REQUIRES_STATEFUL_PROCESSING,
		urn.RequiresFinalization:     pipepb.StandardRequirements_REQUIRES_BUNDLE_FINALIZATION,
		urn.RequiresStableInput:      pipepb.StandardRequirements_REQUIRES_STABLE_INPUT,
		urn.RequiresTimeSortedInput:  pipepb.StandardRequirements_REQUIRES_TIME_SORTED_INPUT,
		urn.RequiresSplittable:       pipepb.StandardRequirements_REQUIRES_SPLITTABLE_DOFN,
		urn.RequiresOnWindowExpiration: pipepb.
			StandardRequirements_REQUIRES_ON_WINDOW_EXPIRATION,
		urn.EnvAnyOf: pipepb.StandardEnvironments_ANYOF, urn.EnvDocker: pipepb.StandardEnvironments_DOCKER,
	} {
		if want := of(v); got != want {
			t.Errorf("%v: the constant is %q, the proto says %q", v, got, want)
		}
	}
}
