package translate

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// resolveTypes finds windowing and effective coder of every collection that a node produces, and checks what the runner needs of
// them. Nodes are in topological order.
func (g *graph) resolveTypes() error {
	for _, n := range g.nodes {
		if err := g.typeOutputs(n); err != nil {
			return in(err, n.user)
		}
		if err := g.typeInputs(n); err != nil {
			return in(err, n.user)
		}
	}
	return nil
}

func (g *graph) typeOutputs(n *node) error {
	for _, out := range n.outputs {
		w, err := g.windows.of(out.pc.proto.GetWindowingStrategyId())
		if err != nil {
			return err
		}
		out.pc.windows = w
		if n.kind == groupNode && !n.view {
			if out.pc.coder, err = g.groupedCoder(n.main[0].pc); err != nil {
				return err
			}
		}
		if _, err := g.coders.wire(out.pc.coder); err != nil {
			return err
		}
	}
	return nil
}

// groupedCoder returns the coder of a GroupByKey's output: KV<K, iterable<V>> of the input's KV<K, V>. The declared coder is not
// asked: the runner copies keys and values as they were written, so that only the input's coders can read them.
func (g *graph) groupedCoder(in *pcollection) (string, error) {
	key, value, err := g.coders.kv(in.coder)
	if err != nil {
		return "", err
	}
	values, err := g.coders.intern(value+".values", urn.CoderIterable, nil, value)
	if err != nil {
		return "", err
	}
	return g.coders.intern(in.coder+".grouped", urn.CoderKV, nil, key, values)
}

func (g *graph) typeInputs(n *node) error {
	if n.keyed {
		if _, err := g.keyOf(n); err != nil {
			return err
		}
	}
	if n.process {
		if err := g.typeSplittable(n); err != nil {
			return err
		}
	}
	switch {
	case n.kind == impulseNode:
		if w, err := g.coders.wire(n.outputs[0].pc.coder); err != nil || w.program != "lp" || w.wrapped {
			return refuse(codeCoder, "the output of Impulse is not coded as bytes").WithHint(hintSDK)
		}
		return globalOutput(n)
	case n.native != nil:
		return g.typeNative(n)
	case n.kind == testStreamNode:
		return globalOutput(n)
	case n.kind == flattenNode, n.kind == reshuffleNode:
		return n.sameWindows()
	}
	for _, side := range n.sides {
		if side.access != plan.Multimap {
			continue
		}
		if _, _, err := g.coders.kv(side.pc.coder); err != nil {
			return err
		}
	}
	return nil
}

// typeSplittable refuses what the SDK cannot do as the process step of a splittable DoFn.
func (g *graph) typeSplittable(n *node) error {
	// Spec: python bundle_processor.py _create_pardo_operation and go exec NewUserStateAdapter encode the key of the element with the key
	// coder of KV<KV<element, restriction>, size>, and fail. Java does not let such a DoFn be written.
	if n.keyed && (g.envs.sdk(n.env, "python") || g.envs.sdk(n.env, "go")) {
		return refuse(codeStatefulSDF, "a splittable DoFn with state or timers, whose keys this SDK cannot encode").
			WithHint("move the state to a DoFn of its own")
	}
	// Spec: java FnApiDoFnRunner encodes residuals with the window function's own coder, whatever the descriptor says, and the runner
	// cannot find the end of that.
	if n.main[0].pc.windows.Coding == plan.CustomWindow && g.envs.sdk(n.env, "java") {
		return refuse(codeCustomWindowSDF,
			"a splittable DoFn in windows of a custom window function, whose residuals this SDK encodes in its own way").
			WithHint("apply the custom window function after the splittable DoFn")
	}
	return nil
}

// sameWindows checks that the inputs of a Flatten or Reshuffle have windows that are encoded like the output's.
func (n *node) sameWindows() error {
	out := n.outputs[0].pc
	for _, in := range n.main {
		if in.pc.windows.Coding != out.windows.Coding {
			return refuse(codeFlattenWindows, "input %q is in %s windows, the output in %s windows",
				in.tag, in.pc.windows.Kind, out.windows.Kind).WithHint("apply the same WindowInto to all inputs")
		}
	}
	return nil
}

// typeNative checks that the runner can read or write the elements of a native transform.
func (g *graph) typeNative(n *node) error {
	if g.options.Opaque != nil && g.options.Opaque(n.urn) {
		return nil
	}
	pc := n.from()
	w, err := g.coders.wire(pc.coder)
	if err != nil {
		return err
	}
	c, err := g.coders.get(pc.coder)
	if err != nil {
		return err
	}
	if w.wrapped && c.GetSpec().GetUrn() != urn.CoderRow { // rows come and go with their length in front
		return refuse(codeNativeCoder, "the runner cannot read elements with the coder of collection %q", pc.label()).
			WithHint("give the collection a standard type, for Kafka a pair of bytes: .with_output_types(tuple[bytes, bytes])")
	}
	if n.kind == sourceNode {
		return globalOutput(n)
	}
	return nil
}

// from is the collection that a native transform reads or writes.
func (n *node) from() *pcollection {
	if n.kind == sourceNode {
		return n.outputs[0].pc
	}
	return n.main[0].pc
}

// globalOutput checks that a root's outputs are in the global window.
func globalOutput(n *node) error {
	for _, out := range n.outputs {
		if out.pc.windows.Coding != plan.GlobalWindow {
			return refuse(codeWindowFn, "%s puts its output into %s windows", shortURN(n.urn), out.pc.windows.Kind).
				WithHint("apply WindowInto to its output instead")
		}
	}
	return nil
}

// bounded reports whether the collection is not declared unbounded.
func (pc *pcollection) bounded() bool { return pc.proto.GetIsBounded() != pipepb.IsBounded_UNBOUNDED }
