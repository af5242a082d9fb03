package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/bundle"
	"padstone/engine/plan"
	"padstone/engine/scheduler"
	"padstone/engine/sizing"
	"padstone/jobserver"
)

// HarnessPool is the processes of one environment of a job.
type HarnessPool interface {
	bundle.Pool
	// Size returns how many processes there are.
	Size() PoolSize
	// Pools is how many worker pools start the processes; 0: they are started in another way.
	Pools() int
	// Resize makes the pool have so many processes in service, one at least. It returns at once: those that are missing come into service
	// once they are connected, those that are too many end when nobody holds them. OnChange tells of both.
	Resize(n int)
	// Failure returns why a process that should have come into service has not, once; nil when all have.
	Failure() error
	// Usage returns what the processes in service use, of which that can be seen. It may take a while.
	Usage() []HarnessUsage
	// SetMemoryMax bounds the memory that a process may have, in bytes, before another one takes its place; 0: no bound.
	SetMemoryMax(bytes int64)
	// Describe lists the processes.
	Describe() []jobserver.WorkerDescription
	// Close stops the processes and waits for their end.
	Close(ctx context.Context)
}

// PoolSize is how many processes a pool has.
type PoolSize struct {
	Wanted    int // in service, once all have come
	InService int // bundles may be given to these
	Connected int // of those in service: the others are lost, and being started again
	Coming    int // that are starting, to be in service
	Retiring  int // that are not in service any more, and end when nobody holds them
	Recycled  int // whose place another one has taken, for their memory
	Max       int // that there can be in service; 0: no bound
}

// HarnessUsage is what a process uses.
type HarnessUsage struct {
	Worker     string
	Generation int
	CPU        time.Duration // since it began
	Memory     int64         // bytes that are resident
}

// pooled is the processes of an environment, and what is decided of how many there are. On the driver.
type pooled struct {
	env      plan.EnvID
	pool     HarnessPool
	parallel bool // one process is as good as several
	asked    int  // processes that it was to begin with
	sizer    *sizing.Controller
	told     []string // who the scheduler knows to be at each place

	at      time.Duration // of the last look
	busy    time.Duration // until then
	cpu     map[harnessID]time.Duration
	memory  map[string]int64
	signals sizing.Signals

	grown, shrunk int64
	reason        string // of the last change
	changedAt     time.Time
	held          string // why it does not grow, as its user was told last
}

// harnessID is one harness of one worker.
type harnessID struct {
	worker     string
	generation int
}

// adopt takes over the processes of an environment that have been started.
func (j *job) adopt(env plan.EnvID, pool HarnessPool, parallel bool) {
	size, bounds := pool.Size(), j.chosen.processes(j.cfg.Cores, parallel, pool.Pools())
	p := &pooled{
		env: env, pool: pool, parallel: parallel, asked: bounds.first, sizer: sizing.New(j.cfg.Sizing, max(1, size.InService)),
		at: j.cfg.Stopwatch(),
	}
	j.pools[env] = p
	j.fleet.SetPool(env, pool)
	pool.SetMemoryMax(j.chosen.memoryMax())
	j.warnOfOne(p, size)
	j.tellCapacity(p, size.InService)
	j.poolChanged(env) // it may have changed while there was no job to tell
	if !j.over {
		j.decideAnew(p) // what was set by hand was not known when it was started
	}
}

// tellCapacity tells the scheduler of the first n places that there are to give bundles to, if it does not know of just these.
func (j *job) tellCapacity(p *pooled, n int) {
	places := p.pool.Places()
	workers := make([]string, min(n, len(places)))
	for i := range workers {
		workers[i] = string(places[i])
	}
	if len(workers) == 0 || slices.Equal(workers, p.told) {
		return
	}
	p.told = workers
	j.tell(scheduler.Capacity{
		Env: p.env, Processes: len(workers), PerProcess: j.cfg.BundlesPerProcess, Parallel: p.parallel, Workers: workers,
	})
}

// poolChanged looks at a pool whose processes have come or gone.
func (j *job) poolChanged(env plan.EnvID) {
	p := j.pools[env]
	if p == nil || j.over {
		return
	}
	if err := p.pool.Err(); err != nil {
		j.end(err)
		return
	}
	size := p.pool.Size()
	if err := p.pool.Failure(); err != nil {
		p.sizer.Failed(j.cfg.Stopwatch(), size.InService+size.Coming)
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf("environment %q goes on with %d harness process%s: another one "+
			"could not be started: %v", env, size.InService, plural(size.InService, "es"), err))
	} else if size.Coming == 0 && size.InService == size.Wanted {
		p.sizer.Started()
	}
	j.tellCapacity(p, size.InService)
	if size.Connected == 0 {
		return
	}
	for i, def := range j.plan.Stages {
		if def.Env == env {
			delete(j.backoff, i)
		}
	}
	j.tell(scheduler.Connected{Env: env})
}

// bounds is how many processes the settings allow.
func (j *job) bounds(p *pooled, size PoolSize) poolBounds {
	b := j.chosen.processes(j.cfg.Cores, p.parallel, p.pool.Pools())
	if size.Max > 0 {
		b.Min, b.Max = min(b.Min, size.Max), min(b.Max, size.Max)
	}
	return b
}

// sizePools looks at the pools from time to time, until the job ends.
func (j *job) sizePools() {
	ticker := time.NewTicker(j.cfg.Sizing.Every)
	defer ticker.Stop()
	for {
		select {
		case <-j.ctx.Done():
			return
		case <-ticker.C:
		}
		var pools map[plan.EnvID]HarnessPool
		if ok, err := j.do(j.ctx, func() { pools = j.measured() }); !ok || err != nil {
			return
		}
		usage := make(map[plan.EnvID][]HarnessUsage, len(pools))
		for env, pool := range pools { // not on the driver: it may take a while
			usage[env] = pool.Usage()
		}
		j.postLive(func() { j.look(usage) })
	}
}

// measured are the pools of which it is to be known what their processes use.
func (j *job) measured() map[plan.EnvID]HarnessPool {
	pools := make(map[plan.EnvID]HarnessPool)
	for env, p := range j.pools {
		if j.bounds(p, p.pool.Size()).sized || j.chosen.memoryMax() > 0 {
			pools[env] = p.pool
		}
	}
	return pools
}

// look decides how many processes there are.
func (j *job) look(usage map[plan.EnvID][]HarnessUsage) {
	if j.over {
		return
	}
	lag := time.Duration(0)
	if len(usage) > 0 {
		lag = j.sourcesLag()
	}
	for _, p := range j.poolsInOrder() {
		size := p.pool.Size()
		j.measure(p, size, usage[p.env], lag)
		j.decide(p, size)
	}
}

// decide has a pool grow or shrink.
func (j *job) decide(p *pooled, size PoolSize) {
	was := p.sizer.Size()
	d := p.sizer.Look(j.bounds(p, size).Bounds, p.signals)
	if held := p.sizer.Holding(); held != "" && p.held == "" {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_DETAILED, fmt.Sprintf("environment %q stays at %d harness process%s: %s",
			p.env, was, plural(was, "es"), held))
		p.held = held
	}
	if d.Reason == "" {
		return
	}
	p.reason, p.changedAt, p.held = d.Reason, time.Now(), ""
	verb := "grows"
	if d.Size < was {
		p.shrunk++
		verb = "shrinks"
		j.tellCapacity(p, min(d.Size, len(p.told))) // before they go: no bundle is given to them
	} else {
		p.grown++
	}
	j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf("environment %q %s from %d to %d harness processes: %s",
		p.env, verb, was, d.Size, d.Reason))
	p.pool.Resize(d.Size)
}

// resettle has pools follow settings that have changed.
func (j *job) resettle() {
	for _, p := range j.poolsInOrder() {
		if j.over {
			return
		}
		p.pool.SetMemoryMax(j.chosen.memoryMax())
		j.decideAnew(p)
	}
}

// decideAnew has a pool follow its bounds; the rest is decided when it is looked at next.
func (j *job) decideAnew(p *pooled) {
	p.signals.At, p.signals.Trouble = j.cfg.Stopwatch(), "its bounds may be others"
	j.decide(p, p.pool.Size())
}

// measure takes what a pool has done since the last look.
func (j *job) measure(p *pooled, size PoolSize, usage []HarnessUsage, lag time.Duration) {
	now, busy := j.cfg.Stopwatch(), j.fleet.Busy(p.env)
	s := sizing.Signals{At: now, Ready: size.Connected, CPU: -1, Cores: j.cfg.Cores, Trouble: j.trouble(p, size)}
	processes := max(1, size.InService)
	s.Backlog = lag + time.Duration(j.sched.BacklogMs(p.env)/float64(processes)*float64(time.Millisecond))
	elapsed := now - p.at
	if elapsed > 0 {
		s.Busy = min(1, float64(busy-p.busy)/float64(elapsed)/float64(processes))
	}
	cpu, memory := make(map[harnessID]time.Duration), make(map[string]int64)
	for _, u := range usage {
		key := harnessID{u.Worker, u.Generation}
		cpu[key], memory[u.Worker] = u.CPU, u.Memory
		if before, ok := p.cpu[key]; ok && elapsed > 0 { // what it took to start is no work
			s.CPU = max(s.CPU, 0) + float64(u.CPU-before)/float64(elapsed)
		}
	}
	p.at, p.busy, p.cpu, p.memory, p.signals = now, busy, cpu, memory, s
}

// trouble says why what was measured of a pool says nothing; "" if it does.
func (j *job) trouble(p *pooled, size PoolSize) string {
	if size.Connected < size.InService {
		return "a process is lost"
	}
	if j.pause.on {
		return "the job comes to rest"
	}
	for i := range j.backoff {
		if j.plan.Stages[i].Env == p.env {
			return "bundles that failed wait to run again"
		}
	}
	return ""
}

// sourcesLag is how long it would take to read what native sources have yet to read, as fast as they do; the longest of them.
func (j *job) sourcesLag() (longest time.Duration) {
	const kept = 0.5 // of the pace that was known before
	now := j.cfg.Stopwatch()
	for i, src := range j.sources {
		seconds := (now - src.lookedAt).Seconds()
		out := j.stages[i].out
		if seconds <= 0 {
			continue
		}
		pace := float64(out-src.lookedOut) / seconds
		if src.lookedAt > 0 {
			pace = kept*src.pace + (1-kept)*pace
		}
		src.pace, src.lookedAt, src.lookedOut = pace, now, out
		if behind := src.behind(); behind > 0 && pace > 0 {
			longest = max(longest, time.Duration(min(float64(behind)/pace, lagMax.Seconds())*float64(time.Second)))
		}
	}
	return longest
}

// lagMax bounds what a source is taken to be behind: one that has just begun may tell of next to no pace.
const lagMax = 24 * time.Hour

// describePools is how many processes the environments have, and why.
func (j *job) describePools() (all []jobserver.PoolDescription) {
	for _, p := range j.poolsInOrder() {
		size := p.pool.Size()
		b := j.bounds(p, size)
		d := jobserver.PoolDescription{
			Environment: string(p.env), Wanted: p.sizer.Size(), Min: b.Min, Max: b.Max, Sized: b.sized && !b.Fixed(),
			Ready: size.Connected, Starting: size.Coming + size.InService - size.Connected, Ending: size.Retiring,
			Grown: p.grown, Shrunk: p.shrunk, Recycled: int64(size.Recycled), Reason: p.reason, Holding: p.sizer.Holding(),
			BacklogSeconds: p.signals.Backlog.Seconds(), Busy: p.signals.Busy,
		}
		if p.signals.CPU >= 0 {
			d.Cores = &p.signals.CPU
		}
		if !p.changedAt.IsZero() {
			d.ChangedAt = &p.changedAt
		}
		all = append(all, d)
	}
	return all
}

// describeWorkers lists the processes.
func (j *job) describeWorkers() (all []jobserver.WorkerDescription) {
	for _, p := range j.poolsInOrder() {
		for _, w := range p.pool.Describe() {
			w.MemoryBytes = p.memory[w.ID]
			all = append(all, w)
		}
	}
	return all
}

// poolsInOrder are the pools that have been started, in the plan's order of environments.
func (j *job) poolsInOrder() (all []*pooled) {
	for _, env := range j.plan.Environments {
		if p := j.pools[env.ID]; p != nil {
			all = append(all, p)
		}
	}
	return all
}

// plural is the ending of a word for so many.
func plural(n int, ending string) string {
	if n == 1 {
		return ""
	}
	return ending
}
