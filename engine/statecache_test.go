package engine

import (
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/plan"
)

// TestStateCacheAdvice: user state in Python with the cache turned on is what is warned of, and nothing else.
func TestStateCacheAdvice(t *testing.T) {
	environment := func(id plan.EnvID, capability string) *plan.Environment {
		raw, err := proto.Marshal(&pipepb.Environment{Capabilities: []string{"beam:coder:varint:v1", capability}})
		if err != nil {
			t.Fatal(err)
		}
		return &plan.Environment{ID: id, Proto: raw}
	}
	stateful := func(env plan.EnvID) *plan.Stage {
		return &plan.Stage{Name: "count", Env: env, States: []plan.State{{Transform: "t", Cell: "c"}}}
	}
	for name, c := range map[string]struct {
		stage *plan.Stage
		cache any
		warns bool
	}{
		"on":            {stateful("python"), 100, true},
		"on, as text":   {stateful("python"), "100", true},
		"off":           {stateful("python"), 0, false},
		"left out":      {stateful("python"), nil, false},
		"another SDK":   {stateful("java"), 100, false},
		"without state": {&plan.Stage{Name: "count", Env: "python"}, 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &plan.Plan{Stages: []*plan.Stage{c.stage}, Environments: []*plan.Environment{
				environment("python", "beam:version:sdk_base:apache/beam_python3.11_sdk:2.77.0"),
				environment("java", "beam:version:sdk_base:apache/beam_java17_sdk:2.77.0"),
			}}
			set := map[string]any{}
			if c.cache != nil {
				set["beam:option:max_cache_memory_usage_mb:v1"] = c.cache
			}
			options, err := structpb.NewStruct(set)
			if err != nil {
				t.Fatal(err)
			}
			text := stateCacheAdvice(p, options)
			if (text != "") != c.warns {
				t.Fatalf("the advice is %q", text)
			}
			if c.warns && (!strings.Contains(text, "max_cache_memory_usage_mb=100") || !strings.Contains(text, `"count"`)) {
				t.Errorf("the advice is %q", text)
			}
		})
	}
}
