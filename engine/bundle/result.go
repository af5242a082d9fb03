package bundle

import (
	"context"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/engine/timer"
)

// Result is what a finished bundle hands to the commit.
type Result struct {
	Commit store.Commit
	// Timers are the earliest timers of the bundle's key groups after the commit.
	Timers []scheduler.StageTimers
	// Infos are the SDK's metrics of the bundle.
	Infos       []*pipepb.MonitoringInfo
	ElementsIn  int64
	ElementsOut int64
	DroppedLate int64
	// Finalize tells the harness that the bundle is durable; nil when it did not ask.
	Finalize func(context.Context) error
	// Outputs are the watermarks of a TestStream's outputs.
	Outputs []element.Time
	// Of source bundles.
	Watermark element.Time
	Done      bool
	Positions []connector.Position
	// Empty says that there is nothing to commit: a poll that returned neither elements nor positions.
	Empty bool
}

// Discard releases what the result holds, when it is not committed.
func (r *Result) Discard() {
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
	// Now is the processing time.
	Now func() element.Time
	// Wall is the clock of the harnesses where that is not Now, nil otherwise: processing-time timers that they set are moved.
	Wall func() element.Time
	// Machines are the grouping machines, by stage index.
	Machines map[int]*group.Machine
	// RestrictionFor is how long a bundle of an unbounded splittable DoFn runs before it is asked to return the rest. Its outputs
	// become visible when it ends. Default 250 ms.
	RestrictionFor time.Duration
	// GroupBytesMax is what grouping a key group at once may hold in memory; what is more is sorted in files. 0: no bound.
	GroupBytesMax int
	Log           *zap.Logger
}

// timersMax bounds the timers that one bundle fires.
const timersMax = 10_000

// dueUpTo is the time up to which timers of a domain are due.
type dueUpTo struct {
	domain plan.TimeDomain
	upTo   element.Time
}

// dueTimers returns the timers of the bundle's key groups that are due, and takes them out of the rows.
func dueTimers(txs *transactions, start *scheduler.Start) (map[uint16][]timer.Fired, error) {
	due := make(map[uint16][]timer.Fired)
	left := timersMax
	for _, g := range start.Groups {
		tx := txs.byID[g]
		now := start.Now
		if start.AllTimers {
			now = element.MaxTime
		}
		for _, d := range []dueUpTo{{plan.EventTime, start.InputWatermark}, {plan.ProcessingTime, now}} {
			if left <= 0 {
				return due, nil
			}
			fired, err := timer.Due(tx, d.domain, d.upTo, left)
			if err != nil {
				return nil, err
			}
			for _, f := range fired {
				if _, err := timer.Remove(tx, f); err != nil {
					return nil, err
				}
			}
			due[g] = append(due[g], fired...)
			left -= len(fired)
		}
	}
	return due, nil
}

// nextTimers reads the earliest timers of the bundle's key groups, own writes included.
func nextTimers(txs *transactions, start *scheduler.Start) ([]scheduler.StageTimers, error) {
	out := make([]scheduler.StageTimers, 0, len(start.Groups))
	for _, g := range start.Groups {
		next := scheduler.StageTimers{Stage: start.Stage, Group: g, Event: scheduler.NoTimer, Processing: scheduler.NoTimer}
		event, ok, err := timer.Next(txs.byID[g], plan.EventTime)
		if err != nil {
			return nil, err
		}
		if ok {
			next.Event = event
		}
		processing, ok, err := timer.Next(txs.byID[g], plan.ProcessingTime)
		if err != nil {
			return nil, err
		}
		if ok {
			next.Processing = processing
		}
		out = append(out, next)
	}
	return out, nil
}

// NextTimers reads the earliest timers of one key group, for recovery.
func NextTimers(tx rows.Tx, stage int, group uint16) (scheduler.StageTimers, error) {
	txs := &transactions{byID: map[uint16]rows.Tx{group: tx}}
	next, err := nextTimers(txs, &scheduler.Start{Stage: stage, Groups: []uint16{group}})
	if err != nil {
		return scheduler.StageTimers{}, err
	}
	return next[0], nil
}

// consumed lists the blocks of a bundle for its commit.
func consumed(start *scheduler.Start) []store.BlockID {
	ids := make([]store.BlockID, len(start.Blocks))
	for i, b := range start.Blocks {
		ids[i] = store.BlockID{Group: b.Group, Edge: uint32(b.Edge), Seq: b.Seq}
	}
	return ids
}
