package engine

import (
	"time"

	"padstone/engine/scheduler"
)

// What is left to Padstone. In a batch nobody waits for an element, and a bundle is kept open for longer. Milliseconds.
const (
	bundleTimeBatch        = 500
	latencyBudgetStreaming = 100
)

// Tuning is what a user may choose of how a job is cut into bundles. A field that is 0 is left to Padstone. The first two have Beam's names
// and the meaning that the Flink runner gives them. Spec: FlinkPipelineOptions.java.
type Tuning struct {
	BundleSizeMax int           // elements a bundle takes
	BundleTimeMax time.Duration // how long a bundle is kept open for more
	LatencyBudget time.Duration // what bundles may add to the way of an element through the whole job
}

// tuningOf is the tuning of settings: elements, and milliseconds.
func tuningOf(size, timeMs, budgetMs int64) Tuning {
	return Tuning{
		BundleSizeMax: int(size),
		BundleTimeMax: time.Duration(timeMs) * time.Millisecond, LatencyBudget: time.Duration(budgetMs) * time.Millisecond,
	}
}

// event is the tuning in the scheduler's terms.
func (t Tuning) event() scheduler.Tune {
	return scheduler.Tune{
		BundleElementsMax: t.BundleSizeMax,
		BundleTimeMaxMs:   t.BundleTimeMax.Milliseconds(), LatencyBudgetMs: t.LatencyBudget.Milliseconds(),
	}
}
