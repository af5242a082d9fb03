package plan

import "slices"

// StageID is stable across submissions: a short hash of the unique names of the stage's transforms.
type StageID string

// EdgeID names one edge: one materialised PCollection on its way to one consumer stage.
type EdgeID string

// EnvID names an environment of the pipeline proto.
type EnvID string

// Plan is a compiled pipeline.
type Plan struct {
	Name         string
	Stages       []*Stage // topological order, also with respect to side inputs
	Edges        []*Edge  // sorted by ID
	Environments []*Environment
	KeyGroups    int  // power of two; fixed for the life of the job
	Bounded      bool // no unbounded PCollection: the job ends by itself
}

// Environment is a harness environment.
type Environment struct {
	ID  EnvID
	URN string
	// Proto is the serialised org.apache.beam.model.pipeline.v1.Environment with dependencies rewritten to the artifact store.
	Proto []byte
}

// StageKind says which bundle executor runs a stage.
type StageKind string

const (
	Impulse StageKind = "impulse" // emits one empty element when the job starts
	Source  StageKind = "source"  // native source, see package connector
	Harness StageKind = "harness" // fused user transforms in an SDK harness
	Group   StageKind = "group"   // GroupByKey with windowing and triggers, in the runner
	Sink    StageKind = "sink"    // native sink, fed through the outbox
	// TestStream replays a script of events, one by one, each when nothing else in the job can go on. It has an output for each tag,
	// with a watermark of its own, and it is the job's processing-time clock.
	TestStream StageKind = "test_stream"
)

// Stage is a fused run of transforms with one main input.
type Stage struct {
	ID   StageID
	Name string // for people: the common composite prefix of the user's names, or their list
	// Root is the unique name of the first transform: what the stage keeps on disk is found again under it, however the pipeline around
	// it has changed. User state, timers and restrictions always belong to it.
	Root string
	Kind StageKind
	Env  EnvID // Harness; and Group if the SDK merges its windows or its accumulators
	// Transforms lists the user's transforms in order: the ids in the pipeline proto and in the descriptor, and their unique names.
	Transforms []Transform
	Input      EdgeID // main input; empty for Impulse, Source and TestStream
	// Steps are all that the stage consists of, also what the user's transforms were taken apart into.
	Steps []Step

	// Descriptor is a serialised ProcessBundleDescriptor without service descriptors and with an empty id. Harness only.
	Descriptor []byte
	InputRead  string // transform id of the descriptor's data source (GRPC read)
	// Outputs are one for each data sink (GRPC write) of a Harness stage, and without Write for the other kinds: one, or for a
	// TestStream one a tag.
	Outputs    []Output
	SideInputs []SideInput
	States     []State
	Timers     []TimerFamily
	KeyCoder   string // framing program of the key, nested encoding; set iff the input edge is Keyed
	// KeyStructure is the key's coder. Accumulators is set for a Group stage whose values are accumulators of a combine.
	KeyStructure Structure
	Accumulators bool
	// Splittable is set when the stage processes sized restrictions: it is their only consumer and its input may be split.
	Splittable *Splittable

	Finalizes bool // some transform requests bundle finalization
	// StableInput is set when the stage's root requires that a bundle's input is durable before the bundle starts, and the same
	// when it is retried.
	StableInput bool
	// TimeSorted is set when the stage's root takes the elements of each key and window in the order of their timestamps.
	TimeSorted bool

	// Windowing is that of the main input. Group stages and stages with user state or timers only: it says when an element is too
	// late and when the state of a window is collected.
	Windowing *Windowing
	Native    *Native // Source and Sink only
	Script    *Script // TestStream only
	// Merge has the SDK of Env merge the windows of a Group stage; set iff Windowing is of kind MergingCustom.
	Merge *WindowMerge
	// Unlifted is the descriptor of bundles without the tables of lifted combines, in which the runner assigns the windows of what those
	// combine: like Descriptor, with the same InputRead and Outputs. nil where nothing but the tables would be left out.
	Unlifted []byte
	// Compact has the SDK of Env merge the accumulators that a Group stage keeps of a key and window; nil when its values are none.
	Compact *AccumulatorMerge
}

// WindowMerge describes bundles that merge windows by a window function of the user's.
// Spec: beam_runner_api.proto StandardPTransforms.MERGE_WINDOWS. In goes KV<nonce, iterable<window>>, out comes
// KV<nonce, KV<iterable<unmerged window>, iterable<KV<merged window, iterable<window>>>>>, both in the global window. Nonces are bytes.
type WindowMerge struct {
	Descriptor  []byte // as Stage.Descriptor
	Read, Write string // transform ids of the data source and the data sink
}

// WindowMap describes bundles that map windows by a window mapping function of the user's. In goes KV<nonce, main window>, out comes
// KV<nonce, side window>, both in the global window. Nonces are bytes. Spec: beam_runner_api.proto StandardPTransforms.MAP_WINDOWS.
type WindowMap struct {
	Descriptor  []byte // as Stage.Descriptor
	Read, Write string // transform ids of the data source and the data sink
}

// AccumulatorMerge describes bundles that merge accumulators. In goes KV<K, iterable<A>>, out comes KV<K, A> with the same timestamp,
// both in the global window. Spec: beam_runner_api.proto StandardPTransforms.COMBINE_PER_KEY_MERGE_ACCUMULATORS.
type AccumulatorMerge struct {
	Descriptor  []byte // as Stage.Descriptor
	Read, Write string // transform ids of the data source and the data sink
}

// Transform is one user-visible transform of a stage.
type Transform struct {
	ID   string
	Name string // the user's unique name, for example "CombinePerKey(sum)/Merge"
	URN  string
	// Assigned is set where the runner assigns windows in the transform's place, in all bundles: no descriptor has it.
	Assigned bool
}

// Step is a part of a stage.
type Step struct {
	Name  string   // unique
	Reads []string // its main inputs, as Edge.Collection
}

// Structure is how a coder is made up, as text: names of coders without "beam:coder:" and ":v1", with the fields of rows and with
// components in brackets. What one coder has written another one of the same structure can read, as far as the structure tells: behind
// an OpaqueMark stands a digest of what an SDK has serialised in its own way, which may be another one each time.
type Structure string

// OpaqueMark stands before a digest in a Structure.
const OpaqueMark = "#"

// Output connects a data sink of the descriptor to the edges that its elements go to.
type Output struct {
	Write       string // transform id of the GRPC write; "" for runner-side stages
	Local       string // the descriptor's PCollection id behind it
	PCollection string // user-visible PCollection id
	Edges       []EdgeID
	// Assigned are the edges on the way to which the runner assigns windows, AssignedUnlifted those of bundles with Stage.Unlifted.
	Assigned, AssignedUnlifted map[EdgeID]*Assignment
}

// EdgeKind says how an edge is partitioned and consumed.
type EdgeKind string

const (
	FIFO  EdgeKind = "fifo"  // any bundle may take any block
	Keyed EdgeKind = "keyed" // partitioned by key group; one bundle at a time owns a key group
	Side  EdgeKind = "side"  // a side input: kept until the job no longer needs it
)

// Edge is one materialised PCollection on its way to one consumer.
type Edge struct {
	ID          EdgeID
	Kind        EdgeKind
	PCollection string
	// Collection names the PCollection by its producer, "transform" or "transform[output]" where it has several, and Readers are the
	// unique names of the transforms that read it here: what waits on the edge is found again under these.
	Collection string
	Readers    []string
	Access     SideAccess // Side edges only
	Name       string     // for people: "producer transform -> consumer transform"
	Producers  []StageID
	Consumer   StageID
	// Element is the framing program of the value (see package coder), for example "kv(lp,varint)". For Keyed and multimap Side
	// edges its outermost constructor is kv.
	Element   string
	Structure Structure // of the coder of the elements
	Window    WindowCoding
	Bounded   bool
	// Panes says, on Side edges, which panes readers see.
	Panes SidePanes
	// Grouped is set on Side edges from a Group that the compiler has put in front of a side input: the elements are
	// KV<unit, iterable<V>>, and readers see the Vs.
	Grouped bool
	// StateBacked is set on edges from a Group to a Harness stage that can read the iterable of an element KV<K, iterable<V>> by
	// state requests: the iterable may be a token instead of values. Spec: StandardCoders.STATE_BACKED_ITERABLE.
	StateBacked bool
	// Spread is set on edges whose elements may each be much work, however few they are: processes share them out.
	Spread bool
}

// SidePanes says which panes of a side input's window readers see.
type SidePanes string

const (
	AllPanes   SidePanes = ""       // what has come of all panes
	WindowPane SidePanes = "window" // the newest pane of the window
	KeyPane    SidePanes = "key"    // the newest pane of each key of the window; Multimap access only
)

// WindowCoding names the encoding of windows in an element.
type WindowCoding string

const (
	GlobalWindow   WindowCoding = "global"   // no bytes
	IntervalWindow WindowCoding = "interval" // end: 8 bytes big endian, then span: varint
	// CustomWindow is the maximum timestamp, 8 bytes big endian, then a length-prefixed payload. In state keys SDKs encode a window
	// with the window function's own coder: there the payload stands alone, without maximum timestamp and length.
	CustomWindow WindowCoding = "custom"
)

// SideInput is one side input of one transform of a Harness stage.
type SideInput struct {
	Transform string // id in the descriptor
	Local     string // side input tag
	Edge      EdgeID
	Access    SideAccess
	// Windowing is that of the side input's PCollection. A main window needs the side window that holds its maximum timestamp.
	Windowing *Windowing
	// Map has the SDK map main windows to side windows; nil where the mapping is the one above.
	Map *WindowMap
	// Early is set when panes may come long before the side input's only window ends: readers go on from the first one.
	Early bool
	// Expires is set when no element reads a window that ends more than KeepMs before the stage's output watermark.
	Expires bool
	KeepMs  int64
}

// SideAccess is the access pattern of a side input.
type SideAccess string

const (
	Iterable SideAccess = "iterable"
	Multimap SideAccess = "multimap"
)

// StateKind is the access pattern of a user state cell.
type StateKind string

const (
	Bag         StateKind = "bag" // also value, combining and set state, which SDKs keep in bags
	MultimapST  StateKind = "multimap"
	OrderedList StateKind = "ordered_list"
)

// State is one user state cell.
type State struct {
	Transform string // id in the descriptor
	Name      string // the transform's unique name, which is the stage's Root: with Cell, the durable identity
	Cell      string
	Kind      StateKind
	// Element is the framing program of one stored element (of one value for a multimap), used to cut pages at element boundaries.
	// It is empty when the runner cannot frame the elements: then pages are cut between appends only, each of which holds whole
	// elements. MapKey is empty likewise.
	Element string
	MapKey  string // framing program of a multimap's key
	// The coders of an element and of a map's key, as the SDK gave them; empty where there is none.
	Structure, MapKeyStructure Structure
}

// TimeDomain is the clock of a timer.
type TimeDomain string

const (
	EventTime      TimeDomain = "event"
	ProcessingTime TimeDomain = "processing"
)

// TimerFamily is one timer family of one transform.
type TimerFamily struct {
	Transform string
	Name      string // the transform's unique name, which is the stage's Root: with Family, the durable identity
	Family    string
	Domain    TimeDomain
	// OnWindowExpiration marks the family that is fired once for every (key, window) when the window expires.
	OnWindowExpiration bool
	Element            string       // framing program of the encoded timer: "timer(<key>,<window>)"
	Window             WindowCoding // window coding of the timer
}

// Splittable describes the process step of a splittable DoFn.
type Splittable struct {
	Transform string // id of the PROCESS_SIZED_ELEMENTS_AND_RESTRICTIONS transform in the descriptor
	Bounded   bool
	// DrainDescriptor is the descriptor in which residuals are truncated before they are processed; nil when the SDK cannot
	// truncate, then a drain drops unbounded residuals. Same InputRead and Outputs.
	DrainDescriptor []byte
	Truncate        string // id of the truncating transform, in DrainDescriptor only; its side inputs are among the stage's
	// FramedWindows is set where the windows of the input are custom ones: the descriptor has the SDK encode those of residuals as in
	// elements, and so it encodes those in the keys of the stage's user state.
	FramedWindows bool
}

// Native configures a runner-side source or sink.
type Native struct {
	URN    string
	Config []byte
}

// WindowKind is a window function.
type WindowKind string

const (
	Global   WindowKind = "global"
	Fixed    WindowKind = "fixed"
	Sliding  WindowKind = "sliding"
	Sessions WindowKind = "sessions"
	Custom   WindowKind = "custom" // assigned by the SDK
	// MergingCustom is assigned by the SDK and merged by it, see Stage.Merge.
	MergingCustom WindowKind = "merging_custom"
)

// Windowing is a windowing strategy.
type Windowing struct {
	Kind     WindowKind
	SizeMs   int64 // Fixed, Sliding: size; Sessions: gap
	PeriodMs int64 // Sliding
	OffsetMs int64 // Fixed, Sliding
	Coding   WindowCoding

	Trigger      *Trigger
	Accumulating bool
	OutputTime   OutputTime
	LatenessMs   int64
	EmptyOnClose bool // closing behaviour EMIT_ALWAYS
	EmptyOnTime  bool // on-time behaviour FIRE_ALWAYS
	// OnTimeAlways extends EmptyOnTime to triggers that do not fire at the end of a window: theirs comes when the window is collected,
	// unless it would be late.
	OnTimeAlways bool
}

// OutputTime is the timestamp combiner.
type OutputTime string

const (
	EndOfWindow OutputTime = "end_of_window"
	Earliest    OutputTime = "earliest"
	Latest      OutputTime = "latest"
)

// TriggerKind is a node kind of a trigger tree. Spec: beam_runner_api.proto Trigger.
type TriggerKind string

const (
	TriggerDefault           TriggerKind = "default"
	TriggerAfterEndOfWindow  TriggerKind = "after_end_of_window" // Children: early (or nil), late (or nil)
	TriggerAfterCount        TriggerKind = "element_count"
	TriggerAfterProcessing   TriggerKind = "after_processing_time"
	TriggerAfterSynchronized TriggerKind = "after_synchronized_processing_time"
	TriggerAlways            TriggerKind = "always"
	TriggerNever             TriggerKind = "never"
	TriggerAfterAll          TriggerKind = "after_all"
	TriggerAfterAny          TriggerKind = "after_any"
	TriggerAfterEach         TriggerKind = "after_each"
	TriggerOrFinally         TriggerKind = "or_finally" // Children: main, finally
	TriggerRepeat            TriggerKind = "repeat"
)

// Trigger is a node of a trigger tree.
type Trigger struct {
	Kind     TriggerKind
	Count    int         `json:",omitempty"` // TriggerAfterCount
	Delays   []TimeShift `json:",omitempty"` // TriggerAfterProcessing: applied in order to the first element's arrival
	Children []*Trigger  `json:",omitempty"`
}

// TimeShift is a timestamp transform: either a delay or an alignment to a period.
type TimeShift struct {
	DelayMs  int64 `json:",omitempty"`
	PeriodMs int64 `json:",omitempty"` // align up to a multiple of PeriodMs plus OffsetMs
	OffsetMs int64 `json:",omitempty"`
}

// Replay returns the index of the TestStream stage, or -1. A plan has one at most.
func (p *Plan) Replay() int {
	return slices.IndexFunc(p.Stages, func(s *Stage) bool { return s.Kind == TestStream })
}

// Stage returns the stage with the id, or nil.
func (p *Plan) Stage(id StageID) *Stage {
	for _, s := range p.Stages {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// Edge returns the edge with the id, or nil.
func (p *Plan) Edge(id EdgeID) *Edge {
	for _, e := range p.Edges {
		if e.ID == id {
			return e
		}
	}
	return nil
}
