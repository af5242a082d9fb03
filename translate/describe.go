package translate

import (
	"maps"
	"slices"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// describe fills in what an executor needs of every stage: descriptors, state cells and timers of harness stages, windowing of
// groups, configuration of native transforms.
func (g *graph) describe() error {
	for _, s := range g.stages {
		root := s.nodes[0]
		switch s.kind {
		case plan.Harness:
			if err := g.describeHarness(s); err != nil {
				return in(err, root.user)
			}
		case plan.Group:
			if err := g.describeGroup(s); err != nil {
				return in(err, root.user)
			}
		case plan.Source, plan.Sink:
			s.plan.Native = root.native
		case plan.TestStream:
			s.plan.Script = root.script
		case plan.Impulse:
		}
	}
	return nil
}

func (g *graph) describeHarness(s *stage) error {
	for _, n := range s.nodes {
		if err := g.userState(s, n); err != nil {
			return in(err, n.user)
		}
	}
	root := s.nodes[0]
	if root.process {
		s.plan.Splittable = &plan.Splittable{
			Transform: root.id, Bounded: root.boundedDoFn(), FramedWindows: s.input.windows.Coding == plan.CustomWindow,
		}
	}
	var err error
	if s.plan.Descriptor, err = g.descriptor(s, processing); err != nil {
		return err
	}
	if len(s.leftUnlifted) > 0 {
		if s.plan.Unlifted, err = g.descriptor(s, unlifted); err != nil {
			return err
		}
	}
	if err := g.describeMappings(s); err != nil {
		return err
	}
	if root.keyed {
		s.plan.Windowing = s.input.windows
	}
	if !root.process || !g.envs.capable(s.env, urn.TruncateSized) {
		return nil
	}
	s.plan.Splittable.Truncate = g.truncateID(root)
	for _, side := range slices.Clone(s.plan.SideInputs) {
		if side.Transform == root.id {
			side.Transform = s.plan.Splittable.Truncate
			s.plan.SideInputs = append(s.plan.SideInputs, side)
		}
	}
	s.plan.Splittable.DrainDescriptor, err = g.descriptor(s, draining)
	return err
}

// truncateID returns the id of the step that truncates the restrictions of a splittable ParDo.
func (g *graph) truncateID(n *node) string {
	return unused(n.id+"/TruncateSized", func(id string) bool { return g.ids[id] || g.components.GetTransforms()[id] != nil })
}

// boundedDoFn reports whether a splittable DoFn does a bounded amount of work for an element, as far as its outputs tell.
func (n *node) boundedDoFn() bool {
	for _, out := range n.outputs {
		if !out.pc.bounded() {
			return false
		}
	}
	return len(n.outputs) > 0 || n.main[0].pc.bounded()
}

// bundleKind is what the bundles of a descriptor do.
type bundleKind uint8

const (
	processing bundleKind = iota
	draining              // restrictions are truncated first
	unlifted              // combines are not lifted, and the runner assigns windows behind them
)

// descriptor builds a stage's descriptor. It holds only what the stage needs.
func (g *graph) descriptor(s *stage, kind bundleKind) ([]byte, error) {
	b := &builder{graph: g, stage: s, unlifted: kind == unlifted, pbd: &fnpb.ProcessBundleDescriptor{
		Transforms:          map[string]*pipepb.PTransform{},
		Pcollections:        map[string]*pipepb.PCollection{},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{},
		Coders:              map[string]*pipepb.Coder{},
		Environments:        map[string]*pipepb.Environment{},
	}}
	b.pbd.Environments[string(s.env)] = g.envs.chosen[s.env]
	if err := b.source(); err != nil {
		return nil, err
	}
	for i, n := range s.wanted(b.unlifted) {
		main, outputs := b.ends(n)
		if i == 0 && kind == draining {
			truncated, err := b.truncate(n)
			if err != nil {
				return nil, in(err, n.user)
			}
			main = []input{{n.main[0].tag, truncated}}
		}
		if err := b.transform(n, n.id, n.name, b.step(n), main, outputs); err != nil {
			return nil, in(err, n.user)
		}
	}
	for _, w := range s.writes {
		window := w.window
		if b.unlifted && w.windowUnlifted != "" {
			window = w.windowUnlifted
		}
		if err := b.port(w.id, urn.DataSink, w.coder, window, map[string]string{"in": w.local.id}, nil); err != nil {
			return nil, err
		}
	}
	return marshal(b.pbd)
}

// builder builds one descriptor.
type builder struct {
	*graph
	stage *stage
	pbd   *fnpb.ProcessBundleDescriptor
	// unlifted says that the bundles have no lifted combines.
	unlifted bool
}

// source adds the stage's input with its wire coder: SDKs take the key of state and the encoding of residuals from it.
func (b *builder) source() error {
	s := b.stage
	w, err := b.coders.wire(s.input.coder)
	if err != nil {
		return err
	}
	strategy := b.components.GetWindowingStrategies()[s.input.proto.GetWindowingStrategyId()]
	window, _, err := b.coders.window(strategy.GetWindowCoderId())
	if err != nil {
		return err
	}
	input := s.input
	if s.plan.Splittable != nil && s.plan.Splittable.FramedWindows {
		input = b.framed(input, strategy, window)
	}
	if err := b.collection(s.input.id, w.id, input); err != nil {
		return err
	}
	element := w.id
	if s.stateBacked { // the collection's own coder stays: it describes values, the port's what comes in their place
		if element, err = b.coders.stateBacked(element); err != nil {
			return err
		}
	}
	return b.port(s.plan.InputRead, urn.DataSource, element, window, nil, map[string]string{"out": s.input.id})
}

// framed returns the collection in a windowing strategy of its own whose windows are coded as the runner codes them: SDKs encode
// residuals as elements of the collection, and the runner must find their ends.
func (b *builder) framed(pc *pcollection, strategy *pipepb.WindowingStrategy, window string) *pcollection {
	id := unused(pc.proto.GetWindowingStrategyId()+".framed", func(id string) bool { return b.components.GetWindowingStrategies()[id] != nil })
	if b.pbd.WindowingStrategies[id] == nil {
		strategy = proto.CloneOf(strategy)
		strategy.WindowCoderId = window
		b.pbd.WindowingStrategies[id] = strategy
	}
	like := *pc
	like.proto = proto.CloneOf(pc.proto)
	like.proto.WindowingStrategyId = id
	return &like
}

// port adds a data source or sink. Spec: beam_fn_api.proto RemoteGrpcPort; who runs the bundle fills in the address.
func (b *builder) port(id, portURN, element, window string, inputs, outputs map[string]string) error {
	coder, err := b.coders.intern(element+".windowed", urn.CoderWindowedValue, nil, element, window)
	if err != nil {
		return err
	}
	if err := b.coder(coder); err != nil {
		return err
	}
	payload, err := marshal(&fnpb.RemoteGrpcPort{CoderId: coder, ApiServiceDescriptor: &pipepb.ApiServiceDescriptor{}})
	if err != nil {
		return err
	}
	b.pbd.Transforms[id] = &pipepb.PTransform{
		UniqueName:    id,
		Spec:          &pipepb.FunctionSpec{Urn: portURN, Payload: payload},
		Inputs:        inputs,
		Outputs:       outputs,
		EnvironmentId: string(b.stage.env),
	}
	return nil
}

// transform adds a transform with everything that it refers to. Side inputs get collections of their own, with wire coders: SDKs
// encode the key of a side input with the collection's coder, and some take every consumer of a collection for a main one.
func (b *builder) transform(n *node, id, name, transformURN string, main []input, outputs []output) error {
	payload, err := b.payload(n, transformURN)
	if err != nil {
		return err
	}
	t := &pipepb.PTransform{
		UniqueName:    name,
		Spec:          &pipepb.FunctionSpec{Urn: transformURN, Payload: payload},
		Inputs:        map[string]string{},
		Outputs:       map[string]string{},
		EnvironmentId: string(b.stage.env),
		Annotations:   n.proto.GetAnnotations(),
	}
	for _, in := range main {
		t.Inputs[in.tag] = in.pc.id
	}
	for _, side := range n.sides {
		w, err := b.coders.wire(side.pc.coder)
		if err != nil {
			return err
		}
		t.Inputs[side.tag] = unused(side.pc.id+".side", func(id string) bool {
			return b.pcolls[id] != nil || b.components.GetPcollections()[id] != nil
		})
		if err := b.collection(t.Inputs[side.tag], w.id, side.pc); err != nil {
			return err
		}
	}
	for _, out := range outputs {
		t.Outputs[out.tag] = out.pc.id
		if err := b.collection(out.pc.id, out.pc.coder, out.pc); err != nil {
			return err
		}
	}
	for _, coder := range n.coders {
		if err := b.coder(coder); err != nil {
			return err
		}
	}
	b.pbd.Transforms[id] = t
	return nil
}

// truncate adds the step that truncates restrictions, before the step that processes them, and returns its output. Residuals are
// encoded with the coder of the processing step's input, so that must be the wire coder of the stage's.
func (b *builder) truncate(n *node) (*pcollection, error) {
	w, err := b.coders.wire(n.main[0].pc.coder)
	if err != nil {
		return nil, err
	}
	like := *n.main[0].pc
	if in := b.stage.input; b.stage.plan.Splittable.FramedWindows {
		strategy := b.components.GetWindowingStrategies()[in.proto.GetWindowingStrategyId()]
		window, _, err := b.coders.window(strategy.GetWindowCoderId())
		if err != nil {
			return nil, err
		}
		like = *b.framed(in, strategy, window)
	}
	like.coder = w.id
	like.id = unused(n.id+"/TruncateSized.out", func(id string) bool {
		return b.pcolls[id] != nil || b.components.GetPcollections()[id] != nil
	})
	return &like, b.transform(n, b.truncateID(n), n.name+"/TruncateSized", urn.TruncateSized, n.main, []output{{"out", &like}})
}

// collection adds a collection under an id and with a coder that need not be its own, and its windowing strategy.
func (b *builder) collection(id, coder string, pc *pcollection) error {
	strategyID := pc.proto.GetWindowingStrategyId()
	if b.pbd.WindowingStrategies[strategyID] == nil {
		b.pbd.WindowingStrategies[strategyID] = b.components.GetWindowingStrategies()[strategyID]
	}
	if err := b.coder(b.pbd.WindowingStrategies[strategyID].GetWindowCoderId()); err != nil {
		return err
	}
	if known := b.pbd.Pcollections[id]; known != nil {
		return nil // the stage's input, or a side input of two transforms
	}
	p := &pipepb.PCollection{
		UniqueName: pc.label(), CoderId: coder, IsBounded: pc.proto.GetIsBounded(), WindowingStrategyId: strategyID,
	}
	b.pbd.Pcollections[id] = p
	return b.coder(coder)
}

// coder adds a coder with its components. Errors: dangling-coder.
func (b *builder) coder(id string) error {
	if b.pbd.Coders[id] != nil {
		return nil
	}
	if _, err := b.coders.structure(id, 0); err != nil {
		return err
	}
	c, err := b.coders.get(id)
	if err != nil {
		return err
	}
	b.pbd.Coders[id] = c
	for _, component := range c.GetComponentCoderIds() {
		if err := b.coder(component); err != nil {
			return err
		}
	}
	return nil
}

// payload returns the transform's payload; timers are given a coder made of the wire coders of the main input's keys and windows. The
// steps of a splittable DoFn but for the one that processes are given no state and no timers, which SDKs would wait for.
func (b *builder) payload(n *node, transformURN string) ([]byte, error) {
	if n.urn == urn.Flatten {
		return nil, nil
	}
	if len(n.pardo.GetTimerFamilySpecs())+len(n.pardo.GetStateSpecs()) == 0 && !n.readsChangingSide() {
		return n.proto.GetSpec().GetPayload(), nil
	}
	payload := proto.CloneOf(n.pardo)
	for _, side := range n.sides {
		if side.early {
			mapAnew(payload.GetSideInputs()[side.tag].GetWindowMappingFn())
		}
	}
	switch transformURN {
	case urn.PairWithRestriction, urn.SplitAndSize, urn.TruncateSized:
		payload.StateSpecs, payload.TimerFamilySpecs, payload.OnWindowExpirationTimerFamilySpec = nil, nil, ""
	}
	if len(payload.GetTimerFamilySpecs()) == 0 {
		return marshal(payload)
	}
	timer, err := b.timerCoder(n)
	if err != nil {
		return nil, err
	}
	if err := b.coder(timer.id); err != nil {
		return nil, err
	}
	for _, spec := range payload.GetTimerFamilySpecs() {
		spec.TimerFamilyCoderId = timer.id
	}
	return marshal(payload)
}

// environments lists the environments that stages use.
func (g *graph) environments() ([]*plan.Environment, error) {
	used := map[plan.EnvID]bool{}
	for _, s := range g.stages {
		if s.plan.Env != "" {
			used[s.plan.Env] = true
		}
	}
	var all []*plan.Environment
	for _, id := range slices.Sorted(maps.Keys(used)) {
		body, err := marshal(g.envs.chosen[id])
		if err != nil {
			return nil, fault.New(fault.Internal, "environment-encoding", "environment %q: %w", id, err)
		}
		all = append(all, &plan.Environment{ID: id, URN: g.envs.chosen[id].GetUrn(), Proto: body})
	}
	return all, nil
}
