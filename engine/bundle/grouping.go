package bundle

import (
	"errors"
	"iter"

	"padstone/engine/element"
	"padstone/engine/group"
	"padstone/engine/plan"
	"padstone/engine/profile"
	"padstone/engine/scheduler"
	"padstone/engine/store"
	"padstone/engine/timer"
	"padstone/internal/fault"
)

// flushBytes bounds the blocks that a Group stage puts out.
const flushBytes = 1 << 20

// NewMachines makes the grouping machines of a job, by stage index.
func NewMachines(j *Job) (map[int]*group.Machine, error) {
	machines := make(map[int]*group.Machine)
	for _, s := range j.Stages {
		if s.Def.Kind != plan.Group {
			continue
		}
		m, err := group.New(s.Def.Windowing, s.input.value)
		if err != nil {
			return nil, fault.Named(err, s.Def.Name)
		}
		if s.compact != nil {
			m = m.Compacting()
		}
		machines[s.Index] = m
	}
	return machines, nil
}

// Group runs a bundle of a Group stage: due timers, waiting elements, or, for a bounded input at its end, all elements of some key
// groups at once. merge merges windows if the SDK has to, combine accumulators if it can.
func (r *Runner) Group(start *scheduler.Start, merge group.Merger, combine group.Combiner, w *profile.Watch) (*Result, error) {
	merge, combine = timed(merge, w), timed(combine, w)
	st := r.Job.Stages[start.Stage]
	g := &grouping{
		runner: r, stage: st, start: start, machine: r.Machines[start.Stage], router: r.newRouter(),
		watch: w, combine: combine, env: group.Env{InputWatermark: start.InputWatermark, OutputWatermark: start.OutputWatermark, Now: start.Now},
	}
	switch {
	case start.Deferred && start.Timers:
		g.env = group.Ending()
	case start.Deferred:
		g.env = group.Collecting()
	case start.AllTimers:
		g.env.Now = element.MaxTime
	}
	g.env.Merge = merge
	ahead := r.Store.WriteAhead()
	g.result.held.pool = r.Memory.Outputs
	g.router.writeAhead(ahead, &g.result.held)
	g.router.aside = newAside(w)
	g.out.Flush, g.out.FlushBytes = g.flush, flushBytes
	if st.feedsStateBacked() {
		g.out.Contents = ahead
	}
	g.result.Commit = store.Commit{Stage: uint32(start.Stage), Consumed: consumed(start), Ahead: ahead}
	if err := g.run(); err != nil {
		g.result.Discard()
		return nil, err
	}
	return &g.result, nil
}

type grouping struct {
	runner  *Runner
	stage   *Stage
	start   *scheduler.Start
	machine *group.Machine
	env     group.Env
	combine group.Combiner
	router  *router
	watch   *profile.Watch
	out     group.Output
	result  Result
}

func (g *grouping) run() error {
	if g.start.Final {
		if err := g.final(); err != nil {
			return err
		}
	} else if err := g.streaming(); err != nil {
		return err
	}
	if err := g.flush(g.out.Block, g.out.Backed); err != nil {
		return err
	}
	g.router.fill(&g.result.Commit)
	g.result.ElementsOut = g.router.count
	g.result.DroppedLate, g.result.DroppedClosed = g.out.DroppedLate, g.out.DroppedClosed
	return nil
}

// streaming keeps elements in rows and fires by trigger.
func (g *grouping) streaming() error {
	g.result.Commit.Rows = g.runner.Store.Begin(uint32(g.start.Stage))
	txs := newTransactions(g.result.Commit.Rows, g.runner.Job.Plan.KeyGroups, g.start.Groups)
	if g.start.Timers {
		if err := g.fire(txs); err != nil {
			return err
		}
	}
	for _, blocks := range byGroup(g.start.Blocks) {
		data, err := g.concat(blocks)
		if err != nil {
			return err
		}
		if err := g.machine.Process(txs.byID[blocks[0].Group], data, g.env, &g.out); err != nil {
			return err
		}
	}
	err := g.machine.Compact(g.out.Stale, g.combine)
	if err == nil {
		g.result.Timers, err = nextTimers(txs, g.start.Stage, g.start.Groups)
	}
	return err
}

// fire hands the due timers of the key groups to the machine, which removes them.
func (g *grouping) fire(txs *transactions) error {
	return eachDue(txs, g.start, g.start.InputWatermark, g.env.Now, func(id uint16, due []timer.Fired) error {
		return g.machine.Timers(txs.byID[id], due, g.env, &g.out)
	})
}

// final groups all elements of each key group.
func (g *grouping) final() (err error) {
	scratch := g.runner.Store.Scratch()
	defer func() { err = errors.Join(err, scratch.Close()) }()
	room := held{pool: g.runner.Memory.Groups}
	defer room.release()
	budget := group.Budget{BytesMax: g.room(&room), Scratch: scratch, Spare: &group.Spare{}}
	for _, blocks := range byGroup(g.start.Blocks) {
		if err := g.machine.GroupAll(g.load(blocks), budget, &g.out); err != nil {
			return err
		}
	}
	return nil
}

// room takes what grouping may hold in memory; the rest is sorted in files. A job alone gets half of the pool for each of two groupings.
func (g *grouping) room(h *held) int {
	const least = 4 << 20
	for n := int(h.pool.Max() / 2); n > least; n /= 2 {
		if h.try(n) {
			return n
		}
	}
	return least // which everybody has, granted or not
}

// byGroup cuts blocks into runs of one key group. Key groups come one after another in a bundle.
func byGroup(blocks []scheduler.Block) [][]scheduler.Block {
	var runs [][]scheduler.Block
	for len(blocks) > 0 {
		n := 1
		for n < len(blocks) && blocks[n].Group == blocks[0].Group {
			n++
		}
		runs = append(runs, blocks[:n])
		blocks = blocks[n:]
	}
	return runs
}

// concat returns the elements of the blocks as one: the machine then evaluates each trigger once.
func (g *grouping) concat(blocks []scheduler.Block) ([]byte, error) {
	var all []byte
	for data, err := range g.load(blocks) {
		if err != nil {
			return nil, err
		}
		if len(blocks) == 1 {
			return data, nil
		}
		all = append(all, data...)
	}
	return all, nil
}

func (g *grouping) load(blocks []scheduler.Block) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, b := range blocks {
			g.result.ElementsIn += int64(b.Count)
			g.watch.To(profile.Process)
			data, err := g.runner.Load(g.start.Stage, b)
			if g.watch.To(profile.Load); !yield(data, err) {
				return
			}
		}
	}
}

// flush hands emitted panes to the consumers.
func (g *grouping) flush(b element.Block, backed []group.Backed) error {
	g.watch.To(profile.Process)
	defer g.routed()
	for _, o := range g.stage.outputs {
		if err := g.router.writeBacked(o, b.Data, backed); err != nil {
			return err
		}
	}
	return nil
}

// routed says that the time until now went into output, or into what of it was written ahead.
func (g *grouping) routed() {
	if g.watch != nil {
		g.watch.To(profile.Route)
		g.watch.Shift(profile.Route, profile.Commit, g.router.aside.ahead.take())
	}
}

// timed is a call to the harness with the time that it takes; nil for none.
func timed[In, Out any](call func(In) (Out, error), w *profile.Watch) func(In) (Out, error) {
	if call == nil {
		return nil
	}
	return func(in In) (Out, error) {
		w.To(profile.Process)
		defer w.To(profile.Harness)
		return call(in)
	}
}
