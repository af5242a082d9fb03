package translate

import (
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// views decides what readers of each side input see of a collection that fires more than once. Where its elements are not of a
// grouping, so that its trigger has not been applied to them, a grouping of all elements of a window goes before the side input.
// docs/decisions/0015 says why.
func (g *graph) views() error {
	grouped := map[*pcollection]*pcollection{}
	for _, n := range slices.Clone(g.nodes) {
		for i := range n.sides {
			if err := g.view(&n.sides[i], grouped); err != nil {
				return in(err, n.user)
			}
		}
	}
	return nil
}

func (g *graph) view(side *sideInput, grouped map[*pcollection]*pcollection) error {
	w, err := g.windows.of(side.pc.proto.GetWindowingStrategyId())
	if err != nil {
		return nil //nolint:nilerr // the pass that resolves types refuses it under the name of its producer
	}
	side.early = w.Kind == plan.Global && speculative(w.Trigger) && !side.pc.bounded()
	if !refires(w) {
		return nil
	}
	// Where a trigger waits for the window's end, readers do so too, and discarded panes are parts of what they see then.
	whole := w.Kind != plan.Global && watches(w.Trigger)
	switch o := originOf(side.pc, map[*pcollection]bool{}); {
	case o.grouped && w.Accumulating:
		side.panes = o.accumulated(side)
	case o.grouped && !whole:
		side.panes = newest(side)
	case !o.grouped && !whole && side.pc.bounded():
		// Its trigger would be evaluated at its end: all is one pane.
	case !o.grouped && !whole:
		if !w.Accumulating {
			side.panes = plan.WindowPane
		}
		if grouped[side.pc] == nil {
			if grouped[side.pc], err = g.groupView(side.pc); err != nil {
				return err
			}
		}
		side.view = grouped[side.pc]
	}
	return nil
}

// newest has readers see the newest pane of each key where they look up keys, else that of the window.
func newest(side *sideInput) plan.SidePanes {
	if side.access == plan.Multimap {
		return plan.KeyPane
	}
	return plan.WindowPane
}

// groupView puts a grouping of all elements of a window after a collection, and returns what it puts out: KV<unit, iterable<V>>.
func (g *graph) groupView(pc *pcollection) (*pcollection, error) {
	from := pc.producer
	if from == nil {
		return pc, nil // the order pass refuses it
	}
	out := g.made(pc.id+"/View", pc.label()+"/View", pc.coder, pc)
	out.viewed = pc
	n := &node{
		kind: groupNode, id: from.id + "/View", name: pc.durableName() + "/View", user: from.user, urn: urn.GroupByKey, proto: from.proto,
		main: []input{{"in", pc}}, outputs: []output{{"out", out}}, view: true,
	}
	return out, g.add(n)
}

// origin says what is known of the elements of a collection.
type origin struct {
	grouped bool // they have the panes of a grouping
	single  bool // of a grouping that has one key
	keyed   bool // they are KVs with the key of the grouping
}

// accumulated says what readers see of accumulated panes. A later pane of a key says all that an earlier one did. Panes of
// several keys are told apart only where the readers' keys are the grouping's; elsewhere all are kept.
func (o origin) accumulated(side *sideInput) plan.SidePanes {
	switch {
	case o.single, o.keyed && side.access == plan.Multimap:
		return newest(side)
	default:
		return plan.AllPanes
	}
}

// originOf looks for the grouping whose panes the elements of a collection are of. Windows assigned anew, timers and roots have none.
// onPath ends it on a cycle.
func originOf(pc *pcollection, onPath map[*pcollection]bool) origin {
	n := pc.producer
	if onPath[pc] {
		return origin{}
	}
	onPath[pc] = true
	defer delete(onPath, pc)
	if n == nil || n.keyed || n.urn == urn.AssignWindows {
		return origin{}
	}
	if n.kind == groupNode {
		return origin{grouped: true, single: n.single || oneKey(n.main[0].pc), keyed: true}
	}
	if len(n.main) == 0 {
		return origin{}
	}
	o := originOf(n.main[0].pc, onPath)
	for _, in := range n.main[1:] {
		other := originOf(in.pc, onPath)
		o = origin{grouped: o.grouped && other.grouped, keyed: o.keyed && other.keyed}
	}
	switch n.urn {
	case urn.CombineMerge, urn.CombineExtract, urn.CombineGroupedValues, urn.Flatten, urn.Reshuffle, urn.RedistributeArbitrarily,
		urn.RedistributeByKey:
	default:
		o.keyed = false
	}
	return o
}

// oneKey reports whether all elements of a collection have the same key, as what a global combine of an SDK groups that does not tell
// the composite.
func oneKey(pc *pcollection) bool {
	n := pc.producer
	if n != nil && (n.urn == urn.CombinePrecombine || n.urn == urn.CombineConvert) {
		n = n.main[0].pc.producer
	}
	if n == nil {
		return false
	}
	return n.pardo.GetDoFn().GetUrn() == urn.PythonKeyWithNone
}

// refires reports whether a window may have more than one pane.
func refires(w *plan.Windowing) bool {
	if w.Trigger == nil || w.Trigger.Kind == plan.TriggerDefault {
		return w.LatenessMs > 0 && w.Kind != plan.Global
	}
	return repeats(w.Trigger)
}

// repeats reports whether a trigger may fire more than once.
func repeats(t *plan.Trigger) bool {
	switch t.Kind {
	case plan.TriggerNever, plan.TriggerAfterCount, plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		return false
	case plan.TriggerAfterEndOfWindow:
		return t.Children[0] != nil || t.Children[1] != nil
	case plan.TriggerAfterAll, plan.TriggerAfterAny:
		return slices.ContainsFunc(t.Children, repeats)
	}
	return true
}

// watches reports whether a trigger fires at the end of the window.
func watches(t *plan.Trigger) bool {
	if t == nil || t.Kind == plan.TriggerDefault || t.Kind == plan.TriggerAfterEndOfWindow {
		return true
	}
	return slices.ContainsFunc(t.Children, func(c *plan.Trigger) bool { return c != nil && watches(c) })
}

// speculative reports whether a trigger may fire before the end of the window.
func speculative(t *plan.Trigger) bool {
	if t == nil {
		return false
	}
	switch t.Kind {
	case plan.TriggerDefault, plan.TriggerNever:
		return false
	case plan.TriggerAfterEndOfWindow, plan.TriggerAfterEach, plan.TriggerRepeat:
		return speculative(t.Children[0])
	case plan.TriggerAfterAll:
		return !slices.ContainsFunc(t.Children, func(c *plan.Trigger) bool { return !speculative(c) })
	case plan.TriggerAfterAny, plan.TriggerOrFinally:
		return slices.ContainsFunc(t.Children, speculative)
	}
	return true
}

// readsChangingSide reports whether readers see a side input change within one and the same window.
func (n *node) readsChangingSide() bool {
	return slices.ContainsFunc(n.sides, func(side sideInput) bool { return side.early })
}

// mapAnew replaces the Python SDK's mapping to the global window by one that maps the same. A DoFn whose side inputs all have the former
// is given the values that it was given first, in every later bundle, too. The SDK tells by the identity of the function.
// Spec: python runners/common.py PerWindowInvoker, recalculate_window_args.
func mapAnew(fn *pipepb.FunctionSpec) {
	if fn.GetUrn() == urn.WindowMappingPython {
		fn.Payload = []byte(pythonGlobalMapping)
	}
}

// pythonGlobalMapping is functools.partial(apache_beam.transforms.sideinputs._global_window_mapping_fn) as the Python SDK pickles it:
// the pickle, compressed by bzip2, in base64.
const pythonGlobalMapping = "QlpoOTFBWSZTWRdVefcAACnTwBAQAAEQAL/n3oBCACAASMek00xPSNtIaBRo0TE/UNTBMzepAhHX6T1LF08ZTgy+iwMmpiNq" +
	"Q6dl4+Q+Fq6X3/EWeYB9jwCR8Gl5k+C5UE51MdF3JFOFCQF1V59w"
