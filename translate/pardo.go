package translate

import (
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// parDo reads a ParDo, or a step of a splittable one that arrives expanded. A splittable ParDo becomes three steps.
func (w *walker) parDo(id string, t *pipepb.PTransform) error {
	n, err := w.leaf(sdkNode, id, t)
	if err != nil {
		return err
	}
	n.pardo = &pipepb.ParDoPayload{}
	if err := proto.Unmarshal(t.GetSpec().GetPayload(), n.pardo); err != nil {
		return refuse(codePayload, "the ParDo payload does not parse: %w", err).WithHint(hintSDK)
	}
	if err := w.sideInputs(n); err != nil {
		return err
	}
	if err := w.mains(n, n.pardo.GetSideInputs()); err != nil {
		return err
	}
	if err := n.shape(1, -1); err != nil {
		return err
	}
	if err := n.demands(); err != nil {
		return err
	}
	if n.pardo.GetRestrictionCoderId() == "" {
		return w.add(n)
	}
	if n.urn == urn.ParDo {
		return w.splittable(n)
	}
	if n.process = n.urn == urn.ProcessSizedElements; !n.process {
		n.stable, n.finalizes, n.keyed = false, false, false
	}
	return w.add(n)
}

// demands reads what the ParDo demands of the runner. Errors: unsupported-stateful-splittable.
func (n *node) demands() error {
	p := n.pardo
	n.sorted = p.GetRequiresTimeSortedInput()
	n.keyed = len(p.GetStateSpecs())+len(p.GetTimerFamilySpecs()) > 0 || n.sorted
	n.stable = p.GetRequiresStableInput()
	n.finalizes = p.GetRequestsFinalization()
	n.coders = payloadCoders(p)
	if n.sorted && p.GetRestrictionCoderId() != "" {
		return refuse(codeStatefulSDF, "a splittable DoFn with time-sorted input").WithHint("sort in a DoFn of its own, before it")
	}
	if family := p.GetOnWindowExpirationTimerFamilySpec(); family != "" && p.GetTimerFamilySpecs()[family] == nil {
		return refuse(codePayload, "the window expiration timer family %q is not among the timer families", family).WithHint(hintSDK)
	}
	return nil
}

// payloadCoders lists the coders that a ParDo payload refers to, but for those of timers, which the descriptor replaces.
func payloadCoders(p *pipepb.ParDoPayload) []string {
	var ids []string
	if id := p.GetRestrictionCoderId(); id != "" {
		ids = append(ids, id)
	}
	for _, cell := range slices.Sorted(maps.Keys(p.GetStateSpecs())) {
		element, key := stateCoders(p.GetStateSpecs()[cell])
		ids = append(ids, element)
		if key != "" {
			ids = append(ids, key)
		}
	}
	return ids
}

// sideInputs fills in the side inputs. Errors: unsupported-side-input, invalid-transform-shape, dangling-pcollection.
func (g *graph) sideInputs(n *node) error {
	for _, tag := range slices.Sorted(maps.Keys(n.pardo.GetSideInputs())) {
		id, ok := n.proto.GetInputs()[tag]
		if !ok {
			return refuse(codeShape, "side input %q is not among the inputs", tag).WithHint(hintSDK)
		}
		pc, err := g.pcoll(id)
		if err != nil {
			return err
		}
		side := sideInput{tag: tag, pc: pc, mapping: n.pardo.GetSideInputs()[tag].GetWindowMappingFn()}
		switch access := n.pardo.GetSideInputs()[tag].GetAccessPattern().GetUrn(); access {
		case urn.SideIterable:
			side.access = plan.Iterable
		case urn.SideMultimap:
			side.access = plan.Multimap
		default:
			return refuse(codeSideInput, "side input %q is read by the unknown pattern %q", tag, access).
				WithHint("use AsSingleton, AsIter, AsList, AsDict or AsMultiMap")
		}
		n.sides = append(n.sides, side)
	}
	return nil
}

// splittable expands a splittable ParDo. With an element E and a restriction R the collections between the steps are
//
//	PairWithRestriction: E -> KV<E, R>;  SplitAndSize: -> KV<KV<E, R>, double>;  the ParDo itself processes those
//
// Every step carries the whole payload and all side inputs, as SDKs expect, but state and timers belong to the last one alone. That
// keeps id and name of the user's ParDo.
// Spec: beam_runner_api.proto StandardPTransforms.SplittableParDoComponents.
func (w *walker) splittable(n *node) error {
	restriction := n.pardo.GetRestrictionCoderId()
	main := n.main[0]
	pair, err := w.coders.intern(n.id+"/pair", urn.CoderKV, nil, main.pc.coder, restriction)
	if err != nil {
		return err
	}
	size, err := w.coders.intern(n.id+"/size", urn.CoderDouble, nil)
	if err != nil {
		return err
	}
	sized, err := w.coders.intern(n.id+"/sized", urn.CoderKV, nil, pair, size)
	if err != nil {
		return err
	}
	paired := w.made(n.id+"/PairWithRestriction.out", n.name+"/PairWithRestriction.out", pair, main.pc)
	if err := w.add(n.step("PairWithRestriction", urn.PairWithRestriction, main.pc, paired)); err != nil {
		return err
	}
	split := w.made(n.id+"/SplitAndSize.out", n.name+"/SplitAndSize.out", sized, main.pc)
	if err := w.add(n.step("SplitAndSize", urn.SplitAndSize, paired, split)); err != nil {
		return err
	}
	process := *n
	process.urn, process.process = urn.ProcessSizedElements, true
	process.main = []input{{main.tag, split}}
	return w.add(&process)
}

// step returns a step of the expansion of a splittable ParDo, named after it.
func (n *node) step(name, stepURN string, in, out *pcollection) *node {
	s := *n
	s.id, s.name, s.urn = n.id+"/"+name, n.name+"/"+name, stepURN
	s.stable, s.finalizes, s.keyed = false, false, false
	s.main = []input{{n.main[0].tag, in}}
	s.outputs = []output{{"out", out}}
	return &s
}
