package engine

import (
	"context"
	"time"

	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// finalizeFor bounds the finalisation of a bundle: a harness that does not answer must not hold up what is durable after it. The model
// lets a finalisation be lost.
const finalizeFor = time.Minute

// startBundle runs a bundle on its own goroutine and hands what it brings to the driver.
func (j *job) startBundle(start *scheduler.Start) {
	if j.pause.hold(start, j.plan.Stages[start.Stage]) {
		return
	}
	j.running++
	s := *start
	if j.sched.Ordered(s.Stage) {
		j.order[s.Stage] = append(j.order[s.Stage], &flight{start: &s})
	}
	w := j.watchBundle(&s)
	link := j.attend(&s, w)
	j.tasks.Go(func() {
		j.cfg.Turn(j.spec.ID, TurnBegin, s.Bundle)
		w.To(profile.Place)
		res, err := j.runBundle(&s, link, w)
		var f *failure
		if err != nil {
			f = j.examine(&s, err)
			f.watch = w
		} else {
			w.To(profile.Process)
			res.Watch = w
		}
		j.cfg.Turn(j.spec.ID, TurnEnd, s.Bundle)
		j.post(func() { j.bundleEnded(&s, res, f) })
	})
}

// runBundle runs a bundle by the kind of its stage.
func (j *job) runBundle(start *scheduler.Start, link *bundle.Link, w *profile.Watch) (*bundle.Result, error) {
	switch def := j.plan.Stages[start.Stage]; def.Kind {
	case plan.Impulse:
		return j.runner.Impulse(start)
	case plan.Source:
		return j.runSource(start, w)
	case plan.TestStream:
		return j.replay.run(j.ctx, j.runner, start)
	case plan.Sink:
		err := j.sinks[start.Stage].room(j.ctx)
		if w.To(profile.Place); err != nil {
			return nil, err
		}
		return j.runner.Sink(start, w)
	case plan.Group:
		return j.runner.Group(start, j.fleet.Merger(j.ctx, start), j.fleet.Combiner(j.ctx, start), w)
	case plan.Harness:
		if def.TimeSorted && !start.Timers {
			return j.runner.Buffer(start, w)
		}
		if def.StableInput { // what user code does elsewhere must not be undone by a crash that loses its input
			err := j.store.WaitDurable(j.ctx, j.store.Applied())
			if w.To(profile.Stable); err != nil {
				return nil, err
			}
		}
		return j.runHarness(start, link)
	default:
		return nil, fault.New(fault.Internal, "bad-plan", "stage %q has the unknown kind %q", def.Name, def.Kind)
	}
}

// bundleEnded commits what a bundle brings, or deals with its failure.
func (j *job) bundleEnded(start *scheduler.Start, res *bundle.Result, f *failure) {
	if res != nil {
		res.Watch.To(profile.Driver)
	}
	if !j.over && j.pause.keep(func() { j.bundleEnded(start, res, f) }) {
		return
	}
	j.running--
	j.unattend(start.Bundle, f != nil)
	switch {
	case j.over:
		if res != nil {
			res.Discard()
		}
	case j.sched.Ordered(start.Stage):
		j.arrived(start, res, f)
	case f != nil:
		j.inVain(start.Stage, f.watch)
		j.bundleFailed(start, f)
	default:
		j.commit(start, res)
	}
}

// commit is the only write path of a running job.
func (j *job) commit(start *scheduler.Start, res *bundle.Result) {
	defer res.Discard()
	res.Watch.To(profile.Order)
	ev := scheduler.Committed{Bundle: start.Bundle, Watermark: res.Watermark, Done: res.Done, Outputs: res.Outputs, Timers: res.Timers,
		Returned: res.Returned, Work: res.Work}
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
	res.Watch.To(profile.Route)
	seq, err := j.store.Commit(c)
	if res.Watch.To(profile.Commit); err != nil {
		j.end(err)
		return
	}
	ev.Added, ev.Rest = j.inCache(c), j.restInCache(c)
	for _, edge := range c.SideEdges() {
		ev.SideAdded = append(ev.SideAdded, int(edge))
	}
	if c.Rows != nil {
		for t, n := range c.Rows.Holds() {
			ev.Holds = append(ev.Holds, scheduler.HoldDelta{At: t, Delta: n})
		}
	}
	j.count(start, res)
	j.committed(start, res, seq)
	j.tell(ev)
}

// inCache keeps the blocks in memory that a commit has added, forgets those that it has consumed, and returns the former for the scheduler.
func (j *job) inCache(c *store.Commit) []scheduler.StageBlock {
	for _, id := range c.Consumed {
		j.cache.drop(id.Seq)
	}
	now := j.cfg.Stopwatch()
	added := make([]scheduler.StageBlock, len(c.Added))
	for i := range c.Added {
		a := &c.Added[i]
		if a.Block.Body == 0 && !j.gathers[a.Stage] {
			j.cache.put(a.Block.Seq, a.Block.Data)
		}
		added[i] = scheduler.StageBlock{Stage: int(a.Stage), Block: bundle.SchedulerBlock(a.Group, int(a.Edge), a.Block.Header)}
		added[i].Block.Since = now
	}
	return added
}

// restInCache keeps what a commit has left of a block, and returns it for the scheduler.
func (j *job) restInCache(c *store.Commit) (rest *scheduler.Block) {
	for i := range c.Trimmed {
		t := &c.Trimmed[i]
		j.cache.drop(t.ID.Seq)
		if t.Block.Body == 0 {
			j.cache.put(t.ID.Seq, t.Block.Data)
		}
		b := bundle.SchedulerBlock(t.ID.Group, int(t.ID.Edge), t.Block.Header)
		b.Since = j.cfg.Stopwatch()
		rest = &b
	}
	return rest
}

// complete adds to a bundle's commit what the engine keeps beside it: metrics, and the watermark under which it was decided.
func (j *job) complete(c *store.Commit, start *scheduler.Start, res *bundle.Result) error {
	watermark := start.InputWatermark
	switch j.plan.Stages[start.Stage].Kind {
	case plan.Source, plan.Impulse:
		watermark = res.Watermark
	case plan.Harness:
		watermark = max(watermark, res.Decided)
	case plan.TestStream:
		c.Meta = append(c.Meta, j.watermarks()...)
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
	if at, due := j.clock.keep(); due {
		c.Meta = append(c.Meta, store.Entry{Name: metaClock, Value: rows.AppendTime(nil, at)})
	}
	infos := j.runner.Job.Stages[start.Stage].Counted(res.Infos)
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

// watermarks are those of all stages, which have come to rest, for the next event of a TestStream to be kept with: its elements are late or
// not by them, after a restart as well. Else they are on their way again, and hold what their lateness is measured by.
func (j *job) watermarks() (all []store.Entry) {
	for i, s := range j.plan.Stages {
		w := j.sched.Input(i)
		if w == element.MinTime || s.Kind == plan.Source || s.Kind == plan.Impulse || s.Kind == plan.TestStream {
			continue
		}
		all = append(all, store.Entry{Name: j.metaOf(metaWatermark, i), Value: rows.AppendTime(nil, w)})
	}
	return all
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
	j.recovered()
	def := j.plan.Stages[start.Stage]
	delete(j.backoff, start.Stage)
	if start.Limit > 0 {
		j.stages[start.Stage].suspect = ""
	}
	switch def.Kind {
	case plan.Harness:
		if start.Timers || !def.TimeSorted { // else no harness has had a part in it
			j.fleet.Progressed(def.Env)
		}
		if finalize := res.Finalization(); finalize != nil {
			j.effects.after(start.Stage, seq, func() {
				ctx, cancel := context.WithTimeout(j.ctx, finalizeFor)
				defer cancel()
				j.warn(finalize(ctx), "finalising a bundle")
			})
		}
	case plan.Source:
		src := j.sources[start.Stage]
		src.mu.Lock()
		src.watermark = max(src.watermark, res.Watermark)
		src.mu.Unlock()
		if len(res.Positions) > 0 {
			j.effects.after(start.Stage, seq, func() {
				if reader := src.current(); reader != nil {
					reader.Durable(res.Positions)
				}
			})
		}
	case plan.TestStream:
		if err := j.replay.committed(res); err != nil {
			j.end(err)
		}
	case plan.Sink:
		j.sinks[start.Stage].add(res.Commit.Outbox, seq)
	}
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
