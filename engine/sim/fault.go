package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// Kind is a kind of fault.
type Kind string

// The kinds. What Fault.At counts is in brackets; it counts over the whole run, but for CrashRecovery.
const (
	CrashLog      Kind = "crash at the log"         // [changes of logs] the machine is gone before the change
	CrashTables   Kind = "crash at other files"     // [changes of a kind of file, see files] likewise
	CrashRecovery Kind = "crash during recovery"    // [changes of a kind of file since the last crash] likewise
	CrashSend     Kind = "crash while publishing"   // [publications] the machine is gone once it has sent one
	CrashStep     Kind = "crash at a step"          // [steps] the machine is gone between two steps
	DiskFull      Kind = "disk full"                // [changes of logs] N of them fail
	DiskBroken    Kind = "disk broken"              // [changes of logs] likewise, with an I/O error
	Suspend       Kind = "suspended"                // [steps] the server stops in good order, and starts again
	LoseHarness   Kind = "harness lost"             // [steps] a harness process is gone; another one comes
	LoseData      Kind = "data stream lost"         // [steps] a data stream breaks, all else stays
	BadBundle     Kind = "harness misbehaves"       // [bundles on harnesses] see misdeeds
	ClockJump     Kind = "clock jump"               // [steps] by N milliseconds, forward or back
	Pause         Kind = "nothing moves"            // [steps] for N milliseconds
	SourceDown    Kind = "source unavailable"       // [polls] N of them fail
	SinkDown      Kind = "sink unavailable"         // [publications] N of them fail before they arrive
	SinkUnknown   Kind = "sink's outcome unknown"   // [publications] N of them arrive, and fail
	OpenDown      Kind = "sink cannot be opened"    // [opens of sinks] N of them fail
	Starve        Kind = "something waits for long" // [steps] for N steps, while there is something else
	LoseDisk      Kind = "disk lost"                // [steps] with its machine; another one takes the job up from a checkpoint
	Checkpoint    Kind = "checkpoint"               // [steps] one is asked for
	Stop          Kind = "stop with savepoint"      // [steps] likewise; the job goes on from it, on another machine
	Drain         Kind = "drain"                    // [steps] likewise
	Cancel        Kind = "cancel"                   // [steps] likewise
	BucketDown    Kind = "bucket unavailable"       // [operations of the bucket] N of them fail
	BucketUnknown Kind = "bucket's answer lost"     // [puts and removals] N of them arrive, and fail
	Resize        Kind = "processes come and go"    // [steps] there are to be 1 to 4 of them, by N
)

// files are the kinds of files whose changes CrashTables and CrashRecovery count, by N. Each kind is counted by itself: while a store
// opens, it also writes in the background, and removes what it needs no more.
var files = []string{"sst", "manifest", "dir", "options", "marker", "log", "obsolete", "segment"}

// Fault is something that goes wrong in a run.
type Fault struct {
	Kind Kind
	At   int
	N    int
}

func (f Fault) String() string { return fmt.Sprintf("%s at %d (%d)", f.Kind, f.At, f.N) }

// Plan is what goes wrong in a run.
type Plan []Fault

func (p Plan) String() string {
	texts := make([]string, len(p))
	for i, f := range p {
		texts[i] = f.String()
	}
	return strings.Join(texts, "\n")
}

// randomPlan makes a plan. Half of the faults come at any time, half of them rather early.
func randomPlan(rng *rand.Rand) Plan {
	var p Plan
	add := func(k Kind, most, horizon int, n func() int) {
		for range rng.IntN(most + 1) {
			at := rng.IntN(horizon)
			if rng.IntN(2) == 0 {
				at = int(math.Exp(rng.Float64() * math.Log(float64(horizon))))
			}
			p = append(p, Fault{k, at, n()})
		}
	}
	anything := func() int { return rng.IntN(1 << 16) }
	few := func() int { return 1 + rng.IntN(4) }
	const steps = 1500
	add(CrashLog, 4, 120, anything)
	add(CrashTables, 2, 40, anything)
	add(CrashRecovery, 2, 12, anything)
	add(CrashSend, 2, 15, anything)
	add(CrashStep, 2, steps, anything)
	add(DiskFull, 1, 120, few)
	add(DiskBroken, 1, 120, few)
	add(Suspend, 1, steps, anything)
	add(LoseHarness, 2, steps, anything)
	add(LoseData, 1, steps, anything)
	add(BadBundle, 2, 80, anything)
	add(ClockJump, 2, steps, func() int { return rng.IntN(200_000) - 100_000 })
	add(Pause, 2, steps, func() int { return 1 + rng.IntN(20_000) })
	add(SourceDown, 1, 40, few)
	add(SinkDown, 1, 20, few)
	add(SinkUnknown, 2, 20, few)
	add(OpenDown, 1, 8, few)
	add(Resize, 3, steps, anything)
	add(Starve, 3, steps, func() int { return 1 + rng.IntN(400) })
	add(Checkpoint, 4, steps, anything)
	add(BucketDown, 1, 30, few)
	add(BucketUnknown, 1, 20, few)
	add(LoseDisk, 1, steps, anything)
	if rng.IntN(3) == 0 { // early enough for most jobs: they have a checkpoint by then, and then no disk
		at := 20 + rng.IntN(150)
		p = append(p, Fault{Checkpoint, at, anything()}, Fault{LoseDisk, at + 20 + rng.IntN(100), anything()})
	}
	// What ends the job, or takes it elsewhere, comes in some runs only.
	if rng.IntN(3) == 0 {
		add(Stop, 3, steps/4, anything)
	}
	if rng.IntN(3) == 0 {
		add(Drain, 1, steps, anything)
	}
	if rng.IntN(6) == 0 {
		add(Cancel, 1, steps, anything)
	}
	return p
}
