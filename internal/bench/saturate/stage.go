package saturate

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate"
)

// Codes; docs/errors/bench.md has a section for each.
const (
	codePython fault.Code = "bench-python"
	codeStage  fault.Code = "bench-stage"
	codeResult fault.Code = "bench-result"
	codeStall  fault.Code = "bench-stalled"
)

// Stage is what a harness is kept busy with.
type Stage struct {
	Name        string
	Plan        *plan.Stage
	Environment *pipepb.Environment
	Sample      *Sample
	// Of the job that it was taken from, if any: what its harness fetches.
	Options                          *structpb.Struct
	JobID                            string
	ArtifactEndpoint, RetrievalToken string
	// Identity says that as many bytes must come out as went in.
	Identity bool
}

// Needs says what a stage's bundles need besides elements, for which an engine must run them; "" if that is nothing. The error is that of
// a stage whose bundles cannot be measured at all.
func Needs(s *plan.Stage, input *plan.Edge) (string, error) {
	why := ""
	switch {
	case s.Kind != plan.Harness:
		why = "runs in the runner, not in a harness"
	case input == nil:
		why = "has no input of elements"
	case s.Splittable != nil:
		why = "processes restrictions of a splittable DoFn, each of which is as much work as it likes"
	case s.TimeSorted:
		why = "takes its input in the order of time, for which it waits for the watermark"
	case len(s.States) > 0:
		return "state", nil
	case len(s.Timers) > 0:
		return "timers", nil
	case len(s.SideInputs) > 0:
		return "side inputs", nil
	default:
		return "", nil
	}
	return "", fault.New(fault.Pipeline, codeStage, "bundles of stage %q cannot be measured: it %s", s.Name, why).
		WithHint("choose another stage with --stage")
}

//go:embed stage.py
var stageSource string

// Versions are those of the Python side.
type Versions struct {
	Python string `json:"python"`
	Beam   string `json:"apache_beam"`
}

// Identity makes the built-in stage: an identity function in the given interpreter over elements of that many bytes.
func Identity(ctx context.Context, python string, elementBytes int) (*Stage, Versions, error) {
	pipeline, versions, err := builtIn(ctx, python)
	if err != nil {
		return nil, versions, err
	}
	compiled, err := translate.Compile(pipeline, translate.Options{Name: "bench"})
	if err != nil {
		return nil, versions, err
	}
	s, err := Find(compiled, "Identity")
	if err != nil {
		return nil, versions, err
	}
	input := compiled.Edge(s.Input)
	if input == nil || input.Element != "lp" || input.Window != plan.GlobalWindow {
		return nil, versions, fault.New(fault.Internal, codeStage, "the built-in stage reads %+v, not bytes in the global window", input)
	}
	env, err := EnvironmentOf(compiled, s)
	if err != nil {
		return nil, versions, err
	}
	return &Stage{
		Name: fmt.Sprintf("identity over %d bytes", elementBytes), Plan: s, Environment: env, Identity: true,
		Sample: NewSample([][]byte{encode(bytes.Repeat([]byte{'x'}, elementBytes))}),
	}, versions, nil
}

// builtIn has the SDK write the pipeline.
func builtIn(ctx context.Context, python string) (*pipepb.Pipeline, Versions, error) {
	var versions Versions
	dir, err := os.MkdirTemp("", "padstone-bench-")
	if err != nil {
		return nil, versions, fmt.Errorf("directory for the pipeline: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "pipeline.pb")
	command := exec.CommandContext(ctx, python, "-c", stageSource, file)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr, command.WaitDelay = &stdout, &stderr, time.Second
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, versions, context.Cause(ctx)
		}
		return nil, versions, fault.New(fault.Environment, codePython, "%s: %w: %s", python, err, lastLine(stderr.String())).
			WithHint("name an interpreter that has apache-beam with --python")
	}
	if err := json.Unmarshal(stdout.Bytes(), &versions); err != nil {
		return nil, versions, fmt.Errorf("versions of %s: %w", python, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, versions, err
	}
	pipeline := &pipepb.Pipeline{}
	return pipeline, versions, proto.Unmarshal(text, pipeline)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// Find returns the stage of a transform: by its unique name, or a part of it that no other stage has.
func Find(p *plan.Plan, name string) (*plan.Stage, error) {
	var found []*plan.Stage
	for _, s := range p.Stages {
		for _, t := range s.Transforms {
			if t.Name == name {
				return s, nil
			}
			if strings.Contains(t.Name, name) && (len(found) == 0 || found[len(found)-1] != s) {
				found = append(found, s)
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var names []string
	for _, s := range p.Stages {
		if s.Kind == plan.Harness {
			names = append(names, fmt.Sprintf("%q", s.Root))
		}
	}
	return nil, fault.New(fault.Pipeline, codeStage, "%d stages have a transform named like %q", len(found), name).
		WithHint("the harness stages begin with %s", strings.Join(names, ", "))
}

// InImage has the stage run in a container of the image, whose Python must be of the same minor version as the one that made the stage.
func (s *Stage) InImage(image string) error {
	payload, err := proto.Marshal(&pipepb.DockerPayload{ContainerImage: image})
	if err != nil {
		return err
	}
	env := proto.CloneOf(s.Environment)
	env.Urn, env.Payload = "beam:env:docker:v1", payload
	s.Environment = env
	return nil
}

// EnvironmentOf returns the environment of a stage.
func EnvironmentOf(p *plan.Plan, s *plan.Stage) (*pipepb.Environment, error) {
	for _, e := range p.Environments {
		if e.ID == s.Env {
			env := &pipepb.Environment{}
			return env, proto.Unmarshal(e.Proto, env)
		}
	}
	return nil, fault.New(fault.Internal, codeStage, "stage %q has no environment", s.Name)
}

// encode writes an element of bytes: at the beginning of time, in the global window, in the pane of elements that no trigger has seen.
func encode(value []byte) []byte {
	noFiring := []byte{0x0f}
	b := coder.AppendHeader(nil, element.MinTime, 1, nil, noFiring)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}
