package harness

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"padstone/fnapi"
)

// A harness that has too much memory is replaced: another one is started and takes its place once it is connected, and it ends when its
// bundles have. So nothing is lost, while the machine has one harness more for a while.

// memory is what a pool does about the memory of its harnesses.
type memory struct {
	max      atomic.Int64 // bytes that a harness may have; 0: no bound
	recycled atomic.Int64
	watching sync.Once
}

const (
	// youngFor is how long a harness must last for the next one to be replaced without a wait: a bound that is too low for what a harness
	// takes at its best must not keep it from working. The wait doubles from recycleWaitMin to recycleWaitMax.
	youngFor                       = time.Minute
	recycleWaitMin, recycleWaitMax = 30 * time.Second, 10 * time.Minute
)

// SetMemoryMax bounds the memory that a harness may have, in bytes; 0: no bound.
func (p *Pool) SetMemoryMax(bytes int64) {
	p.memory.max.Store(bytes)
	if bytes <= 0 {
		return
	}
	p.memory.watching.Do(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.mu.closed {
			p.running.Go(p.watchMemory)
		}
	})
}

// watchMemory replaces harnesses that have too much memory, one at a time.
func (p *Pool) watchMemory() {
	ticker := time.NewTicker(p.manager.cfg.MeasureEvery)
	defer ticker.Stop()
	var wait time.Duration
	var after time.Time
	told := false
	for {
		select {
		case <-p.life.Done():
			return
		case <-ticker.C:
		}
		most := p.memory.max.Load()
		if most <= 0 || time.Now().Before(after) {
			continue
		}
		usage := p.Usage()
		if len(usage) == 0 && len(p.Workers()) > 0 && !told {
			told = true
			p.tell("", fmt.Sprintf("the memory of the harnesses of %s cannot be seen from here: harness_memory_limit has no effect on "+
				"them", p.describe()))
		}
		for _, u := range usage {
			if u.Memory <= most {
				continue
			}
			if age := p.recycle(u, most); age < youngFor {
				wait = min(max(2*wait, recycleWaitMin), recycleWaitMax)
				after = time.Now().Add(wait)
				p.tell(u.Worker, fmt.Sprintf("a harness of %s had more than its memory limit after %s: the limit is too low for it, or "+
					"user code leaks fast; the next one is left alone for %s", p.describe(), age.Round(time.Second), wait))
			} else {
				wait = 0
			}
			break // what the others have is measured anew
		}
	}
}

// recycle has another harness take the place of one, and returns how old that was.
func (p *Pool) recycle(u WorkerUsage, most int64) (age time.Duration) {
	old := p.slotOf(u.Worker)
	if old == nil {
		return youngFor
	}
	if run := old.run.Load(); run != nil {
		age = time.Since(run.began)
	}
	p.tell(u.Worker, fmt.Sprintf("harness %s of %s has %s of memory, more than the limit of %s: another one takes its place, and it ends "+
		"when its bundles have", u.Worker, p.describe(), megabytes(u.Memory), megabytes(most)))
	s, replaced, err := p.replace(old)
	if err != nil {
		if p.life.Err() == nil {
			p.tell(u.Worker, fmt.Sprintf("the harness that should take its place does not start, and it goes on: %v", err))
		}
		return 0
	}
	if replaced {
		p.memory.recycled.Add(1)
		p.log.Info("harness replaced for its memory", zap.String("worker", string(u.Worker)), zap.Int64("bytes", u.Memory),
			zap.String("by", string(s.worker.ID())))
	}
	p.changed()
	return age
}

// WorkerUsage is what the harness of a worker uses.
type WorkerUsage struct {
	Worker     fnapi.WorkerID
	Generation int
	Usage
}

// Usage returns what the harnesses in service use, those of which that can be known. It may take a while.
func (p *Pool) Usage() (all []WorkerUsage) {
	const measureFor = 5 * time.Second
	ctx, cancel := context.WithTimeout(p.life, measureFor)
	defer cancel()
	var groups groups
	for _, s := range p.slotsInService() {
		run := s.run.Load()
		if run == nil {
			continue
		}
		u := WorkerUsage{Worker: s.worker.ID(), Generation: s.worker.Generation()}
		known := false
		if u.Usage, known = measure(ctx, run.launched, &groups); known {
			all = append(all, u)
		}
	}
	return all
}

// measure returns what a harness uses; false when that cannot be known. The groups of this machine's processes are read if they are needed
// and were not yet.
func measure(ctx context.Context, run launched, groups *groups) (Usage, bool) {
	switch m := run.(type) {
	case *process:
		if *groups == nil {
			*groups = processGroups()
		}
		return groups.usage(m.cmd.Process.Pid)
	case metered:
		return m.usage(ctx)
	}
	return Usage{}, false
}
