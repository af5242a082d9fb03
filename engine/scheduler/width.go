package scheduler

import (
	"math"

	"padstone/engine/plan"
)

// Elements that are slow because they wait for something else cost a harness nothing meanwhile, so that more bundles side by side get more
// done. Whether they do shows in the time that an element takes: it stays what it is with more bundles in flight, or it grows as they
// take turns. That is compared for the numbers of bundles that were in flight, never beyond what is known to go well.

const (
	// widthMax is how many bundles of a stage a process has in flight at most.
	widthMax = 16
	// slowElement is how long an element takes, in milliseconds, that may be waiting for something.
	slowElement = 1
	// levelsFrom is how much larger one level must be than another to be compared, levelsGrow how much of that may be seen in the time
	// that an element takes where elements do not take turns.
	levelsFrom, levelsGrow = 2, 0.35
	// levelsKept is after how many observations an older one is forgotten; sooner, after levelsFresh, where it would say that more bundles
	// may be in flight: other things change as well with time.
	levelsKept, levelsFresh = 200, 16
	// probeAfter is after how many observations at one level another is tried, probeAgain likewise once it is known that elements take turns.
	probeAfter, probeAgain = 4, 64
	// agreedFrom is how many comparisons in a row must say that elements wait side by side before that is taken for granted, agreedAgain
	// how many if others have said that they take turns, deniedFrom how many must say that.
	agreedFrom, agreedAgain, deniedFrom = 3, 5, 2
	// bestFades is how the least time of an element grows with each observation, as what an element takes may change.
	bestFades = 1.02
)

// pacing is what is known of how bundles of a stage get on side by side.
type pacing struct {
	per      [widthMax + 1]float64 // milliseconds that an element takes, by bundles at work on the process; 0: not known
	best     [widthMax + 1]float64 // the least of them: what else goes on on the machine only adds
	times    [widthMax + 1]int     // how often that was seen
	at       [widthMax + 1]int     // when that was seen last
	seen     int                   // observations
	latest   float64               // milliseconds an element
	width    int                   // how many bundles may be in flight; 0: as many as of any stage
	agreed   int                   // comparisons in a row that said that elements wait side by side
	denied   int                   // likewise, that they take turns
	probing  int                   // observations for which fewer are in flight, to compare
	overlaps verdict
}

// verdict says whether elements that are slow wait side by side.
type verdict int8

const (
	unknown verdict = iota
	takeTurns
	sideBySide
)

// observe notes that an element took so long while so many bundles were at work on the process.
func (p *pacing) observe(level, ms float64, width int) {
	i := min(max(int(math.Round(level)), 1), widthMax)
	p.seen++
	p.latest = ms
	if p.times[i] > 0 && p.seen-p.at[i] < levelsKept {
		p.per[i], p.best[i] = (p.per[i]+ms)/2, min(ms, p.best[i]*bestFades)
		p.times[i]++
	} else {
		p.per[i], p.best[i], p.times[i] = ms, ms, 1
	}
	p.at[i] = p.seen
	p.probing = max(0, p.probing-1)
	p.judge(i, width)
}

// judge compares a level with the next lower one that differs enough, or else the next higher one with it, and makes the width of it.
func (p *pacing) judge(level, width int) {
	if p.latest < slowElement {
		p.width, p.probing, p.overlaps = 0, 0, unknown
		return
	}
	lower, upper := level-1, level
	for lower > 0 && !p.comparable(lower, upper) {
		lower--
	}
	if lower == 0 {
		for lower, upper = level, level+1; upper <= widthMax && !p.comparable(lower, upper); {
			upper++
		}
	}
	if upper > widthMax {
		every := probeAfter
		if p.overlaps == takeTurns {
			every = probeAgain
		}
		if p.overlaps != sideBySide && p.probing == 0 && level > 2 && p.seen%every == 0 {
			p.probing = probeAfter
		}
		return
	}
	p.probing = 0
	if ratio := float64(upper) / float64(lower); p.per[upper] > p.best[lower]*(1+levelsGrow*(ratio-1)) {
		p.agreed = 0
		if p.denied++; p.denied < deniedFrom {
			return
		}
		if p.overlaps, p.width = sideBySide, lower; lower <= width {
			p.overlaps, p.width = takeTurns, 0
		}
		return
	}
	if p.denied = 0; p.times[lower] < 2 {
		return
	}
	enough := map[verdict]int{unknown: agreedFrom, takeTurns: agreedAgain}[p.overlaps]
	if p.agreed++; p.agreed < enough {
		return
	}
	p.overlaps = sideBySide
	if now := max(p.width, width); float64(upper) >= 0.6*float64(now) {
		p.width = min(2*now, widthMax)
	}
}

// comparable says whether both levels are known, and differ enough.
func (p *pacing) comparable(lower, upper int) bool {
	kept := levelsFresh
	if p.overlaps == sideBySide {
		kept = levelsKept
	}
	known := func(i int) bool { return p.times[i] > 0 && p.seen-p.at[i] < kept }
	return known(lower) && known(upper) && float64(upper) >= levelsFrom*float64(lower)
}

// widthOn is how many bundles of the stage a process of the environment has in flight at most. Where one at a time is asked for, that is
// it.
func (st *stage) widthOn(e *environment) int {
	if e.perProcess < 2 {
		return e.perProcess
	}
	return max(e.perProcess, st.pacing.width)
}

// mayWait says whether the stage's elements are slow, and are not known to take turns. Where a process is as good as several they need not
// be tried out.
func (s *Scheduler) mayWait(st *stage) bool {
	if st.pacing.latest < slowElement || st.pacing.overlaps == takeTurns || st.pacing.seen < 2 {
		return false
	}
	e := s.envs[st.def.Env]
	return st.pacing.overlaps == sideBySide || e != nil && !e.parallel
}

// room says whether a process has a free slot for a bundle of the stage. One that is kept open takes none before it is closed: it waits
// more than it works, and there is one of each stage at most.
func (s *Scheduler) room(e *environment, st *stage, process int) bool {
	return s.slots(e, st, process) > 0
}

// slots is how many more bundles of the stage a process may have in flight.
func (s *Scheduler) slots(e *environment, st *stage, process int) int {
	if e.perProcess == 0 || e.away(process) || st.pacing.probing > 0 && process < len(st.on) && st.on[process] > 0 {
		return 0
	}
	const little = 1e-9 // the sum of thirds is not quite 1
	used := 0.0
	for _, o := range s.stages {
		if o.def.Env == st.def.Env && o.def.Kind == plan.Harness && process < len(o.on) {
			used += float64(o.on[process]) / float64(o.widthOn(e))
		}
	}
	return int((1-used)*float64(st.widthOn(e)) + little)
}

// occupy counts a bundle against the process that it runs on.
func (s *Scheduler) occupy(st *stage, b *Start, n int) {
	if b.Process == nowhere {
		return
	}
	if b.Process >= len(st.on) {
		st.on = append(st.on, make([]int, b.Process+1-len(st.on))...)
	}
	st.on[b.Process] += n
}

// level is how many bundles are at work on the process.
func (s *Scheduler) level(b *Start) (n int) {
	env := s.stages[b.Stage].def.Env
	for _, o := range s.stages {
		if o.def.Env == env && b.Process < len(o.on) {
			n += o.on[b.Process]
		}
	}
	return n
}

// paced notes what a bundle that has ended tells of its elements.
func (s *Scheduler) paced(st *stage, b *Start, w *Work) {
	e := s.envs[st.def.Env]
	if w == nil || w.Elements == 0 || w.Busy <= 0 || e == nil || st.def.Splittable != nil || st.cost.bundles < pacedFrom {
		return // in the first bundles user code is set up
	}
	if ms := (w.Wall - st.cost.fixed) / float64(w.Elements); ms > 0 {
		st.pacing.observe(w.Wall/w.Busy, ms, e.perProcess)
	}
}

// pacedFrom is how many elements a bundle that runs must have processed since it was looked at last: news tell of whole ones.
const pacedFrom = 3

// pacedSoFar notes what a bundle that runs tells of its elements.
func (s *Scheduler) pacedSoFar(b *Start, p *pace) {
	st := s.stages[b.Stage]
	e := s.envs[st.def.Env]
	if e == nil || b.Process == nowhere || st.def.Splittable != nil || b.Timers || b.Open || b.Limit > 0 {
		return
	}
	elements, level := p.done*float64(items(b.Blocks)), s.level(b)
	if p.seen.level == 0 { // before it had processed anything user code may have been set up
		if elements >= 1 {
			p.seen = sight{elements, level, p.at}
		}
		return
	}
	n, ms := elements-p.seen.elements, float64(p.at-p.seen.at)
	if n < pacedFrom && n >= 0 {
		return
	}
	if n > 0 && ms > 0 {
		st.pacing.observe(float64(level+p.seen.level)/2, ms/n, e.perProcess)
	}
	p.seen = sight{elements, level, p.at}
}

// atATime is how many elements a bundle of slow elements that wait should take, so that they share the free slots and none takes longer
// than bundles are kept open at most; 0: no bound.
func (s *Scheduler) atATime(st *stage) int {
	if !s.mayWait(st) {
		return 0
	}
	e := s.envs[st.def.Env]
	free := 0
	for p := range e.load {
		free += s.slots(e, st, p)
	}
	waiting := 0
	for i := range st.queues {
		for _, b := range st.queues[i].blocks[st.queues[i].head:] {
			waiting += b.Count
		}
	}
	share := (waiting + max(1, free) - 1) / max(1, free)
	return max(1, min(share, int(float64(s.bundleTimeMax())/st.pacing.latest)))
}

// cutMax bounds the parts that a block is cut into at a time.
const cutMax = 64

// cut asks to cut the first block of a stage whose elements are slow into what bundles should take.
func (s *Scheduler) cut(st *stage) *Cut {
	q := &st.queues[0]
	if st.def.Kind != plan.Harness || st.keyed || st.ordered || st.def.Splittable != nil || st.def.TimeSorted || s.scripted || q.len() == 0 ||
		s.envs[st.def.Env] == nil || len(st.suspects) > 0 || st.cutting || st.few > 0 || st.mapped > 0 && q.first().SideEnds == nil {
		return nil
	}
	n := s.atATime(st)
	blk := q.first()
	if n == 0 || blk.Count < 2*n {
		return nil
	}
	n = max(n, (blk.Count+cutMax-1)/cutMax)
	q.pop()
	st.cutting = true
	return &Cut{Stage: st.index, Block: blk, Elements: n}
}

// cutUp takes the parts of a block that was cut.
func (s *Scheduler) cutUp(ev WasCut) {
	st := s.stages[ev.Stage]
	st.cutting = false
	st.account(ev.Block, -1)
	for i := range ev.Parts {
		ev.Parts[i].SideEnds = ev.Block.SideEnds
		st.account(ev.Parts[i], 1)
	}
	s.giveBack(st, ev.Parts)
}

// watched says whether bundles of the stage should tell of their progress soon: it is not known yet how long their elements take, or they
// are slow and it is not known how many get on side by side.
func (s *Scheduler) watched(st *stage) bool {
	return st.pacing.seen < 2 || s.mayWait(st)
}

// worthSplitting is how long a bundle must have to go to be split.
func (s *Scheduler) worthSplitting(st *stage) int64 {
	if !s.mayWait(st) {
		return s.cfg.SplitLeftMs
	}
	return min(s.cfg.SplitLeftMs, int64(max(4*st.pacing.latest, quantumFixed*st.cost.fixed)))
}
