package translate

import (
	"fmt"
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// timerCoder returns the coder of a node's timers: the key as it is in the elements, so that a timer finds the state of its key.
func (g *graph) timerCoder(n *node) (wire, error) {
	pc := n.main[0].pc
	key, err := g.keyOf(n)
	if err != nil {
		return wire{}, err
	}
	wireKey, err := g.coders.wire(key)
	if err != nil {
		return wire{}, err
	}
	window, _, err := g.coders.window(g.components.GetWindowingStrategies()[pc.proto.GetWindowingStrategyId()].GetWindowCoderId())
	if err != nil {
		return wire{}, err
	}
	id, err := g.coders.intern(pc.coder+".timer", urn.CoderTimer, nil, wireKey.id, window)
	if err != nil {
		return wire{}, err
	}
	return g.coders.wire(id)
}

// keyOf returns the coder of the key that the state of a keyed node belongs to: of its input, or of the element in it, for a splittable
// DoFn processes KV<KV<element, restriction>, size>. Errors: keyed-input-required.
func (g *graph) keyOf(n *node) (string, error) {
	coder := n.main[0].pc.coder
	if n.process {
		for range 2 {
			var err error
			if coder, _, err = g.coders.kv(coder); err != nil {
				return "", err
			}
		}
	}
	key, _, err := g.coders.kv(coder)
	return key, err
}

// keyedProgram returns the framing program of the input of a splittable DoFn's process step with the key first.
// KV<KV<KV<K, V>, R>, S> and KV<K, KV<KV<V, R>, S>> are the same bytes, and the scanner looks for the key in the outermost pair.
func (g *graph) keyedProgram(n *node) (string, error) {
	sized, size, err := g.coders.kv(n.main[0].pc.coder)
	if err != nil {
		return "", err
	}
	element, restriction, err := g.coders.kv(sized)
	if err != nil {
		return "", err
	}
	key, value, err := g.coders.kv(element)
	if err != nil {
		return "", err
	}
	var programs []any
	for _, part := range []string{key, value, restriction, size} {
		w, err := g.coders.wire(part)
		if err != nil {
			return "", err
		}
		programs = append(programs, w.program)
	}
	return fmt.Sprintf("kv(%s,kv(kv(%s,%s),%s))", programs...), nil
}

// userState lists the state cells and timer families of a node. Errors: unsupported-state, unsupported-time-domain.
func (g *graph) userState(s *stage, n *node) error {
	if !n.keyed {
		return nil // the payload of a splittable DoFn's first steps tells of state that is the last one's
	}
	for _, cell := range slices.Sorted(maps.Keys(n.pardo.GetStateSpecs())) {
		state, err := g.stateCell(n.pardo.GetStateSpecs()[cell])
		if err != nil {
			return err
		}
		state.Transform, state.Name, state.Cell = n.id, n.name, cell
		s.plan.States = append(s.plan.States, state)
	}
	for _, family := range slices.Sorted(maps.Keys(n.pardo.GetTimerFamilySpecs())) {
		coder, err := g.timerCoder(n)
		if err != nil {
			return err
		}
		t := plan.TimerFamily{
			Transform: n.id, Name: n.name, Family: family, Element: coder.program, Window: n.main[0].pc.windows.Coding,
			OnWindowExpiration: n.pardo.GetOnWindowExpirationTimerFamilySpec() == family,
		}
		switch domain := n.pardo.GetTimerFamilySpecs()[family].GetTimeDomain(); domain {
		case pipepb.TimeDomain_EVENT_TIME:
			t.Domain = plan.EventTime
		case pipepb.TimeDomain_PROCESSING_TIME:
			t.Domain = plan.ProcessingTime
		default:
			return refuse(codeTimeDomain, "timer family %q is in time domain %v", family, domain).
				WithHint("use event time or processing time timers")
		}
		s.plan.Timers = append(s.plan.Timers, t)
	}
	return nil
}

// stateCell translates a state cell. Not every SDK takes the coder of a cell from the descriptor (Python and Java have it in the
// pickled DoFn), so there is no wrapping it: a coder that cannot be framed as it is leaves the framing program empty.
func (g *graph) stateCell(spec *pipepb.StateSpec) (plan.State, error) {
	element, key := stateCoders(spec)
	state := plan.State{}
	if _, ordered := spec.GetSpec().(*pipepb.StateSpec_OrderedListSpec); ordered {
		// Spec: beam_fn_api.proto StateAppendRequest: sort key, then the length-prefixed element, whatever the element's coder.
		state.Kind, state.Element = plan.OrderedList, "kv(varint,lp)"
		return state, nil
	}
	switch spec.GetSpec().(type) {
	case *pipepb.StateSpec_MapSpec, *pipepb.StateSpec_MultimapSpec:
		state.Kind = plan.MultimapST
	case nil:
		return state, refuse(codeState, "a state cell of a kind that the runner does not know").
			WithHint("use value, bag, set, combining, map, multimap or ordered list state")
	default:
		state.Kind = plan.Bag
	}
	if spec.GetProtocol().GetUrn() == urn.StateMultimap {
		state.Kind = plan.MultimapST // Java keeps sets as the keys of a multimap
		if key == "" {
			element, key = "", element
		}
	}
	var err error
	if state.Element, err = g.cellProgram(element); err != nil {
		return state, err
	}
	state.MapKey, err = g.cellProgram(key)
	return state, err
}

// cellProgram returns the framing program of a coder, or "" if there is no coder or it cannot be framed as it is.
func (g *graph) cellProgram(coder string) (string, error) {
	if coder == "" {
		return "", nil
	}
	w, err := g.coders.wire(coder)
	if err != nil || w.wrapped {
		return "", err
	}
	return w.program, nil
}

// stateCoders returns the coder ids of a state cell: of an element, and of a map's key.
func stateCoders(s *pipepb.StateSpec) (element, key string) {
	switch k := s.GetSpec().(type) {
	case *pipepb.StateSpec_ReadModifyWriteSpec:
		return k.ReadModifyWriteSpec.GetCoderId(), ""
	case *pipepb.StateSpec_BagSpec:
		return k.BagSpec.GetElementCoderId(), ""
	case *pipepb.StateSpec_CombiningSpec:
		return k.CombiningSpec.GetAccumulatorCoderId(), ""
	case *pipepb.StateSpec_SetSpec:
		return k.SetSpec.GetElementCoderId(), ""
	case *pipepb.StateSpec_OrderedListSpec:
		return k.OrderedListSpec.GetElementCoderId(), ""
	case *pipepb.StateSpec_MapSpec:
		return k.MapSpec.GetValueCoderId(), k.MapSpec.GetKeyCoderId()
	case *pipepb.StateSpec_MultimapSpec:
		return k.MultimapSpec.GetValueCoderId(), k.MultimapSpec.GetKeyCoderId()
	}
	return "", ""
}
