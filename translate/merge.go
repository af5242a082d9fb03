package translate

import (
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

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
	s.plan.Env = env
	s.plan.Merge = &plan.WindowMerge{Read: "read", Write: "write"}
	b := &builder{graph: g, stage: &stage{env: env, plan: s.plan}, pbd: &fnpb.ProcessBundleDescriptor{
		Transforms:          map[string]*pipepb.PTransform{},
		Pcollections:        map[string]*pipepb.PCollection{},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{},
		Coders:              map[string]*pipepb.Coder{},
		Environments:        map[string]*pipepb.Environment{string(env): g.envs.chosen[env]},
	}}
	s.plan.Merge.Descriptor, err = b.merge(s, strategy)
	return err
}

// merge fills in and serialises the descriptor.
func (b *builder) merge(s *stage, strategy *pipepb.WindowingStrategy) ([]byte, error) {
	window, _, err := b.coders.window(strategy.GetWindowCoderId())
	if err != nil {
		return nil, err
	}
	m := merging{table: b.coders, name: window}
	nonce, windows := m.make("nonce", urn.CoderBytes), m.make("windows", urn.CoderIterable, window)
	in := m.make("in", urn.CoderKV, nonce, windows)
	merged := m.make("merged", urn.CoderIterable, m.make("pair", urn.CoderKV, window, windows))
	out := m.make("out", urn.CoderKV, nonce, m.make("parts", urn.CoderKV, windows, merged))
	global := m.make("global", urn.CoderGlobalWindow)
	if m.err != nil {
		return nil, m.err
	}
	const input, output, inGlobal = "input", "output", "global"
	b.pbd.WindowingStrategies[inGlobal] = &pipepb.WindowingStrategy{
		WindowFn: &pipepb.FunctionSpec{Urn: urn.GlobalWindows}, WindowCoderId: global, MergeStatus: pipepb.MergeStatus_NON_MERGING,
		Trigger:          &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		AccumulationMode: pipepb.AccumulationMode_DISCARDING, OutputTime: pipepb.OutputTime_END_OF_WINDOW,
		ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY, OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_ALWAYS,
		EnvironmentId: string(b.stage.env),
	}
	for id, coder := range map[string]string{input: in, output: out} {
		b.pbd.Pcollections[id] = &pipepb.PCollection{
			UniqueName: id, CoderId: coder, IsBounded: pipepb.IsBounded_BOUNDED, WindowingStrategyId: inGlobal,
		}
	}
	if err := b.port(s.plan.Merge.Read, urn.DataSource, in, global, nil, map[string]string{"out": input}); err != nil {
		return nil, err
	}
	payload, err := marshal(strategy.GetWindowFn())
	if err != nil {
		return nil, err
	}
	b.pbd.Transforms["merge"] = &pipepb.PTransform{
		UniqueName: s.nodes[0].name + "/MergeWindows", Spec: &pipepb.FunctionSpec{Urn: urn.MergeWindows, Payload: payload},
		Inputs: map[string]string{"in": input}, Outputs: map[string]string{"out": output}, EnvironmentId: string(b.stage.env),
	}
	if err := b.port(s.plan.Merge.Write, urn.DataSink, out, global, map[string]string{"in": output}, nil); err != nil {
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
