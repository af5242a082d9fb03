package urn

// Transforms that the runner executes or takes apart.
const (
	Impulse = "beam:transform:impulse:v1"
	ParDo   = "beam:transform:pardo:v1"
	Flatten = "beam:transform:flatten:v1"
	// Window mapping functions. Spec: python portability/python_urns.py; java util/construction/ParDoTranslation.java; go
	// core/runtime/graphx/translate.go, where the name of one follows.
	WindowMappingPython = "beam:window_mapping_fn:pickled_python:v1"
	WindowMappingJava   = "beam:windowmappingfn:javasdk:0.1"
	WindowMappingGo     = "beam:go:windowmapping:"
	// WindowFnPython is a window function that the Python SDK has pickled. Spec: python portability/python_urns.py.
	WindowFnPython = "beam:window_fn:pickled_python:v1"
	// PythonKeyWithNone is the DoFn that puts the key None before elements. Spec: python portability/python_urns.py.
	PythonKeyWithNone       = "beam:dofn:python_key_with_none:v1"
	CombineGlobally         = "beam:transform:combine_globally:v1"
	GroupByKey              = "beam:transform:group_by_key:v1"
	AssignWindows           = "beam:transform:window_into:v1"
	TestStream              = "beam:transform:teststream:v1"
	MapWindows              = "beam:transform:map_windows:v1"
	MergeWindows            = "beam:transform:merge_windows:v1"
	ToString                = "beam:transform:to_string:v1"
	Read                    = "beam:transform:read:v1"
	CreateView              = "beam:transform:create_view:v1"
	CombinePerKey           = "beam:transform:combine_per_key:v1"
	Reshuffle               = "beam:transform:reshuffle:v1"
	RedistributeArbitrarily = "beam:transform:redistribute_arbitrarily:v1"
	RedistributeByKey       = "beam:transform:redistribute_by_key:v1"
)

// Components of a lifted combine.
const (
	CombinePrecombine    = "beam:transform:combine_per_key_precombine:v1"
	CombineMerge         = "beam:transform:combine_per_key_merge_accumulators:v1"
	CombineExtract       = "beam:transform:combine_per_key_extract_outputs:v1"
	CombineConvert       = "beam:transform:combine_per_key_convert_to_accumulators:v1"
	CombineGroupedValues = "beam:transform:combine_grouped_values:v1"
)

// Components of a splittable DoFn.
const (
	PairWithRestriction  = "beam:transform:sdf_pair_with_restriction:v1"
	SplitAndSize         = "beam:transform:sdf_split_and_size_restrictions:v1"
	ProcessSizedElements = "beam:transform:sdf_process_sized_element_and_restrictions:v1"
	TruncateSized        = "beam:transform:sdf_truncate_sized_restrictions:v1"
)

// Data source and data sink of a bundle descriptor. Spec: beam_fn_api.proto RemoteGrpcPort; the URNs themselves are in no proto.
const (
	DataSource = "beam:runner:source:v1"
	DataSink   = "beam:runner:sink:v1"
)

// Coders that the runner can frame.
const (
	CoderBytes               = "beam:coder:bytes:v1"
	CoderStringUTF8          = "beam:coder:string_utf8:v1"
	CoderBool                = "beam:coder:bool:v1"
	CoderVarint              = "beam:coder:varint:v1"
	CoderDouble              = "beam:coder:double:v1"
	CoderKV                  = "beam:coder:kv:v1"
	CoderIterable            = "beam:coder:iterable:v1"
	CoderStateBackedIterable = "beam:coder:state_backed_iterable:v1"
	CoderTimer               = "beam:coder:timer:v1"
	CoderIntervalWindow      = "beam:coder:interval_window:v1"
	CoderGlobalWindow        = "beam:coder:global_window:v1"
	CoderCustomWindow        = "beam:coder:custom_window:v1"
	CoderLengthPrefix        = "beam:coder:length_prefix:v1"
	CoderWindowedValue       = "beam:coder:windowed_value:v1"
	CoderParamWindowedValue  = "beam:coder:param_windowed_value:v1"
	CoderNullable            = "beam:coder:nullable:v1"
	CoderRow                 = "beam:coder:row:v1"
	CoderShardedKey          = "beam:coder:sharded_key:v1"
)

// Window functions that the runner knows.
const (
	GlobalWindows  = "beam:window_fn:global_windows:v1"
	FixedWindows   = "beam:window_fn:fixed_windows:v1"
	SlidingWindows = "beam:window_fn:sliding_windows:v1"
	SessionWindows = "beam:window_fn:session_windows:v1"
)

// Access patterns of side inputs and user state.
const (
	SideIterable     = "beam:side_input:iterable:v1"
	SideMultimap     = "beam:side_input:multimap:v1"
	StateBag         = "beam:user_state:bag:v1"
	StateMultimap    = "beam:user_state:multimap:v1"
	StateOrderedList = "beam:user_state:ordered_list:v1"
)

// Requirements of a pipeline.
const (
	RequiresStateful           = "beam:requirement:pardo:stateful:v1"
	RequiresFinalization       = "beam:requirement:pardo:finalization:v1"
	RequiresStableInput        = "beam:requirement:pardo:stable_input:v1"
	RequiresTimeSortedInput    = "beam:requirement:pardo:time_sorted_input:v1"
	RequiresSplittable         = "beam:requirement:pardo:splittable_dofn:v1"
	RequiresOnWindowExpiration = "beam:requirement:pardo:on_window_expiration:v1"
)

// PackedCombinePython is a capability that every environment of the Python SDK declares, and no other SDK's.
const PackedCombinePython = "beam:combinefn:packed_python:v1"

// EnvAnyOf is an environment that offers several to choose from.
const EnvAnyOf = "beam:env:anyof:v1"

// EnvDocker is an environment whose user code runs in containers.
const EnvDocker = "beam:env:docker:v1"

// WindowMappingsTypeScript are those of the TypeScript SDK. Spec: typescript src/apache_beam/internal/urns.ts.
var WindowMappingsTypeScript = []string{
	"beam:window_mapping_fn:global:v1", "beam:window_mapping_fn:identity:v1", "beam:window_mapping_fn:assign_max_timestamp:v1",
}
