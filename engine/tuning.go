package engine

import (
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/scheduler"
)

// Options that bound bundles. The first two have Beam's names and the meaning that the Flink runner gives them.
// Spec: FlinkPipelineOptions.java.
const (
	optionBundleSize    = "max_bundle_size"
	optionBundleTime    = "max_bundle_time_mills"
	optionLatencyBudget = "latency_budget_millis"
)

// Tuning is what a user may choose of how a job is cut into bundles. A field that is 0 is left to Padstone.
type Tuning struct {
	BundleSizeMax int           // elements a bundle takes
	BundleTimeMax time.Duration // how long a bundle is kept open for more
	LatencyBudget time.Duration // what bundles may add to the way of an element through the whole job
}

// tuningOf reads the tuning that a job was submitted with.
func tuningOf(options *structpb.Struct) Tuning {
	ms := func(name string) time.Duration { return time.Duration(optionInt(options, name, 0)) * time.Millisecond }
	return Tuning{
		BundleSizeMax: optionInt(options, optionBundleSize, 0),
		BundleTimeMax: ms(optionBundleTime), LatencyBudget: ms(optionLatencyBudget),
	}
}

// event is the tuning in the scheduler's terms.
func (t Tuning) event() scheduler.Tune {
	return scheduler.Tune{
		BundleElementsMax: t.BundleSizeMax,
		BundleTimeMaxMs:   t.BundleTimeMax.Milliseconds(), LatencyBudgetMs: t.LatencyBudget.Milliseconds(),
	}
}
