package scheduler

import (
	"fmt"
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// share is how much of what waits a bundle takes: a process's part of the work, so that all processes begin at once. Restrictions are few
// and take long, which no count of elements or bytes tells.
type share struct {
	bySize      bool    // by the size that the SDK estimates, else by number
	left, total float64 // of the part; unbounded when total is 0
}

// shareMin is the least share of a bundle that processes elements, unless each may be much work: for less a bundle is not worth while.
const shareMin = 4000

// share returns the share of a bundle of the stage.
func (s *Scheduler) share(st *stage) *share {
	sh := &share{}
	if s.envs[st.def.Env] == nil {
		return sh
	}
	q := &st.queues[0]
	size, count := 0.0, 0
	sized := true
	free := max(1, s.freeFor(st))
	enough := free * s.bundleElementsMax() // for so many bundles that no share is smaller
	for _, b := range q.blocks[q.head:] {
		size += b.Size
		count += b.Count
		if sized = sized && b.Size > 0; !sized && count >= enough {
			break
		}
	}
	sh.bySize, sh.total = sized, float64(count)
	if sized {
		sh.total = size
	}
	sh.total /= float64(free)
	if st.def.Splittable == nil && !st.spread {
		sh.total = max(sh.total, shareMin)
	}
	sh.left = sh.total
	return sh
}

// freeFor returns how many processes have a free slot and no bundle of the stage.
func (s *Scheduler) freeFor(st *stage) int {
	e := s.envs[st.def.Env]
	busy := make([]bool, len(e.load))
	for _, b := range s.bundles {
		if b.Stage == st.index && b.Process != nowhere {
			busy[b.Process] = true
		}
	}
	free := 0
	for p := range e.load {
		if s.room(e, st, p) && !busy[p] {
			free++
		}
	}
	return free
}

func (sh *share) of(b Block) float64 {
	if sh.bySize {
		return b.Size
	}
	return float64(b.Count)
}

// room says whether the block belongs to the share: at least half of it must.
func (sh *share) room(b Block) bool { return sh.total == 0 || sh.left >= sh.of(b)/2 }

func (sh *share) take(b Block) { sh.left -= sh.of(b) }

// pace is how fast a bundle goes.
type pace struct {
	done  float64 // the share of its input that was processed
	seen  sight   // when it was looked at for pacing
	at    element.Time
	asked bool // to split
	// again is when it may be asked next: a bundle that had nothing to give is left alone for a while, then longer.
	again  element.Time
	waitMs int64
}

// sight is how many elements a bundle had processed at a time, when so many were at work on the process.
type sight struct {
	elements float64
	level    int
	at       element.Time
}

// Bounds of the time between asking a bundle that had nothing to give.
const (
	splitWaitMin = 1_000
	splitWaitMax = 60_000
)

func (s *Scheduler) progressed(ev Progressed) {
	b := s.bundles[ev.Bundle]
	if b == nil {
		return // it ended while the news was on its way
	}
	p := s.paces[ev.Bundle]
	if p == nil {
		p = &pace{again: element.MinTime}
		s.paces[ev.Bundle] = p
	}
	// A split makes less of the input, so that the share may also fall.
	p.done, p.at = min(max(ev.Done, 0), 1), s.now
	s.pacedSoFar(b, p)
}

// undivided leaves the bundle alone for a while.
func (s *Scheduler) undivided(ev Undivided) {
	if p := s.paces[ev.Bundle]; p != nil {
		p.asked = false
		p.waitMs = min(max(p.waitMs*2, splitWaitMin), splitWaitMax)
		p.again = s.now.Add(p.waitMs)
	}
}

// divided takes the parts that a split has made.
func (s *Scheduler) divided(ev Divided) error {
	b := s.bundles[ev.Bundle]
	if b == nil {
		return fmt.Errorf("scheduler: bundle %d was split, which is not in flight", ev.Bundle)
	}
	if p := s.paces[ev.Bundle]; p != nil {
		p.asked, p.waitMs, p.again = false, 0, s.now
	}
	st := s.stages[b.Stage]
	for _, blk := range without(ev.Kept, b.Blocks) {
		st.account(blk, 1)
	}
	st.consumed(without(without(b.Blocks, ev.Kept), ev.Returned))
	s.divideSuspect(b, ev.Kept)
	b.Blocks = slices.Clone(ev.Kept)
	s.giveBack(st, ev.Returned)
	for _, blk := range ev.Added {
		st.receive(blk, s.now)
	}
	return nil
}

// split asks slow bundles to give up a part while there are places without anything to do: of each environment the bundle that has
// the longest way to go, one for each such place.
func (s *Scheduler) split(actions []Action) []Action {
	if s.replaying() {
		return actions // a script's clock tells nothing about pace
	}
	for _, env := range s.plan.Environments {
		for {
			id, left := s.slowest(env.ID)
			if id == 0 {
				break
			}
			st := s.stages[s.bundles[id].Stage]
			process, ok := s.place(st)
			if !ok {
				break
			}
			p := s.paces[id]
			p.asked = true
			actions = append(actions, Split{Bundle: id, Stage: st.index, Process: process, Done: p.done, LeftMs: left})
		}
	}
	return actions
}

// place returns a process for a part of a bundle of the stage: one that runs nothing, or one with a free slot where bundles do not hold
// each other up. Places that parts have been asked for already are taken.
func (s *Scheduler) place(st *stage) (process int, ok bool) {
	e := s.envs[st.def.Env]
	if e == nil || e.perProcess == 0 {
		return 0, false
	}
	free := s.places(e, st)
	for id, p := range s.paces {
		if p.asked && s.stages[s.bundles[id].Stage].def.Env == st.def.Env && len(free) > 0 {
			free = free[1:]
		}
	}
	if len(free) == 0 {
		return 0, false
	}
	return free[0], true
}

// places are the processes that could take a part of a bundle of the stage, the emptiest first, each as often as it has room.
func (s *Scheduler) places(e *environment, st *stage) (free []int) {
	if s.mayWait(st) {
		for p := range e.load {
			for range s.slots(e, st, p) {
				if !e.closed(p) {
					free = append(free, p)
				}
			}
		}
		slices.SortStableFunc(free, func(a, b int) int { return e.load[a] - e.load[b] })
		return free
	}
	reserve := 0
	if e.parallel && e.perProcess > 1 && s.unrelated(st) {
		reserve = 1
	}
	for used := range e.perProcess - reserve { // the emptiest first
		if used > 0 && !e.parallel {
			break
		}
		for p, n := range e.load {
			if n <= used && !e.closed(p) {
				free = append(free, p)
			}
		}
	}
	return free
}

// unrelated says whether there may be work that does not wait for the stage: it must not find all slots taken by parts of one bundle. What
// comes behind the stage gets its elements with the commits that free slots.
func (s *Scheduler) unrelated(st *stage) bool {
	behind := make([]bool, len(s.stages))
	from := func(p producer) bool { return behind[p.index] }
	for i, o := range s.stages { // in topological order
		behind[i] = o == st || slices.ContainsFunc(o.upstream, from) ||
			slices.ContainsFunc(o.sides, func(sd side) bool { return slices.ContainsFunc(sd.producers, from) })
		if !behind[i] && !o.idle() {
			return true
		}
	}
	return false
}

// slowest returns the bundle of the environment that has the longest way to go and may be split, with that time in milliseconds; 0
// when there is none that is worth it.
func (s *Scheduler) slowest(env plan.EnvID) (slowest BundleID, leftMs int64) {
	for id, p := range s.paces {
		b := s.bundles[id]
		st := s.stages[b.Stage]
		if st.def.Env != env || p.asked || p.again > s.now || !s.divisible(st, b) {
			continue
		}
		if p.done <= 0 && int64(p.at-b.Now) < s.cfg.SplitLeftMs/2 {
			continue // one that is watched tells when it has hardly begun
		}
		left := p.leftMs(b.Now)
		if left >= s.worthSplitting(st) && (left > leftMs || left == leftMs && id < slowest) {
			slowest, leftMs = id, left
		}
	}
	return slowest, leftMs
}

// divisible says whether the bundle may be split: any part of a FIFO edge may run anywhere, while key groups have one owner. Bundles of
// unbounded restrictions end by themselves and give back what is left; once truncated, they are bounded. Nothing may wait for the
// stage, which would come first. What is halved because it has failed is in small parts already.
func (s *Scheduler) divisible(st *stage, b *Start) bool {
	return st.def.Kind == plan.Harness && !b.Open && !st.keyed && !st.ordered && !s.again[b.Bundle].halving() &&
		(st.def.Splittable == nil || st.def.Splittable.Bounded || b.Truncate) &&
		st.queues[0].len() == 0 && st.retryAt <= s.now && s.backPressure(st) == nil
}

// leftMs is how long a bundle that began then will go on at its pace.
func (p *pace) leftMs(begun element.Time) int64 {
	const unknown = 1 << 40
	elapsed := float64(p.at - begun)
	if p.done <= 0 || elapsed*(1-p.done)/p.done > unknown {
		return unknown
	}
	return int64(elapsed * (1 - p.done) / p.done)
}
