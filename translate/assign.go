package translate

import (
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// assignment has the runner assign the windows of a collection.
type assignment struct {
	local    *pcollection // is written in the collection's place
	in       *pcollection // in the windows of this one
	window   string       // wire coder of those
	unlifted bool         // only in bundles without the tables of lifted combines; else the collection itself is written
	plan     *plan.Assignment
}

// on adds the assignment, if it is one, to those of edges.
func (a *assignment) on(id plan.EdgeID, all map[plan.EdgeID]*plan.Assignment) map[plan.EdgeID]*plan.Assignment {
	switch {
	case a.plan == nil:
		return all
	case all == nil:
		all = map[plan.EdgeID]*plan.Assignment{}
	}
	all[id] = a.plan
	return all
}

// windowsMax bounds the windows of an element that the runner assigns.
const windowsMax = 1000

// assign takes the steps that do nothing but assign windows out of harnesses, where what they put out goes over an edge: the runner copies
// it there anyway. Between such a step and the edge there may be one that makes accumulators of elements. Only steps of the Python SDK are
// taken, which spends several microseconds on an element; others have arithmetic of their own before 1970 and at the end of time.
func (f *fuser) assign() error {
	if f.options.NoAssignment || f.options.NoFusion { // such a step is fused with the edge
		return nil
	}
	a := &assigner{fuser: f, written: map[*pcollection]bool{}}
	for _, s := range slices.Clone(f.stages) {
		for _, n := range slices.Clone(s.nodes) {
			if err := a.take(s, n); err != nil {
				return in(err, n.user)
			}
		}
	}
	return nil
}

// assigner is the pass. A collection that is written in the place of another one has to be computed.
type assigner struct {
	*fuser
	written map[*pcollection]bool
}

// take has the runner assign the windows of a step, if it can.
func (a *assigner) take(s *stage, n *node) error {
	if n.urn != urn.AssignWindows || !a.assignable(n) {
		return nil
	}
	out := n.outputs[0].pc
	readers, leaves := readersIn(s, out), a.leaves(out)
	switch makes := a.accumulators(s, readers); {
	case len(readers) == 0 && n.main[0].pc == s.input:
		return a.bypass(s, n)
	case len(readers) == 0 && leaves:
		s.leave(n, false)
		return a.instead(n, out, n.main[0].pc, false)
	case len(readers) > 0 && !leaves && makes != "":
		unlifted := makes == urn.CombinePrecombine
		for _, r := range readers {
			if err := a.instead(n, r.outputs[0].pc, r.outputs[0].pc, unlifted); err != nil {
				return err
			}
		}
		s.leave(n, unlifted)
	}
	return nil
}

// leave marks a step as one that no bundle needs, or none without tables.
func (s *stage) leave(n *node, unlifted bool) {
	m := &s.left
	if unlifted {
		m = &s.leftUnlifted
	}
	if *m == nil {
		*m = map[*node]bool{}
	}
	(*m)[n] = true
}

// instead has a collection be written in the place of another one, in the windows that a step has its input in.
func (a *assigner) instead(n *node, out, local *pcollection, unlifted bool) error {
	made, err := a.assignment(n, local)
	if err != nil {
		return err
	}
	made.unlifted = unlifted
	out.assigned = made
	a.written[local] = true
	return nil
}

func (a *assigner) assignment(n *node, local *pcollection) (*assignment, error) {
	in := n.main[0].pc
	window, coding, err := a.coders.window(a.components.GetWindowingStrategies()[in.proto.GetWindowingStrategyId()].GetWindowCoderId())
	return &assignment{local: local, in: in, window: window, plan: &plan.Assignment{
		PCollection: n.outputs[0].pc.id, Windowing: n.outputs[0].pc.windows, From: coding,
	}}, err
}

// assignable reports whether a step assigns windows that the runner can assign as the SDK does, to elements in one window each.
func (a *assigner) assignable(n *node) bool {
	in, out := n.main[0].pc, n.outputs[0].pc
	if len(n.outputs) != 1 || a.written[out] || !a.envs.sdk(n.env, "python") {
		return false
	}
	if k := in.windows.Kind; k != plan.Global && k != plan.Fixed && k != plan.Sessions {
		return false
	}
	strategy := a.components.GetWindowingStrategies()[out.proto.GetWindowingStrategyId()]
	var own pipepb.WindowingStrategy // or a WindowIntoPayload, with the function in the same place
	if proto.Unmarshal(n.proto.GetSpec().GetPayload(), &own) != nil || !proto.Equal(own.GetWindowFn(), strategy.GetWindowFn()) {
		return false
	}
	switch w := out.windows; w.Kind {
	case plan.Fixed, plan.Sessions:
		return true
	case plan.Global:
		return strategy.GetWindowFn().GetUrn() == urn.GlobalWindows
	case plan.Sliding:
		return w.SizeMs/w.PeriodMs < windowsMax
	default:
		return false
	}
}

// readersIn lists the steps of a stage that read a collection within it.
func readersIn(s *stage, pc *pcollection) []*node {
	var all []*node
	for _, n := range s.nodes {
		if slices.ContainsFunc(n.main, func(in input) bool { return in.pc == pc }) {
			all = append(all, n)
		}
	}
	return all
}

// leaves reports whether some stage reads a collection from an edge.
func (a *assigner) leaves(pc *pcollection) bool {
	return slices.ContainsFunc(a.stages, func(s *stage) bool {
		return slices.ContainsFunc(s.reads(), func(read *pcollection) bool { return slices.Contains(read.from(), pc) })
	})
}

// reads lists the collections that a stage reads from edges.
func (s *stage) reads() []*pcollection {
	var all []*pcollection
	if s.input != nil {
		all = append(all, s.input)
	}
	for _, n := range s.nodes {
		for _, side := range n.sides {
			all = append(all, side.source())
		}
	}
	return all
}

// accumulators returns the URN of steps that make accumulators of all that they read, and what they put out leaves the stage; or "".
func (a *assigner) accumulators(s *stage, readers []*node) string {
	made := ""
	for _, r := range readers {
		if r.urn != urn.CombinePrecombine && r.urn != urn.CombineConvert || made != "" && r.urn != made {
			return ""
		}
		if len(r.main) != 1 || len(r.outputs) != 1 || len(readersIn(s, r.outputs[0].pc)) > 0 || a.written[r.outputs[0].pc] {
			return ""
		}
		made = r.urn
	}
	return made
}

// bypass has what comes to a stage for a step that assigns windows go past the stage, and removes the stage if there was nothing else in
// it. Elements of an earlier plan may wait for the step: then it stays. A grouping's elements may refer to their values, which lie
// elsewhere.
func (a *assigner) bypass(s *stage, n *node) error {
	in, out := n.main[0].pc, n.outputs[0].pc
	if a.isCut(in) || !a.leaves(out) {
		return nil
	}
	var sources []*pcollection
	for _, from := range in.from() {
		q := a.stageOf[from.producer]
		ok, err := a.canWrite(from, out, n.env)
		if err != nil || !ok || from.assigned != nil || q.kind == plan.Group || q.kind != plan.Harness && a.flattened(out) {
			return err
		}
		made, err := a.assignment(n, from)
		if err != nil {
			return err
		}
		source := *from
		source.assigned = made
		sources = append(sources, &source)
	}
	for _, source := range sources {
		a.written[source.assigned.local] = true
	}
	out.junction, out.sources = true, sources
	q := a.stageOf[sources[0].producer]
	q.passed = append(q.passed, n)
	s.nodes = slices.DeleteFunc(s.nodes, func(other *node) bool { return other == n })
	if len(s.nodes) == 0 {
		a.stages = slices.DeleteFunc(a.stages, func(other *stage) bool { return other == s })
	}
	return nil
}

// flattened reports whether a collection is read together with others.
func (a *assigner) flattened(pc *pcollection) bool {
	return slices.ContainsFunc(a.stages, func(s *stage) bool {
		return slices.ContainsFunc(s.reads(), func(read *pcollection) bool {
			return len(read.from()) > 1 && slices.Contains(read.from(), pc)
		})
	})
}

// wanted lists the steps that a stage's bundles need, those without tables where they differ from others.
func (s *stage) wanted(unlifted bool) []*node {
	return slices.DeleteFunc(slices.Clone(s.nodes), func(n *node) bool { return s.left[n] || unlifted && s.leftUnlifted[n] })
}

// step returns the URN of a step.
func (b *builder) step(n *node) string {
	if b.unlifted && n.urn == urn.CombinePrecombine {
		return urn.CombineConvert
	}
	return n.urn
}

// ends returns the inputs and outputs of a step. Behind one that is left out it reads what that would read, and stays in those windows.
func (b *builder) ends(n *node) ([]input, []output) {
	main := slices.Clone(n.main)
	outputs := slices.Clone(n.outputs)
	for i, in := range main {
		before := in.pc.producer
		if before == nil || !b.stage.left[before] && !(b.unlifted && b.stage.leftUnlifted[before]) {
			continue
		}
		main[i].pc = before.main[0].pc
		for j := range outputs {
			like := *outputs[j].pc
			like.proto = proto.CloneOf(like.proto)
			like.proto.WindowingStrategyId = main[i].pc.proto.GetWindowingStrategyId()
			outputs[j].pc = &like
		}
	}
	return main, outputs
}
