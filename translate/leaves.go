package translate

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// visit marks a transform on the walk.
type visit uint8

const (
	onPath visit = iota + 1 // an ancestor of the transform in hand
	read                    // done
)

// walker reads a pipeline's leaves in pipeline order, which the lists of roots and subtransforms give.
type walker struct {
	*graph
	visited map[string]visit
}

// walk reads the transform with the id; parent is the name of the one that lists it, or "".
func (w *walker) walk(id, parent string) error {
	t := w.components.GetTransforms()[id]
	if t == nil {
		return refuse(codeDanglingTransform, "transform %q is not in the pipeline", id).In(parent).WithHint(hintSDK)
	}
	switch w.visited[id] {
	case read:
		return nil // listed as a root and as a subtransform
	case onPath:
		return refuse(codeCycle, "the transform contains itself").In(t.GetUniqueName()).WithHint(hintSDK)
	}
	w.visited[id] = onPath
	defer func() { w.visited[id] = read }()
	if t.GetSpec().GetUrn() == urn.CombineGlobally {
		w.globally++
		defer func() { w.globally-- }()
	}
	known, err := w.known(id, t)
	if known || err != nil {
		return in(err, t.GetUniqueName())
	}
	if len(t.GetSubtransforms()) == 0 {
		return in(w.trivial(t), t.GetUniqueName())
	}
	return w.children(t)
}

func (w *walker) children(t *pipepb.PTransform) error {
	for _, child := range t.GetSubtransforms() {
		if err := w.walk(child, t.GetUniqueName()); err != nil {
			return err
		}
	}
	return nil
}

// known reads a transform whose URN the runner knows; it reports false for a composite that is only a name.
func (w *walker) known(id string, t *pipepb.PTransform) (bool, error) {
	spec := t.GetSpec()
	if w.options.Natives != nil && w.options.Natives(spec.GetUrn()) {
		return true, w.native(id, t)
	}
	switch spec.GetUrn() {
	case urn.Impulse:
		return true, w.runnerLeaf(impulseNode, id, t, 0, 1)
	case urn.GroupByKey:
		return true, w.runnerLeaf(groupNode, id, t, 1, 1)
	case urn.Flatten:
		return true, w.runnerLeaf(flattenNode, id, t, -1, 1)
	case urn.Reshuffle, urn.RedistributeArbitrarily, urn.RedistributeByKey:
		return true, w.runnerLeaf(reshuffleNode, id, t, 1, 1)
	case urn.ParDo:
		return true, w.parDo(id, t)
	case urn.CombinePerKey:
		return true, w.combinePerKey(id, t)
	case urn.CombinePrecombine, urn.CombineMerge, urn.CombineExtract, urn.CombineConvert, urn.CombineGroupedValues:
		return true, w.combineStep(id, t)
	case urn.PairWithRestriction, urn.SplitAndSize, urn.ProcessSizedElements:
		return true, w.parDo(id, t)
	case urn.AssignWindows:
		return true, w.assignWindows(id, t)
	case urn.MapWindows, urn.MergeWindows, urn.ToString:
		return true, w.sdkLeaf(id, t)
	case urn.CreateView:
		return true, nil // side inputs read the collection itself; nothing reads the view's output
	case urn.TestStream:
		return true, w.testStream(id, t)
	case urn.Read:
		if len(t.GetSubtransforms()) == 0 {
			return true, refuse(codeRead, "a Read that is not expressed as a splittable DoFn").
				WithHint("use an SDK that expands Read, and do not ask for the deprecated read")
		}
	}
	return false, nil
}

// trivial takes a leaf with an unknown URN: fine if it does nothing. Errors: unknown-transform.
func (w *walker) trivial(t *pipepb.PTransform) error {
	inputs := map[string]bool{}
	for _, id := range t.GetInputs() {
		inputs[id] = true
	}
	for _, id := range t.GetOutputs() {
		if !inputs[id] {
			return unknownTransform(t)
		}
	}
	// Without outputs it would be there for a side effect, such as writing: never drop that silently.
	if len(t.GetOutputs()) == 0 && len(t.GetInputs()) > 0 && t.GetSpec().GetUrn() != "" && t.GetSpec().GetUrn() != genericComposite {
		return unknownTransform(t)
	}
	return nil
}

// genericComposite is what the Python SDK calls a composite that has no URN of its own.
const genericComposite = "beam:transform:generic_composite:v1"

func unknownTransform(t *pipepb.PTransform) *fault.Error {
	return refuse(codeUnknownTransform, "the runner does not know %q, and it has no subtransforms", t.GetSpec().GetUrn()).
		WithHint("the transform is made for another runner; replace it by one that expands to standard transforms")
}

// runnerLeaf reads a transform that the runner executes.
func (w *walker) runnerLeaf(kind nodeKind, id string, t *pipepb.PTransform, inputs, outputs int) error {
	n, err := w.leaf(kind, id, t)
	if err != nil {
		return err
	}
	if err := w.mains(n, nil); err != nil {
		return err
	}
	if err := n.shape(inputs, outputs); err != nil {
		return err
	}
	return w.add(n)
}

// sdkLeaf reads a transform without side inputs that a harness executes.
func (w *walker) sdkLeaf(id string, t *pipepb.PTransform, coders ...string) error {
	n, err := w.leaf(sdkNode, id, t)
	if err != nil {
		return err
	}
	n.coders = coders
	if err := w.mains(n, nil); err != nil {
		return err
	}
	if err := n.shape(1, -1); err != nil {
		return err
	}
	return w.add(n)
}

// assignWindows reads a WindowInto. Its payload is a WindowIntoPayload, or a WindowingStrategy from Python; the window function has
// the same field number in both, and only the latter has a coder.
func (w *walker) assignWindows(id string, t *pipepb.PTransform) error {
	var strategy pipepb.WindowingStrategy
	if err := proto.Unmarshal(t.GetSpec().GetPayload(), &strategy); err != nil {
		return refuse(codePayload, "the payload does not parse: %w", err).WithHint(hintSDK)
	}
	if coder := strategy.GetWindowCoderId(); coder != "" {
		return w.sdkLeaf(id, t, coder)
	}
	return w.sdkLeaf(id, t)
}

// native reads a native source or sink; what the composite contains is not run. Errors: invalid-transform-shape,
// invalid-native-config.
func (w *walker) native(id string, t *pipepb.PTransform) error {
	kind := sourceNode
	if len(t.GetInputs()) > 0 {
		kind = sinkNode
		// What a sink puts out is nothing, whatever it declares: SDKs drop steps without outputs, so that it must declare something.
		t = &pipepb.PTransform{UniqueName: t.GetUniqueName(), Spec: t.GetSpec(), Inputs: t.GetInputs(), DisplayData: t.GetDisplayData()}
	}
	n, err := w.leaf(kind, id, t)
	if err != nil {
		return err
	}
	if err := w.mains(n, nil); err != nil {
		return err
	}
	if kind == sourceNode {
		err = n.shape(0, 1)
	} else {
		err = n.shape(1, 0)
	}
	if err != nil {
		return err
	}
	n.native = &plan.Native{URN: t.GetSpec().GetUrn(), Config: t.GetSpec().GetPayload()}
	if w.options.ValidateNative != nil {
		if err := w.options.ValidateNative(n.native.URN, n.native.Config); err != nil {
			return nativeConfig(err)
		}
	}
	return w.add(n)
}

// nativeConfig keeps the code of a connector's own error.
func nativeConfig(err error) error {
	if fault.Of(err) != nil {
		return err
	}
	return refuse(codeNativeConfig, "the configuration is not valid: %w", err).WithHint("correct the transform's arguments")
}
