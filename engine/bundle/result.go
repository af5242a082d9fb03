package bundle

import (
	"context"
	"sync/atomic"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/engine/timer"
	"padstone/internal/buffers"
	"padstone/internal/memory"
)

// Result is what a finished bundle hands to the commit.
type Result struct {
	Commit store.Commit
	// Returned are blocks of the bundle that it has not begun: they are not consumed and wait again.
	Returned []scheduler.Block
	// Timers are the earliest timers of the bundle's key groups after the commit.
	Timers []scheduler.StageTimers
	// Infos are the SDK's metrics of the bundle.
	Infos       []*pipepb.MonitoringInfo
	ElementsIn  int64
	BytesIn     int64 // of a harness bundle's blocks
	ElementsOut int64
	DroppedLate int64
	// DroppedClosed are elements whose window was closed: its trigger had finished.
	DroppedClosed int64
	// Work is what the harness had to do; nil if that is not known.
	Work *scheduler.Work
	// Decided is the watermark under which the newest input was taken in. Of bundles of Harness stages.
	Decided element.Time
	// finalize tells the harness that the bundle is durable; nil when it did not ask.
	finalize func(context.Context) error
	hold     *hold // of the harness, until it is told; nil likewise
	// Outputs are the watermarks of a TestStream's outputs.
	Outputs []element.Time
	// Of source bundles.
	Watermark element.Time
	Done      bool
	Positions []connector.Position
	// LeftOut says that a bundle of timers has left some for the next one, to keep them in order.
	LeftOut bool
	// Empty says that there is nothing to commit: a poll that returned neither elements nor positions.
	Empty bool

	// Watch takes the bundle's time, until its commit is applied; nil: nobody wants to know.
	Watch *profile.Watch

	held     held // of the blocks in Commit.Added
	unmerged unmerged
}

// Finalization returns what tells the harness that the bundle is durable, once; nil when it did not ask. The harness does not end before
// it is called.
func (r *Result) Finalization() func(context.Context) error {
	finalize := r.finalize
	r.finalize = nil
	if finalize == nil {
		return nil
	}
	return func(ctx context.Context) error {
		defer r.hold.letGo()
		return finalize(ctx)
	}
}

// Discard releases what the result holds: all of it, when it is not committed.
func (r *Result) Discard() {
	r.held.release()
	if r.Finalization() != nil {
		r.hold.letGo()
	}
	if r.Commit.Rows != nil {
		r.Commit.Rows.Discard()
	}
	if r.Commit.Ahead != nil {
		r.Commit.Ahead.Discard()
	}
}

// Runner runs the bundles of one job. Safe for concurrent use: each bundle has its own state.
type Runner struct {
	Job   *Job
	Store *store.Store
	// Load returns the elements of a waiting block.
	Load func(stage int, b scheduler.Block) ([]byte, error)
	// Borrow is Load into memory that is lent, if the block is not in memory; nil: it is.
	Borrow func(stage int, b scheduler.Block) ([]byte, *buffers.Buffer, error)
	// Now is the processing time.
	Now func() element.Time
	// Wall is the clock of the harnesses where that is not Now, nil otherwise: processing-time timers that they set are moved.
	Wall func() element.Time
	// Ahead is by how many milliseconds Now is ahead of the harnesses' clock, which was put back; nil: never. Processing-time timers
	// are moved by it.
	Ahead func() int64
	// Machines are the grouping machines, by stage index.
	Machines map[int]*group.Machine
	// RestrictionFor is how long a bundle of an unbounded splittable DoFn runs before it is asked to return the rest. Its outputs
	// become visible when it ends. Default 250 ms.
	RestrictionFor time.Duration
	// ProgressEvery is how often a bundle is asked for its progress, from the half of it on. Default 1 s.
	ProgressEvery time.Duration
	// Memory bounds what bundles hold.
	Memory *memory.Budget
	// ElementsMax bounds the elements that a bundle takes. Default 100 000. It may change while bundles run.
	ElementsMax atomic.Int64
	// HideElements keeps elements out of what is said about a bundle that failed.
	HideElements bool
	Log          *zap.Logger

	paces paces
	lifts lifts
}

// timersMax bounds the timers that one bundle fires.
const timersMax = 10_000

// timersLeft is how many timers a bundle may fire that has fired none yet.
func timersLeft(start *scheduler.Start) int {
	if start.TimersMax > 0 {
		return min(start.TimersMax, timersMax)
	}
	return timersMax
}

// eachDue hands the timers of a Group stage's key groups that are due to fn, group by group, event time first, up to what a bundle
// fires. fn removes them.
func eachDue(
	txs *transactions, start *scheduler.Start, event, processing element.Time, fn func(group uint16, due []timer.Fired) error,
) error {
	left := timersLeft(start)
	for _, g := range start.Groups {
		for _, d := range []struct {
			domain plan.TimeDomain
			upTo   element.Time
		}{{plan.EventTime, event}, {plan.ProcessingTime, processing}} {
			if left <= 0 {
				return nil
			}
			due, err := timer.Due(txs.byID[g], d.domain, d.upTo, left)
			if err != nil {
				return err
			}
			left -= len(due)
			if err := fn(g, due); err != nil {
				return err
			}
		}
	}
	return nil
}

// nextTimers reads the earliest timers of a bundle's key groups, own writes included.
func nextTimers(txs *transactions, stage int, groups []uint16) ([]scheduler.StageTimers, error) {
	out := make([]scheduler.StageTimers, len(groups))
	for i, g := range groups {
		var err error
		if out[i], err = NextTimers(txs.byID[g], stage, g); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// NextTimers reads the earliest timers of one key group.
func NextTimers(tx rows.Tx, stage int, group uint16) (scheduler.StageTimers, error) {
	next := scheduler.StageTimers{Stage: stage, Group: group, Event: scheduler.NoTimer, Processing: scheduler.NoTimer}
	event, ok, err := timer.Next(tx, plan.EventTime)
	if err != nil {
		return next, err
	}
	if ok {
		next.Event = event
	}
	processing, ok, err := timer.Next(tx, plan.ProcessingTime)
	if ok {
		next.Processing = processing
	}
	return next, err
}

// consumed lists the blocks of a bundle for its commit.
func consumed(start *scheduler.Start) []store.BlockID {
	ids := make([]store.BlockID, len(start.Blocks))
	for i, b := range start.Blocks {
		ids[i] = blockID(b)
	}
	return ids
}

func blockID(b scheduler.Block) store.BlockID {
	return store.BlockID{Group: b.Group, Edge: uint32(b.Edge), Seq: b.Seq}
}
