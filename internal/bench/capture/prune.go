package capture

import (
	"fmt"
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
	"padstone/translate/urn"
)

// codeStage says that a stage cannot be taken out; docs/errors/bench.md has its section.
const codeStage fault.Code = "bench-stage"

// whole are the composites that the compiler reads as one: they are kept whole or not at all.
var whole = []string{urn.Reshuffle, urn.RedistributeArbitrarily, urn.RedistributeByKey, urn.CombinePerKey, urn.CreateView}

// pruner cuts a pipeline off behind a collection.
type pruner struct {
	components *pipepb.Components
	parent     map[string]string // of transforms
	producer   map[string]string // unit by collection
	keep       map[string]bool   // units
}

func newPruner(p *pipepb.Pipeline) *pruner {
	r := &pruner{
		components: proto.CloneOf(p.GetComponents()), parent: map[string]string{}, producer: map[string]string{}, keep: map[string]bool{},
	}
	for _, root := range p.GetRootTransformIds() {
		r.index(root, false)
	}
	return r
}

// upstream returns the part of a pipeline that makes a collection, with a sink for it whose URN is that of sink.
func upstream(p *pipepb.Pipeline, collection, sink string) (*pipepb.Pipeline, error) {
	r := newPruner(p)
	if err := r.need(collection); err != nil {
		return nil, err
	}
	cut := r.pipeline(p)
	const id = "padstone-bench-sample"
	cut.Components.Transforms[id] = &pipepb.PTransform{
		UniqueName: id, Spec: &pipepb.FunctionSpec{Urn: sink}, Inputs: map[string]string{"in": collection},
	}
	cut.RootTransformIds = append(cut.RootTransformIds, id)
	return cut, nil
}

// fedBy returns the part of a pipeline that some transforms need, with these themselves and nothing behind them, where a collection is made
// by a source whose URN is that of source.
func fedBy(p *pipepb.Pipeline, transforms []string, collection, source string) (*pipepb.Pipeline, error) {
	r := newPruner(p)
	r.producer[collection] = sourceID
	r.components.Transforms[sourceID] = &pipepb.PTransform{
		UniqueName: sourceID, Spec: &pipepb.FunctionSpec{Urn: source}, Outputs: map[string]string{"out": collection},
	}
	for _, id := range transforms {
		t := r.components.GetTransforms()[id]
		if t == nil {
			return nil, fault.New(fault.Pipeline, codeStage, "transform %q is not one of the pipeline's: the runner makes it", id).
				WithHint("choose another stage with --stage")
		}
		if err := r.needUnit(r.unit(id)); err != nil {
			return nil, err
		}
	}
	cut := r.pipeline(p)
	cut.RootTransformIds = append([]string{sourceID}, cut.RootTransformIds...)
	return cut, nil
}

// sourceID is the transform of the source.
const sourceID = "padstone-bench-source"

// unit returns what a transform is read as: itself, or the composite around it that is kept whole.
func (r *pruner) unit(id string) string {
	for at := id; at != ""; at = r.parent[at] {
		if slices.Contains(whole, r.components.GetTransforms()[at].GetSpec().GetUrn()) {
			id = at
		}
	}
	return id
}

// pipeline returns what is kept of p.
func (r *pruner) pipeline(p *pipepb.Pipeline) *pipepb.Pipeline {
	all := r.components.GetTransforms()
	kept := map[string]*pipepb.PTransform{}
	for id := range r.keep {
		r.keepTree(id, kept)
		for at := r.parent[id]; at != ""; at = r.parent[at] {
			kept[at] = all[at]
		}
	}
	for id, t := range kept {
		if !r.keep[id] {
			t.Subtransforms = slices.DeleteFunc(t.Subtransforms, func(child string) bool { return kept[child] == nil })
			maps.DeleteFunc(t.Outputs, func(_, collection string) bool { return !r.keep[r.producer[collection]] })
			maps.DeleteFunc(t.Inputs, func(_, collection string) bool { return !r.keep[r.producer[collection]] })
		}
	}
	r.components.Transforms = kept
	roots := slices.DeleteFunc(slices.Clone(p.GetRootTransformIds()), func(root string) bool { return kept[root] == nil })
	return &pipepb.Pipeline{Components: r.components, RootTransformIds: roots, Requirements: p.GetRequirements()}
}

// index notes what produces what below a transform. What is made inside a unit nobody else reads.
func (r *pruner) index(id string, inside bool) {
	t := r.components.GetTransforms()[id]
	if unit := len(t.GetSubtransforms()) == 0 || slices.Contains(whole, t.GetSpec().GetUrn()); unit && !inside {
		inside = true
		for _, collection := range t.GetOutputs() {
			if _, known := r.producer[collection]; !known {
				r.producer[collection] = id
			}
		}
	}
	for _, child := range t.GetSubtransforms() {
		if _, known := r.parent[child]; !known {
			r.parent[child] = id
			r.index(child, inside)
		}
	}
}

// need keeps what makes a collection.
func (r *pruner) need(collection string) error {
	id, ok := r.producer[collection]
	if !ok {
		return fault.New(fault.Pipeline, codeStage, "no transform of the pipeline puts out collection %q: the runner makes it", collection).
			WithHint("choose another stage with --stage")
	}
	return r.needUnit(id)
}

// needUnit keeps a unit with what it needs.
func (r *pruner) needUnit(id string) error {
	if r.keep[id] {
		return nil
	}
	r.keep[id] = true
	t := r.components.GetTransforms()[id]
	for _, name := range slices.Sorted(maps.Keys(t.GetInputs())) {
		if err := r.need(t.GetInputs()[name]); err != nil {
			return fmt.Errorf("input of %q: %w", t.GetUniqueName(), err)
		}
	}
	return nil
}

// keepTree keeps a transform with all below it.
func (r *pruner) keepTree(id string, kept map[string]*pipepb.PTransform) {
	if kept[id] != nil {
		return
	}
	t := r.components.GetTransforms()[id]
	kept[id] = t
	for _, child := range t.GetSubtransforms() {
		r.keepTree(child, kept)
	}
}
