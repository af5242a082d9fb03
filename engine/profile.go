package engine

import (
	"time"

	"padstone/engine/bundle"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/jobserver"
)

// watchBundle begins to take the time of a bundle, for which its blocks have waited.
func (j *job) watchBundle(start *scheduler.Start) *profile.Watch {
	w := profile.Begin(j.cfg.Stopwatch)
	j.waited(start.Stage, start.Blocks, w.Began())
	return w
}

// waited counts how long blocks waited that a bundle takes now.
func (j *job) waited(stage int, blocks []scheduler.Block, now time.Duration) {
	for i := range blocks {
		if since := blocks[i].Since; since > 0 {
			j.stages[stage].profile.Inbox.Add(now - since)
		}
	}
}

// inVain counts the time of an attempt that came to nothing.
func (j *job) inVain(stage int, w *profile.Watch) {
	if w != nil {
		w.To(profile.Driver)
		j.stages[stage].profile.Again.Add(w.Total())
	}
}

// count counts a bundle that is committed.
func (j *job) count(start *scheduler.Start, res *bundle.Result) {
	t := &j.stages[start.Stage]
	t.bundles++
	t.in += res.ElementsIn
	t.out += res.ElementsOut
	t.late += res.DroppedLate + res.DroppedClosed
	if res.Watch == nil {
		return
	}
	elements, bytes := res.ElementsIn, res.BytesIn
	switch j.plan.Stages[start.Stage].Kind {
	case plan.Source, plan.Impulse, plan.TestStream: // what is in them is what comes out
		elements = res.ElementsOut
		for i := range res.Commit.Added {
			bytes += int64(res.Commit.Added[i].Block.Bytes)
		}
	default:
		for i := 0; i < len(start.Blocks) && res.BytesIn == 0; i++ { // it ran in the runner
			bytes += int64(start.Blocks[i].Bytes)
		}
	}
	t.profile.Add(res.Watch, elements, bytes)
}

// describeProfile is where the time of a stage's bundles went.
func (j *job) describeProfile(i int, sdk map[string]metrics.Execution) *jobserver.ProfileDescription {
	p := &j.stages[i].profile
	durable := j.effects.waits(i)
	var written profile.Waits
	if s := j.sinks[i]; s != nil {
		durable, written = s.waits()
	}
	d := &jobserver.ProfileDescription{
		Bundles: p.Micros.Count(), Seconds: p.Total().Seconds(),
		Millis: spread(&p.Micros, 1e-3), Elements: spread(&p.Elements, 1), Bytes: spread(&p.Bytes, 1),
		LastElements: p.LastElements, LastBytes: p.LastBytes,
		Inbox: waits(p.Inbox), Durable: waits(durable), Written: waits(written), Again: waits(p.Again),
	}
	for part, spent := range p.Spent {
		name := profile.Part(part)
		d.Parts = append(d.Parts, jobserver.PartDescription{
			Group: name.Group().String(), Part: name.String(), Seconds: spent.Seconds(),
		})
	}
	for _, t := range j.plan.Stages[i].Transforms {
		if e, ok := sdk[t.Name]; ok {
			d.SDK = append(d.SDK, jobserver.SDKTime{
				Transform: t.Name, StartMillis: e.Start, ProcessMillis: e.Process, FinishMillis: e.Finish,
			})
		}
	}
	return d
}

// sdkTimes is what harnesses say that transforms have taken in this run of the job.
func (j *job) sdkTimes() map[string]metrics.Execution {
	all := j.totals.Execution()
	for name, e := range all {
		if e = e.Less(j.sdkBefore[name]); e == (metrics.Execution{}) {
			delete(all, name)
			continue
		}
		all[name] = e
	}
	return all
}

// costs is what bundles of stages cost, by stage.
func (j *job) costs() map[int]*jobserver.CostDescription {
	all := make(map[int]*jobserver.CostDescription)
	for _, c := range j.sched.Costs() {
		if c.BundlesMax > 0 {
			all[c.Stage] = &jobserver.CostDescription{
				Bundles: c.Bundles, FixedMillis: c.FixedMs, ElementMicros: c.PerElementUs, QuantumMillis: c.QuantumMs, BundlesMax: c.BundlesMax,
			}
		}
	}
	return all
}

// spread is a histogram in words, in another unit.
func spread(h *profile.Histogram, unit float64) jobserver.Spread {
	s := jobserver.Spread{
		Sum: float64(h.Sum()) * unit, Max: float64(h.Max()) * unit,
		P50: h.Quantile(0.5) * unit, P90: h.Quantile(0.9) * unit, P99: h.Quantile(0.99) * unit,
	}
	for k := range profile.Bounds {
		s.Counts = append(s.Counts, h.UpTo(k))
	}
	return s
}

func waits(w profile.Waits) jobserver.Waits {
	return jobserver.Waits{Count: w.Count, Seconds: w.Sum.Seconds(), MaxMillis: float64(w.Max.Microseconds()) / 1000}
}
