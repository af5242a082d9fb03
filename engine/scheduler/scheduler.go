package scheduler

import (
	"fmt"
	"slices"

	"padstone/engine/element"
	"padstone/engine/plan"
)

// Scheduler runs one job. Not for concurrent use.
type Scheduler struct {
	cfg      Config
	tuning   Tune
	plan     *plan.Plan
	stages   []*stage
	envs     map[plan.EnvID]*environment
	bundles  map[BundleID]*Start
	open     []*opened             // bundles in flight that take what comes, in the order in which they began
	depth    int                   // see harnessDepth
	paces    map[BundleID]*pace    // of bundles in flight that have told of their progress
	again    map[BundleID]*suspect // of bundles in flight that are run again
	scripted bool                  // there is a TestStream: what one event brings about must not be cut anew
	// sideFilled marks side edges that hold at least one element.
	sideFilled map[int]bool
	now        element.Time
	nextID     BundleID
	runner     int // grouping bundles in flight
	draining   bool
	settling   bool // no bundle is kept open
}

// New returns the scheduler of a job that has not begun.
func New(p *plan.Plan, c Config) *Scheduler {
	s := &Scheduler{
		cfg: c.withDefaults(), tuning: c.Tuning, plan: p, now: element.MinTime,
		envs: make(map[plan.EnvID]*environment), bundles: make(map[BundleID]*Start), sideFilled: make(map[int]bool),
		paces: make(map[BundleID]*pace), again: make(map[BundleID]*suspect),
	}
	byID := make(map[plan.StageID]*stage)
	edges := make(map[plan.EdgeID]int)
	for i, e := range p.Edges {
		edges[e.ID] = i
	}
	for i, def := range p.Stages {
		st := &stage{
			index: i, def: def, in: element.MinTime, out: element.MinTime, sourceWM: element.MinTime, retryAt: element.MinTime,
			cost: newCosts(), gap: gapMax * gapFixed * fixedGuess, arrivedAt: element.MinTime,
		}
		if def.Kind == plan.TestStream {
			s.scripted = true
			st.outputs = slices.Repeat([]element.Time{element.MinTime}, len(def.Outputs))
		}
		byID[def.ID] = st
		s.stages = append(s.stages, st)
	}
	for _, st := range s.stages {
		s.connect(st, byID, edges)
		st.ordered = s.cfg.InOrder && st.followsKeyed()
		if st.def.Unlifted != nil {
			s.startSlowly(st)
		}
	}
	s.depth = harnessDepth(s.stages)
	s.refresh()
	return s
}

// connect resolves the edges of a stage.
func (s *Scheduler) connect(st *stage, byID map[plan.StageID]*stage, edges map[plan.EdgeID]int) {
	groups := 1
	if st.def.Input != "" {
		e := s.plan.Edges[edges[st.def.Input]]
		st.keyed, st.spread = e.Kind == plan.Keyed, e.Spread
		st.batch = st.def.Kind == plan.Group && s.cfg.BatchGroup != nil && e.Bounded && s.cfg.BatchGroup(st.def)
		st.deferred = st.def.Kind == plan.Group && !st.batch && s.cfg.DeferGroup != nil && e.Bounded && s.cfg.DeferGroup(st.def)
		st.upstream = producers(e, byID)
	}
	if st.keyed {
		groups = s.plan.KeyGroups
		st.busy, st.heldData, st.heldTimers = make([]bool, groups), make([]bool, groups), make([]bool, groups)
		st.timers = make([]StageTimers, groups)
		for g := range st.timers {
			st.timers[g] = StageTimers{Event: NoTimer, Processing: NoTimer}
		}
	}
	st.queues = make([]queue, groups)
	for _, si := range st.def.SideInputs {
		sd := s.connectSide(si, edges[si.Edge], byID)
		if sd.mapped = -1; si.Map != nil {
			sd.mapped = st.mapped
			st.mapped++
		}
		st.sides = append(st.sides, sd)
	}
	for _, o := range st.def.Outputs {
		for _, id := range o.Edges {
			if e := s.plan.Edges[edges[id]]; e.Kind != plan.Side {
				st.consumers = append(st.consumers, byID[e.Consumer])
			}
		}
	}
}

// producers returns what puts elements on the edge.
func producers(e *plan.Edge, byID map[plan.StageID]*stage) []producer {
	var all []producer
	for _, id := range e.Producers {
		st := byID[id]
		if st.def.Kind != plan.TestStream {
			all = append(all, producer{stage: st})
			continue
		}
		for i, o := range st.def.Outputs {
			if slices.Contains(o.Edges, e.ID) {
				all = append(all, producer{st, i})
			}
		}
	}
	return all
}

// Step takes an event that happened at now and returns what to start. now must not go back; if the clock does, the scheduler's
// time stands still.
func (s *Scheduler) Step(now element.Time, ev Event) ([]Action, error) {
	s.now = max(s.now, now)
	var actions []Action
	switch ev := ev.(type) {
	case Tick:
	case Restored:
		s.restore(ev)
	case Moved:
		s.moved(ev)
	case Capacity:
		s.capacity(ev)
	case Committed:
		if err := s.committed(ev); err != nil {
			return nil, err
		}
	case Failed:
		if err := s.failed(ev); err != nil {
			return nil, err
		}
	case Connected:
		s.connected(ev)
	case Progressed:
		s.progressed(ev)
	case Divided:
		if err := s.divided(ev); err != nil {
			return nil, err
		}
	case Undivided:
		s.undivided(ev)
	case Mapped:
		s.mapped(ev)
	case Drain:
		s.drain()
	case WasCut:
		s.cutUp(ev)
	case Settle:
		s.settling = ev.On
	case Tune:
		s.tuning = ev
	default:
		return nil, fmt.Errorf("scheduler: unknown event %T", ev)
	}
	s.refresh()
	if s.draining {
		actions = s.dropUntruncatable(actions)
		s.refresh()
	}
	actions = s.startAll(s.mapWindows(actions))
	if _, ok := ev.(Progressed); ok {
		actions = s.split(actions)
	}
	return actions, nil
}

// Done says that the job has nothing left to do.
func (s *Scheduler) Done() bool {
	for _, st := range s.stages {
		if !st.idle() {
			return false
		}
	}
	return true
}

// NextWake returns the processing time at which a Tick will make a difference; NoTimer when none will.
func (s *Scheduler) NextWake() element.Time {
	next := NoTimer
	if at := s.OpenUntil(); at != NoTimer {
		next = min(next, max(at, s.now.Add(1)))
	}
	for _, st := range s.stages {
		if _, processing := st.nextTimer(); processing > s.now {
			next = min(next, processing)
		}
		if len(st.delayed) > 0 {
			next = min(next, st.delayed[0].AvailableAt)
		}
		if st.retryAt > s.now {
			next = min(next, st.retryAt)
		}
		for _, sp := range st.suspects {
			if sp.retryAt > s.now && !sp.running {
				next = min(next, sp.retryAt)
			}
		}
	}
	return next
}

func (s *Scheduler) refresh() {
	for _, st := range s.stages {
		st.release(s.now, s.draining)
		st.refresh()
	}
}

func (s *Scheduler) restore(ev Restored) {
	for _, b := range ev.Blocks {
		s.stages[b.Stage].receive(b.Block, s.now)
		s.startSlowly(s.stages[b.Stage])
	}
	for _, h := range ev.Holds {
		s.stages[h.Stage].holds.Load(h.Holds)
	}
	for _, t := range ev.Timers {
		s.stages[t.Stage].timers[t.Group] = t
		if t.Event != NoTimer || t.Processing != NoTimer {
			s.startSlowly(s.stages[t.Stage])
		}
	}
	for _, w := range ev.Watermarks {
		st := s.stages[w.Stage]
		st.in, st.sourceWM = max(st.in, w.Watermark), max(st.sourceWM, w.Watermark)
	}
	for _, i := range ev.Done {
		s.stages[i].done = true
	}
	for _, o := range ev.Outputs {
		copy(s.stages[o.Stage].outputs, o.Watermarks)
	}
	for _, e := range ev.SideReady {
		s.sideFilled[e] = true
	}
	if ev.Draining {
		s.drain()
	}
}

func (s *Scheduler) committed(ev Committed) error {
	b, st, err := s.finish(ev.Bundle)
	if err != nil {
		return err
	}
	st.consumed(without(b.Blocks, ev.Returned))
	if ev.Rest != nil {
		st.account(*ev.Rest, 1)
	}
	s.cleared(st, b, ev.Rest)
	s.quicken(st)
	if st.def.Kind == plan.Harness {
		s.proved(st.def.Env)
		if !b.Timers {
			st.worked(ev.Work)
			s.paced(st, b, ev.Work)
		}
	}
	s.giveBack(st, ev.Returned)
	st.retryAt = element.MinTime
	s.arrive(ev.Added)
	for _, e := range ev.SideAdded {
		s.sideFilled[e] = true
	}
	for _, h := range ev.Holds {
		if st.holds.Add(h.At, h.Delta) < 0 {
			return fmt.Errorf("scheduler: stage %q released a hold at %v that it did not have", st.def.Name, h.At)
		}
	}
	for _, t := range ev.Timers {
		st.timers[t.Group] = t
	}
	switch st.def.Kind {
	case plan.Source, plan.Impulse:
		st.sourceWM = max(st.sourceWM, ev.Watermark)
		st.done = st.done || ev.Done
	case plan.TestStream:
		for i, w := range ev.Outputs {
			st.outputs[i] = max(st.outputs[i], w)
		}
		st.done = st.done || ev.Done
	}
	return nil
}

// arrive puts what a commit has added into the inboxes.
func (s *Scheduler) arrive(added []StageBlock) {
	came := make([]bool, len(s.stages))
	for _, a := range added {
		st := s.stages[a.Stage]
		if st.receive(a.Block, s.now); !came[a.Stage] {
			came[a.Stage] = true
			s.arrived(st)
		}
	}
}

// giveBack puts blocks that a bundle had back in front of their queues.
func (s *Scheduler) giveBack(st *stage, blocks []Block) {
	byQueue := make(map[*queue][]Block)
	var order []*queue
	for _, blk := range blocks {
		q := st.queueOf(blk.Group)
		if byQueue[q] == nil {
			order = append(order, q)
		}
		byQueue[q] = append(byQueue[q], blk)
	}
	for _, q := range order {
		q.unshift(byQueue[q])
		if st.ordered {
			q.sort()
		}
	}
}

// without returns the blocks that are not among the others.
func without(blocks, others []Block) []Block {
	if len(others) == 0 {
		return blocks
	}
	drop := make(map[uint64]bool, len(others))
	for _, b := range others {
		drop[b.Seq] = true
	}
	return slices.DeleteFunc(slices.Clone(blocks), func(b Block) bool { return drop[b.Seq] })
}

// finish gives back what a bundle owned.
func (s *Scheduler) finish(id BundleID) (*Start, *stage, error) {
	b := s.bundles[id]
	if b == nil {
		return nil, nil, fmt.Errorf("scheduler: bundle %d is not in flight", id)
	}
	delete(s.bundles, id)
	delete(s.paces, id)
	s.forgetOpen(b)
	st := s.stages[b.Stage]
	st.running--
	st.broken = st.broken && st.running > 0
	if st.keyed {
		for _, g := range b.Groups {
			st.busy[g] = false
		}
	}
	switch st.def.Kind {
	case plan.Harness:
		s.count(st, b, -1)
	case plan.Group:
		s.runner--
	}
	return b, st, nil
}
