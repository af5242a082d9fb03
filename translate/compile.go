package translate

import (
	"cmp"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// KeyGroupsDefault is the number of key groups of a plan whose options give none.
const KeyGroupsDefault = 256

// Options says what this installation of the runner can do. The functions may be nil: then nothing is native, every configuration
// is valid and every environment is supported.
type Options struct {
	Name      string // of the plan, for people
	KeyGroups int    // power of two; 0 is KeyGroupsDefault
	// Natives reports whether the URN names a native source (no inputs) or sink (no outputs) of ours.
	Natives func(urn string) bool
	// Opaque reports whether a native source or sink takes elements of any coder and in any windows, because it does not look into them.
	Opaque func(urn string) bool
	// ValidateNative checks the configuration of a native transform without contacting anything. A *fault.Error keeps its code.
	ValidateNative func(urn string, config []byte) error
	// EnvironmentSupported returns why harnesses of an environment cannot be run, or nil; of alternatives the first that can be is
	// taken. It is asked for no alternatives themselves. A *fault.Error keeps its code.
	EnvironmentSupported func(env *pipepb.Environment) error
	// NoFusion makes every leaf a stage of its own. NoLifting has every combine group values instead of accumulators, also one that the
	// SDK has lifted itself (but not one that it has packed, of which the steps alone are left). Neither changes what a pipeline
	// computes: who suspects an optimisation of a fault leaves it out.
	NoFusion, NoLifting bool
	// NoAssignment has SDKs assign all windows, which changes nothing either. Without fusion they do so anyway.
	NoAssignment bool
	// Spread has what a step makes of an impulse materialised, so that several harness processes share what becomes of it. Fused, it
	// would all be one bundle: what user code gets at is one element, which cannot be split.
	Spread bool
	// Cut lists collections, as plan.Edge.Collection names them, that each reader reads from an edge of its own: elements of an earlier plan
	// wait there.
	Cut []string
}

// Compile compiles a pipeline to a plan. It does not change p and keeps no reference to it. Errors are *fault.Error of kind
// Pipeline with the user's transform name; kind Internal means that an option is wrong or that the compiler is.
func Compile(p *pipepb.Pipeline, o Options) (*plan.Plan, error) {
	if o.KeyGroups == 0 {
		o.KeyGroups = KeyGroupsDefault
	}
	if o.KeyGroups < 1 || o.KeyGroups&(o.KeyGroups-1) != 0 {
		return nil, fault.New(fault.Internal, "invalid-key-groups", "%d key groups: not a power of two", o.KeyGroups)
	}
	g := newGraph(p.GetComponents(), o)
	for _, pass := range []func() error{
		func() error { return validate(p) },
		func() error { return g.read(p.GetRootTransformIds()) },
		g.views,
		g.order,
		g.resolveTypes,
		g.fuse,
		g.identify,
		g.connect,
		g.describe,
		g.describeStructures,
	} {
		if err := pass(); err != nil {
			return nil, err
		}
	}
	return g.plan()
}

func newGraph(c *pipepb.Components, o Options) *graph {
	coders := newCoderTable(c.GetCoders())
	windows := &windowTable{
		src: c.GetWindowingStrategies(), envs: c.GetEnvironments(), coders: coders, done: map[string]*plan.Windowing{},
	}
	return &graph{
		options:    o,
		components: c,
		coders:     coders,
		windows:    windows,
		envs:       newEnvTable(c.GetEnvironments(), o.EnvironmentSupported),
		pcolls:     map[string]*pcollection{},
		names:      map[string]bool{},
		ids:        map[string]bool{},
	}
}

// validate checks what needs no graph. Errors: no-root-transform, unknown-requirement.
func validate(p *pipepb.Pipeline) error {
	// One without transforms is done at once, as it is with Beam's own runners.
	if p == nil || len(p.GetRootTransformIds()) == 0 && len(p.GetComponents().GetTransforms()) > 0 {
		return refuse(codeNoRoot, "the pipeline names no root transform").WithHint(hintSDK)
	}
	for _, requirement := range p.GetRequirements() {
		switch requirement {
		case urn.RequiresStateful, urn.RequiresFinalization, urn.RequiresStableInput, urn.RequiresTimeSortedInput,
			urn.RequiresSplittable, urn.RequiresOnWindowExpiration:
		default:
			return refuse(codeUnknownRequire, "the pipeline requires %q, which the runner does not know", requirement).
				WithHint("the SDK may be newer than the runner: upgrade the runner")
		}
	}
	return nil
}

// read walks the pipeline from its roots.
func (g *graph) read(roots []string) error {
	w := &walker{graph: g, visited: map[string]visit{}}
	for _, root := range roots {
		if err := w.walk(root, ""); err != nil {
			return err
		}
	}
	return g.checkReplay()
}

// plan collects what the passes made. Errors are of kind Internal.
func (g *graph) plan() (*plan.Plan, error) {
	p := &plan.Plan{Name: g.options.Name, KeyGroups: g.options.KeyGroups, Bounded: true}
	for _, pc := range g.pcolls {
		p.Bounded = p.Bounded && (pc.producer == nil || pc.bounded())
	}
	for _, s := range g.stages {
		p.Stages = append(p.Stages, s.plan)
		p.Edges = append(p.Edges, s.edges...)
	}
	slices.SortFunc(p.Edges, func(a, b *plan.Edge) int { return cmp.Compare(a.ID, b.ID) })
	var err error
	p.Environments, err = g.environments()
	if err != nil {
		return nil, err
	}
	return p, nil
}
