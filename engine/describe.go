package engine

import (
	"context"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/connector"
	"padstone/engine/plan"
	"padstone/jobserver"
)

// Metrics returns the attempted and the committed metrics. Those of a bundle are committed with it, and shown once that is durable.
func (j *job) Metrics(ctx context.Context) (*jobpb.MetricResults, error) {
	var m *jobpb.MetricResults
	var seq uint64
	ok, err := j.do(ctx, func() { m, seq = j.metricResults(), j.store.Applied() })
	if err != nil {
		return nil, err
	}
	if ok {
		m.Committed = j.committedTotals.at(ctx, j, seq, m.Committed)
		select {
		case <-j.ended: // meanwhile: the last word is better
		default:
			return m, nil
		}
	}
	j.last.Lock()
	defer j.last.Unlock()
	return j.last.metrics, nil
}

// Describe returns what the job looks like now, or looked like at its end.
func (j *job) Describe(ctx context.Context) (*jobserver.Description, error) {
	var d *jobserver.Description
	ok, err := j.do(ctx, func() { d = j.describe() })
	if err != nil || ok {
		return d, err
	}
	j.last.Lock()
	defer j.last.Unlock()
	return j.last.description, nil
}

// remember keeps the last picture for callers who come after the end.
func (j *job) remember() {
	j.last.Lock()
	defer j.last.Unlock()
	j.last.description, j.last.metrics = j.describe(), j.metricResults()
	if j.store.Err() != nil { // the next run goes on from what is durable
		j.last.metrics.Committed = j.committedTotals.last()
	}
}

func (j *job) describe() *jobserver.Description {
	d := &jobserver.Description{
		Plan: j.plan.String(), Durability: string(j.cfg.Durability), Settings: j.describeSettings(), Checkpoints: j.checkpoints.describe(),
	}
	sdk, costs := j.sdkTimes(), j.costs()
	for i, def := range j.plan.Stages {
		st, n := j.sched.Status(i), &j.stages[i]
		sd := jobserver.StageDescription{
			ID: string(def.ID), Name: def.Name, Kind: string(def.Kind),
			InputWatermark: st.Input.String(), OutputWatermark: st.Output.String(),
			InputWatermarkMillis: int64(st.Input), OutputWatermarkMillis: int64(st.Output),
			BacklogElements: st.PendingCount, BacklogBytes: st.PendingBytes, BundlesInFlight: st.InFlight,
			BundlesCommitted: n.bundles, ElementsIn: n.in, ElementsOut: n.out, DroppedLate: n.late, Waiting: st.Waiting, Splits: n.splits,
			BundlesFailed: n.failed, BundlesLost: n.lost, Suspect: n.suspect,
			Profile: j.describeProfile(i, sdk), Cost: costs[i],
		}
		if p := j.sinks[i]; p != nil {
			b := p.backlog()
			sd.BacklogElements += b.elements
			sd.BacklogBytes += b.bytes
			if why := p.problem(); why != "" {
				sd.Waiting = why
			}
		}
		for _, t := range def.Transforms {
			sd.Transforms = append(sd.Transforms, t.Name)
		}
		d.Stages = append(d.Stages, sd)
		if def.Kind == plan.Source {
			d.Sources = append(d.Sources, j.describeSource(i, def))
		}
	}
	for _, env := range j.plan.Environments {
		if parsed, err := environment(env); err == nil { // else the job would not have begun
			d.Environments = append(d.Environments, jobserver.EnvironmentDescription{
				ID: string(env.ID), Runs: jobserver.EnvironmentText(parsed), Replaces: jobserver.EnvironmentReplaces(parsed),
			})
		}
	}
	d.Pools, d.Workers = j.describePools(), j.describeWorkers()
	return d
}

func (j *job) describeSource(i int, def *plan.Stage) jobserver.SourceDescription {
	sd := jobserver.SourceDescription{Stage: string(def.ID), Name: def.Name, Splits: []connector.SplitStatus{}}
	src := j.sources[i]
	if src == nil {
		return sd
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.reader != nil {
		sd.Splits = src.reader.Describe()
	}
	return sd
}
