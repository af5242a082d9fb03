package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"padstone/engine/sim"
)

// Which seeds run: -seeds of them from -seed on. A failure names its seed: make sim SEED=17 SEEDS=1 replays it, with its trace.
var (
	seedsFlag = flag.Int("seeds", 0, "seeds to run; 0: a few")
	seedFlag  = flag.Uint64("seed", 0, "the first of them")
	jobFlag   = flag.String("job", "", "the kind of job to run: graph, panes, ledger, script, generator or keeper; default the seed's")
	triesFlag = flag.Int("tries", 40, "how often a failed seed is run again, with less that goes wrong")
)

// seedsInTest is how many seeds run with all other tests.
const seedsInTest = 150

func TestMain(m *testing.M) {
	// What happens within one step of a simulation happens in goroutines: on one thread they take their turns in the same way each time.
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// few is n, or less where that takes longer.
func few(n int) int {
	if raceDetector || testing.Short() {
		return (n + 3) / 4
	}
	return n
}

// TestSim runs seeds and says what they have come across.
func TestSim(t *testing.T) {
	n := *seedsFlag
	if n == 0 {
		n = few(seedsInTest)
	}
	all := newTotal()
	for i := range n {
		seed := *seedFlag + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := sim.Run{Seed: seed, Job: *jobFlag}
			if *seedsFlag == 1 {
				r.Trace = func(line string) { fmt.Println(line) }
			}
			o := r.Do(t)
			all.add(o)
			if len(o.Wrong) > 0 {
				explain(t, r, o)
			}
		})
	}
	fmt.Print(all)
}

// explain says what went wrong, which of the faults it takes, and how to see it again.
func explain(t *testing.T, r sim.Run, o sim.Outcome) {
	t.Helper()
	for _, w := range o.Wrong {
		t.Error(w)
	}
	t.Logf("the job: %s", o.Job)
	t.Logf("the last that happened:\n%s", strings.Join(o.Tail, "\n"))
	least, tries := shrink(t, r, o.Plan)
	t.Logf("of %d faults it takes, after %d more runs, %d:\n%s", len(o.Plan), tries, len(least), least)
	t.Logf("again, with all that happens: make sim SEED=%d SEEDS=1", r.Seed)
}

// shrink leaves faults out one by one, as long as the run still fails.
func shrink(t *testing.T, r sim.Run, plan sim.Plan) (least sim.Plan, tries int) {
	r.Trace = nil
	for i := 0; i < len(plan) && tries < *triesFlag; tries++ {
		without := slices.Delete(slices.Clone(plan), i, i+1)
		if r.Plan = append(sim.Plan{}, without...); len(r.Do(t).Wrong) > 0 {
			plan = without
			continue
		}
		i++
	}
	return plan, tries
}

// TestSameSeed runs seeds twice: all that happens is the same, at the same time, in the same order. A thread that has to wait for its
// processor may have its goroutines take turns within a step; it is given another chance.
func TestSameSeed(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector shuffles goroutines on purpose")
	}
	const chances = 3
	for i := range few(12) {
		seed := *seedFlag + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			var first, second []string
			o := sim.Run{Seed: seed, Trace: func(line string) { first = append(first, line) }}.Do(t)
			for range chances {
				second = nil
				if again := (sim.Run{Seed: seed, Trace: func(line string) { second = append(second, line) }}).Do(t); o.Hash == again.Hash {
					return
				}
			}
			for i := range min(len(first), len(second)) {
				if first[i] != second[i] {
					t.Fatalf("line %d:\n%s\n%s", i, first[i], second[i])
				}
			}
			t.Fatalf("%d lines and %d", len(first), len(second))
		})
	}
}

// TestQuiet runs seeds in which nothing goes wrong.
func TestQuiet(t *testing.T) {
	for i := range few(12) {
		t.Run(fmt.Sprint("seed ", i), func(t *testing.T) {
			r := sim.Run{Seed: uint64(i), Job: *jobFlag, Quiet: true}
			if o := r.Do(t); len(o.Wrong) > 0 || o.Lives != 1 || len(o.Hits) > 1 {
				t.Errorf("%d lives, %v", o.Lives, o.Hits)
				explain(t, r, o)
			}
		})
	}
}

// TestSabotage has the world lie in ways that no engine can bear. A simulation that does not see it would see no bug, either.
func TestSabotage(t *testing.T) {
	for _, lie := range sim.Sabotages {
		t.Run(string(lie), func(t *testing.T) {
			const within = 200
			for seed := range uint64(within) {
				if o := (sim.Run{Seed: seed, Sabotage: lie}).Do(t); len(o.Wrong) > 0 {
					t.Logf("seed %d: %s", seed, o.Wrong[0])
					return
				}
			}
			t.Errorf("not noticed in %d seeds", within)
		})
	}
}

// total is what many runs have come across.
type total struct {
	runs, failed, steps, lives int
	hits, points               map[string]int
}

func newTotal() *total { return &total{hits: map[string]int{}, points: map[string]int{}} }

func (a *total) add(o sim.Outcome) {
	a.runs++
	a.steps += o.Steps
	a.lives += o.Lives
	if len(o.Wrong) > 0 {
		a.failed++
	}
	for k, n := range o.Hits {
		a.hits[k] += n
	}
	for k, n := range o.Points {
		a.points[k] += n
	}
}

func (a *total) String() string {
	var b strings.Builder
	crashes := 0
	for _, n := range a.points {
		crashes += n
	}
	fmt.Fprintf(&b, "sim: %d seeds, %d failed; %d steps, %d lives of the server, %d crashes at %d kinds of points\n",
		a.runs, a.failed, a.steps, a.lives, crashes, len(a.points))
	fmt.Fprintf(&b, "  crashes: %s\n  faults:  %s\n", list(a.points), list(a.hits))
	return b.String()
}

func list(counts map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
