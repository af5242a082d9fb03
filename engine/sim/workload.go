package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
	"padstone/internal/memory"
)

// workload is a job, and what must come of it.
type workload interface {
	fmt.Stringer
	check(r *result) []string
	// lost is called when the job goes back to a checkpoint.
	lost()
	emptied() map[string]rows.Table
}

// result is what a job has come to.
type result struct {
	state    jobpb.JobState_Enum
	counter  func(transform, name string) int64
	read     map[string]int // batches, by split
	draining bool           // it was asked to drain
	rewound  bool           // something may have been written twice, and otherwise
	lost     bool           // user code may have been called twice for what was durable
}

// compare says what is wrong with what was written; both are sorted. A job that was cancelled has not written everything.
func (r *result) compare(want, got []string) string {
	if r.rewound {
		want, got = slices.Compact(slices.Clone(want)), slices.Compact(slices.Clone(got))
	}
	missing, extra := enginetest.Difference(want, got)
	if r.state == jobpb.JobState_CANCELLED {
		missing = nil
	}
	if len(missing)+len(extra) == 0 {
		return ""
	}
	return fmt.Sprintf("%d elements, not %d; missing %s, too many %s",
		len(got), len(want), strings.Join(missing, " "), strings.Join(extra, " "))
}

// newWorkload builds the job of a seed.
func newWorkload(s *sim, rng *rand.Rand) workload {
	options := map[string]any{}
	set := func(name string, v any) { options["beam:option:"+name+":v1"] = v }
	if rng.IntN(2) == 0 {
		set("max_bundle_size", 1+rng.IntN(4))
	}
	set("sdk_worker_parallelism", 1+rng.IntN(3))
	if rng.IntN(3) == 0 {
		set("streaming", true)
	}
	if rng.IntN(3) == 0 {
		set("experiments", []any{"padstone_no_fusion"})
	}
	s.rig.Config.KeyGroups = []int{1, 2, 8}[rng.IntN(3)]
	s.rig.Config.BundlesPerProcess = 1 + rng.IntN(3)
	if rng.IntN(2) == 0 { // bundles are kept open wherever they may be
		s.rig.Config.Scheduler.BundleFixedMs = 1000
		s.rig.Config.Scheduler.LatencyBudgetMs, s.rig.Config.Scheduler.BundleIdleMaxMs = 3000, 100
	}
	if rng.IntN(4) == 0 { // what bundles put out is written ahead of their commits
		b := memory.Share(memory.LimitDefault)
		b.Outputs = memory.NewPool("outputs", 1)
		s.rig.Config.Memory = b
	}
	var err error
	if s.spec.Options, err = structpb.NewStruct(options); err != nil {
		s.wrong("options: %v", err)
	}
	kind := kinds[rng.IntN(len(kinds))]
	if s.Job != "" {
		kind = s.Job
	}
	switch kind {
	case "panes":
		return newPanes(s, rng)
	case "ledger":
		return newLedger(s, rng)
	case "script":
		return newScript(s, rng)
	case "generator":
		return newGenerator(s, rng)
	case "keeper":
		return newKeeper(s, rng)
	default:
		return newGraph(s, rng)
	}
}

// kinds are the kinds of jobs, each as often as it is to come up.
var kinds = []string{"panes", "panes", "ledger", "script", "generator", "keeper", "keeper", "graph", "graph", "graph", "graph"}

// graph is a random graph of transforms: its output depends on input and event time alone.
type graph struct {
	model *enginetest.Model
}

func newGraph(s *sim, rng *rand.Rand) graph {
	steps := reference.Random(rng)
	m := enginetest.NewModel(s.rig, steps, int64(rng.IntN(2)), rng)
	for _, sink := range m.Sinks {
		sink.Marked = false // the outside is
	}
	s.spec.Pipeline = m.Pipeline.Proto
	return graph{m}
}

func (g graph) String() string { return "graph\n" + g.model.Steps.String() }

func (g graph) lost() {}

func (g graph) check(r *result) (wrong []string) {
	steps, left := g.model.Cut(r.read)
	if r.state == jobpb.JobState_CANCELLED && !r.draining {
		steps = g.model.Steps
	} else if left > 0 && r.state == jobpb.JobState_DONE {
		wrong = append(wrong, fmt.Sprintf("%d batches were not read", left))
	}
	outs := steps.Evaluate()
	for _, i := range steps.Leaves() {
		if text := r.compare(reference.Texts(outs[i]), g.model.Taken(i)); text != "" {
			wrong = append(wrong, steps.Name(i)+": "+text)
		}
	}
	if r.state == jobpb.JobState_CANCELLED {
		return wrong
	}
	return append(wrong, g.model.CheckCounters(r.counter, outs)...)
}

func (g graph) emptied() map[string]rows.Table { return g.model.Emptied() }

// tables are those in which a job leaves nothing behind.
func tables() map[string]rows.Table {
	return map[string]rows.Table{
		"inbox": rows.Inbox, "group": rows.Group, "trigger": rows.Trigger, "timer": rows.TimerID, "timer order": rows.TimerTS,
		"hold": rows.Hold, "outbox": rows.Outbox, "content reference": rows.ContentRef, "state": rows.State,
	}
}
