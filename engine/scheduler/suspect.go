package scheduler

import (
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// Blame says what a failed bundle's input has to do with its failure.
type Blame uint8

const (
	// NoBlame: something outside failed. The stage waits, and its blocks go to whatever bundles come then.
	NoBlame Blame = iota
	// UserCode raised: an element of the input may be the reason, which halving finds.
	UserCode
	// WrongAnswer: the harness broke the protocol. The same input runs again as it is.
	WrongAnswer
	// LostHarness: the harness went away with the bundle. Most likely the input has nothing to do with it, unless it happens again.
	LostHarness
)

// suspectsMax is how many inputs of a stage are run again by themselves, because user code failed on them, before the stage gets no
// others: user code that fails on everything fails few bundles.
const suspectsMax = 4

// lossesMax is how often an input may lose its harness before it is run on a process of its own, and halved.
const lossesMax = 3

// suspect is the input of a bundle that failed. It is run again by itself, from its beginning, less and less of it until an element is
// alone: what succeeds is committed, and what failed last always starts with the next element to run. Blocks of its key groups wait.
type suspect struct {
	timers bool     // due timers of groups; else blocks
	groups []uint16 // of what is left
	blocks []Block  // in their order
	whole  bool     // it cannot be halved
	// failed are the attempts that failed on the element which comes next, the largest input first.
	failed  []attempt
	last    int // items of the last attempt, if that failed
	times   int // how often such an attempt has failed in a row
	raised  int // how often of these in user code
	retryAt element.Time
	wait    int64 // milliseconds from the last failure to retryAt
	proved  bool  // bundles have been committed since then by harnesses of the environment
	running bool
}

// attempt tells how often bundles failed that held the next so many items of a suspect.
type attempt struct {
	items                 int
	raised, wrong, losses int
}

// totals sums up the failures that the next item was part of.
func (sp *suspect) totals() (sum attempt) {
	for _, a := range sp.failed {
		sum.raised, sum.wrong, sum.losses = sum.raised+a.raised, sum.wrong+a.wrong, sum.losses+a.losses
	}
	return sum
}

// limit is how many items the next bundle takes.
func (sp *suspect) limit() int {
	last := sp.failed[len(sp.failed)-1].items
	if sp.whole || !sp.halving() {
		return last
	}
	half := (last + 1) / 2
	sum := 0
	for _, b := range sp.blocks { // whole blocks need not be written again
		if sum+b.Count > half {
			break
		}
		sum += b.Count
	}
	if sum > 0 {
		return sum
	}
	return half
}

// halving says that the input is so suspicious that less of it is run.
func (sp *suspect) halving() bool {
	if sp == nil {
		return false
	}
	t := sp.totals()
	return t.raised > 0 || t.losses >= lossesMax
}

// lonely says that the suspect runs on a process without other bundles, which it would take along.
func (sp *suspect) lonely() bool { return sp.totals().losses >= lossesMax }

// fail notes another failure of the next items.
func (sp *suspect) fail(items int, blame Blame) {
	if n := len(sp.failed); n == 0 || sp.failed[n-1].items > items {
		sp.failed = append(sp.failed, attempt{items: items})
	}
	if sp.last != items {
		sp.last, sp.times, sp.raised = items, 0, 0
	}
	sp.times++
	a := &sp.failed[len(sp.failed)-1]
	switch blame {
	case UserCode:
		a.raised++
		sp.raised++
	case WrongAnswer:
		a.wrong++
	case LostHarness:
		a.losses++
	}
}

// succeed takes items off that were committed.
func (sp *suspect) succeed(items int) {
	sp.last, sp.times, sp.raised = 0, 0, 0
	for i := range sp.failed {
		sp.failed[i].items -= items
	}
	sp.failed = slices.DeleteFunc(sp.failed, func(a attempt) bool { return a.items <= 0 })
}

func items(blocks []Block) (n int) {
	for _, b := range blocks {
		n += b.Count
	}
	return n
}

// suspectOf makes a suspect of the input of a bundle that was none.
func (s *Scheduler) suspectOf(st *stage, b *Start) *suspect {
	sp := &suspect{timers: b.Timers, groups: b.Groups, blocks: b.Blocks, whole: st.def.Kind != plan.Harness || s.scripted}
	st.suspects = append(st.suspects, sp)
	st.hold(sp, true)
	return sp
}

// failed puts the inputs of a bundle back in front of their queues, or makes them a suspect.
func (s *Scheduler) failed(ev Failed) error {
	b, st, err := s.finish(ev.Bundle)
	if err != nil {
		return err
	}
	st.broken = st.ordered && st.running > 0
	sp := s.again[ev.Bundle]
	delete(s.again, ev.Bundle)
	if ev.Blame == NoBlame || st.def.Kind != plan.Harness && st.def.Kind != plan.Group {
		st.retryAt = max(st.retryAt, ev.RetryAt)
		if sp == nil {
			s.giveBack(st, b.Blocks)
			return nil
		}
		sp.running = false
		return nil
	}
	n := b.Limit
	if sp == nil {
		sp = s.suspectOf(st, b)
		if n == 0 {
			n = items(b.Blocks)
		}
	}
	if sp.timers && ev.Items > 0 && (n == 0 || ev.Items < n) {
		n = ev.Items
	}
	sp.fail(max(n, 1), ev.Blame)
	sp.running, sp.retryAt = false, ev.RetryAt
	sp.proved, sp.wait = false, int64(ev.RetryAt-s.now)
	if !st.keyed && !sp.whole {
		s.setAside(st, sp, ev.Parts)
	}
	return nil
}

// setAside lets everything go that is behind the blocks in which the failure is: where order does not matter, it need not wait. parts
// replace the first block, and the second of them need not wait either.
func (s *Scheduler) setAside(st *stage, sp *suspect, parts []Block) {
	if len(parts) > 0 {
		st.account(sp.blocks[0], -1)
		for i := range parts {
			parts[i].SideEnds = sp.blocks[0].SideEnds
			st.account(parts[i], 1)
		}
		sp.blocks = append(slices.Clone(parts), sp.blocks[1:]...)
	}
	n, left := 0, sp.failed[len(sp.failed)-1].items
	for n < len(sp.blocks) && left > 0 {
		left -= sp.blocks[n].Count
		n++
	}
	s.giveBack(st, sp.blocks[n:])
	sp.blocks = sp.blocks[:n]
	for i := range sp.failed {
		sp.failed[i].items = min(sp.failed[i].items, items(sp.blocks))
	}
}

// taken is how many of the suspect's blocks its bundle has, the last maybe in part.
func (sp *suspect) taken(b *Start) int {
	n, left := 0, b.Limit
	for n < len(sp.blocks) && left > 0 {
		left -= sp.blocks[n].Count
		n++
	}
	return n
}

// cleared takes what a suspect's bundle has committed off the suspect. Once no failure is left that what remains was part of, it is
// no suspect any more. rest is the block, if any, of which the bundle took a part.
func (s *Scheduler) cleared(st *stage, b *Start, rest *Block) {
	sp := s.again[b.Bundle]
	if sp == nil {
		if rest != nil { // the stage starts slowly
			rest.SideEnds = b.Blocks[len(b.Blocks)-1].SideEnds
			s.giveBack(st, []Block{*rest})
		}
		return
	}
	delete(s.again, b.Bundle)
	sp.running, sp.retryAt = false, element.MinTime
	sp.succeed(b.Limit)
	if !sp.timers {
		st.hold(sp, false)
		n := sp.taken(b)
		if rest != nil {
			n--
			rest.SideEnds = sp.blocks[n].SideEnds
			sp.blocks = append([]Block{*rest}, sp.blocks[n+1:]...)
		} else {
			sp.blocks = sp.blocks[n:]
		}
		sp.groups = groupsOf(sp.blocks)
		st.hold(sp, true)
	}
	if len(sp.failed) == 0 || !sp.timers && len(sp.blocks) == 0 {
		s.acquit(st, sp)
	}
}

// divideSuspect leaves a suspect's bundle that was split what it kept.
func (s *Scheduler) divideSuspect(b *Start, kept []Block) {
	sp := s.again[b.Bundle]
	if sp == nil {
		return
	}
	sp.blocks = append(slices.Clone(kept), sp.blocks[sp.taken(b):]...)
	gone := b.Limit - items(kept)
	for i := range sp.failed {
		sp.failed[i].items = max(1, sp.failed[i].items-gone)
	}
	b.Limit = max(1, items(kept))
}

// groupsOf lists the key groups of blocks, each once.
func groupsOf(blocks []Block) (groups []uint16) {
	for _, b := range blocks {
		if !slices.Contains(groups, b.Group) {
			groups = append(groups, b.Group)
		}
	}
	return groups
}

// acquit lets go of a suspect: what it holds waits like anything else.
func (s *Scheduler) acquit(st *stage, sp *suspect) {
	st.suspects = slices.DeleteFunc(st.suspects, func(o *suspect) bool { return o == sp })
	st.hold(sp, false)
	s.giveBack(st, sp.blocks)
}

// hold keeps ordinary bundles from what comes behind the suspect in its key groups, or no longer. Suspects with data, and those of timers,
// have no key groups in common.
func (st *stage) hold(sp *suspect, held bool) {
	if !st.keyed {
		return
	}
	of := st.heldData
	if sp.timers {
		of = st.heldTimers
	}
	for _, g := range sp.groups {
		of[g] = held
	}
}

// crowded says that the stage has so many suspects that it gets no other data. One is enough where order counts.
func (st *stage) crowded() bool {
	if st.ordered && len(st.suspects) > 0 {
		return true
	}
	n := 0
	for _, sp := range st.suspects {
		if sp.totals().raised > 0 {
			n++
		}
	}
	return n >= suspectsMax
}
