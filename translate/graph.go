package translate

import (
	"maps"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
)

// nodeKind says who executes a node.
type nodeKind uint8

const (
	sdkNode        nodeKind = iota // in a harness
	impulseNode                    // in the runner, as the following
	sourceNode                     // native source
	groupNode                      // GroupByKey
	sinkNode                       // native sink
	flattenNode                    // dissolves into edges, or runs in a harness next to all its producers
	reshuffleNode                  // dissolves into edges
	testStreamNode                 // in the runner
)

// node is a leaf transform after expansion.
type node struct {
	kind nodeKind
	id   string // transform id, in the pipeline or made from it
	name string // unique among nodes: the user's unique name, for a step of an expansion with the step's name
	user string // the user's unique name
	urn  string
	env  plan.EnvID // of an sdkNode; of a flatten or reshuffle where the pipeline gives one

	proto   *pipepb.PTransform   // never changed
	pardo   *pipepb.ParDoPayload // of a ParDo and of the steps of a splittable one; never changed
	coders  []string             // coders that the payload refers to and that the descriptor must hold
	main    []input              // main inputs by tag: none, one, or any number of a flatten
	sides   []sideInput          // by tag
	outputs []output             // by tag

	keyed     bool // has state, timers or sorted input: root of a keyed stage
	sorted    bool // requires time-sorted input
	process   bool // processes sized restrictions: root of its stage
	stable    bool // requires stable input: root of its stage
	finalizes bool
	single    bool // a grouping that has one key
	view      bool // a grouping before a side input: of all elements of a window
	native    *plan.Native
	script    *plan.Script // of a TestStream
	events    string       // of a TestStream: the coder of its elements, in a length prefix
	compacts  *node        // of a GroupByKey of accumulators: the combine that they are of
}

// root reports whether the node must read its stage's input itself.
func (n *node) root() bool { return n.keyed || n.process || n.stable }

// input is a main input.
type input struct {
	tag string
	pc  *pcollection
}

// sideInput is a side input.
type sideInput struct {
	tag    string
	pc     *pcollection
	access plan.SideAccess
	// view is the grouping's output that is read instead, where there is one.
	view  *pcollection
	panes plan.SidePanes
	early bool // readers go on from the first pane
	// mapping maps main windows to the side input's.
	mapping *pipepb.FunctionSpec
}

// source returns the collection that the side input is made of.
func (s *sideInput) source() *pcollection {
	if s.view != nil {
		return s.view
	}
	return s.pc
}

// output is an output.
type output struct {
	tag string
	pc  *pcollection
}

// pcollection is a collection of the pipeline, or one that an expansion made.
type pcollection struct {
	id       string
	proto    *pipepb.PCollection // never changed
	coder    string              // effective coder id: the declared one except behind a GroupByKey
	windows  *plan.Windowing
	producer *node // nil until the transform that produces it is read
	// sources is set for a junction: what its consumers read instead. A collection flattened with itself is there twice.
	junction bool
	sources  []*pcollection
	// viewed is set for the output of a grouping before a side input: the collection that it groups.
	viewed *pcollection
	// assigned is set where the runner assigns the windows.
	assigned *assignment
}

// from returns the collections that stages compute behind pc.
func (pc *pcollection) from() []*pcollection {
	if !pc.junction {
		return []*pcollection{pc}
	}
	var all []*pcollection
	for _, source := range pc.sources {
		all = append(all, source.from()...)
	}
	return all
}

// label is the collection's unique name, or its id.
func (pc *pcollection) label() string {
	if name := pc.proto.GetUniqueName(); name != "" {
		return name
	}
	return pc.id
}

// durableName names the collection by its producer and, where that has several, the output: names that the user gave, so that they
// outlive a change of the pipeline.
func (pc *pcollection) durableName() string {
	p := pc.producer
	if p == nil {
		return pc.label()
	}
	if len(p.outputs) == 1 {
		return p.name
	}
	for _, out := range p.outputs {
		if out.pc == pc {
			return p.name + "[" + out.tag + "]"
		}
	}
	return pc.label()
}

// graph is a pipeline on its way through the passes.
type graph struct {
	options    Options
	components *pipepb.Components
	coders     *coderTable
	windows    *windowTable
	envs       *envTable

	nodes  []*node // in pipeline order, after the order pass in topological order
	pcolls map[string]*pcollection
	names  map[string]bool // unique names of nodes
	ids    map[string]bool // ids of nodes
	// globally counts the composites around the transform in hand that combine all elements of a window: their groupings have one key.
	globally int

	replay *node // the TestStream, if there is one

	stages []*stage // after the fuse pass, in topological order
}

// pcoll returns the collection with the id. Errors: dangling-pcollection.
func (g *graph) pcoll(id string) (*pcollection, error) {
	if pc := g.pcolls[id]; pc != nil {
		return pc, nil
	}
	p := g.components.GetPcollections()[id]
	if p == nil {
		return nil, refuse(codeDanglingPColl, "collection %q is not in the pipeline", id).WithHint(hintSDK)
	}
	pc := &pcollection{id: id, proto: p, coder: p.GetCoderId()}
	g.pcolls[id] = pc
	return pc, nil
}

// made makes the output of a step of an expansion; it is bounded and windowed like another collection. Its unique name must hang
// on names alone, as stage ids hang on it.
func (g *graph) made(id, name, coder string, like *pcollection) *pcollection {
	id = unused(id, func(id string) bool { return g.pcolls[id] != nil || g.components.GetPcollections()[id] != nil })
	pc := &pcollection{id: id, coder: coder, proto: &pipepb.PCollection{
		UniqueName:          name,
		CoderId:             coder,
		IsBounded:           like.proto.GetIsBounded(),
		WindowingStrategyId: like.proto.GetWindowingStrategyId(),
	}}
	g.pcolls[id] = pc
	return pc
}

// add takes a node into the graph and makes its name and its outputs known. Errors: duplicate-producer.
func (g *graph) add(n *node) error {
	n.id = unused(n.id, func(id string) bool { return g.ids[id] })
	n.name = unused(n.name, func(name string) bool { return g.names[name] })
	g.ids[n.id], g.names[n.name] = true, true
	n.single = n.kind == groupNode && g.globally > 0
	for _, out := range n.outputs {
		if p := out.pc.producer; p != nil {
			return refuse(codeDuplicateProducer, "collection %q is produced by %q already", out.pc.id, p.user).In(n.user).WithHint(hintSDK)
		}
		out.pc.producer = n
	}
	g.nodes = append(g.nodes, n)
	return nil
}

// leaf returns a node for a transform, with the outputs filled in. Errors: dangling-pcollection, dangling-environment.
func (g *graph) leaf(kind nodeKind, id string, t *pipepb.PTransform) (*node, error) {
	n := &node{kind: kind, id: id, name: t.GetUniqueName(), urn: t.GetSpec().GetUrn(), proto: t}
	if n.name == "" {
		n.name = id
	}
	n.user = n.name
	for _, tag := range slices.Sorted(maps.Keys(t.GetOutputs())) {
		pc, err := g.pcoll(t.GetOutputs()[tag])
		if err != nil {
			return nil, err
		}
		n.outputs = append(n.outputs, output{tag, pc})
	}
	switch kind {
	case sdkNode, flattenNode, reshuffleNode, testStreamNode:
		if kind != sdkNode && t.GetEnvironmentId() == "" {
			break
		}
		env, err := g.envs.resolve(t.GetEnvironmentId())
		if err != nil {
			return nil, err
		}
		n.env = env
	}
	return n, nil
}

// mains fills in the main inputs: all inputs but the side inputs. Errors: dangling-pcollection.
func (g *graph) mains(n *node, sides map[string]*pipepb.SideInput) error {
	for _, tag := range slices.Sorted(maps.Keys(n.proto.GetInputs())) {
		if _, side := sides[tag]; side {
			continue
		}
		pc, err := g.pcoll(n.proto.GetInputs()[tag])
		if err != nil {
			return err
		}
		n.main = append(n.main, input{tag, pc})
	}
	return nil
}

// shape checks the number of main inputs and outputs; -1 is any number. Errors: invalid-transform-shape.
func (n *node) shape(inputs, outputs int) error {
	if inputs >= 0 && len(n.main) != inputs {
		return refuse(codeShape, "%s has %d main inputs, wants %d", shortURN(n.urn), len(n.main), inputs).WithHint(hintSDK)
	}
	if outputs >= 0 && len(n.outputs) != outputs {
		return refuse(codeShape, "%s has %d outputs, wants %d", shortURN(n.urn), len(n.outputs), outputs).WithHint(hintSDK)
	}
	return nil
}

// shortURN drops the common beginning of a Beam URN.
func shortURN(urn string) string { return strings.TrimPrefix(urn, "beam:transform:") }
