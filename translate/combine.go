package translate

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/translate/urn"
)

// combineStep reads a step of a combine that arrives expanded, as batch pipelines of the Python SDK do.
func (w *walker) combineStep(id string, t *pipepb.PTransform) error {
	if len(t.GetInputs()) > 1 && len(t.GetSubtransforms()) > 0 {
		return w.children(t) // Python's CombineValues: only the SDK's own expansion knows what side inputs are for
	}
	payload, err := combinePayload(t)
	if err != nil {
		return err
	}
	return w.sdkLeaf(id, t, accumulator(payload)...)
}

func combinePayload(t *pipepb.PTransform) (*pipepb.CombinePayload, error) {
	var payload pipepb.CombinePayload
	if err := proto.Unmarshal(t.GetSpec().GetPayload(), &payload); err != nil {
		return nil, refuse(codePayload, "the Combine payload does not parse: %w", err).WithHint(hintSDK)
	}
	return &payload, nil
}

// accumulator lists the coder that a combine payload refers to.
func accumulator(p *pipepb.CombinePayload) []string {
	if id := p.GetAccumulatorCoderId(); id != "" {
		return []string{id}
	}
	return nil
}

// combinePerKey expands a CombinePerKey: lifted where the input is bounded and the trigger does not count elements; with compaction
// where it is unbounded and panes accumulate; else as the SDK expands it itself, and where it does not, a GroupByKey and a step that
// combines the grouped values. An unbounded input is not lifted: elements that come too late would be merged with one another before
// the grouping drops them, and the number of dropped ones would depend on how bundles were cut.
func (w *walker) combinePerKey(id string, t *pipepb.PTransform) error {
	lifted := w.isLifted(t)
	if len(t.GetInputs()) > 1 && len(t.GetSubtransforms()) > 0 || lifted && !w.options.NoLifting {
		return w.children(t) // only the SDK's own expansion knows what side inputs are for
	}
	payload, err := combinePayload(t)
	if err != nil {
		return err
	}
	c, err := w.combine(id, t, payload)
	if err != nil {
		return err
	}
	windows, err := w.windows.of(c.in.pc.proto.GetWindowingStrategyId())
	if err != nil {
		return err
	}
	bounded := c.in.pc.proto.GetIsBounded() == pipepb.IsBounded_BOUNDED
	switch {
	case payload.GetAccumulatorCoderId() != "" && liftable(windows.Trigger) && bounded && !w.options.NoLifting:
		return c.lifted(payload.GetAccumulatorCoderId())
	case payload.GetAccumulatorCoderId() != "" && windows.Accumulating && !bounded && !w.options.NoLifting:
		return c.compacted(payload.GetAccumulatorCoderId())
	case len(t.GetSubtransforms()) > 0 && !lifted:
		return w.children(t)
	default:
		return c.unlifted()
	}
}

// isLifted reports whether the SDK lifted the combine itself, as Python does in batch, and packed it perhaps.
func (w *walker) isLifted(t *pipepb.PTransform) bool {
	for _, id := range t.GetSubtransforms() {
		switch w.components.GetTransforms()[id].GetSpec().GetUrn() {
		case urn.CombinePrecombine, urn.CombineMerge, urn.CombineExtract:
			return true
		}
	}
	return false
}

// combine is a CombinePerKey in expansion.
type combine struct {
	w          *walker
	n          *node // a pattern for the steps: env, proto, payload coders
	in, out    input // KV<K, V>, KV<K, R>
	key, value string
}

func (w *walker) combine(id string, t *pipepb.PTransform, payload *pipepb.CombinePayload) (*combine, error) {
	if t.GetEnvironmentId() == "" {
		t = &pipepb.PTransform{
			UniqueName: t.GetUniqueName(), Spec: t.GetSpec(), Subtransforms: t.GetSubtransforms(), Annotations: t.GetAnnotations(),
			Inputs: t.GetInputs(), Outputs: t.GetOutputs(), EnvironmentId: w.environmentWithin(t, map[string]bool{}),
		}
	}
	n, err := w.leaf(sdkNode, id, t)
	if err != nil {
		return nil, err
	}
	n.coders = accumulator(payload)
	if err := w.mains(n, nil); err != nil {
		return nil, err
	}
	if err := n.shape(1, 1); err != nil {
		return nil, err
	}
	c := &combine{w: w, n: n, in: n.main[0], out: input(n.outputs[0])}
	c.key, c.value, err = w.coders.kv(c.in.pc.coder)
	return c, err
}

// environmentWithin returns the environment of the first leaf within a composite that has one, or "". seen ends it on a cycle.
func (w *walker) environmentWithin(t *pipepb.PTransform, seen map[string]bool) string {
	if env := t.GetEnvironmentId(); env != "" {
		return env
	}
	for _, id := range t.GetSubtransforms() {
		if seen[id] {
			continue
		}
		seen[id] = true
		if env := w.environmentWithin(w.components.GetTransforms()[id], seen); env != "" {
			return env
		}
	}
	return ""
}

// lifted makes Precombine, GroupByKey, Merge and ExtractOutputs.
func (c *combine) lifted(accumulator string) error {
	return c.inAccumulators(accumulator, "Precombine", urn.CombinePrecombine, nil)
}

// compacted makes Convert, GroupByKey, Merge and ExtractOutputs. Each element is an accumulator of its own until it is grouped, so that
// late ones are counted as they come. The grouping has the accumulators that it keeps merged now and then, so that what an accumulating
// window keeps and puts out does not grow with its elements.
func (c *combine) compacted(accumulator string) error {
	return c.inAccumulators(accumulator, "Convert", urn.CombineConvert, c.n)
}

// inAccumulators makes a first step, GroupByKey, Merge and ExtractOutputs. With an accumulator A the collections between them are
//
//	KV<K, A>; KV<K, iterable<A>>; KV<K, A>
//
// Spec: beam_runner_api.proto StandardPTransforms.CombineComponents.
func (c *combine) inAccumulators(accumulator, first, firstURN string, compacts *node) error {
	keyed, grouped, err := c.groupCoders(accumulator)
	if err != nil {
		return err
	}
	made := c.made(first, keyed, c.in.pc)
	groups := c.made("Group", grouped, c.out.pc)
	merged := c.made("Merge", keyed, c.out.pc)
	group := c.group(made, groups)
	group.compacts = compacts
	return c.add(
		c.step(first, firstURN, c.in.pc, made),
		group,
		c.step("Merge", urn.CombineMerge, groups, merged),
		c.step("ExtractOutputs", urn.CombineExtract, merged, c.out.pc),
	)
}

// unlifted makes GroupByKey and CombineGroupedValues; the collection between them is KV<K, iterable<V>>.
func (c *combine) unlifted() error {
	_, grouped, err := c.groupCoders(c.value)
	if err != nil {
		return err
	}
	groups := c.made("Group", grouped, c.out.pc)
	return c.add(c.group(c.in.pc, groups), c.step("CombineValues", urn.CombineGroupedValues, groups, c.out.pc))
}

// made makes the output of a step.
func (c *combine) made(step, coder string, like *pcollection) *pcollection {
	return c.w.made(c.n.id+"/"+step+".out", c.n.name+"/"+step+".out", coder, like)
}

// groupCoders returns the coders of KV<K, X> and KV<K, iterable<X>>.
func (c *combine) groupCoders(x string) (keyed, grouped string, err error) {
	if keyed, err = c.w.coders.intern(c.n.id+"/keyed", urn.CoderKV, nil, c.key, x); err != nil {
		return "", "", err
	}
	values, err := c.w.coders.intern(c.n.id+"/values", urn.CoderIterable, nil, x)
	if err != nil {
		return "", "", err
	}
	grouped, err = c.w.coders.intern(c.n.id+"/grouped", urn.CoderKV, nil, c.key, values)
	return keyed, grouped, err
}

// step returns a step of the combine, named after it.
func (c *combine) step(name, stepURN string, in, out *pcollection) *node {
	s := *c.n
	s.id, s.name, s.urn = c.n.id+"/"+name, c.n.name+"/"+name, stepURN
	s.main = []input{{"in", in}}
	s.outputs = []output{{"out", out}}
	return &s
}

func (c *combine) group(in, out *pcollection) *node {
	s := c.step("Group", urn.GroupByKey, in, out)
	s.kind, s.env, s.coders = groupNode, "", nil
	return s
}

func (c *combine) add(steps ...*node) error {
	for _, s := range steps {
		if err := c.w.add(s); err != nil {
			return err
		}
	}
	return nil
}
