package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// impulsePipeline is the smallest pipeline that compiles.
func impulsePipeline() *pipepb.Pipeline {
	return &pipepb.Pipeline{
		RootTransformIds: []string{"t"},
		Components: &pipepb.Components{
			Transforms: map[string]*pipepb.PTransform{"t": {
				UniqueName: "Begin", Spec: &pipepb.FunctionSpec{Urn: "beam:transform:impulse:v1"}, Outputs: map[string]string{"out": "p"},
			}},
			Pcollections: map[string]*pipepb.PCollection{"p": {
				UniqueName: "begun", CoderId: "c", WindowingStrategyId: "w", IsBounded: pipepb.IsBounded_BOUNDED,
			}},
			Coders: map[string]*pipepb.Coder{
				"c": {Spec: &pipepb.FunctionSpec{Urn: "beam:coder:bytes:v1"}},
				"g": {Spec: &pipepb.FunctionSpec{Urn: "beam:coder:global_window:v1"}},
			},
			WindowingStrategies: map[string]*pipepb.WindowingStrategy{"w": {
				WindowFn: &pipepb.FunctionSpec{Urn: "beam:window_fn:global_windows:v1"}, WindowCoderId: "g",
				MergeStatus: pipepb.MergeStatus_NON_MERGING, AccumulationMode: pipepb.AccumulationMode_DISCARDING,
				OutputTime: pipepb.OutputTime_END_OF_WINDOW, ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY,
				OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_ALWAYS,
				Trigger:        &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
			}},
		},
	}
}

func TestPlan(t *testing.T) {
	good, bad := impulsePipeline(), impulsePipeline()
	bad.Components.Transforms["t"].Spec.Urn = "beam:transform:unheard_of:v1"
	binary, err := proto.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	refused, err := proto.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		content []byte
		args    []string
		code    int
		says    string
	}{
		{"binary", binary, nil, 0, "Begin"},
		{"JSON", append([]byte("\n  "), text...), nil, 0, "Begin"},
		{"as JSON", binary, []string{"--json"}, 0, `"Stages"`},
		{"refused", refused, nil, exitFailed, "Begin"},
		{"rubbish", []byte("rubbish"), nil, exitFailed, "pipeline-unreadable"},
		{"rubbish JSON", []byte(`{"x": 1}`), nil, exitFailed, "pipeline-unreadable"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pipeline")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			term, out, stderr := testTerminal(nil)
			code := execute(context.Background(), term, append([]string{"plan", path}, c.args...))
			if all := out.String() + stderr.String(); code != c.code || !strings.Contains(all, c.says) {
				t.Errorf("exit code %d, want %d; %q not in: %s", code, c.code, c.says, all)
			}
		})
	}
}

func TestPlanFromStdin(t *testing.T) {
	binary, err := proto.Marshal(impulsePipeline())
	if err != nil {
		t.Fatal(err)
	}
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(binary); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	term, out, stderr := testTerminal(nil)
	term.in = in
	if code := execute(context.Background(), term, []string{"plan", "-"}); code != 0 || out.String() == "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"plan"}, {"nonsense"}, {"serve", "--nonsense"}, {"run"}, {"jobs", "describe"}, {"serve", "extra"}} {
		term, _, stderr := testTerminal(nil)
		if code := execute(context.Background(), term, args); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, exitUsage, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"version", "--json"}} {
		term, out, _ := testTerminal(nil)
		if code := execute(context.Background(), term, args); code != 0 || !strings.Contains(out.String(), readVersion().Version) {
			t.Errorf("%v: exit code %d: %s", args, code, out)
		}
	}
}
