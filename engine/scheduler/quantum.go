package scheduler

import (
	"cmp"
	"math"
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// A bundle of a Harness stage may be kept open: it takes blocks as they come, and is closed after a quantum of time, when it has enough,
// or when it is not worth waiting any more. The harness works meanwhile. So what a bundle costs whatever it holds is paid once a quantum
// and not once a block. See docs/decisions/0030.

const (
	// quantumFixed is how often the fixed cost of a bundle goes into a quantum: it is paid with 3 % of the time.
	quantumFixed = 30
	// An open bundle waits for the next block for a part of its quantum, or idleGaps times as long as blocks are apart if that is more.
	idlePart, idleGaps = 10, 2
	// gapFixed is up to how many fixed costs of a bundle the next block may be away to be waited for: bundles of their own would take a
	// third of the process. gapMax, in these, bounds the time between two arrivals that is taken into account: a pause must not be
	// remembered for long.
	gapFixed, gapMax = 3, 3
	// measureEvery is after how many bundles without a known cost one is not kept open, so that its cost is known.
	measureEvery = 32
)

// opened is a bundle that is kept open.
type opened struct {
	start           *Start
	elements, bytes int
	last            element.Time // when it took its last block
	groups          map[uint16]bool
	sealed          bool // the next block is too much for it
}

// openable says whether bundles of the stage may be kept open. What side inputs hold, what waits for durability and the order of a
// time-sorted input are looked at when a bundle begins; a script and restrictions have ends of their own.
func (s *Scheduler) openable(st *stage) bool {
	d := st.def
	return d.Kind == plan.Harness && !s.scripted && len(st.sides) == 0 && d.Splittable == nil && !d.StableInput && !d.TimeSorted
}

// quantum is how long a bundle of the stage is kept open at most, in milliseconds.
func (s *Scheduler) quantum(st *stage) float64 {
	t := min(quantumFixed*s.fixed(st), float64(s.bundleTimeMax()))
	if budget := s.latencyBudget(); budget > 0 {
		t = min(t, float64(budget)/float64(max(1, s.depth)))
	}
	return t
}

// fixed is what a bundle of the stage costs whatever it holds, in milliseconds.
func (s *Scheduler) fixed(st *stage) float64 { return cmp.Or(s.cfg.BundleFixedMs, st.cost.fixed) }

// idle is how long an open bundle of the stage waits for the next block.
func (s *Scheduler) idle(st *stage) float64 {
	t := s.quantum(st)
	return min(t/2, max(idleGaps*st.gap, min(float64(s.cfg.BundleIdleMaxMs), t/idlePart)))
}

// harnessDepth is how many Harness stages an element may pass on its way through the job: they share the latency budget.
func harnessDepth(stages []*stage) int {
	depth := make([]int, len(stages))
	deepest := 0
	for i, st := range stages { // in topological order
		for _, u := range st.upstream {
			depth[i] = max(depth[i], depth[u.index])
		}
		for _, sd := range st.sides {
			for _, p := range sd.producers {
				depth[i] = max(depth[i], depth[p.index])
			}
		}
		if st.def.Kind == plan.Harness {
			depth[i]++
		}
		deepest = max(deepest, depth[i])
	}
	return deepest
}

// arrived notes that something came to the stage.
func (s *Scheduler) arrived(st *stage) {
	if st.arrivedAt > element.MinTime {
		st.gap += (min(float64(s.now-st.arrivedAt), gapMax*s.near(st)) - st.gap) / 4
	}
	st.arrivedAt = s.now
}

// near is how far away the next block may be to be waited for, in milliseconds.
func (s *Scheduler) near(st *stage) float64 { return gapFixed * s.fixed(st) }

// worthWaiting says whether a bundle that is kept open saves more than it makes what it has wait: the next block is not far away for what
// a bundle of its own would cost, and there is something that it may come from.
func (s *Scheduler) worthWaiting(st *stage) bool {
	return st.gap <= s.near(st) && s.quantum(st) >= 1 && s.expecting(st)
}

// expecting says whether something is on its way to the stage.
func (s *Scheduler) expecting(st *stage) bool {
	return slices.ContainsFunc(st.upstream, func(p producer) bool { return s.producing(p.stage) })
}

// producing says whether the stage may soon put something out. What the runner does itself takes no time worth mentioning, so that it
// counts what comes to it.
func (s *Scheduler) producing(p *stage) bool {
	switch {
	case p.running > 0:
		return true
	case p.def.Kind == plan.Source, p.def.Kind == plan.Impulse:
		return !p.done
	case p.batch && p.in < element.MaxTime:
		return false // it collects
	}
	delayed := int64(0)
	for _, b := range p.delayed {
		delayed += int64(b.Count)
	}
	return p.pending.count > delayed || p.def.Kind == plan.Group && s.expecting(p)
}

// keepOpen decides whether a bundle that begins is kept open.
func (s *Scheduler) keepOpen(st *stage, b *Start) {
	if b.Timers || b.Limit > 0 || st.few > 0 || st.unmeasured >= measureEvery || !s.openable(st) || s.shut(st) || !s.worthWaiting(st) {
		return
	}
	o := &opened{start: b, last: s.now, elements: items(b.Blocks), groups: make(map[uint16]bool)}
	for _, blk := range b.Blocks {
		o.bytes += blk.Bytes
	}
	if s.full(st, o) {
		return
	}
	if st.keyed {
		for _, g := range b.Groups {
			o.groups[g] = true
		}
	}
	b.Open = true
	s.open = append(s.open, o)
}

// shut says whether no bundle of the stage is kept open at present: the job comes to rest, or something has failed in the stage.
func (s *Scheduler) shut(st *stage) bool {
	return s.draining || s.settling || st.broken || len(st.suspects) > 0
}

// full says whether the bundle has as much as it may.
func (s *Scheduler) full(st *stage, o *opened) bool {
	return !s.within(st, o.elements, o.bytes, false) || float64(o.elements)*st.cost.each >= s.quantum(st)
}

// closing returns the time at which the bundle is closed if nothing comes.
func (s *Scheduler) closing(o *opened) element.Time {
	st := s.stages[o.start.Stage]
	return min(o.start.Now.Add(int64(s.quantum(st))), o.last.Add(int64(max(1, math.Round(s.idle(st))))))
}

// OpenUntil is when the next open bundle is closed if nothing comes; NoTimer when there is none.
func (s *Scheduler) OpenUntil() element.Time {
	at := NoTimer
	for _, o := range s.open {
		at = min(at, s.closing(o))
	}
	return at
}

// done says whether an open bundle takes nothing any more.
func (s *Scheduler) done(o *opened) bool {
	st := s.stages[o.start.Stage]
	e := s.envs[st.def.Env]
	switch {
	case o.sealed, s.shut(st), s.full(st, o), s.now >= s.closing(o):
		return true
	case st.ordered && s.newest(st) != o.start.Bundle: // what it took would come after what another has begun with
		return true
	case o.start.Process == nowhere || e.reserved[o.start.Process]:
		return true
	}
	return slices.ContainsFunc(o.start.Groups, func(g uint16) bool { return st.keyed && s.due(st, int(g)) })
}

// newest is the bundle of the stage that began last.
func (s *Scheduler) newest(st *stage) (newest BundleID) {
	for id, b := range s.bundles {
		if b.Stage == st.index {
			newest = max(newest, id)
		}
	}
	return newest
}

// closeOver closes the bundles that take nothing any more, and those for which nothing is worth waiting for.
func (s *Scheduler) closeOver(actions []Action) []Action {
	return s.closeIf(actions, func(o *opened) bool { return s.done(o) || !s.worthWaiting(s.stages[o.start.Stage]) })
}

func (s *Scheduler) closeIf(actions []Action, closes func(*opened) bool) []Action {
	s.open = slices.DeleteFunc(s.open, func(o *opened) bool {
		if !closes(o) {
			return false
		}
		o.start.Open = false
		s.occupy(s.stages[o.start.Stage], o.start, 1)
		actions = append(actions, Close{Bundle: o.start.Bundle})
		return true
	})
	return actions
}

// forgetOpen forgets a bundle that has ended.
func (s *Scheduler) forgetOpen(b *Start) {
	if b.Open {
		s.open = slices.DeleteFunc(s.open, func(o *opened) bool { return o.start == b })
	}
}

// extend gives the open bundles of a stage what has come.
func (s *Scheduler) extend(st *stage, actions []Action) []Action {
	open := slices.Clone(s.open)
	slices.SortStableFunc(open, func(a, b *opened) int { return cmp.Compare(s.behind(a), s.behind(b)) })
	for _, o := range open {
		if o.start.Stage != st.index || st.retryAt > s.now || st.crowded() || s.backPressure(st) != nil {
			continue
		}
		x := Extend{Bundle: o.start.Bundle, InputWatermark: st.in}
		if st.keyed {
			s.extendKeyed(st, o, &x)
		} else if !s.betterElsewhere(st, o) {
			s.extendFIFO(st, o, &x)
		}
		if len(x.Blocks) == 0 {
			continue
		}
		o.last = s.now
		o.start.Blocks = append(slices.Clip(o.start.Blocks), x.Blocks...)
		o.start.Groups = append(slices.Clip(o.start.Groups), x.Groups...)
		actions = append(actions, x)
	}
	return actions
}

func (s *Scheduler) extendFIFO(st *stage, o *opened, x *Extend) {
	for q := &st.queues[0]; q.len() > 0 && !s.full(st, o) && s.fits(st, o.elements, q.first()); {
		s.take(st, q, o, x)
	}
	o.sealed = st.queues[0].len() > 0 && !s.fits(st, o.elements, st.queues[0].first())
}

// extendKeyed takes what has come for key groups that the bundle owns, or nobody.
func (s *Scheduler) extendKeyed(st *stage, o *opened, x *Extend) {
	from, to := s.envs[st.def.Env].groups(o.start.Process, len(st.queues))
	for g := from; g < to && !s.full(st, o); g++ {
		q := &st.queues[g]
		mine := o.groups[uint16(g)]
		if q.len() == 0 || st.busy[g] && !mine || st.heldData[g] || s.due(st, g) || !s.fits(st, o.elements, q.first()) {
			continue
		}
		if !mine {
			st.busy[g], o.groups[uint16(g)] = true, true
			x.Groups = append(x.Groups, uint16(g))
		}
		for q.len() > 0 && s.within(st, o.elements, o.bytes, false) && s.fits(st, o.elements, q.first()) {
			s.take(st, q, o, x)
		}
	}
}

// take moves the first block of a queue into the bundle.
func (s *Scheduler) take(st *stage, q *queue, o *opened, x *Extend) {
	blk := q.pop()
	o.elements, o.bytes = o.elements+blk.Count, o.bytes+blk.Bytes
	x.Blocks = append(x.Blocks, blk)
}

// behind is how much the harness has still to do for the bundle, in milliseconds.
func (s *Scheduler) behind(o *opened) float64 {
	return max(0, float64(o.elements)*s.stages[o.start.Stage].cost.each-float64(s.now-o.start.Now))
}

// betterElsewhere says whether a process without anything to do could take what has come, while the harness of the bundle has its hands
// full.
func (s *Scheduler) betterElsewhere(st *stage, o *opened) bool {
	e := s.envs[st.def.Env]
	if st.ordered || s.behind(o) <= s.quantum(st)/4 {
		return false
	}
	for p, n := range e.load {
		if n == 0 && !e.closed(p) {
			return true
		}
	}
	return false
}
