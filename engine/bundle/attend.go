package bundle

import (
	"context"
	"sync/atomic"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/engine/metrics"
	"padstone/engine/profile"
	"padstone/fnapi"
	"padstone/internal/fault"
)

// Link connects a bundle on a harness with its job while it runs.
type Link struct {
	// Split asks the bundle to give up a part of what is left of it. One request waits at most.
	Split <-chan struct{}
	// Progress takes what a bundle that takes long tells of itself.
	Progress func(Progress)
	// Moved says which worker has got the bundle, where that is not the one that it was meant for.
	Moved func(worker string)
	// Divide commits a split: it gives the new blocks their sequences. Then the bundle has its part, and the rest may start.
	Divide func(ctx context.Context, d *Division) error
	// Undivided says that a request brought nothing.
	Undivided func()
	// Watch takes the bundle's time; nil: nobody wants to know.
	Watch *profile.Watch
	// More is what comes to a bundle that is kept open; nil for another one. A bundle is asked for no split before it is closed.
	More *More
	// Flight is where the bundle runs; nil while its harness does not have it.
	Flight atomic.Pointer[Flight]
}

// Flight is a bundle on a harness. What changes is safe for concurrent use.
type Flight struct {
	Worker, Instruction string
	Generation          int // of the worker
	// Heard counts what the harness has answered to questions for its progress. Refused says that it does not take any.
	Heard   atomic.Int64
	Refused atomic.Bool
}

// Progress is how far a bundle has come.
type Progress struct {
	Done float64 // the share of its input that is processed
	// Infos are the SDK's metrics of the bundle so far: tentative, as the bundle may still fail.
	Infos []*pipepb.MonitoringInfo
}

// answerFor is how long a harness may take to answer a split request after the bundle's end. The answer may tell of a split that was
// made just before, so the bundle cannot be committed without it.
const answerFor = 30 * time.Second

// progressEvery is the default of Runner.ProgressEvery.
const progressEvery = time.Second

// watchedMore is how much more often a bundle tells of its progress from which the pace of its stage is to be learnt.
const watchedMore = 8

// attend asks the harness, while the bundle runs, for its progress and for splits, one request at a time: Python answers both with
// one thread. The returned function ends that when the bundle has ended, and returns why the bundle must fail if it must.
func (h *harnessBundle) attend(ctx context.Context) (stop func() error) {
	ctx, cancel := context.WithCancelCause(ctx)
	running, ended := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := h.attending(ctx, running)
		if err != nil {
			h.bundle.Abandon(err) // what was split off must not be processed twice
		}
		done <- err
	}()
	return func() error {
		ended()
		t := time.AfterFunc(answerFor, func() {
			cancel(fault.New(fault.Environment, "harness-protocol", "the harness does not answer a split request").In(h.stage.Def.Name))
		})
		defer t.Stop()
		defer cancel(context.Canceled)
		return <-done
	}
}

// attending is attend's loop, until running ends. ctx goes on until the last request is answered.
func (h *harnessBundle) attending(ctx, running context.Context) error {
	every := h.runner.ProgressEvery
	if every <= 0 {
		every = progressEvery
	}
	first := every / 2
	if h.start.Watched {
		every /= watchedMore
		first = every / 2
	}
	news := time.NewTimer(first)
	defer news.Stop()
	cp := h.checkpointing()
	defer cp.timer.Stop()
	for {
		var err error
		switch h.chore(running, news, cp) {
		case none:
			return nil
		case tell:
			if h.report(running) {
				news.Reset(every)
			}
		case split:
			err = h.divide(ctx)
		case stop:
			err = h.checkpoint(ctx, cp)
		}
		if err != nil {
			return err
		}
	}
}

// chore is what an attending goroutine does next.
type chore int

const (
	none  chore = iota // the bundle has ended, with success or without: Wait knows
	tell               // of its progress
	split              // because it was asked
	stop               // with what it has done so far
)

// chore waits for something to do. Of several things it is always the same one that comes first, so that what a harness is asked for is
// no matter of chance: nothing when the bundle has ended, and news last.
func (h *harnessBundle) chore(running context.Context, news *time.Timer, cp *checkpoints) chore {
	if running.Err() != nil || h.over() {
		return none
	}
	select {
	case <-h.link.Split:
		return split
	default:
	}
	select {
	case <-cp.drain:
		cp.drain = nil
		return stop
	case <-cp.timer.C:
		return stop
	default:
	}
	select {
	case <-running.Done():
		return none
	case <-h.bundle.Done():
		return none
	case <-news.C:
		return tell
	case <-h.link.Split:
		return split
	case <-cp.drain:
		cp.drain = nil
	case <-cp.timer.C:
	}
	return stop
}

// report asks for the bundle's progress and passes it on. It says whether to ask again: a harness that refuses will go on to. Nothing
// hangs on the answer, so that the bundle's end does not wait for it.
func (h *harnessBundle) report(running context.Context) bool {
	resp, err := h.bundle.Progress(running)
	if err != nil {
		h.flight.Refused.Store(true)
		h.runner.Log.Debug("no progress from the harness", zap.String("stage", h.stage.Def.Name), zap.Error(err))
		return false
	}
	h.flight.Heard.Add(1)
	if infos := resp.GetMonitoringInfos(); len(infos) > 0 {
		h.link.Progress(Progress{Done: h.done(infos), Infos: infos})
	}
	return true
}

// done is the share of the input that the metrics say is processed. Spec: metrics.proto MonitoringInfoSpecs DATA_CHANNEL_READ_INDEX,
// WORK_REMAINING and WORK_COMPLETED.
func (h *harnessBundle) done(infos []*pipepb.MonitoringInfo) float64 {
	h.growing.Lock()
	defer h.growing.Unlock()
	index, ok := metrics.ReadIndex(infos, h.stage.Def.InputRead)
	all := h.input.planned + h.input.divided
	if !ok || index < 0 || all == 0 {
		return 0
	}
	current := 0.0
	if sp := h.stage.Def.Splittable; sp != nil {
		current = metrics.Completed(infos, sp.Transform)
	}
	return min(1, (float64(index)+current)/float64(all))
}

// checkpoints is when a bundle is asked to stop and return what is left.
type checkpoints struct {
	timer *time.Timer
	wait  time.Duration
	drain <-chan struct{} // nil when the job's drain changes nothing
}

// checkpointing returns the checkpoints of the bundle: of unbounded restrictions after a while, and at once when the job drains.
func (h *harnessBundle) checkpointing() *checkpoints {
	const never = 1 << 62
	sp := h.stage.Def.Splittable
	if sp == nil || sp.Bounded || h.start.Truncate || h.start.Timers {
		return &checkpoints{timer: time.NewTimer(never)}
	}
	cp := &checkpoints{wait: h.runner.RestrictionFor, drain: h.slot.Drain}
	if cp.wait <= 0 {
		cp.wait = 250 * time.Millisecond
	}
	cp.timer = time.NewTimer(cp.wait)
	return cp
}

// checkpoint asks for a split at fraction 0. What it gives up is in the bundle's own commit: the bundle ends now, and a primary without
// its residual need not be able to run again (that of Java's wrapper of unbounded sources cannot). A harness answers nothing when
// there is nothing to split yet: it is asked again.
func (h *harnessBundle) checkpoint(ctx context.Context, cp *checkpoints) error {
	const waitMax = 5 * time.Second
	cp.wait = min(cp.wait*2, waitMax)
	cp.timer.Reset(cp.wait)
	resp, err := h.bundle.Split(ctx, h.splitRequest(0))
	if refused(err) && h.over() {
		return nil
	}
	if err != nil {
		return err
	}
	residual, err := h.residuals(resp.GetResidualRoots())
	h.residual = append(h.residual, residual...)
	for _, cs := range resp.GetChannelSplits() {
		if err == nil {
			err = h.stopAt(cs, len(resp.GetPrimaryRoots())+len(resp.GetResidualRoots()))
		}
	}
	return err
}

func (h *harnessBundle) splitRequest(fraction float64) fnapi.Split {
	h.splitAsked = true
	return fnapi.Split{Transform: h.stage.Def.InputRead, Fraction: fraction, EstimatedElements: int64(h.limit())}
}

// refused says whether a harness has answered a request with an error, as it does when the bundle is over. Any other error leaves
// open whether it has split.
func refused(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Code == fnapi.CodeRequestFailed
}

// over says whether the bundle has ended.
func (h *harnessBundle) over() bool {
	select {
	case <-h.bundle.Done():
		return true
	default:
		return false
	}
}
