package jobserver

import (
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
)

func environmentFor(t *testing.T, kind, config string) *pipepb.Environment {
	t.Helper()
	env, err := makeEnvironment(kind, config)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestOverride(t *testing.T) {
	const java = "apache/beam_java17_sdk:2.77.0"
	for _, c := range []struct {
		name      string
		overrides []string
		images    string // of the pipeline option for images
		env       *pipepb.Environment
		want      string // what it runs then
	}{
		{"an image with any tag", []string{"apache/beam_java17_sdk=EXTERNAL:pool:50000"}, "", environmentFor(t, "DOCKER", java), "EXTERNAL pool:50000"},
		{"an image with its tag", []string{java + "=EXTERNAL:a:1,b:2"}, "", environmentFor(t, "DOCKER", java), "EXTERNAL a:1,b:2"},
		{"an image with another tag", []string{"apache/beam_java17_sdk:2.76.0=EXTERNAL:pool:50000"}, "", environmentFor(t, "DOCKER", java), ""},
		{"any image of a language", []string{"*beam_java*=DOCKER:my/java:1"}, "", environmentFor(t, "DOCKER", java), "DOCKER my/java:1"},
		{"a registry's port is no tag", []string{"here:5000/java=DOCKER:my/java:1"}, "", environmentFor(t, "DOCKER", "here:5000/java@sha256:00"), "DOCKER my/java:1"},
		{"all of a kind", []string{"beam:env:docker:v1=PROCESS:/opt/boot"}, "", environmentFor(t, "DOCKER", java), "PROCESS /opt/boot"},
		{"JSON", []string{`*java*=PROCESS:{"command": "/opt/boot", "env": {"A": "b,c=d"}}`}, "", environmentFor(t, "DOCKER", java), "PROCESS /opt/boot"},
		{"a pool", []string{"old:1=EXTERNAL:new:1"}, "", environmentFor(t, "EXTERNAL", "old:1"), "EXTERNAL new:1"},
		{"a command", []string{"/opt/*=EXTERNAL:new:1"}, "", environmentFor(t, "PROCESS", "/opt/boot"), "EXTERNAL new:1"},
		{"a dot is a dot", []string{"apache/beam.java17_sdk=EXTERNAL:pool:1"}, "", environmentFor(t, "DOCKER", java), ""},
		{"the first that fits", []string{"x*=EXTERNAL:x:1", "apache/*=EXTERNAL:y:1", "*=EXTERNAL:z:1"}, "", environmentFor(t, "DOCKER", java), "EXTERNAL y:1"},
		{"by Beam's option", nil, ".*java.*,my/java:1", environmentFor(t, "DOCKER", java), "DOCKER my/java:1"},
		{"by Beam's option, a part", nil, "^apache/,mirror.local/", environmentFor(t, "DOCKER", java), "DOCKER mirror.local/beam_java17_sdk:2.77.0"},
		{"Beam's option is for images", nil, ".*,my/java:1", environmentFor(t, "EXTERNAL", "java:1"), ""},
		{"an alternative", []string{"apache/*=EXTERNAL:pool:1"}, "", alternativesOf(t, environmentFor(t, "DOCKER", java), environmentFor(t, "EXTERNAL", "old:1")),
			"any of EXTERNAL pool:1, EXTERNAL old:1"},
		{"of alternatives, none", []string{"python*=EXTERNAL:pool:1"}, "", alternativesOf(t, environmentFor(t, "DOCKER", java)), ""},
	} {
		was := EnvironmentText(c.env)
		p := &pipepb.Pipeline{Components: &pipepb.Components{Environments: map[string]*pipepb.Environment{"java": c.env}}}
		c.env.Capabilities = []string{"kept"}
		fields := map[string]any{}
		if c.overrides != nil {
			list := make([]any, len(c.overrides))
			for i, text := range c.overrides {
				list[i] = text
			}
			fields["beam:option:environment_override:v1"] = list
		}
		if c.images != "" {
			fields["beam:option:sdk_harness_container_image_overrides:v1"] = c.images
		}
		options, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		overrides, err := jobOverrides(options)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		notes := strings.Join(override(p, overrides), "; ")
		if c.want == "" {
			if notes != "" || EnvironmentText(c.env) != was || EnvironmentReplaces(c.env) != "" {
				t.Errorf("%s: replaced: %s", c.name, notes)
			}
			continue
		}
		if got := EnvironmentText(c.env); got != c.want || EnvironmentReplaces(c.env) != was || len(c.env.GetCapabilities()) != 1 {
			t.Errorf("%s: %s instead of %q, want %s", c.name, got, EnvironmentReplaces(c.env), c.want)
		}
		if !strings.Contains(notes, c.want+" instead of "+was) || !strings.Contains(notes, `environment "java"`) {
			t.Errorf("%s: %s", c.name, notes)
		}
	}
}

func alternativesOf(t *testing.T, all ...*pipepb.Environment) *pipepb.Environment {
	t.Helper()
	payload, err := proto.Marshal(&pipepb.AnyOfEnvironmentPayload{Environments: all})
	if err != nil {
		t.Fatal(err)
	}
	return &pipepb.Environment{Urn: urnOf(pipepb.StandardEnvironments_ANYOF), Payload: payload}
}

func TestOverridesThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "no pattern",
		"EXTERNAL:host:1":          "no pattern",
		"=EXTERNAL:host:1":         "no pattern",
		"a=":                       "cannot be had",
		"a=MAINFRAME:x":            `"MAINFRAME" cannot be had`,
		"a=EXTERNAL":               "without a configuration",
		"a=DOCKER: ":               "without a configuration",
		`a=PROCESS:{"command": 5}`: "no JSON",
		`a=EXTERNAL:{"url": }`:     "configuration",
	} {
		_, err := ParseEnvironmentOverride(text)
		if f := fault.Of(err); f == nil || f.Code != codeOverride || f.Hint == "" || !strings.Contains(f.Msg, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "java", "(,image", "java,"} {
		_, err := parseImageOverride(text)
		if f := fault.Of(err); f == nil || f.Code != codeOverride {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestOverridesThatFitNothing are told of, with what there is: they may be misspelt.
func TestOverridesThatFitNothing(t *testing.T) {
	p := &pipepb.Pipeline{Components: &pipepb.Components{Environments: map[string]*pipepb.Environment{
		"one": environmentFor(t, "DOCKER", "apache/beam_java17_sdk:2.77.0"),
		"two": alternativesOf(t, environmentFor(t, "PROCESS", "boot"), environmentFor(t, "EXTERNAL", "pool:1")),
	}}}
	var overrides []EnvironmentOverride
	for _, text := range []string{"apache/beam_java71_sdk=EXTERNAL:a:1", "apache/beam_java*=EXTERNAL:a:1", "pool:1=EXTERNAL:a:1"} {
		o, err := ParseEnvironmentOverride(text)
		if err != nil {
			t.Fatal(err)
		}
		overrides = append(overrides, o)
	}
	notes := unfitting(p, overrides)
	if len(notes) != 1 || !strings.Contains(notes[0], "java71") || !strings.Contains(notes[0], "DOCKER apache/beam_java17_sdk:2.77.0") {
		t.Errorf("%q", notes)
	}
}

// TestReplacedTwice: what the pipeline came with counts.
func TestReplacedTwice(t *testing.T) {
	env := environmentFor(t, "EXTERNAL", "a:1")
	noteReplaced(env, "DOCKER first")
	noteReplaced(env, "DOCKER second")
	env.DisplayData = append(env.DisplayData, &pipepb.DisplayData{Urn: urnOf(pipepb.StandardDisplayData_LABELLED), Payload: []byte{0xff}})
	if got := EnvironmentReplaces(env); got != "DOCKER first" {
		t.Errorf("%q", got)
	}
}
