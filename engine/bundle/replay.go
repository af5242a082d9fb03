package bundle

import (
	"math"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/engine/store"
)

// Replay runs the bundle of one event of a TestStream: its elements, in the global window, in their order. Whoever keeps the script
// adds its new position.
func (r *Runner) Replay(start *scheduler.Start, ev *plan.ScriptEvent) (*Result, error) {
	st := r.Job.Stages[start.Stage]
	rt := r.newRouter()
	if ev != nil && ev.Kind == plan.AddElements {
		var data []byte
		for _, e := range ev.Elements {
			data = coder.AppendHeader(data, e.At, 1, nil, []byte{coder.NoFiring})
			data = append(data, e.Value...)
		}
		if err := rt.write(st.outputs[ev.Output], data); err != nil {
			return nil, err
		}
	}
	res := &Result{Commit: store.Commit{Stage: uint32(start.Stage)}, ElementsOut: rt.count}
	rt.fill(&res.Commit)
	res.Infos = rt.infos()
	return res, nil
}

// onOurClock moves the time of a processing-time timer from the harness's clock to the job's. A harness that asks for a delay adds
// it to its own clock; how much it was is only known up to the time that the bundle took, so the roundest delay that fits is taken:
// a script's clock makes big steps, and what is due at one of them must not miss it because the machine was slow. A time nearer to
// the job's clock is meant for that one: scripts start it at 0.
func (h *harnessBundle) onOurClock(fire element.Time) element.Time {
	switch {
	case fire >= element.MaxTime:
		return fire
	case h.runner.Wall == nil: // put back while the bundle runs, the clock makes its timers come early: better than an hour late
		return fire.Add(h.ahead)
	}
	now, wall := h.start.Now, h.runner.Wall()
	if distance(fire, now) <= distance(fire, wall) {
		return fire
	}
	return now.Add(roundest(int64(fire-wall), int64(fire-h.begunAt)))
}

func distance(a, b element.Time) float64 { return math.Abs(float64(a) - float64(b)) }

// roundest returns the multiple of the largest power of ten, or of five times one, in [lo, hi]; the largest where there are several.
func roundest(lo, hi int64) int64 {
	for unit := int64(1_000_000_000); unit > 1; unit /= 10 {
		for _, u := range []int64{unit, unit / 2} {
			if n := floorDiv(hi, u) * u; n >= lo {
				return n
			}
		}
	}
	return hi
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
