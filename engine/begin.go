package engine

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/bundle"
	"padstone/engine/element"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/rows"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/engine/watermark"
	"padstone/internal/fault"
)

// Metadata entries of a job's store: which stages are exhausted, the watermarks under which decisions have been taken, how far
// outboxes have been emptied.
const (
	metaDone      = "done/"
	metaWatermark = "watermark/"
	metaPublished = "published/"
	metaDrain     = "drain"
	metaClock     = "clock"
)

// begin restores the job from its store, which is empty for a new one, and starts its harnesses.
func (j *job) begin() error {
	j.effects = newEffects(j)
	j.draining = j.home.slip.asked() == askedDrain
	for i, s := range j.plan.Stages {
		switch s.Kind {
		case plan.Source:
			j.sources[i] = &source{watermark: element.MinTime}
		case plan.Sink:
			p, err := newPublisher(j, i)
			if err != nil {
				return err
			}
			j.sinks[i] = p
		}
	}
	if err := j.launch(); err != nil { // harnesses take long to start, and the store may take long to be read
		return err
	}
	restored, err := j.restore()
	if err != nil {
		return err
	}
	j.hasRestored(&restored)
	j.tasks.Go(j.effects.run)
	j.checkpoints.start()
	j.tasks.Go(j.watchLulls)
	for _, p := range j.sinks {
		j.tasks.Go(p.run)
	}
	j.adviseOnStateCache()
	if restored.Draining = j.draining; j.draining {
		j.keepDrain()
		j.reporter.State(jobpb.JobState_DRAINING)
		j.fleet.Drain()
		if j.replay != nil {
			j.replay.drain()
		}
	}
	j.tell(restored)
	return nil
}

// restore reads what an earlier run has committed.
func (j *job) restore() (scheduler.Restored, error) {
	var r scheduler.Restored
	now := j.cfg.Stopwatch()
	err := j.store.Inbox(func(stage uint32, group uint16, edge uint32, h store.Header) {
		b := bundle.SchedulerBlock(group, int(edge), h)
		b.Since = now
		r.Blocks = append(r.Blocks, scheduler.StageBlock{Stage: int(stage), Block: b})
	})
	if err != nil {
		return r, err
	}
	err = j.store.Holds(func(stage uint32, holds []watermark.Count) {
		r.Holds = append(r.Holds, scheduler.StageHolds{Stage: int(stage), Holds: holds})
	})
	if err != nil {
		return r, err
	}
	if err := j.restoreTimers(&r); err != nil {
		return r, err
	}
	if err := j.restoreMeta(&r); err != nil {
		return r, err
	}
	if err := j.restoreSides(&r); err != nil {
		return r, err
	}
	totals, err := j.store.Metrics()
	if err != nil {
		return r, err
	}
	for _, e := range totals {
		if err := j.totals.Restore(metrics.Entry{Key: e.Name, Value: e.Value}); err != nil {
			return r, fault.New(fault.Corruption, "store-corrupt", "%w", err)
		}
	}
	j.sdkBefore = j.totals.Execution()
	j.committedTotals.set(j.store.Applied(), j.totals.Snapshot())
	if j.replay != nil {
		at, err := j.replay.restore(j.store, slices.Contains(r.Done, j.replay.stage))
		if err != nil {
			return r, err
		}
		r.Outputs = append(r.Outputs, scheduler.StageOutputs{Stage: j.replay.stage, Watermarks: at.outputs})
	}
	return r, nil
}

// restoreTimers reads the earliest timers of every key group of the stages that may have any.
func (j *job) restoreTimers(r *scheduler.Restored) error {
	if j.store.Applied() == 0 {
		return nil
	}
	for i, s := range j.plan.Stages {
		if e := j.plan.Edge(s.Input); e == nil || e.Kind != plan.Keyed {
			continue
		}
		b := j.store.Begin(uint32(i))
		for g := 0; g < j.plan.KeyGroups; g++ {
			var tx rows.Tx = b.Group(uint16(g))
			next, err := bundle.NextTimers(tx, i, uint16(g))
			if err != nil {
				b.Discard()
				return err
			}
			r.Timers = append(r.Timers, next)
		}
		b.Discard()
	}
	return nil
}

// restoreSides finds the side inputs that have had elements.
func (j *job) restoreSides(r *scheduler.Restored) error {
	view := j.store.Snapshot()
	for i, e := range j.plan.Edges {
		if e.Kind != plan.Side {
			continue
		}
		err := view.Side(uint32(i), nil, nil, func(_, _ []byte) ([]byte, bool) {
			r.SideReady = append(r.SideReady, i)
			return nil, false
		})
		if err != nil {
			return errors.Join(err, view.Close())
		}
	}
	return view.Close()
}

func (j *job) restoreMeta(r *scheduler.Restored) error {
	meta, err := j.store.Meta()
	if err != nil {
		return err
	}
	for _, e := range meta {
		name, number, _ := strings.Cut(e.Name, "/")
		switch name + "/" {
		case metaDone, metaWatermark:
		default:
			j.draining = j.draining || e.Name == metaDrain
			if e.Name == metaClock && len(e.Value) == 8 {
				j.clock.restore(rows.Time(e.Value))
			}
			continue
		}
		stage, ok := j.stageNumbered(number)
		if !ok {
			return fault.New(fault.Corruption, "store-corrupt", "the job's store names the stage %q", e.Name)
		}
		if name+"/" == metaDone {
			r.Done = append(r.Done, stage)
			continue
		}
		if len(e.Value) != 8 {
			return fault.New(fault.Corruption, "store-corrupt", "the watermark of stage %d is malformed", stage)
		}
		w := scheduler.StageWatermark{Stage: stage, Watermark: rows.Time(e.Value)}
		r.Watermarks = append(r.Watermarks, w)
		if s := j.sources[stage]; s != nil {
			s.watermark = w.Watermark
		}
	}
	return nil
}

// launch starts the harnesses of every environment that a stage runs in, those that have not been started early, and tells the scheduler
// as they come.
func (j *job) launch() error {
	fleet, err := j.cfg.Harnesses.Fleet(j.compiled, j.spec.ID+"/"+rand.Text())
	if err != nil {
		return err
	}
	j.fleet = fleet
	left := len(j.plan.Environments)
	if left == 0 {
		j.reporter.State(jobpb.JobState_RUNNING)
	}
	for _, env := range j.plan.Environments {
		parsed, err := environment(env)
		if err != nil {
			return err
		}
		pool := j.early.claim(env.ID)
		if pool == nil {
			pool = j.starts.begin(j.ctx, env.ID, parsed, j.resumed)
		}
		j.tasks.Go(func() {
			started := <-pool
			j.post(func() {
				if started.err != nil {
					j.end(started.err)
					return
				}
				if left--; left == 0 {
					j.phases.started = j.phases.since()
				}
				if left == 0 && !j.over && !j.draining {
					j.reporter.State(jobpb.JobState_RUNNING)
				}
				j.adopt(env.ID, started.pool, bundle.Parallel(parsed))
			})
		})
	}
	j.tasks.Go(j.sizePools)
	return nil
}

func environment(env *plan.Environment) (*pipepb.Environment, error) {
	parsed := &pipepb.Environment{}
	if err := proto.Unmarshal(env.Proto, parsed); err != nil {
		return nil, fault.New(fault.Internal, "bad-plan", "environment %q: %w", env.ID, err)
	}
	return parsed, nil
}
