package translate

import (
	"math/big"
	"slices"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// stage is a stage in the making.
type stage struct {
	index int // in order of creation
	kind  plan.StageKind
	env   plan.EnvID
	nodes []*node
	input *pcollection // nil for impulses and sources
	above big.Int      // bitset of the indices of all stages that this one depends on

	id     plan.StageID
	plan   *plan.Stage
	writes []*write
	// Nodes that do nothing but assign windows, which the runner does in their place: those of nodes that no bundle needs, or none without
	// tables of lifted combines, and such as stood alone between this stage and the next.
	left, leftUnlifted map[*node]bool
	passed             []*node
	edges              []*plan.Edge // that it reads
	// stateBacked says that the iterables of the main input may be tokens.
	stateBacked bool
}

// rooted reports whether the stage has a root that wants its input for itself.
func (s *stage) rooted() bool { return s.nodes[0].root() }

// fuser puts nodes into stages, one by one in topological order. A node joins the stage that produces its main input, else a stage
// that reads the same collection from an edge, else it starts a stage of its own: what can fuse does, the rest is materialised.
//
// Joining must not make a stage depend on itself. As everything above a node is placed before it, only its side inputs can do
// that: a side input must not come from the stage, nor from one below it. Without fusion every node starts a stage of its own.
type fuser struct {
	*graph
	stageOf  map[*node]*stage
	byInput  map[*pcollection][]*stage
	inWindow map[*pcollection]bool // in the same windows as the input of the stage that computes it
	depth    map[*node]int         // how many steps of its stage an element has come through when it has passed this one
}

// depthMax is the most steps that a stage has one after another. The Python SDK makes the steps of a bundle by recursion, with four calls
// a step, and its interpreter ends a recursion after a thousand; other SDKs have stacks that end somewhere. What a longer
// chain costs is that elements are written once for every hundred steps.
const depthMax = 100

func (g *graph) fuse() error {
	f := &fuser{
		graph:    g,
		stageOf:  map[*node]*stage{},
		byInput:  map[*pcollection][]*stage{},
		inWindow: map[*pcollection]bool{},
		depth:    map[*node]int{},
	}
	for _, n := range g.nodes {
		if err := f.place(n); err != nil {
			return in(err, n.user)
		}
	}
	g.stages = f.sorted()
	return f.assign()
}

func (f *fuser) place(n *node) error {
	switch n.kind {
	case flattenNode:
		return f.placeFlatten(n)
	case reshuffleNode:
		return f.makeJunction(n)
	case sdkNode:
		f.placeInHarness(n)
	case impulseNode:
		f.start(n, plan.Impulse)
	case sourceNode:
		f.start(n, plan.Source)
	case groupNode:
		f.start(n, plan.Group)
	case sinkNode:
		f.start(n, plan.Sink)
	case testStreamNode:
		return f.placeTestStream(n)
	}
	return nil
}

func (f *fuser) placeInHarness(n *node) {
	if !n.root() && !f.options.NoFusion {
		if s := f.producerFor(n); s != nil {
			f.join(s, n)
			return
		}
		if s := f.siblingFor(n); s != nil {
			f.join(s, n)
			return
		}
	}
	f.start(n, plan.Harness)
}

// producerFor returns the stage that computes the node's main input, if the node may join it.
func (f *fuser) producerFor(n *node) *stage {
	main := n.main[0].pc
	if main.junction || f.isCut(main) || f.spreads(main) {
		return nil
	}
	s := f.stageOf[main.producer]
	if s.kind != plan.Harness || s.env != n.env || f.depth[main.producer] >= depthMax || f.conflict(s, n) {
		return nil
	}
	// The engine waits for side inputs by the windows of a stage's input, so those must be the windows of the node's own input.
	if len(n.sides) > 0 && !f.inWindow[main] {
		return nil
	}
	return s
}

// siblingFor returns a stage that reads the node's main input from an edge, if the node may join it.
func (f *fuser) siblingFor(n *node) *stage {
	if f.isCut(n.main[0].pc) {
		return nil
	}
	for _, s := range f.byInput[n.main[0].pc] {
		if s.kind == plan.Harness && s.env == n.env && !s.rooted() && !f.conflict(s, n) {
			return s
		}
	}
	return nil
}

// isCut reports whether every reader of a collection reads it from an edge of its own.
func (f *fuser) isCut(pc *pcollection) bool {
	return len(f.options.Cut) > 0 && slices.Contains(f.options.Cut, pc.durableName())
}

// spreads reports whether a collection is what a step makes of an impulse, and is to be shared out.
func (g *graph) spreads(pc *pcollection) bool {
	n := pc.producer
	return g.options.Spread && n != nil && n.kind == sdkNode && n.urn == urn.ParDo && len(n.main) == 1 &&
		n.main[0].pc.producer != nil && n.main[0].pc.producer.kind == impulseNode
}

// conflict reports whether a side input of the node comes from the stage or from below it.
func (f *fuser) conflict(s *stage, n *node) bool {
	for _, side := range n.sides {
		for _, pc := range side.source().from() {
			if q := f.stageOf[pc.producer]; q == s || q.above.Bit(s.index) == 1 {
				return true
			}
		}
	}
	return false
}

// start puts the node at the head of a new stage.
func (f *fuser) start(n *node, kind plan.StageKind) {
	s := &stage{index: len(f.stages), kind: kind}
	if kind == plan.Harness {
		s.env = n.env
	}
	f.stages = append(f.stages, s)
	if len(n.main) > 0 {
		s.input = n.main[0].pc
		f.byInput[s.input] = append(f.byInput[s.input], s)
		f.depend(s, s.input)
	}
	f.join(s, n)
}

// join puts the node at the end of a stage.
func (f *fuser) join(s *stage, n *node) {
	s.nodes = append(s.nodes, n)
	f.stageOf[n] = s
	for _, side := range n.sides {
		f.depend(s, side.source())
	}
	inWindow, depth := true, 0
	for _, in := range n.main {
		inWindow = inWindow && (in.pc == s.input || f.inWindow[in.pc])
		if in.pc != s.input {
			depth = max(depth, f.depth[in.pc.producer])
		}
	}
	f.depth[n] = depth + 1
	for _, out := range n.outputs {
		f.inWindow[out.pc] = inWindow && n.urn != urn.AssignWindows && f.keepsWindows(n, out.pc)
	}
}

// keepsWindows reports whether an output is declared to be in the same windows as the main input.
func (f *fuser) keepsWindows(n *node, out *pcollection) bool {
	for _, in := range n.main {
		w := in.pc.windows
		if w.Kind != out.windows.Kind || w.SizeMs != out.windows.SizeMs || w.PeriodMs != out.windows.PeriodMs ||
			w.OffsetMs != out.windows.OffsetMs {
			return false
		}
	}
	return true
}

// depend records that a stage reads a collection, for itself and for every stage below it.
func (f *fuser) depend(s *stage, pc *pcollection) {
	for _, from := range pc.from() {
		q := f.stageOf[from.producer]
		if s.above.Bit(q.index) == 1 {
			continue
		}
		for _, d := range f.stages {
			if d == s || d.above.Bit(s.index) == 1 {
				d.above.SetBit(&d.above, q.index, 1)
				d.above.Or(&d.above, &q.above)
			}
		}
	}
}

// sorted returns the stages in topological order; among independent ones the order of creation stands. The order is by the number
// of the highest stage above: a stage that is above another one has all of its own above it, too, so depth-first works.
func (f *fuser) sorted() []*stage {
	sorted := make([]*stage, 0, len(f.stages))
	placed := make([]bool, len(f.stages))
	var place func(s *stage)
	place = func(s *stage) {
		if placed[s.index] {
			return
		}
		placed[s.index] = true
		for _, q := range f.stages {
			if s.above.Bit(q.index) == 1 {
				place(q)
			}
		}
		sorted = append(sorted, s)
	}
	for _, s := range f.stages {
		place(s)
	}
	return sorted
}
