package translate_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/translate"
	"padstone/translate/urn"
)

// TestGolden compiles what the Python SDK submits, see testdata/pipelines/generate.py. Commands:
//
//	plan NAME          prints the plan
//	descriptors NAME   prints the descriptors of the harness stages: steps, collections, coders
func TestGolden(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "plans"), func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			pipeline := load(t, d.CmdArgs[0].Key)
			compiled, err := translate.Compile(pipeline, options(d.CmdArgs[0].Key))
			if err != nil {
				return err.Error() + "\n"
			}
			checkPlan(t, pipeline, compiled)
			switch d.Cmd {
			case "plan":
				return compiled.String()
			case "descriptors":
				return descriptors(t, compiled)
			}
			d.Fatalf(t, "unknown command")
			return ""
		})
	})
}

const (
	kafkaRead  = "padstone:transform:kafka_read:v1"
	kafkaWrite = "padstone:transform:kafka_write:v1"
)

func options(name string) translate.Options {
	return translate.Options{
		Name:    name,
		Natives: func(u string) bool { return u == kafkaRead || u == kafkaWrite },
	}
}

// load reads a pipeline and makes the stand-ins of the main job native.
func load(t testing.TB, name string) *pipepb.Pipeline {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("..", "testdata", "pipelines", name+".pb"))
	if err != nil {
		t.Fatal(err)
	}
	var p pipepb.Pipeline
	if err := proto.Unmarshal(body, &p); err != nil {
		t.Fatal(err)
	}
	if name == "main_job_streaming" {
		makeNative(t, &p)
	}
	return &p
}

// makeNative turns Read and ReadKafka into a native source, WriteKafka into a native sink, as the expansion service would.
func makeNative(t testing.TB, p *pipepb.Pipeline) {
	c := p.GetComponents()
	var reader, impulse *pipepb.PTransform
	for _, transform := range c.GetTransforms() {
		switch transform.GetUniqueName() {
		case "Read":
			impulse = transform
		case "ReadKafka":
			reader = transform
		case "WriteKafka":
			transform.Spec = &pipepb.FunctionSpec{Urn: kafkaWrite, Payload: []byte("to")}
			transform.Outputs = nil
		}
	}
	if reader == nil || impulse == nil {
		t.Fatal("the stand-ins are missing")
	}
	reader.Spec, reader.Inputs, reader.EnvironmentId = &pipepb.FunctionSpec{Urn: kafkaRead, Payload: []byte("from")}, nil, ""
	impulse.Spec, impulse.Outputs = &pipepb.FunctionSpec{}, nil
	for _, pc := range c.GetPcollections() {
		pc.IsBounded = pipepb.IsBounded_UNBOUNDED
	}
}

// pipelines lists the names of all pipelines.
func pipelines(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "pipelines", "*.pb"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pipelines: %v", err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".pb"))
	}
	return names
}

// descriptors prints the descriptors of a plan.
func descriptors(t testing.TB, p *plan.Plan) string {
	var b strings.Builder
	for _, s := range p.Stages {
		if s.Kind != plan.Harness {
			continue
		}
		fmt.Fprintf(&b, "descriptor of %q %s\n%s", s.Name, s.ID, descriptor(t, s.Descriptor))
		if s.Splittable != nil && s.Splittable.DrainDescriptor != nil {
			fmt.Fprintf(&b, "drain descriptor of %q %s\n%s", s.Name, s.ID, descriptor(t, s.Splittable.DrainDescriptor))
		}
	}
	return b.String()
}

func descriptor(t testing.TB, body []byte) string {
	var b strings.Builder
	d := parse(t, body)
	for _, id := range slices.Sorted(maps.Keys(d.GetTransforms())) {
		transform := d.GetTransforms()[id]
		fmt.Fprintf(&b, "  step %s %q %s %s -> %s", id, transform.GetUniqueName(),
			strings.TrimPrefix(transform.GetSpec().GetUrn(), "beam:transform:"), tags(transform.GetInputs()), tags(transform.GetOutputs()))
		switch transform.GetSpec().GetUrn() {
		case urn.DataSource, urn.DataSink:
			fmt.Fprintf(&b, " %s", tree(d.GetCoders(), port(t, transform).GetCoderId()))
		case urn.ParDo:
			var payload pipepb.ParDoPayload
			if err := proto.Unmarshal(transform.GetSpec().GetPayload(), &payload); err != nil {
				t.Fatal(err)
			}
			for _, family := range slices.Sorted(maps.Keys(payload.GetTimerFamilySpecs())) {
				fmt.Fprintf(&b, " timer %s %s", family, tree(d.GetCoders(), payload.GetTimerFamilySpecs()[family].GetTimerFamilyCoderId()))
			}
		}
		b.WriteByte('\n')
	}
	for _, id := range slices.Sorted(maps.Keys(d.GetPcollections())) {
		pc := d.GetPcollections()[id]
		fmt.Fprintf(&b, "  collection %s %s in %s\n", id, tree(d.GetCoders(), pc.GetCoderId()), pc.GetWindowingStrategyId())
	}
	return b.String()
}

func parse(t testing.TB, body []byte) *fnpb.ProcessBundleDescriptor {
	t.Helper()
	var d fnpb.ProcessBundleDescriptor
	if err := proto.Unmarshal(body, &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func port(t testing.TB, transform *pipepb.PTransform) *fnpb.RemoteGrpcPort {
	t.Helper()
	var p fnpb.RemoteGrpcPort
	if err := proto.Unmarshal(transform.GetSpec().GetPayload(), &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

func tags(m map[string]string) string {
	var all []string
	for _, tag := range slices.Sorted(maps.Keys(m)) {
		all = append(all, tag+"="+m[tag])
	}
	return "[" + strings.Join(all, " ") + "]"
}

// tree prints a coder as an expression.
func tree(coders map[string]*pipepb.Coder, id string) string {
	c := coders[id]
	if c == nil {
		return "MISSING:" + id
	}
	name := strings.TrimSuffix(strings.TrimPrefix(c.GetSpec().GetUrn(), "beam:coder:"), ":v1")
	if len(c.GetComponentCoderIds()) == 0 {
		return name
	}
	var parts []string
	for _, component := range c.GetComponentCoderIds() {
		parts = append(parts, tree(coders, component))
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}
