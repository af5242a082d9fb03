package translate

import (
	"fmt"
	"slices"
	"strings"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// describeGroup fills in the windowing of a grouping, and what it has an SDK do for it.
func (g *graph) describeGroup(s *stage) error {
	s.plan.Windowing = s.input.windows
	if s.nodes[0].view { // each pane by itself: the side input keeps what has to stay
		w := *s.input.windows
		w.Accumulating, w.EmptyOnClose, w.EmptyOnTime = false, false, false
		s.plan.Windowing = &w
	}
	if s.input.windows.Kind == plan.MergingCustom {
		if err := g.describeMerge(s); err != nil {
			return err
		}
	}
	combine := s.nodes[0].compacts
	if combine == nil || s.plan.Env != "" && s.plan.Env != combine.env {
		return nil // a stage has one environment; that it merges windows is no choice
	}
	return g.describeCompaction(s, combine)
}

// describeMerge describes the bundles in which the SDK merges the windows of a grouping: a descriptor with a single step.
// Spec: beam_runner_api.proto StandardPTransforms.MERGE_WINDOWS. Errors: unsupported-merging-window-fn when the strategy does not say
// where its function runs, and those of an environment.
func (g *graph) describeMerge(s *stage) error {
	strategy := g.components.GetWindowingStrategies()[s.input.proto.GetWindowingStrategyId()]
	if strategy.GetEnvironmentId() == "" {
		return refuse(codeMergingWindowFn, "the window function %q merges windows, and no environment is named for it",
			strategy.GetWindowFn().GetUrn()).WithHint(hintSDK)
	}
	env, err := g.envs.resolve(strategy.GetEnvironmentId())
	if err != nil {
		return err
	}
	window, _, err := g.coders.window(strategy.GetWindowCoderId())
	if err != nil {
		return err
	}
	m := merging{table: g.coders, name: window}
	nonce, windows := m.make("nonce", urn.CoderBytes), m.make("windows", urn.CoderIterable, window)
	in := m.make("in", urn.CoderKV, nonce, windows)
	merged := m.make("merged", urn.CoderIterable, m.make("pair", urn.CoderKV, window, windows))
	out := m.make("out", urn.CoderKV, nonce, m.make("parts", urn.CoderKV, windows, merged))
	if m.err != nil {
		return m.err
	}
	payload, err := marshal(forPython(strategy.GetWindowFn()))
	if err != nil {
		return err
	}
	s.plan.Env = env
	s.plan.Merge = &plan.WindowMerge{Read: inSingle.read, Write: inSingle.write}
	s.plan.Merge.Descriptor, err = g.single(s, "MergeWindows", urn.MergeWindows, payload, in, out)
	return err
}

// forPython returns a window function so that the Python SDK can merge windows with it, and others as they are. Its payload is a BytesValue
// whose value is base64, but where windows are merged, that SDK decodes all of the payload as base64. That leaves out bytes that are not
// of base64's alphabet, but the length in front of the value may be: one of 116 is a "t". Here the length is written in five
// bytes that are not: a BytesValue of the same value to any parser of protocol buffers.
// Spec: python runners/worker/bundle_processor.py create_merge_windows; utils/urns.py register_pickle_urn.
func forPython(fn *pipepb.FunctionSpec) *pipepb.FunctionSpec {
	value := &wrapperspb.BytesValue{}
	if fn.GetUrn() != urn.WindowFnPython || proto.Unmarshal(fn.GetPayload(), value) != nil {
		return fn
	}
	n := len(value.GetValue())
	if n >= 1<<28 {
		return fn
	}
	payload := protowire.AppendTag(nil, 1, protowire.BytesType)
	for shift := 0; shift < 28; shift += 7 {
		payload = append(payload, byte(n>>shift)|0x80)
	}
	payload = append(append(payload, 0), value.GetValue()...)
	return &pipepb.FunctionSpec{Urn: fn.GetUrn(), Payload: payload}
}

// describeMappings describes the bundles in which the SDK maps the windows of a stage's input to those of its side inputs.
// Spec: beam_runner_api.proto StandardPTransforms.MAP_WINDOWS.
func (g *graph) describeMappings(s *stage) error {
	i := 0 // side inputs are in this order
	for _, n := range s.nodes {
		for _, side := range n.sides {
			if side.mappedBySDK() {
				var err error
				if s.plan.SideInputs[i].Map, err = g.describeMapping(s, n, side); err != nil {
					return in(err, n.user)
				}
			}
			i++
		}
	}
	return nil
}

func (g *graph) describeMapping(s *stage, n *node, side sideInput) (*plan.WindowMap, error) {
	m := merging{table: g.coders, name: fmt.Sprintf("%s.%s.map", n.id, side.tag)}
	nonce := m.make("nonce", urn.CoderBytes)
	in := m.make("in", urn.CoderKV, nonce, g.windowCoder(&m, s.input))
	out := m.make("out", urn.CoderKV, nonce, g.windowCoder(&m, side.pc))
	if m.err != nil {
		return nil, m.err
	}
	payload, err := marshal(side.mapping)
	if err != nil {
		return nil, err
	}
	d, err := g.single(s, "MapWindows", urn.MapWindows, payload, in, out)
	return &plan.WindowMap{Descriptor: d, Read: inSingle.read, Write: inSingle.write}, err
}

// windowCoder returns the wire coder of a collection's windows.
func (g *graph) windowCoder(m *merging, pc *pcollection) string {
	id, _, err := g.coders.window(g.components.GetWindowingStrategies()[pc.proto.GetWindowingStrategyId()].GetWindowCoderId())
	if m.err == nil {
		m.err = err
	}
	return id
}

// mappedBySDK reports whether only the SDK knows which window of the side input a main window needs, and the runner may have to ask
// before all of it is there: the function that assigns the windows is not a standard one, or the one that maps them is not. Of the
// functions that SDKs serialise without a name the default is taken for granted where the windows are standard: no SDK lets its
// users choose another one there.
func (s *sideInput) mappedBySDK() bool {
	if s.pc.bounded() || s.pc.windows.Kind == plan.Global {
		return false
	}
	fn := s.mapping.GetUrn()
	switch {
	case fn == "", slices.Contains(urn.WindowMappingsTypeScript, fn):
		return false // an SDK that maps no windows for runners
	case s.pc.windows.Kind != plan.Fixed && s.pc.windows.Kind != plan.Sliding:
		return true
	}
	return fn != urn.WindowMappingPython && fn != urn.WindowMappingJava && !strings.HasPrefix(fn, urn.WindowMappingGo)
}

// describeCompaction describes the bundles in which the SDK merges the accumulators that a grouping keeps.
func (g *graph) describeCompaction(s *stage, combine *node) error {
	grouped, err := g.groupedCoder(s.input)
	if err != nil {
		return err
	}
	in, err := g.coders.wire(grouped)
	if err != nil {
		return err
	}
	out, err := g.coders.wire(s.input.coder)
	if err != nil {
		return err
	}
	s.plan.Env = combine.env
	s.plan.Compact = &plan.AccumulatorMerge{Read: inSingle.read, Write: inSingle.write}
	s.plan.Compact.Descriptor, err = g.single(s, "Compact", urn.CombineMerge, combine.proto.GetSpec().GetPayload(), in.id, out.id,
		combine.coders...)
	return err
}

// inSingle names what is in a descriptor of a single step.
var inSingle = struct{ read, write, input, output, windows string }{"read", "write", "input", "output", "global"}

// single makes the descriptor of a single step in the environment of a Group stage. Its elements are in the global window. coders are
// those that the payload refers to.
func (g *graph) single(s *stage, name, stepURN string, payload []byte, in, out string, coders ...string) ([]byte, error) {
	env := string(s.plan.Env)
	b := &builder{graph: g, stage: &stage{env: s.plan.Env, plan: s.plan}, pbd: &fnpb.ProcessBundleDescriptor{
		Transforms:          map[string]*pipepb.PTransform{},
		Pcollections:        map[string]*pipepb.PCollection{},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{},
		Coders:              map[string]*pipepb.Coder{},
		Environments:        map[string]*pipepb.Environment{env: g.envs.chosen[s.plan.Env]},
	}}
	global, err := g.coders.intern("single.global", urn.CoderGlobalWindow, nil)
	if err != nil {
		return nil, err
	}
	b.pbd.WindowingStrategies[inSingle.windows] = &pipepb.WindowingStrategy{
		WindowFn: &pipepb.FunctionSpec{Urn: urn.GlobalWindows}, WindowCoderId: global, MergeStatus: pipepb.MergeStatus_NON_MERGING,
		Trigger:          &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		AccumulationMode: pipepb.AccumulationMode_DISCARDING, OutputTime: pipepb.OutputTime_END_OF_WINDOW,
		ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY, OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_ALWAYS,
		EnvironmentId: env,
	}
	for id, coder := range map[string]string{inSingle.input: in, inSingle.output: out} {
		b.pbd.Pcollections[id] = &pipepb.PCollection{
			UniqueName: id, CoderId: coder, IsBounded: pipepb.IsBounded_BOUNDED, WindowingStrategyId: inSingle.windows,
		}
	}
	for _, id := range coders {
		if err := b.coder(id); err != nil {
			return nil, err
		}
	}
	if err := b.port(inSingle.read, urn.DataSource, in, global, nil, map[string]string{"out": inSingle.input}); err != nil {
		return nil, err
	}
	b.pbd.Transforms["step"] = &pipepb.PTransform{
		UniqueName: s.nodes[0].name + "/" + name, Spec: &pipepb.FunctionSpec{Urn: stepURN, Payload: payload},
		Inputs: map[string]string{"in": inSingle.input}, Outputs: map[string]string{"out": inSingle.output}, EnvironmentId: env,
	}
	if err := b.port(inSingle.write, urn.DataSink, out, global, map[string]string{"in": inSingle.output}, nil); err != nil {
		return nil, err
	}
	return marshal(b.pbd)
}

// merging makes coders and keeps the first error.
type merging struct {
	table *coderTable
	name  string
	err   error
}

func (m *merging) make(name, coderURN string, components ...string) string {
	if m.err != nil {
		return ""
	}
	id, err := m.table.intern(m.name+".merge."+name, coderURN, nil, components...)
	m.err = err
	return id
}
