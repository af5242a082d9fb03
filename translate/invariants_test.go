package translate_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/engine/coder"
	"padstone/engine/plan"
	"padstone/translate"
	"padstone/translate/urn"
)

// TestInvariants checks every pipeline's plan, and that compiling changes neither the pipeline nor, the second time, a byte.
func TestInvariants(t *testing.T) {
	for _, name := range pipelines(t) {
		t.Run(name, func(t *testing.T) {
			p := load(t, name)
			before := proto.CloneOf(p)
			compiled := compile(t, p, name)
			checkPlan(t, p, compiled)
			if !proto.Equal(before, p) {
				t.Error("Compile changed the pipeline")
			}
			want := encode(t, compiled)
			for seed := range int64(10) {
				if got := encode(t, compile(t, permuted(p, seed), name)); got != want {
					t.Fatalf("seed %d: another plan comes out when maps are built in another order", seed)
				}
			}
			var back plan.Plan
			if err := json.Unmarshal([]byte(want), &back); err != nil || back.String() != compiled.String() {
				t.Errorf("the plan does not survive JSON: %v", err)
			}
		})
	}
}

// TestWithoutOptimisations compiles every pipeline without fusion and lifting: a harness stage has one step then, and no step
// makes accumulators before a grouping, but where the SDK packed combines: nothing is left of the combines themselves then. The runner
// assigns no windows.
func TestWithoutOptimisations(t *testing.T) {
	for _, name := range pipelines(t) {
		t.Run(name, func(t *testing.T) {
			o := options(name)
			o.NoFusion, o.NoLifting = true, true
			compiled, err := translate.Compile(load(t, name), o)
			if err != nil {
				t.Fatal(err)
			}
			checkStages(t, compiled)
			for _, s := range compiled.Stages {
				if len(s.Transforms) != 1 {
					t.Errorf("stage %q has the steps %v", s.Name, s.Transforms)
				}
				for _, step := range s.Transforms {
					if (step.URN == urn.CombinePrecombine || step.URN == urn.CombineMerge) && name != "packed" {
						t.Errorf("%q is lifted: %s", step.Name, step.URN)
					}
					if step.Assigned {
						t.Errorf("the runner assigns the windows of %q", step.Name)
					}
				}
			}
		})
	}
}

func compile(t testing.TB, p *pipepb.Pipeline, name string) *plan.Plan {
	t.Helper()
	compiled, err := translate.Compile(p, options(name))
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func encode(t testing.TB, p *plan.Plan) string {
	t.Helper()
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// permuted returns a copy with every map of the components built anew in a random order.
func permuted(p *pipepb.Pipeline, seed int64) *pipepb.Pipeline {
	r := rand.New(rand.NewSource(seed))
	out := proto.CloneOf(p)
	c := out.GetComponents()
	c.Transforms = shuffled(r, c.GetTransforms())
	c.Pcollections = shuffled(r, c.GetPcollections())
	c.Coders = shuffled(r, c.GetCoders())
	c.WindowingStrategies = shuffled(r, c.GetWindowingStrategies())
	c.Environments = shuffled(r, c.GetEnvironments())
	for _, transform := range c.GetTransforms() {
		transform.Inputs = shuffled(r, transform.GetInputs())
		transform.Outputs = shuffled(r, transform.GetOutputs())
	}
	return out
}

func shuffled[V any](r *rand.Rand, m map[string]V) map[string]V {
	keys := slices.Sorted(maps.Keys(m))
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	out := make(map[string]V, r.Intn(64))
	for _, k := range keys {
		out[k] = m[k]
	}
	return out
}

// checkPlan checks what holds of every plan.
func checkPlan(t testing.TB, p *pipepb.Pipeline, compiled *plan.Plan) {
	t.Helper()
	seen := checkStages(t, compiled)
	checkLeaves(t, p, seen)
}

// checkStages checks what does not need the pipeline; it returns the ids of all transforms in stages.
func checkStages(t testing.TB, compiled *plan.Plan) map[string]bool {
	t.Helper()
	place := map[plan.StageID]int{}
	seen := map[string]bool{}
	for i, s := range compiled.Stages {
		if _, ok := place[s.ID]; ok {
			t.Errorf("two stages are %s", s.ID)
		}
		place[s.ID] = i
		if len(s.Transforms) == 0 || s.Name == "" {
			t.Errorf("stage %s has no transforms or no name", s.ID)
		}
		if (s.Kind == plan.Harness || s.Merge != nil || s.Compact != nil) != (s.Env != "") {
			t.Errorf("stage %q: kind %s in environment %q", s.Name, s.Kind, s.Env)
		}
		if merges := s.Kind == plan.Group && s.Windowing.Kind == plan.MergingCustom; merges != (s.Merge != nil) {
			t.Errorf("stage %q: kind %s, windows %s, merge %v", s.Name, s.Kind, s.Windowing, s.Merge)
		}
		for _, step := range s.Transforms {
			if seen[step.ID] {
				t.Errorf("transform %s is in two stages", step.ID)
			}
			seen[step.ID] = true
		}
	}
	checkEdges(t, compiled, place)
	for _, s := range compiled.Stages {
		if s.Merge != nil { // a stage of its own, as far as the SDK can see
			checkDescriptor(t, &plan.Stage{
				Name: s.Name, InputRead: s.Merge.Read, Outputs: []plan.Output{{Write: s.Merge.Write, Edges: []plan.EdgeID{"merged"}}},
			}, s.Merge.Descriptor, false)
		}
		if c := s.Compact; c != nil {
			if s.Kind != plan.Group || !s.Windowing.Accumulating {
				t.Errorf("stage %q: kind %s, windows %s, compacted", s.Name, s.Kind, s.Windowing)
			}
			checkDescriptor(t, &plan.Stage{
				Name: s.Name, InputRead: c.Read, Outputs: []plan.Output{{Write: c.Write, Edges: []plan.EdgeID{"compacted"}}},
			}, c.Descriptor, false)
		}
		if s.Kind == plan.Harness {
			checkDescriptor(t, s, s.Descriptor, false)
			checkWindows(t, compiled, s, s.Descriptor, false)
			if s.Unlifted != nil {
				checkDescriptor(t, s, s.Unlifted, true)
				checkWindows(t, compiled, s, s.Unlifted, true)
			}
			if s.Splittable != nil && s.Splittable.DrainDescriptor != nil {
				checkDescriptor(t, s, s.Splittable.DrainDescriptor, false)
			}
		}
		checkStage(t, compiled, s)
	}
	return seen
}

// checkEdges checks that edges go forward in the order of stages, that both ends know of them and that they can be framed.
func checkEdges(t testing.TB, compiled *plan.Plan, place map[plan.StageID]int) {
	t.Helper()
	fed := map[plan.EdgeID][]plan.StageID{}
	read := map[plan.EdgeID]bool{}
	for _, s := range compiled.Stages {
		read[s.Input] = true
		for _, side := range s.SideInputs {
			read[side.Edge] = true
		}
		for _, out := range s.Outputs {
			for _, e := range out.Edges {
				fed[e] = append(fed[e], s.ID)
			}
		}
	}
	if !slices.IsSortedFunc(compiled.Edges, func(a, b *plan.Edge) int { return cmp.Compare(a.ID, b.ID) }) {
		t.Error("edges are not sorted")
	}
	for _, e := range compiled.Edges {
		for _, producer := range e.Producers {
			if place[producer] >= place[e.Consumer] {
				t.Errorf("edge %q goes backward", e.Name)
			}
			if !slices.Contains(fed[e.ID], producer) {
				t.Errorf("edge %q is not an output of its producer", e.Name)
			}
		}
		for _, s := range fed[e.ID] {
			if !slices.Contains(e.Producers, s) {
				t.Errorf("edge %q does not know its producer %s", e.Name, s)
			}
		}
		if !read[e.ID] {
			t.Errorf("nothing reads edge %q", e.Name)
		}
		program, err := coder.Compile(e.Element)
		if err != nil {
			t.Errorf("edge %q: %v", e.Name, err)
		} else if e.Kind == plan.Keyed && !program.IsKV() {
			t.Errorf("edge %q is keyed, but its elements are %s", e.Name, e.Element)
		}
	}
}

// checkLeaves checks that every leaf that an SDK or the runner executes is in a stage. Flattens and reshuffles may dissolve.
func checkLeaves(t testing.TB, p *pipepb.Pipeline, seen map[string]bool) {
	t.Helper()
	var walk func(id string)
	walk = func(id string) {
		transform := p.GetComponents().GetTransforms()[id]
		switch transform.GetSpec().GetUrn() {
		case urn.Reshuffle, urn.RedistributeArbitrarily, urn.RedistributeByKey, urn.Flatten:
			return
		case urn.CombinePerKey:
			inAccumulators := seen[id+"/Precombine"] || seen[id+"/Convert"]
			if len(transform.GetSubtransforms()) > 0 && !inAccumulators {
				break
			}
			if !inAccumulators && !seen[id+"/CombineValues"] {
				t.Errorf("combine %q is in no stage", transform.GetUniqueName())
			}
			return
		case urn.ParDo, urn.GroupByKey, urn.Impulse, urn.AssignWindows, urn.CombinePrecombine, urn.CombineMerge, urn.CombineExtract,
			urn.CombineGroupedValues, urn.TestStream, kafkaRead, kafkaWrite:
			if !seen[id] {
				t.Errorf("transform %q is in no stage", transform.GetUniqueName())
			}
			return
		}
		for _, child := range transform.GetSubtransforms() {
			walk(child)
		}
	}
	for _, root := range p.GetRootTransformIds() {
		walk(root)
	}
}

// checkStage checks what hangs together within a stage.
func checkStage(t testing.TB, compiled *plan.Plan, s *plan.Stage) {
	t.Helper()
	if (s.Kind == plan.Impulse || s.Kind == plan.Source || s.Kind == plan.TestStream) != (s.Input == "") {
		t.Errorf("stage %q of kind %s has input %q", s.Name, s.Kind, s.Input)
	}
	if s.Script != nil && len(s.Script.Tags) != len(s.Outputs) || (s.Script != nil) != (s.Kind == plan.TestStream) {
		t.Errorf("stage %q of kind %s has %d outputs, script %s", s.Name, s.Kind, len(s.Outputs), s.Script)
	}
	if s.Input != "" {
		if e := compiled.Edge(s.Input); (e.Kind == plan.Keyed) != (s.KeyCoder != "") || e.Consumer != s.ID {
			t.Errorf("stage %q: edge %s, key %q", s.Name, e.Kind, s.KeyCoder)
		}
	}
	for _, timer := range s.Timers {
		if want := "timer(" + s.KeyCoder + "," + string(timer.Window) + ")"; timer.Element != want {
			t.Errorf("stage %q: timers are %s, want %s", s.Name, timer.Element, want)
		}
	}
	if (len(s.States)+len(s.Timers) > 0 || s.Kind == plan.Group) != (s.Windowing != nil) {
		t.Errorf("stage %q: windowing is %s", s.Name, s.Windowing)
	}
}

// checkDescriptor checks that a descriptor is whole, has one source, and a data sink for each output of the plan.
func checkDescriptor(t testing.TB, s *plan.Stage, body []byte, unlifted bool) {
	t.Helper()
	d := parse(t, body)
	produced := map[string]bool{}
	sinks := 0
	for id, transform := range d.GetTransforms() {
		for _, pc := range transform.GetOutputs() {
			produced[pc] = true
		}
		switch transform.GetSpec().GetUrn() {
		case urn.DataSource:
			if id != s.InputRead {
				t.Errorf("stage %q: data source %s, want %s", s.Name, id, s.InputRead)
			}
		case urn.DataSink:
			sinks++
			if !slices.ContainsFunc(s.Outputs, func(o plan.Output) bool { return o.Write == id && len(o.Edges) > 0 }) {
				t.Errorf("stage %q: data sink %s is not an output", s.Name, id)
			}
		}
	}
	if sinks != len(s.Outputs) {
		t.Errorf("stage %q: %d data sinks, %d outputs", s.Name, sinks, len(s.Outputs))
	}
	sides := map[string]bool{}
	for _, side := range s.SideInputs {
		reader := d.GetTransforms()[side.Transform]
		if reader == nil && (s.Splittable == nil || side.Transform != s.Splittable.Truncate) {
			t.Errorf("stage %q: transform %s with a side input is not in the descriptor", s.Name, side.Transform)
		}
		sides[reader.GetInputs()[side.Local]] = true
	}
	for _, transform := range d.GetTransforms() {
		for _, pc := range transform.GetInputs() {
			if !produced[pc] && !sides[pc] {
				t.Errorf("stage %q: nothing produces %s, which %q reads", s.Name, pc, transform.GetUniqueName())
			}
		}
	}
	for _, step := range s.Transforms {
		leftOut := step.Assigned || unlifted && step.URN == urn.AssignWindows
		if there := d.GetTransforms()[step.ID] != nil; there && step.Assigned || !there && !leftOut {
			t.Errorf("stage %q: transform %s in the descriptor: %v", s.Name, step.ID, there)
		}
	}
	checkReferences(t, s, d)
}

// checkWindows checks that each data sink of a descriptor is in the windows that its edges have, or that the runner makes those of.
func checkWindows(t testing.TB, compiled *plan.Plan, s *plan.Stage, body []byte, unlifted bool) {
	t.Helper()
	d := parse(t, body)
	for _, out := range s.Outputs {
		var port fnpb.RemoteGrpcPort
		if err := proto.Unmarshal(d.GetTransforms()[out.Write].GetSpec().GetPayload(), &port); err != nil {
			t.Fatal(err)
		}
		coding := d.GetCoders()[d.GetCoders()[port.GetCoderId()].GetComponentCoderIds()[1]].GetSpec().GetUrn()
		local := d.GetWindowingStrategies()[d.GetPcollections()[out.Local].GetWindowingStrategyId()]
		if own := d.GetCoders()[local.GetWindowCoderId()].GetSpec().GetUrn(); own != coding && coding != urn.CoderCustomWindow {
			t.Errorf("stage %q: %s in windows of %s is written in those of %s", s.Name, out.Local, own, coding)
		}
		for _, id := range out.Edges {
			e := compiled.Edge(id)
			want, a := e.Window, out.Assigned[id]
			if unlifted && a == nil {
				a = out.AssignedUnlifted[id]
			}
			if a != nil {
				want = a.From
				if a.Windowing.Coding != e.Window {
					t.Errorf("stage %q: edge %q in %s windows is assigned %s", s.Name, e.Name, e.Window, a.Windowing)
				}
			}
			if !strings.HasPrefix(coding, "beam:coder:"+string(want)+"_window") {
				t.Errorf("stage %q: %s is written in windows of %s, edge %q wants %s", s.Name, out.Local, coding, e.Name, want)
			}
		}
	}
}

// checkReferences checks that every id in a descriptor resolves, and that nothing is in it that nothing refers to.
func checkReferences(t testing.TB, s *plan.Stage, d *fnpb.ProcessBundleDescriptor) {
	t.Helper()
	coders := map[string]bool{}
	var use func(id string)
	use = func(id string) {
		if d.GetCoders()[id] == nil {
			t.Errorf("stage %q: coder %s is missing", s.Name, id)
			return
		}
		coders[id] = true
		for _, component := range d.GetCoders()[id].GetComponentCoderIds() {
			use(component)
		}
	}
	for id, pc := range d.GetPcollections() {
		use(pc.GetCoderId())
		if d.GetWindowingStrategies()[pc.GetWindowingStrategyId()] == nil {
			t.Errorf("stage %q: collection %s has no windowing strategy", s.Name, id)
		}
	}
	for _, strategy := range d.GetWindowingStrategies() {
		use(strategy.GetWindowCoderId())
	}
	for _, transform := range d.GetTransforms() {
		if d.GetEnvironments()[transform.GetEnvironmentId()] == nil {
			t.Errorf("stage %q: transform %q has no environment", s.Name, transform.GetUniqueName())
		}
		for _, id := range payloadCoders(t, transform) {
			use(id)
		}
		for _, pc := range transform.GetInputs() {
			if d.GetPcollections()[pc] == nil {
				t.Errorf("stage %q: collection %s is missing", s.Name, pc)
			}
		}
		for _, pc := range transform.GetOutputs() {
			if d.GetPcollections()[pc] == nil {
				t.Errorf("stage %q: collection %s is missing", s.Name, pc)
			}
		}
	}
	for id := range d.GetCoders() {
		if !coders[id] {
			t.Errorf("stage %q: nothing refers to coder %s", s.Name, id)
		}
	}
}

// payloadCoders finds the coder ids in a payload by the names of its fields.
func payloadCoders(t testing.TB, transform *pipepb.PTransform) []string {
	t.Helper()
	var m proto.Message
	switch transform.GetSpec().GetUrn() {
	case urn.ParDo, urn.PairWithRestriction, urn.SplitAndSize, urn.ProcessSizedElements, urn.TruncateSized:
		m = &pipepb.ParDoPayload{}
	case urn.CombinePrecombine, urn.CombineMerge, urn.CombineExtract, urn.CombineConvert, urn.CombineGroupedValues:
		m = &pipepb.CombinePayload{}
	case urn.DataSource, urn.DataSink:
		m = &fnpb.RemoteGrpcPort{}
	case urn.AssignWindows:
		m = &pipepb.WindowingStrategy{}
	default:
		return nil
	}
	if err := proto.Unmarshal(transform.GetSpec().GetPayload(), m); err != nil {
		t.Fatal(err)
	}
	var ids []string
	collectCoders(m.ProtoReflect(), &ids)
	return ids
}

func collectCoders(m protoreflect.Message, ids *[]string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			if f.MapValue().Kind() == protoreflect.MessageKind {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					collectCoders(v.Message(), ids)
					return true
				})
			}
		case f.IsList():
		case f.Kind() == protoreflect.MessageKind:
			collectCoders(v.Message(), ids)
		case f.Kind() == protoreflect.StringKind && strings.HasSuffix(string(f.Name()), "coder_id"):
			if v.String() != "" {
				*ids = append(*ids, v.String())
			}
		}
		return true
	})
}
