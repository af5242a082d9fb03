package scheduler

import (
	"time"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/watermark"
)

// BundleID numbers the bundles of one run of a job, from 1.
type BundleID uint64

// Block is what the scheduler knows of a block in an inbox.
type Block struct {
	Group     uint16
	Edge      int // index in plan.Edges
	Seq       uint64
	Count     int
	Bytes     int
	Size      float64      // work in restrictions, as their SDK estimates it; 0 when nobody knows
	MaxWindow element.Time // largest window end; needed only where a stage has side inputs
	// SideEnds are, for each side input of the stage whose windows the SDK maps, the largest end of the windows that the elements need.
	// It is nil until Mapped tells.
	SideEnds    []element.Time
	AvailableAt element.Time // processing time; MinTime: at once
	Hold        element.Time // watermark that the block holds while it waits or runs
	Residual    bool         // restrictions that came back from a bundle
	// Since is when the block came, on a clock of its owner's, who gets it back; 0 when nobody knows.
	Since time.Duration
}

// Event is something that happened.
type Event interface{ event() }

// Tick says that the clock moved.
type Tick struct{}

// Restored gives back what a store holds, before the first Start. A new job has an empty one.
type Restored struct {
	Blocks     []StageBlock
	Holds      []StageHolds
	Timers     []StageTimers
	Watermarks []StageWatermark
	Done       []int // stages (impulses, bounded sources, test streams) that are exhausted
	Outputs    []StageOutputs
	SideReady  []int // side edges that hold at least one element
	Draining   bool  // the job was asked to drain: no source goes on, not even once
}

// StageBlock is a block of a stage's inbox.
type StageBlock struct {
	Stage int
	Block Block
}

// StageHolds are the watermark holds of a stage, ascending in time.
type StageHolds struct {
	Stage int
	Holds []watermark.Count
}

// StageTimers is the earliest timer of a key group in each domain; element.MaxTime + 1 (NoTimer) when there is none.
type StageTimers struct {
	Stage             int
	Group             uint16
	Event, Processing element.Time
}

// StageWatermark is a watermark that decisions have been taken under: of a source its output, of other stages their input.
type StageWatermark struct {
	Stage     int
	Watermark element.Time
}

// StageOutputs are the watermarks of the outputs of a TestStream stage, in their order.
type StageOutputs struct {
	Stage      int
	Watermarks []element.Time
}

// NoTimer is later than every timer.
const NoTimer = element.MaxTime + 1

// Committed says that a bundle's commit has been applied.
type Committed struct {
	Bundle    BundleID
	Returned  []Block // of the bundle's blocks: not consumed, they wait again
	Work      *Work   // of a bundle with data on a harness; nil when it is not known
	Rest      *Block  // what is left of the last block of a bundle with a Limit, under the same sequence
	Added     []StageBlock
	SideAdded []int // side edges that received elements
	Holds     []HoldDelta
	Timers    []StageTimers // of the bundle's key groups, as they are after the commit
	// Source bundles only.
	Watermark element.Time
	Done      bool           // also of a TestStream bundle: the script is at its end
	Outputs   []element.Time // TestStream bundles only: the watermark of each output
}

// HoldDelta changes the number of watermark holds at a time.
type HoldDelta struct {
	At    element.Time
	Delta int
}

// Failed says that a bundle came to nothing: its inputs wait again. RetryAt bounds from below when they run again, by themselves if they
// are to blame, or when the stage is started again.
type Failed struct {
	Bundle  BundleID
	RetryAt element.Time
	Blame   Blame
	Items   int // of a bundle of timers: what it had for user code
	// Parts replace the first block of the bundle: they were cut out of it in a commit of its own. FIFO stages only.
	Parts []Block
}

// Connected says that a harness of an environment is there again: what waited for one need not wait any longer.
type Connected struct{ Env plan.EnvID }

// Progressed says how far a bundle in flight has come: Done is the share of its input that is processed.
type Progressed struct {
	Bundle BundleID
	Done   float64
}

// Divided says that a split has been committed: the bundle goes on with Kept, Returned of its blocks wait again, and Added wait for its
// stage. Other blocks of the bundle are gone.
type Divided struct {
	Bundle   BundleID
	Kept     []Block
	Returned []Block
	Added    []Block
}

// Undivided says that a bundle that was asked to split had nothing to give.
type Undivided struct{ Bundle BundleID }

// Capacity says how many bundles an environment can take: Processes harness processes, PerProcess bundles each.
type Capacity struct {
	Env        plan.EnvID
	Processes  int
	PerProcess int
	// Workers names who is at the place of each process, "" where nobody is connected: no bundle is given to it while others are. A
	// bundle counts against the place of the worker that has it, and against none when that is not in service any more. nil: the
	// processes are those that there were.
	Workers []string
	// Parallel says that a process is as good as several: bundles in it do not hold each other up.
	Parallel bool
}

// Moved says that a bundle in flight is with another worker than the one of the place that it was started for.
type Moved struct {
	Bundle BundleID
	Worker string
}

// Mapped says which windows of side inputs the elements of a block need that MapWindows has named.
type Mapped struct {
	Stage    int
	Block    Block
	SideEnds []element.Time // see Block
}

// Tune sets what the user may choose of how a job is cut into bundles, now or while it runs. A field that is 0 is left to the scheduler.
type Tune struct {
	BundleElementsMax int   // elements a bundle takes
	BundleTimeMaxMs   int64 // how long a bundle is kept open for more, from its begin
	LatencyBudgetMs   int64 // what bundles may add to the way of an element through the whole job
	RunnerSlots       int   // grouping bundles at a time
}

// WasCut says what a block has been cut into.
type WasCut struct {
	Stage int
	Block Block
	Parts []Block
}

// Settle has no bundle be kept open, or takes that back.
type Settle struct{ On bool }

// Drain asks the job to stop reading and finish.
type Drain struct{}

func (Tick) event()       {}
func (Restored) event()   {}
func (Committed) event()  {}
func (Failed) event()     {}
func (Connected) event()  {}
func (Progressed) event() {}
func (Divided) event()    {}
func (Undivided) event()  {}
func (Capacity) event()   {}
func (Moved) event()      {}
func (Drain) event()      {}
func (Tune) event()       {}
func (Settle) event()     {}
func (WasCut) event()     {}
func (Mapped) event()     {}

// Start asks for a bundle. The bundle owns Groups until Committed or Failed names it.
type Start struct {
	Bundle  BundleID
	Stage   int
	Process int // harness process, 0 ≤ Process < Processes of the environment; 0 for runner-side stages
	// Worker is who is there, by the last Capacity or Moved.
	Worker string
	Groups []uint16
	Blocks []Block
	// Timers: fire the due timers of Groups, up to InputWatermark and Now, instead of taking data.
	Timers bool
	// AllTimers: the input is at its end; processing-time timers are due whatever the clock says.
	AllTimers bool
	// TimersMax bounds the timers that fire, 0: as many as bundles do.
	TimersMax int
	// Truncate: the job drains; restrictions are truncated before they are processed.
	Truncate bool
	// Final: the bundle of a batch Group stage holds all elements of its key groups.
	Final bool
	// Limit bounds what the bundle takes, because its input has failed or the stage starts slowly: the first elements of Blocks, the
	// first of what is due of Groups.
	// What is left of the last block stays under its sequence. 0: no bound.
	Limit int
	// Failures and Losses tell how often bundles that held the beginning of this input have failed: in user code or for a wrong answer,
	// and with their harness. Tries is how often one has failed that held the same, and Raised how often of these in user code.
	Failures, Losses, Tries, Raised int
	// Watched: the bundle should tell of its progress soon and often.
	Watched bool
	// Open: the bundle takes what Extend brings, until Close.
	Open bool
	// Deferred: the bundle belongs to a Group stage that evaluates its triggers once its bounded input is at its end.
	Deferred bool

	InputWatermark, OutputWatermark, Now element.Time
}

// Extend gives more blocks to a bundle that is kept open, and key groups: those of the blocks that it does not own yet. Decisions
// about the blocks are taken under the watermark.
type Extend struct {
	Bundle         BundleID
	Groups         []uint16
	Blocks         []Block
	InputWatermark element.Time
}

// Close says that an open bundle has all its input. Drains and pauses close it at once.
type Close struct{ Bundle BundleID }

// Cut asks to cut a waiting block into parts of so many elements. It is not in its inbox until WasCut answers.
type Cut struct {
	Stage    int
	Block    Block
	Elements int
}

// Drop asks to discard blocks: residuals of an unbounded source that a drain gives up.
type Drop struct {
	Stage  int
	Blocks []Block
}

// Split asks to split a bundle in flight in the middle of what is left of it: Process has room and could take the rest. The
// answer is Divided or Undivided, unless the bundle ends first.
type Split struct {
	Bundle  BundleID
	Stage   int
	Process int
	Done    float64 // the share of its input that the bundle has processed
	LeftMs  int64   // how long it will go on at its pace
}

// MapWindows asks which windows of side inputs the elements of a waiting block need. The block waits until Mapped answers.
type MapWindows struct {
	Stage int
	Block Block
}

// Action is what the scheduler asks for.
type Action interface{ action() }

func (Start) action()      {}
func (Drop) action()       {}
func (MapWindows) action() {}
func (Split) action()      {}
func (Extend) action()     {}
func (Close) action()      {}
func (Cut) action()        {}

// Config bounds what the scheduler starts.
type Config struct {
	BundleElementsMax int   // elements a bundle; default 100 000
	BundleBytesMax    int   // bytes a bundle; default 16 MiB
	BacklogBytesMax   int64 // bytes waiting at a stage above which its producers are not started; default 64 MiB
	BundleTimeMaxMs   int64 // how long a bundle is kept open; default 100
	LatencyBudgetMs   int64 // what bundles that are kept open may add to the way of an element through the whole job; 0: no bound
	// BundleIdleMaxMs is how long an open bundle waits for the next block; default 5. It is a tenth of its quantum if that is less, and
	// twice as long as blocks are apart, up to half of the quantum, if that is more.
	BundleIdleMaxMs int64
	// BundleFixedMs is what a bundle is taken to cost its harness, whatever it holds; default what is measured.
	BundleFixedMs float64
	RunnerSlots   int   // grouping bundles at a time; default 2
	SplitLeftMs   int64 // how long a bundle must have to go on at its pace to be split; default 1 000
	Tuning        Tune  // what the user has chosen, until an event says otherwise
	// BatchGroup says whether a Group stage collects its input, if that is bounded, and groups it once at the end.
	BatchGroup func(*plan.Stage) bool
	// DeferGroup says whether a Group stage of bounded input that is no BatchGroup keeps its elements in rows as they come, and
	// evaluates its triggers at the end.
	DeferGroup func(*plan.Stage) bool
	// InOrder keeps the order of what keyed stages put out through stages that run elements of any key: see Ordered. Not worth its
	// price where nobody sees results before the end.
	InOrder bool
	// SideReadyAt is the watermark that a side input must reach before an element whose window ends at main may be processed.
	SideReadyAt func(side plan.SideInput, main element.Time) element.Time
}

// Defaults of Config.
const (
	BundleElementsMaxDefault = 100_000
	BundleTimeMaxMsDefault   = 100
	RunnerSlotsDefault       = 2
)

func (c Config) withDefaults() Config {
	if c.BundleElementsMax <= 0 {
		c.BundleElementsMax = BundleElementsMaxDefault
	}
	if c.BundleBytesMax <= 0 {
		c.BundleBytesMax = 16 << 20
	}
	if c.BacklogBytesMax <= 0 {
		c.BacklogBytesMax = 64 << 20
	}
	if c.BundleTimeMaxMs <= 0 {
		c.BundleTimeMaxMs = BundleTimeMaxMsDefault
	}
	if c.BundleIdleMaxMs <= 0 {
		c.BundleIdleMaxMs = 5
	}
	if c.RunnerSlots <= 0 {
		c.RunnerSlots = RunnerSlotsDefault
	}
	if c.SplitLeftMs <= 0 {
		c.SplitLeftMs = 1000
	}
	return c
}
