package engine

import (
	"context"
	"fmt"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// Back-off of a stage whose bundles fail for the environment's fault: it doubles from the first to the last.
const (
	backoffMin = 200 * time.Millisecond
	backoffMax = 10 * time.Second
)

// A lost harness is no reason to give up: its pool does, when restarts do not help. One that answers wrongly is, at the fourth time.
const (
	codeHarnessLost = "harness-lost"
	attemptsMax     = 4
)

// finalizeFor bounds the finalisation of a bundle: a harness that does not answer must not hold up what is durable after it. The model
// lets a finalisation be lost.
const finalizeFor = time.Minute

// startBundle runs a bundle on its own goroutine and hands what it brings to the driver.
func (j *job) startBundle(start *scheduler.Start) {
	j.running++
	s := *start
	link := j.attend(&s)
	j.tasks.Go(func() {
		res, err := j.runBundle(&s, link)
		j.post(func() { j.bundleEnded(&s, res, err) })
	})
}

// runBundle runs a bundle by the kind of its stage.
func (j *job) runBundle(start *scheduler.Start, link *bundle.Link) (*bundle.Result, error) {
	switch def := j.plan.Stages[start.Stage]; def.Kind {
	case plan.Impulse:
		return j.runner.Impulse(start)
	case plan.Source:
		return j.runSource(start)
	case plan.TestStream:
		return j.replay.run(j.ctx, j.runner, start)
	case plan.Sink:
		if err := j.sinks[start.Stage].room(j.ctx); err != nil {
			return nil, err
		}
		return j.runner.Sink(start)
	case plan.Group:
		return j.runner.Group(start, j.fleet.Merger(j.ctx, start), j.fleet.Combiner(j.ctx, start))
	case plan.Harness:
		if def.TimeSorted && !start.Timers {
			return j.runner.Buffer(start)
		}
		if def.StableInput { // what user code does elsewhere must not be undone by a crash that loses its input
			if err := j.store.WaitDurable(j.ctx, j.store.Applied()); err != nil {
				return nil, err
			}
		}
		return j.fleet.Run(j.ctx, j.runner, start, link)
	default:
		return nil, fault.New(fault.Internal, "bad-plan", "stage %q has the unknown kind %q", def.Name, def.Kind)
	}
}

// runSource polls a native source, opening it first.
func (j *job) runSource(start *scheduler.Start) (*bundle.Result, error) {
	src := j.sources[start.Stage]
	src.mu.Lock()
	reader, last := src.reader, src.watermark
	src.mu.Unlock()
	if reader == nil {
		var err error
		if reader, err = j.openSource(start.Stage); err != nil {
			return nil, err
		}
		src.mu.Lock()
		src.reader = reader
		src.mu.Unlock()
	}
	return j.runner.Source(j.ctx, start, reader, last)
}

// bundleEnded commits what a bundle brings, or deals with its failure.
func (j *job) bundleEnded(start *scheduler.Start, res *bundle.Result, err error) {
	j.running--
	j.unattend(start.Bundle, err != nil)
	switch {
	case j.over:
		if res != nil {
			res.Discard()
		}
	case err != nil:
		j.bundleFailed(start, err)
	default:
		j.commit(start, res)
	}
}

// commit is the only write path of a running job.
func (j *job) commit(start *scheduler.Start, res *bundle.Result) {
	defer res.Discard()
	ev := scheduler.Committed{Bundle: start.Bundle, Watermark: res.Watermark, Done: res.Done, Outputs: res.Outputs, Timers: res.Timers,
		Returned: res.Returned}
	if res.Empty {
		j.tell(ev)
		return
	}
	c := &res.Commit
	if err := j.complete(c, start, res); err != nil {
		j.end(err)
		return
	}
	j.expireSides(c)
	seq, err := j.store.Commit(c)
	if err != nil {
		j.end(err)
		return
	}
	ev.Added = j.inCache(c)
	for _, edge := range c.SideEdges() {
		ev.SideAdded = append(ev.SideAdded, int(edge))
	}
	if c.Rows != nil {
		for t, n := range c.Rows.Holds() {
			ev.Holds = append(ev.Holds, scheduler.HoldDelta{At: t, Delta: n})
		}
	}
	j.count(start.Stage, res)
	j.committed(start, res, seq)
	j.tell(ev)
}

// inCache keeps the blocks in memory that a commit has added, forgets those that it has consumed, and returns the former for the scheduler.
func (j *job) inCache(c *store.Commit) []scheduler.StageBlock {
	for _, id := range c.Consumed {
		j.cache.drop(id.Seq)
	}
	added := make([]scheduler.StageBlock, len(c.Added))
	for i := range c.Added {
		a := &c.Added[i]
		if a.Block.Body == 0 {
			j.cache.put(a.Block.Seq, a.Block.Data)
		}
		added[i] = scheduler.StageBlock{Stage: int(a.Stage), Block: bundle.SchedulerBlock(a.Group, int(a.Edge), a.Block.Header)}
	}
	return added
}

// complete adds to a bundle's commit what the engine keeps beside it: metrics, and the watermark under which it was decided.
func (j *job) complete(c *store.Commit, start *scheduler.Start, res *bundle.Result) error {
	watermark := start.InputWatermark
	if kind := j.plan.Stages[start.Stage].Kind; kind == plan.Source || kind == plan.Impulse {
		watermark = res.Watermark
	}
	if watermark > element.MinTime {
		c.Meta = append(c.Meta, store.Entry{Name: j.metaOf(metaWatermark, start.Stage), Value: rows.AppendTime(nil, watermark)})
	}
	if res.Done {
		c.Meta = append(c.Meta, store.Entry{Name: j.metaOf(metaDone, start.Stage), Value: []byte{1}})
	}
	if j.draining {
		c.Meta = append(c.Meta, store.Entry{Name: metaDrain, Value: []byte{1}})
	}
	infos := res.Infos
	if res.DroppedLate > 0 {
		infos = append(infos, metrics.Counter(j.lateName(start.Stage), "padstone", "dropped_due_to_lateness", res.DroppedLate))
	}
	if res.DroppedClosed > 0 {
		infos = append(infos, metrics.Counter(j.lateName(start.Stage), "padstone", "dropped_due_to_closed_window", res.DroppedClosed))
	}
	entries, err := j.totals.Add(infos)
	if err != nil {
		return fault.New(fault.Internal, "bad-metric", "stage %q: %w", j.plan.Stages[start.Stage].Name, err)
	}
	for _, e := range entries {
		c.Metrics = append(c.Metrics, store.Entry{Name: e.Key, Value: e.Value})
	}
	return nil
}

// lateName is the user's transform that late elements of a stage are counted under.
func (j *job) lateName(stage int) string {
	s := j.plan.Stages[stage]
	if len(s.Transforms) > 0 {
		return s.Transforms[0].Name
	}
	return s.Name
}

// committed does what follows from a commit, most of it once it is durable.
func (j *job) committed(start *scheduler.Start, res *bundle.Result, seq uint64) {
	def := j.plan.Stages[start.Stage]
	delete(j.backoff, start.Stage)
	delete(j.failures, start.Stage)
	switch def.Kind {
	case plan.Harness:
		if start.Timers || !def.TimeSorted { // else no harness has had a part in it
			j.fleet.Progressed(def.Env)
		}
		if res.Finalize != nil {
			j.effects.after(seq, func() {
				ctx, cancel := context.WithTimeout(j.ctx, finalizeFor)
				defer cancel()
				j.warn(res.Finalize(ctx), "finalising a bundle")
			})
		}
	case plan.Source:
		src := j.sources[start.Stage]
		src.mu.Lock()
		src.watermark = max(src.watermark, res.Watermark)
		src.mu.Unlock()
		if len(res.Positions) > 0 {
			j.effects.after(seq, func() { src.reader.Durable(res.Positions) })
		}
	case plan.TestStream:
		if err := j.replay.committed(res); err != nil {
			j.end(err)
		}
	case plan.Sink:
		j.sinks[start.Stage].add(res.Commit.Outbox, seq)
	}
}

func (j *job) count(stage int, res *bundle.Result) {
	t := &j.stages[stage]
	t.bundles++
	t.in += res.ElementsIn
	t.out += res.ElementsOut
	t.late += res.DroppedLate + res.DroppedClosed
}

// bundleFailed runs the bundle again later if the environment is to blame, and ends the job otherwise.
func (j *job) bundleFailed(start *scheduler.Start, err error) {
	def := j.plan.Stages[start.Stage]
	// A source that cannot be opened when the job is new is a mistake that its user is still there to correct; later it is an outage.
	opening := def.Kind == plan.Source && j.sources[start.Stage].reader == nil && !j.resumed
	j.failures[start.Stage]++
	f := fault.Of(err)
	breach := f != nil && f.Code != codeHarnessLost && def.Kind == plan.Harness && j.failures[start.Stage] >= attemptsMax
	if fault.KindOf(err) != fault.Environment || opening || breach {
		j.end(named(err, def))
		return
	}
	wait := min(max(j.backoff[start.Stage]*2, backoffMin), backoffMax)
	if j.backoff[start.Stage] == 0 {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
			fmt.Sprintf("a bundle of %q failed and will run again: %v", def.Name, err))
	}
	j.log.Info("bundle failed", zap.String("stage", def.Name), zap.Duration("again_in", wait), zap.Error(err))
	j.backoff[start.Stage] = wait
	if j.replay != nil {
		j.retryAfter(start.Bundle, wait)
		return
	}
	j.tell(scheduler.Failed{Bundle: start.Bundle, RetryAt: j.now().Add(wait.Milliseconds())})
}

// retryAfter tells the scheduler of a failed bundle only when it is time to run it again: a script's clock does not move until then.
func (j *job) retryAfter(b scheduler.BundleID, wait time.Duration) {
	j.tasks.Go(func() {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
			j.post(func() { j.tell(scheduler.Failed{Bundle: b, RetryAt: element.MinTime}) })
		case <-j.ctx.Done():
		}
	})
}

// named puts the stage's name, made of the user's transform names, into an error that names none.
func named(err error, def *plan.Stage) error {
	if f := fault.Of(err); f != nil {
		if f.Transform == "" {
			f.Transform = def.Name
		}
		return err
	}
	return fault.New(fault.Internal, "bundle-internal", "%w", err).In(def.Name)
}

// dropBlocks discards restrictions that a drain gives up.
func (j *job) dropBlocks(a scheduler.Drop) {
	c := &store.Commit{Stage: uint32(a.Stage)}
	for _, b := range a.Blocks {
		c.Consumed = append(c.Consumed, store.BlockID{Group: b.Group, Edge: uint32(b.Edge), Seq: b.Seq})
		j.cache.drop(b.Seq)
	}
	if _, err := j.store.Commit(c); err != nil {
		j.end(err)
	}
}
