package harness

import (
	"sync"

	"padstone/fnapi"
)

// Size is how many harnesses a pool has.
type Size struct {
	Wanted    int // places that there should be
	InService int // places that there are: bundles may be given to these
	Connected int // of those in service: the others are lost, and being started again
	Coming    int // that are starting, to be in service
	Retiring  int // that are not in service any more, and end when nobody holds them
	Recycled  int // whose place another one has taken, for their memory
	Max       int // places that there can be; 0: no bound
}

// Size returns how many harnesses there are.
func (p *Pool) Size() Size {
	p.mu.Lock()
	defer p.mu.Unlock()
	z := Size{
		Wanted: p.mu.wanted, InService: len(p.mu.places), Coming: p.mu.coming, Recycled: int(p.memory.recycled.Load()),
	}
	for _, s := range p.mu.places {
		if s.ready.Load() {
			z.Connected++
		}
	}
	for _, s := range p.mu.slots {
		if s.retired {
			z.Retiring++
		}
	}
	z.Max = int(p.most.Load())
	return z
}

// Pools is how many worker pools start the harnesses, those that are away included; 0: they are started in another way.
func (p *Pool) Pools() int {
	if e, ok := p.launcher.(*externalLauncher); ok {
		return e.sites.count()
	}
	return 0
}

// WorkerPool returns the address of the worker pool that has a worker; "" where none has.
func (p *Pool) WorkerPool(id fnapi.WorkerID) string {
	if e, ok := p.launcher.(*externalLauncher); ok {
		if at := e.sites.at(id); at != nil {
			return at.address
		}
	}
	return ""
}

// Failure returns why a harness that should have come into service has not, once; nil when all have.
func (p *Pool) Failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.mu.failed
	p.mu.failed = nil
	return err
}

// Places lists the workers in service by place, "" where none is connected.
func (p *Pool) Places() []fnapi.WorkerID {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]fnapi.WorkerID, len(p.mu.places))
	for i, s := range p.mu.places {
		if s.ready.Load() {
			all[i] = s.worker.ID()
		}
	}
	return all
}

// Acquire returns the worker of a place, or another one where that is not connected, and holds it: it does not end before release is
// called, which it must be once, unless it is lost. nil: none is connected.
func (p *Pool) Acquire(place int) (w *fnapi.Worker, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.placeLocked(place)
	if s == nil {
		return nil, nil
	}
	s.users++
	return s.worker, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.users--
		s.endIfDoneLocked()
	})
}

func (p *Pool) placeLocked(place int) *slot {
	if len(p.mu.places) == 0 {
		return nil
	}
	if s := p.mu.places[place%len(p.mu.places)]; s.ready.Load() {
		return s
	}
	var ready []*slot
	for _, s := range p.mu.places {
		if s.ready.Load() {
			ready = append(ready, s)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	return ready[place%len(ready)]
}

// Resize makes the pool have so many places, one at least. It returns at once: harnesses that are missing come into service once they are
// connected, which OnChange tells; those that are too many take no new bundles, and end when nobody holds them. One that cannot be started
// is not tried again; Failure says why.
func (p *Pool) Resize(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n = max(1, n); p.most.Load() > 0 {
		n = min(n, int(p.most.Load()))
	}
	if p.mu.closed {
		return
	}
	p.mu.wanted = n
	for len(p.mu.places) > n {
		last := p.mu.places[len(p.mu.places)-1]
		p.mu.places = p.mu.places[:len(p.mu.places)-1]
		last.retireLocked()
		p.unevenLocked()
	}
	for len(p.mu.places)+p.mu.coming < n {
		p.mu.coming++
		p.running.Go(p.grow)
	}
}

// grow starts a harness and puts it into service.
func (p *Pool) grow() {
	s, first, err := p.launchSlot()
	if err == nil {
		err = <-first
	}
	p.mu.Lock()
	p.mu.coming--
	switch {
	case err != nil:
		p.mu.failed = err
		p.mu.wanted = min(p.mu.wanted, len(p.mu.places)+p.mu.coming)
	case len(p.mu.places) < p.mu.wanted:
		p.mu.places = append(p.mu.places, s)
	default: // nobody wants it any more
		s.retireLocked()
	}
	p.unevenLocked()
	p.mu.Unlock()
	p.changed()
}

// retireLocked has a harness end as soon as nobody holds it. It is not in service any more.
func (s *slot) retireLocked() {
	s.retired = true
	if e, ok := s.pool.launcher.(*externalLauncher); ok {
		e.sites.leaves(s.worker.ID())
	}
	s.endIfDoneLocked()
}

func (s *slot) endIfDoneLocked() {
	if s.retired && s.users == 0 {
		s.end()
	}
}

func (s *slot) isRetired() bool {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	return s.retired
}
