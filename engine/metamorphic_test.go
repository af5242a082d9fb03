package engine_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/store"
	"padstone/fnapi/fakesdk"
)

// Which seeds the tests against package reference run: -seeds of them from -seed on. A failure names its seed and variant:
// go test ./engine -run 'TestMetamorphic/seed_17/' -seed 17 -seeds 1
var (
	seedsFlag = flag.Int("seeds", 0, "seeds to run against the reference; 0: a few")
	seedFlag  = flag.Uint64("seed", 0, "the first of them")
)

// seeds returns the seeds to run: few ones by default, and fewer when that takes longer.
func seeds(few int) []uint64 {
	n := *seedsFlag
	if n == 0 {
		if n = few; raceDetector || testing.Short() {
			n = (few + 2) / 3
		}
	}
	all := make([]uint64, n)
	for i := range all {
		all[i] = *seedFlag + uint64(i)
	}
	return all
}

// variant is how a job is run: what must not change its results.
type variant struct {
	name     string
	options  enginetest.Options
	change   func(c *engine.Config)
	slow     time.Duration // with each offset that a splittable DoFn claims
	faults   int           // bundles at which the harness is lost
	restarts int           // of the engine, with the job suspended
	crashes  int           // of the machine, with what was not synced lost
}

// keptOpen has bundles be kept open wherever they may be.
func keptOpen(c *engine.Config) {
	c.Scheduler.BundleFixedMs, c.Scheduler.BundleIdleMaxMs, c.Scheduler.LatencyBudgetMs = 1000, 20, 1000
}

func experiments(names ...any) enginetest.Options { return enginetest.Options{"experiments": names} }

var variants = []variant{
	{name: "default"},
	{name: "bundles of 1", options: enginetest.Options{"max_bundle_size": 1}},
	{name: "bundles of 3", options: enginetest.Options{"max_bundle_size": 3}},
	{name: "bundles of 1000 on 4 processes", options: enginetest.Options{"max_bundle_size": 1000, "sdk_worker_parallelism": 4}},
	{name: "1 key group", change: func(c *engine.Config) { c.KeyGroups = 1 }},
	{name: "64 key groups on 3 processes", options: enginetest.Options{"sdk_worker_parallelism": 3},
		change: func(c *engine.Config) { c.KeyGroups = 64 }},
	{name: "1 bundle a process", change: func(c *engine.Config) { c.BundlesPerProcess = 1 }},
	{name: "streaming", options: enginetest.Options{"streaming": true}},
	{name: "split while they run", options: twoProcesses(), change: eager, slow: 6 * time.Millisecond},
	{name: "no fusion", options: experiments(engine.ExperimentNoFusion)},
	{name: "no lifting", options: experiments(engine.ExperimentNoLifting)},
	{name: "no assignment", options: experiments(engine.ExperimentNoAssignment)},
	{name: "no fusion, no lifting, no assignment, bundles of 3", options: enginetest.Options{
		"max_bundle_size": 3, "experiments": []any{engine.ExperimentNoFusion, engine.ExperimentNoLifting, engine.ExperimentNoAssignment}}},
	{name: "kept open", change: keptOpen},
	{name: "streaming, kept open, lost harnesses", options: enginetest.Options{"streaming": true, "sdk_worker_parallelism": 2},
		change: keptOpen, faults: 3},
	{name: "kept open, crashed", change: keptOpen, crashes: 2},
	{name: "lost harnesses", faults: 3},
	{name: "suspended", restarts: 2},
	{name: "crashed", crashes: 3},
	{name: "all at once", options: enginetest.Options{
		"max_bundle_size": 2, "sdk_worker_parallelism": 2, "experiments": []any{engine.ExperimentNoFusion}}, faults: 2, restarts: 1, crashes: 1},
}

// TestMetamorphic runs random pipelines in every way that must not make a difference: what comes out is always what the reference
// says, and so are the committed counters. Nothing is left of a job's rows. In most of them the runner assigns windows on the way to edges of
// every kind.
func TestMetamorphic(t *testing.T) {
	var assigned atomic.Int64
	for _, seed := range seeds(14) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			steps := reference.Random(rng)
			lateness := int64(rng.IntN(2))
			for _, v := range chosen(rng, seed) {
				cut := rng.Uint64()
				t.Run(v.name, func(t *testing.T) {
					if strings.Contains(metamorphic(t, steps, lateness, v, cut), "\n  assigned ") {
						assigned.Add(1)
					}
				})
			}
		})
	}
	if assigned.Load() == 0 && *seedsFlag == 0 {
		t.Error("the runner has assigned no windows in any of the jobs")
	}
	t.Logf("the runner has assigned windows in %d jobs", assigned.Load())
}

// chosen are the variants of a seed: over a run of seeds every one comes up, and a few at random.
func chosen(rng *rand.Rand, seed uint64) []variant {
	all := slices.Clone(variants)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	turn := variants[seed%uint64(len(variants))]
	out := []variant{turn}
	for _, v := range all {
		if v.name != turn.name && len(out) < 3 {
			out = append(out, v)
		}
	}
	return out
}

// metamorphic runs a job and returns its plan.
func metamorphic(t *testing.T, steps reference.Pipeline, lateness int64, v variant, cut uint64) string {
	r := newRig(t, func(c *engine.Config) {
		enginetest.KeepStores(c)
		if v.change != nil {
			v.change(c)
		}
	})
	rng := rand.New(rand.NewPCG(cut, 5))
	strike(r, v, rng)
	r.Harnesses.OnClaim = func(int64) { time.Sleep(v.slow) }
	m := enginetest.NewModel(r, steps, lateness, rng)
	j := r.Start(m.Pipeline, v.options)
	described, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range v.restarts {
		awaitBundles(r, j, r.Harnesses.Bundles()+rng.IntN(12))
		r.Restart()
		if j.Last() != jobpb.JobState_DONE {
			j = r.Recover(j)
		}
	}
	for range v.crashes {
		awaitBundles(r, j, r.Harnesses.Bundles()+rng.IntN(12))
		j = crash(m, r, j, rng)
	}
	j.End(jobpb.JobState_DONE)
	outs := steps.Evaluate()
	report(t, m.CheckSinks(outs))
	report(t, m.CheckCounters(j.Counter, outs))
	checkRows(t, m, r, j)
	if t.Failed() {
		t.Logf("lateness %d, cut %d, the pipeline:\n%s", lateness, cut, steps)
	}
	return described.Plan
}

// strike loses the harness at some bundles.
func strike(r *enginetest.Rig, v variant, rng *rand.Rand) {
	at := map[int]fakesdk.Fault{}
	for range v.faults {
		at[rng.IntN(25)] = fakesdk.DropConnection
	}
	r.Harnesses.Fault = func(n int, _ *fnpb.ProcessBundleRequest) fakesdk.Fault { return at[n] }
}

// crash takes a picture of the disk and of the outside at one moment, and goes on from it.
func crash(m *enginetest.Model, r *enginetest.Rig, j *enginetest.Job, rng *rand.Rand) *enginetest.Job {
	texts, durable := map[int][]string{}, make([]int, len(m.Sources))
	var fs store.FS
	picture := func() {
		for i, s := range m.Sources {
			durable[i] = s.Durable()
		}
		fs = r.Crashed([]int{0, 50, 100}[rng.IntN(3)], rng)
	}
	for i, sink := range m.Sinks { // all of them stand still
		inner := picture
		picture = func() {
			sink.Freeze(func(had []string) {
				texts[i] = had
				inner()
			})
		}
	}
	picture()
	r.Crash(j, fs)
	for i, sink := range m.Sinks {
		sink.Reset(texts[i])
	}
	for i, s := range m.Sources {
		s.Rewind(durable[i])
	}
	return r.Recover(j)
}

// awaitBundles waits until so many bundles have begun, or the job has ended, or nothing goes on for a moment.
func awaitBundles(r *enginetest.Rig, j *enginetest.Job, n int) {
	deadline := time.Now().Add(300 * time.Millisecond)
	for r.Harnesses.Bundles() < n && j.Last() != jobpb.JobState_DONE && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, f := range faults {
		t.Error(f)
	}
}

// checkRows checks that the job has left nothing behind but what the global window keeps.
func checkRows(t *testing.T, m *enginetest.Model, r *enginetest.Rig, j *enginetest.Job) {
	t.Helper()
	for name, table := range m.Emptied() {
		if n := r.Rows(j, table); n != 0 {
			t.Errorf("%d %s rows are left", n, name)
		}
	}
}
