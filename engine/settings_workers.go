package engine

import (
	"fmt"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/sizing"
)

// Settings of how many harness processes an environment has. Names and meaning are Beam's where there are any; see
// docs/decisions/0040-harness-pools-are-sized-when-asked.md.
const (
	// SettingWorkers is the number of harness processes of an environment, and the least one of a pool that is sized. Spec: python
	// PortableOptions, "Sets the number of sdk worker processes that will run on each worker node. Default is 1. If 0, a value will be
	// chosen by the runner." Flink's runner takes one less than there are cores then, for the sake of its JVM.
	SettingWorkers = "sdk_worker_parallelism"
	// SettingAlgorithm says whether pools are sized by what there is to do. Spec: python WorkerOptions, "If and how to autoscale the
	// workerpool", of which Dataflow makes THROUGHPUT_BASED unless told.
	SettingAlgorithm = "autoscaling_algorithm"
	// SettingWorkersMax is the most processes of a pool that is sized. Spec: python WorkerOptions, "Maximum number of workers".
	SettingWorkersMax = "max_num_workers"
	// SettingWorkersFirst is how many processes a pool begins with. Spec: python WorkerOptions, "Number of workers to use when executing
	// the Dataflow job".
	SettingWorkersFirst = "num_workers"
	// SettingMemory is how much memory a harness process may have before another one takes its place.
	SettingMemory = "harness_memory_limit"
)

// Values of SettingAlgorithm.
const (
	algorithmNone       = 1
	algorithmThroughput = 2
)

const (
	settingWorkersMax = 1024
	// A harness process has more than the least limit at its beginning; less is a mistaken unit.
	settingMemoryMin, settingMemoryMax = 16 << 20, 1 << 50
)

func workerSettings() []setting {
	return []setting{
		{
			name: SettingWorkers, def: 1, max: settingWorkersMax, live: true, unit: "processes",
			says: "Harness processes of each environment, the least where they are sized; 0: as many as there are cores, sized unless " +
				SettingAlgorithm + " is NONE. LOOPBACK workers share one process.",
		},
		{
			name: SettingAlgorithm, min: algorithmNone, max: algorithmThroughput, words: []string{"NONE", "THROUGHPUT_BASED"}, live: true,
			says: "THROUGHPUT_BASED: harness processes come and go by what there is to do, from " + SettingWorkers + " to " + SettingWorkersMax +
				". Default: so if " + SettingWorkers + " is 0 or " + SettingWorkersMax + " is given, else NONE.",
		},
		{
			name: SettingWorkersMax, min: 1, max: settingWorkersMax, live: true, unit: "processes",
			says: "The most harness processes of each environment, where they are sized. Default: as many as there are cores.",
		},
		{
			name: SettingWorkersFirst, min: 1, max: settingWorkersMax, unit: "processes",
			says: "Harness processes of each environment that a job begins with. Default: " + SettingWorkers + ".",
		},
		{
			name: SettingMemory, min: settingMemoryMin, max: settingMemoryMax, live: true, bytes: true, unit: "bytes",
			says: "Memory of a harness process above which another one takes its place, such as 2GiB. Default: the server's, else no bound.",
		},
	}
}

// poolBounds is how many harness processes an environment has.
type poolBounds struct {
	sizing.Bounds
	first int  // that it begins with
	sized bool // they come and go by what there is to do
}

// processes is how many harness processes an environment has on a machine with so many cores. Several of an SDK that uses all cores in one
// are of no use, unless they are asked for. Where several worker pools start them, a number that is asked for is that of each: Beam counts
// them by worker node. By cores there is one in each at least: nobody knows how many the pools' machines have.
func (c *chosen) processes(cores int, parallel bool, pools int) poolBounds {
	if parallel {
		cores = 1
	}
	nodes := int64(max(1, pools))
	cores = max(cores, int(nodes))
	workers, from := c.value(SettingWorkers)
	algorithm, _ := c.value(SettingAlgorithm)
	most, _ := c.value(SettingWorkersMax)
	first, _ := c.value(SettingWorkersFirst)
	workers, most, first = workers*nodes, most*nodes, first*nodes
	if algorithm == algorithmNone || algorithm == left && workers > 0 && most == left {
		n := workers
		if first != left && from != fromHand { // what is set by hand is newer than what the job began with
			n = first
		}
		if n == 0 {
			n = int64(cores)
		}
		return c.inBounds(n, n, n, false)
	}
	byCores := max(int64(cores), workers, 1)
	if most == left {
		most = byCores
	}
	switch {
	case first != left:
	case workers == 0:
		first = byCores
	default:
		first = workers
	}
	return c.inBounds(workers, most, first, true)
}

func (c *chosen) inBounds(least, most, first int64, sized bool) poolBounds {
	most = max(1, c.bounded(most))
	least = min(max(1, least), most)
	return poolBounds{sizing.Bounds{Min: int(least), Max: int(most)}, int(min(max(first, least), most)), sized}
}

// memoryMax is how much memory a harness process may have; 0: no bound.
func (c *chosen) memoryMax() int64 {
	v, _ := c.value(SettingMemory)
	return v
}

// workersNote says how many harness processes there are, where that is not what the setting says.
func (j *job) workersNote() string {
	asked, _ := j.chosen.value(SettingWorkers)
	var texts []string
	for _, p := range j.poolsInOrder() {
		size := p.pool.Size()
		b := j.bounds(p, size)
		if int64(size.InService) == asked && !b.sized {
			continue
		}
		text := fmt.Sprintf("%d in %q", size.InService, p.env)
		if len(j.pools) == 1 {
			text = fmt.Sprint(size.InService)
		}
		texts = append(texts, text+j.because(p, size, b))
	}
	return strings.Join(texts, "; ")
}

// because says why there are not as many as the setting says.
func (j *job) because(p *pooled, size PoolSize, b poolBounds) string {
	asked, _ := j.chosen.value(SettingWorkers)
	most, _ := j.chosen.value(SettingParallelism)
	first, _ := j.chosen.value(SettingWorkersFirst)
	pools := p.pool.Pools()
	switch {
	case size.Max == 1 && p.asked > 1:
		return ": its worker pool, as with LOOPBACK, has all workers in one process"
	case size.Max > 0 && p.asked > size.Max:
		return ": its worker pools have all workers in one process each"
	case b.sized && !b.Fixed():
		return fmt.Sprintf(": sized from %d to %d", b.Min, b.Max)
	case size.InService != size.Wanted:
		return fmt.Sprintf(": there will be %d", size.Wanted)
	case pools > 1 && asked > 0 && int64(size.Wanted) == asked*int64(pools):
		return fmt.Sprintf(": %d in each of %d worker pools", asked, pools)
	case asked == 0 && p.parallel:
		return ": its SDK uses all cores in one process"
	case most > 0 && int64(size.Wanted) == most:
		return ": " + SettingParallelism + " bounds it"
	case first != left && int64(size.Wanted) == first:
		return ": " + SettingWorkersFirst + " says so"
	case asked == 0:
		return ": as many as there are cores"
	}
	return ""
}

// warnOfOne tells a user who has asked for more processes than there can be.
func (j *job) warnOfOne(p *pooled, size PoolSize) {
	asked, from := j.chosen.value(SettingWorkers)
	if size.Max == 1 && p.asked > 1 && asked > 1 {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf("%s is %d (%s), but environment %q has %d harness process%s. "+
			"--environment_type=PROCESS or an EXTERNAL pool of programs can have more",
			SettingWorkers, asked, from, p.env, size.InService, j.because(p, size, j.bounds(p, size))))
	}
}
