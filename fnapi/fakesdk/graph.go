package fakesdk

import (
	"fmt"
	"maps"
	"slices"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// URNs of transforms that are no user code.
const (
	urnSource  = "beam:runner:source:v1"
	urnSink    = "beam:runner:sink:v1"
	urnFlatten = "beam:transform:flatten:v1"
)

// graph is a compiled descriptor.
type graph struct {
	nodes     []*node // sorted by transform id
	byID      map[string]*node
	sources   []*node
	consumers map[string][]*node // by PCollection id
}

// node is one transform of a descriptor.
type node struct {
	id, name, urn string
	mainInput     string            // tag
	inputs        map[string]string // tag -> PCollection
	outputs       map[string]string
	port          valueCoder // sources: how to read
	inputKey      frame      // ParDos with a KV input
	inputValue    frame      // ParDos with grouped input: one of its values
	element       frame      // steps of splittable DoFns behind the first: the element before its restriction
	elementKey    frame      // likewise: its key, if it is a KV
	newFn         New
	payload       []byte
	families      map[string]family
}

// family is a timer family.
type family struct{ key, window frame }

// compile checks a descriptor and looks up its DoFns.
func compile(d *fnpb.ProcessBundleDescriptor, fns map[string]New) (*graph, error) {
	g := &graph{byID: make(map[string]*node), consumers: make(map[string][]*node)}
	cs := coders(d.GetCoders())
	for _, id := range slices.Sorted(maps.Keys(d.GetTransforms())) {
		t := d.GetTransforms()[id]
		n := &node{id: id, name: t.GetUniqueName(), urn: t.GetSpec().GetUrn(), inputs: t.GetInputs(), outputs: t.GetOutputs()}
		if err := n.compile(d, cs, t, fns); err != nil {
			return nil, fmt.Errorf("transform %q: %w", id, err)
		}
		g.nodes = append(g.nodes, n)
		g.byID[id] = n
		if n.urn == urnSource {
			g.sources = append(g.sources, n)
		}
		for tag, pcollection := range n.inputs {
			if n.urn == urnFlatten || tag == n.mainInput {
				g.consumers[pcollection] = append(g.consumers[pcollection], n)
			}
		}
	}
	return g, nil
}

func (n *node) compile(d *fnpb.ProcessBundleDescriptor, cs coders, t *pipepb.PTransform, fns map[string]New) (err error) {
	switch n.urn {
	case urnSource, urnSink:
		var port fnpb.RemoteGrpcPort
		if err := proto.Unmarshal(t.GetSpec().GetPayload(), &port); err != nil {
			return err
		}
		if n.port, err = cs.element(port.GetCoderId()); err != nil {
			return err
		}
		n.mainInput = only(n.inputs)
		return nil
	case urnFlatten:
		return nil
	}
	urn, payload := n.urn, t.GetSpec().GetPayload()
	var pardo pipepb.ParDoPayload
	if n.newFn = fns[urn]; n.newFn == nil {
		if err := proto.Unmarshal(payload, &pardo); err != nil {
			return fmt.Errorf("payload of %s: %w", urn, err)
		}
		urn, payload = pardo.GetDoFn().GetUrn(), pardo.GetDoFn().GetPayload()
		n.newFn = fns[urn]
	}
	if n.newFn == nil {
		return fmt.Errorf("no DoFn %q", urn)
	}
	n.payload = payload
	main := maps.Clone(n.inputs)
	maps.DeleteFunc(main, func(tag, _ string) bool { _, side := pardo.GetSideInputs()[tag]; return side })
	n.mainInput = only(main)
	if input := d.GetPcollections()[n.inputs[n.mainInput]]; input != nil {
		if n.inputKey, err = cs.key(input.GetCoderId()); err != nil {
			return err
		}
		if n.inputKey != nil {
			if values := cs[cs[input.GetCoderId()].GetComponentCoderIds()[1]]; values.GetSpec().GetUrn() == "beam:coder:iterable:v1" {
				if n.inputValue, err = cs.frame(values.GetComponentCoderIds()[0]); err != nil {
					return err
				}
			}
		}
	}
	if err := n.compileElement(cs, d.GetPcollections()[n.inputs[n.mainInput]].GetCoderId()); err != nil {
		return err
	}
	return n.compileTimers(cs, pardo.GetTimerFamilySpecs())
}

// compileElement finds the element in KV<element, restriction>, or KV<KV<element, restriction>, size>.
func (n *node) compileElement(cs coders, coder string) (err error) {
	depth := map[string]int{urnSplit: 1, urnProcess: 2, urnTruncate: 2}[n.urn]
	if depth == 0 {
		return nil
	}
	for range depth {
		parts := cs[coder].GetComponentCoderIds()
		if len(parts) != 2 {
			return fmt.Errorf("coder %q is none of restrictions", coder)
		}
		coder = parts[0]
	}
	if n.element, err = cs.frame(coder); err != nil {
		return err
	}
	n.elementKey, err = cs.key(coder)
	return err
}

func (n *node) compileTimers(cs coders, specs map[string]*pipepb.TimerFamilySpec) error {
	n.families = make(map[string]family)
	for name, spec := range specs {
		c := cs[spec.GetTimerFamilyCoderId()]
		if c.GetSpec().GetUrn() != "beam:coder:timer:v1" || len(c.GetComponentCoderIds()) != 2 {
			return fmt.Errorf("timer family %q has no timer coder", name)
		}
		key, err := cs.frame(c.GetComponentCoderIds()[0])
		if err != nil {
			return err
		}
		window, err := cs.frame(c.GetComponentCoderIds()[1])
		if err != nil {
			return err
		}
		n.families[name] = family{key: key, window: window}
	}
	return nil
}

// only returns the single key of a map, or "".
func only(m map[string]string) string {
	if len(m) != 1 {
		return ""
	}
	for tag := range m {
		return tag
	}
	return ""
}
