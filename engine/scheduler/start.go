package scheduler

import (
	"math"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// startAll starts every bundle that may start, downstream stages first.
func (s *Scheduler) startAll(actions []Action) []Action {
	s.reserve()
	actions = s.closeIf(actions, s.done)
	for i := len(s.stages) - 1; i >= 0; i-- {
		actions = s.extend(s.stages[i], actions)
		if c := s.cut(s.stages[i]); c != nil {
			actions = append(actions, *c)
			continue
		}
		for {
			b := s.start(s.stages[i])
			if b == nil {
				break
			}
			actions = append(actions, *b)
		}
	}
	return s.startReplay(s.closeOver(actions))
}

// start starts one bundle of a stage, or returns nil.
func (s *Scheduler) start(st *stage) *Start {
	if st.retryAt > s.now || st.broken {
		return nil
	}
	if b := s.startSuspect(st); b != nil {
		return b
	}
	b := &Start{Stage: st.index, InputWatermark: st.in, OutputWatermark: st.out, Now: s.now}
	switch st.def.Kind {
	case plan.TestStream:
		return nil // see startReplay
	case plan.Impulse, plan.Source:
		if st.done || st.running > 0 || s.backPressure(st) != nil {
			return nil
		}
	case plan.Sink:
		// One at a time: the outbox keeps the order. It takes no slot, since it waits while its outbox is full.
		if st.running > 0 || !s.takeFIFO(st, b) {
			return nil
		}
	case plan.Group:
		if s.runner >= s.runnerSlots() || !s.fillGroup(st, b) {
			return nil
		}
		s.runner++
	case plan.Harness:
		process, ok := s.pickProcess(st)
		if !ok {
			return nil
		}
		b.Process = process
		if !s.fillHarness(st, b) {
			return nil
		}
		b.Worker = s.envs[st.def.Env].workers[b.Process]
	}
	s.begin(st, b)
	s.keepOpen(st, b)
	if st.def.Kind == plan.Harness {
		b.Watched = s.watched(st)
		s.count(st, b, 1)
	}
	return b
}

// begin takes what a bundle owns.
func (s *Scheduler) begin(st *stage, b *Start) {
	s.nextID++
	b.Bundle = s.nextID
	s.bundles[b.Bundle] = b
	st.running++
	for _, g := range b.Groups {
		if st.keyed {
			st.busy[g] = true
		}
	}
}

// fillGroup chooses the inputs of a Group bundle.
func (s *Scheduler) fillGroup(st *stage, b *Start) bool {
	if st.batch {
		b.Final = true
		return st.in >= element.MaxTime && s.takeKeyed(st, b, 0, len(st.queues))
	}
	if (st.def.Merge != nil || st.def.Compact != nil) && s.envs[st.def.Env] == nil {
		return false // its windows or accumulators are merged in a harness that has yet to come
	}
	b.Deferred = st.deferred
	return s.takeTimers(st, b, 0, len(st.queues)) || s.takeKeyed(st, b, 0, len(st.queues))
}

// fillHarness chooses the inputs of a Harness bundle on process b.Process.
func (s *Scheduler) fillHarness(st *stage, b *Start) bool {
	from, to := s.envs[st.def.Env].groups(b.Process, len(st.queues))
	if st.keyed && s.takeTimers(st, b, from, to) {
		return true
	}
	if s.backPressure(st) != nil {
		return false
	}
	if st.def.Splittable != nil && s.draining && st.def.Splittable.DrainDescriptor != nil {
		b.Truncate = true
	}
	if st.keyed {
		return s.takeKeyed(st, b, from, to)
	}
	return s.takeFIFO(st, b)
}

// pickProcess returns a process with a free slot that has work of the stage: the least loaded one for FIFO stages, for keyed
// stages one whose key groups have work.
func (s *Scheduler) pickProcess(st *stage) (int, bool) {
	e := s.envs[st.def.Env]
	if e == nil {
		return 0, false
	}
	best := -1
	for p, n := range e.load {
		if !s.room(e, st, p) || e.closed(p) || (best >= 0 && n >= e.load[best]) {
			continue
		}
		if from, to := e.groups(p, len(st.queues)); st.keyed && !s.hasWork(st, from, to) {
			continue
		}
		best = p
	}
	return max(best, 0), best >= 0
}

// hasWork says whether a free one of the key groups has timers due or data it may take.
func (s *Scheduler) hasWork(st *stage, from, to int) bool {
	crowded := st.crowded()
	for g := from; g < to; g++ {
		if st.busy[g] {
			continue
		}
		if due := s.due(st, g); due && !st.heldTimers[g] ||
			!due && !st.heldData[g] && !crowded && st.queues[g].len() > 0 && s.sideBlocking(st, st.queues[g].first()) == nil {
			return true
		}
	}
	return false
}

// due says whether a key group of the stage has a timer to fire.
func (s *Scheduler) due(st *stage, group int) bool {
	if st.deferred && st.in < element.MaxTime {
		return false
	}
	t := &st.timers[group]
	return t.Event <= st.in || t.Processing <= s.now || (t.Processing != NoTimer && s.allTimers(st))
}

// allTimers says whether processing-time timers of the stage are due whatever the clock says: its input is at its end, and the clock
// is not a TestStream's, whose script says when it moves.
func (s *Scheduler) allTimers(st *stage) bool { return st.in >= element.MaxTime && !s.replaying() }

// keyGroupRange returns the key groups [from, to) that are pinned to a process.
func keyGroupRange(process, processes, groups int) (from, to int) {
	return process * groups / processes, (process + 1) * groups / processes
}

// takeTimers makes b a bundle of due timers of the key groups.
func (s *Scheduler) takeTimers(st *stage, b *Start, from, to int) bool {
	for g := from; g < to; g++ {
		if !st.busy[g] && !st.heldTimers[g] && s.due(st, g) {
			b.Groups = append(b.Groups, uint16(g))
		}
	}
	b.Timers = len(b.Groups) > 0
	if !b.Timers {
		return false
	}
	b.AllTimers, b.TimersMax = s.allTimers(st), st.few
	return true
}

// takeKeyed takes the waiting blocks of those of the key groups that are free, up to the bounds of a bundle. A Final bundle takes key
// groups whole.
func (s *Scheduler) takeKeyed(st *stage, b *Start, from, to int) bool {
	if st.crowded() {
		return false
	}
	elements, bytes := 0, 0
	most := s.mostOf(st)
	for g := from; g < to && s.within(st, elements, bytes, b.Final) && elements < most; g++ {
		q := &st.queues[g]
		if st.busy[g] || st.heldData[g] || q.len() == 0 || s.sideBlocking(st, q.first()) != nil || s.due(st, g) ||
			!s.fits(st, elements, q.first()) {
			continue
		}
		b.Groups = append(b.Groups, uint16(g))
		for q.len() > 0 && (b.Final || s.within(st, elements, bytes, false) && elements < most) &&
			s.sideBlocking(st, q.first()) == nil && s.fits(st, elements, q.first()) {
			blk := q.pop()
			elements, bytes = elements+blk.Count, bytes+blk.Bytes
			b.Blocks = append(b.Blocks, blk)
		}
	}
	b.Limit = s.limit(st, elements, most)
	return len(b.Groups) > 0
}

// A block is left in parts where a bundle would take limitTimes as long as it should, or more. Less is not worth it: each part reads the
// state of its keys anew. limitPart bounds how often a block is written again: at least so much of what a bundle could take it does take.
const limitTimes, limitPart = 10, 16

// limit is how many of the elements a bundle takes, of those that should be no more than so many; 0: all. What is left is of the last
// block, as without that there were fewer. Key groups change hands between bundles only: a bundle of slow elements must not be long.
func (s *Scheduler) limit(st *stage, elements, most int) int {
	times := limitTimes
	if st.cost.bundles == 0 { // the first one is to tell what they cost
		times = 1
	}
	switch top := s.elementsMax(st); {
	case !st.divisibleBlocks():
		return 0
	case elements/times > most:
		return min(top, max(times*most, elements/limitPart))
	case elements > top:
		return top
	}
	return 0
}

// takeFIFO takes waiting blocks up to the bounds of a bundle; blocks that wait for a side input are passed over, unless their order
// counts. Restrictions are shared out between the processes.
func (s *Scheduler) takeFIFO(st *stage, b *Start) bool {
	q := &st.queues[0]
	if st.crowded() || !s.anyReady(st, q) || st.ordered && s.sideBlocking(st, q.first()) != nil {
		return false
	}
	elements, bytes := 0, 0
	var blocked []Block
	share, most := s.share(st), s.mostOf(st)
	for q.len() > 0 && s.within(st, elements, bytes, false) && elements < most && s.fits(st, elements, q.first()) &&
		(len(b.Blocks) == 0 || share.room(q.first())) {
		blk := q.pop()
		if s.sideBlocking(st, blk) != nil {
			blocked = append(blocked, blk)
			if st.ordered {
				break
			}
			continue
		}
		elements, bytes = elements+blk.Count, bytes+blk.Bytes
		share.take(blk)
		b.Blocks = append(b.Blocks, blk)
	}
	if len(blocked) > 0 {
		q.unshift(blocked)
	}
	return len(b.Blocks) > 0
}

// mostOf bounds the elements of a bundle that begins by the time that they take: where they are slow and wait, and where somebody waits
// for them.
func (s *Scheduler) mostOf(st *stage) int {
	most := math.MaxInt
	if st.def.Kind != plan.Harness || st.def.Splittable != nil {
		return most
	}
	if n := s.atATime(st); n > 0 {
		most = n
	}
	switch {
	case s.cfg.LatencyBudgetMs <= 0:
	case st.cost.each > 0:
		most = min(most, max(1, int(float64(s.bundleTimeMax())/st.cost.each)))
	case st.cost.bundles == 0 && st.divisibleBlocks(): // they may be slow, and whoever has the key groups keeps them until it is done
		most = min(most, slowFirst)
	}
	return most
}

// fits says whether a bundle of the stage with that many elements may take the block, too. Blocks are no larger than a bundle may be, but
// for those that have waited since another bound was set, and those of a script.
func (s *Scheduler) fits(st *stage, elements int, blk Block) bool {
	return st.def.Kind != plan.Harness || s.scripted || elements == 0 || elements+blk.Count <= s.bundleElementsMax()
}

// within says whether a bundle of the stage with that many elements and bytes may take more.
func (s *Scheduler) within(st *stage, elements, bytes int, final bool) bool {
	return (final || elements < s.elementsMax(st)) && bytes < s.cfg.BundleBytesMax
}
