package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/engine/bundle"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
)

// attended is what the driver knows of a bundle on a harness while it runs.
type attended struct {
	stage int
	split chan struct{}            // asks it for a split; 1-buffered
	more  *bundle.More             // of one that is kept open
	infos []*pipepb.MonitoringInfo // its metrics when it last told of its progress
	link  *bundle.Link
	lull  lull
}

// attend prepares to hear from a bundle; nil for a bundle that runs in the runner.
func (j *job) attend(start *scheduler.Start, w *profile.Watch) *bundle.Link {
	if j.plan.Stages[start.Stage].Kind != plan.Harness {
		return nil
	}
	a := &attended{stage: start.Stage, split: make(chan struct{}, 1)}
	if start.Open {
		a.more = bundle.NewMore()
	}
	j.attending[start.Bundle] = a
	a.link = &bundle.Link{
		Split: a.split, More: a.more, Watch: w,
		Progress: func(p bundle.Progress) {
			j.postLive(func() {
				if j.attending[start.Bundle] == nil {
					return
				}
				a.infos = j.runner.Job.Stages[start.Stage].Counted(p.Infos)
				if f := a.link.Flight.Load(); f != nil {
					a.lull.progressed(f, p.Infos, j.cfg.Stopwatch())
				}
				j.tell(scheduler.Progressed{Bundle: start.Bundle, Done: p.Done})
			})
		},
		Moved: func(worker string) {
			j.postLive(func() { j.tell(scheduler.Moved{Bundle: start.Bundle, Worker: worker}) })
		},
		Divide: func(ctx context.Context, d *bundle.Division) error { return j.divide(ctx, start, d) },
		Undivided: func() {
			j.postLive(func() {
				delete(j.asked, start.Bundle)
				j.tell(scheduler.Undivided{Bundle: start.Bundle})
			})
		},
	}
	return a.link
}

// unattend forgets a bundle that has ended. What one that failed has told last still counts as attempted.
func (j *job) unattend(b scheduler.BundleID, failed bool) {
	a := j.attending[b]
	if a == nil {
		return
	}
	delete(j.attending, b)
	delete(j.asked, b)
	if !failed || len(a.infos) == 0 {
		return
	}
	if _, err := j.failedTotals.Add(a.infos); err != nil {
		j.log.Warn("metrics of a failed bundle", zap.Error(err))
	}
}

// extend gives a bundle that is kept open more.
func (j *job) extend(x scheduler.Extend) {
	if a := j.attending[x.Bundle]; a != nil {
		j.waited(a.stage, x.Blocks, j.cfg.Stopwatch())
		a.more.Extend(x)
	}
}

// closeBundle tells a bundle that is kept open that it has all of its input.
func (j *job) closeBundle(b scheduler.BundleID) {
	if a := j.attending[b]; a != nil {
		a.more.Close()
	}
}

// cut cuts a waiting block, so that slow elements can be processed side by side.
func (j *job) cut(c scheduler.Cut) {
	parts := slices.Repeat([]int{c.Elements}, (c.Block.Count-1)/c.Elements)
	commit, err := j.runner.Divide(c.Stage, c.Block, parts...)
	if err != nil {
		j.end(named(err, j.plan.Stages[c.Stage]))
		return
	}
	defer commit.Ahead.Discard() // harmless once committed
	if _, err := j.store.Commit(commit); err != nil {
		j.end(err)
		return
	}
	ev := scheduler.WasCut{Stage: c.Stage, Block: c.Block}
	for _, a := range j.inCache(commit) {
		ev.Parts = append(ev.Parts, a.Block)
	}
	j.tell(ev)
}

// askSplit passes on that the scheduler wants a bundle split.
func (j *job) askSplit(s scheduler.Split) {
	if a := j.attending[s.Bundle]; a != nil {
		select {
		case a.split <- struct{}{}:
			j.log.Debug("a bundle is asked to split", zap.String("stage", j.plan.Stages[s.Stage].Name), zap.Float64("done", s.Done),
				zap.Int64("left_ms", s.LeftMs), zap.Int("process", s.Process))
			j.asked[s.Bundle] = s
		default: // it has not answered the last request yet
		}
	}
}

// divide commits a split of a bundle in flight. From here on the parts have their own fates.
func (j *job) divide(ctx context.Context, start *scheduler.Start, d *bundle.Division) error {
	var failed error
	ok, err := j.do(ctx, func() {
		if j.over {
			failed = context.Cause(j.ctx)
			return
		}
		if _, failed = j.store.Commit(&d.Commit); failed != nil {
			j.end(failed)
			return
		}
		added := j.inCache(&d.Commit)
		ev := scheduler.Divided{Bundle: start.Bundle, Kept: d.Kept, Returned: d.Returned}
		for i, a := range added {
			if i < d.Own {
				ev.Kept = append(ev.Kept, a.Block)
			} else {
				ev.Added = append(ev.Added, a.Block)
			}
		}
		j.tellSplit(start, len(ev.Returned)+len(ev.Added))
		j.tell(ev)
	})
	if err == nil && !ok {
		err = context.Cause(j.ctx)
	}
	if err == nil {
		err = failed
	}
	return err
}

// tellSplit makes a split visible.
func (j *job) tellSplit(start *scheduler.Start, blocks int) {
	j.stages[start.Stage].splits++
	s, ok := j.asked[start.Bundle]
	if !ok {
		return
	}
	delete(j.asked, start.Bundle)
	def := j.plan.Stages[start.Stage]
	name := def.Name
	if def.Splittable != nil {
		name = transformNames(j.plan)[def.Splittable.Transform]
	}
	j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_DETAILED, fmt.Sprintf(
		"split a bundle of %q at half of what was left of it: %.0f %% were done after %d ms, and harness process %d had room for more; "+
			"%d blocks can run elsewhere",
		name, 100*s.Done, int64(j.now()-start.Now), s.Process, blocks))
}

// attempted are the metrics of everything that was tried: of committed bundles, of bundles in flight as they last told, and of failed
// attempts as those last told, each once. What failed before a restart of the server is forgotten.
func (j *job) attempted() []*pipepb.MonitoringInfo {
	t := j.totals.Clone()
	tentative := j.failedTotals.Snapshot()
	for _, b := range slices.Sorted(maps.Keys(j.attending)) { // in order: where the latest counts, it is always the same one
		tentative = append(tentative, j.attending[b].infos...)
	}
	if _, err := t.Add(tentative); err != nil {
		j.log.Warn("metrics of bundles that are not committed", zap.Error(err))
	}
	return t.Snapshot()
}

// metricResults are the job's metrics as clients ask for them.
func (j *job) metricResults() *jobpb.MetricResults {
	return &jobpb.MetricResults{Attempted: j.attempted(), Committed: j.totals.Snapshot()}
}
