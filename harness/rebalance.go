package harness

import (
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
)

// A worker pool that is back, or that a name stands for since a while, gets its share of the workers: one after the other has a successor
// there, and ends when its bundles have.

// poolIsBack is told when a pool may be used that has few workers.
func (p *Pool) poolIsBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unevenLocked()
}

// unevenLocked has workers moved where pools have more of them than others, as they may after some have come or gone.
func (p *Pool) unevenLocked() {
	p.mu.uneven = true
	if p.mu.closed || p.mu.evening || p.Pools() < 2 {
		return
	}
	p.mu.evening = true
	p.running.Go(p.even)
}

// even moves workers until the pools have as many each, give or take one.
func (p *Pool) even() {
	for {
		p.mu.Lock()
		if !p.mu.uneven || p.mu.closed {
			p.mu.evening = false
			p.mu.Unlock()
			return
		}
		p.mu.uneven = false
		p.mu.Unlock()
		p.changed() // there may be more pools than before
		for p.moveOne() {
		}
	}
}

// moveOne has a worker of the pool that has most followed by one of the pool that has fewest. It says whether there may be more to do.
func (p *Pool) moveOne() bool {
	s := p.launcher.(*externalLauncher).sites
	var old *slot
	var from, to *site
	counts := make(map[*site]int)
	places := p.slotsInService()
	for _, one := range places {
		if at := s.at(one.worker.ID()); at != nil {
			counts[at]++
		}
	}
	for _, one := range s.now(p.life) {
		switch {
		case one.isAway(s):
		case to == nil || counts[one] < counts[to]:
			to = one
		}
		if from == nil || counts[one] > counts[from] {
			from = one
		}
	}
	if to == nil || counts[from]-counts[to] < 2 {
		return false
	}
	for _, one := range places {
		if s.at(one.worker.ID()) == from && one.ready.Load() {
			old = one
		}
	}
	if old == nil { // they are lost, and will be started where there are fewest
		return false
	}
	next, replaced, err := p.replace(old)
	if err != nil {
		if p.life.Err() == nil {
			p.tell(old.worker.ID(), fmt.Sprintf("a worker that should move from the worker pool at %s to the one at %s does not start there, and "+
				"stays: %v", from.address, to.address, err))
		}
		return false
	}
	if replaced {
		p.log.Info("worker moved", zap.String("from", from.address), zap.String("to", to.address), zap.String("worker", string(old.worker.ID())),
			zap.String("by", string(next.worker.ID())))
	}
	p.changed()
	return true
}

// replace starts a harness that takes the place of another one once it is connected; that one ends when its bundles have. replaced is false
// when it has gone meanwhile.
func (p *Pool) replace(old *slot) (s *slot, replaced bool, err error) {
	s, first, err := p.launchSlot()
	if err == nil {
		err = <-first
	}
	if err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.mu.places {
		if p.mu.places[i] == old {
			p.mu.places[i], replaced = s, true
			old.retireLocked()
		}
	}
	if !replaced {
		s.retireLocked()
	}
	return s, replaced, nil
}

// followNames looks up names that may stand for other pools than before, as that of a headless Service does when its Deployment is scaled.
func (p *Pool) followNames(s *sites) {
	named := false
	for _, name := range s.names {
		host, _, err := net.SplitHostPort(name)
		named = named || err == nil && net.ParseIP(host) == nil && host != "localhost"
	}
	if !named || isLoopback(p.spec.Options) {
		return
	}
	ticker := time.NewTicker(p.manager.cfg.ResolveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.life.Done():
			return
		case <-ticker.C:
		}
		if added := s.added(p.life); len(added) > 0 {
			p.tell("", fmt.Sprintf("worker pools that are new under their name: %v", added))
			if p.most.Load() > 0 {
				p.most.Store(int64(s.count()))
			}
			p.poolIsBack()
		}
	}
}
