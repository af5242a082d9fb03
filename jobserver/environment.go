package jobserver

import (
	"cmp"
	"encoding/json"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/internal/fault"
)

// codeOverride refuses an environment that is to take another one's place.
const codeOverride fault.Code = "environment-override"

// makeEnvironment returns an environment of the kind and configuration, given as Beam's options environment_type and environment_config
// are. Spec: python environments.py DockerEnvironment, ExternalEnvironment, ProcessEnvironment.
func makeEnvironment(kind, config string) (*pipepb.Environment, error) {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Pipeline, codeOverride, format, args...).
			WithHint(`give EXTERNAL with host:port, PROCESS with {"command": "/path/to/python"}, or DOCKER with an image`)
	}
	config = strings.TrimSpace(config)
	isJSON := strings.HasPrefix(config, "{")
	var id pipepb.StandardEnvironments_Environments
	var payload proto.Message
	switch strings.ToUpper(kind) {
	case "EXTERNAL":
		id = pipepb.StandardEnvironments_EXTERNAL
		external := struct {
			URL    string            `json:"url"`
			Params map[string]string `json:"params"`
		}{URL: config}
		if isJSON {
			external.URL = ""
			if err := json.Unmarshal([]byte(config), &external); err != nil {
				return nil, refuse("the environment's configuration: %w", err)
			}
		}
		payload = &pipepb.ExternalPayload{Endpoint: &pipepb.ApiServiceDescriptor{Url: external.URL}, Params: external.Params}
	case "PROCESS":
		id = pipepb.StandardEnvironments_PROCESS
		process := struct {
			Command string            `json:"command"`
			OS      string            `json:"os"`
			Arch    string            `json:"arch"`
			Env     map[string]string `json:"env"`
		}{Command: config}
		if isJSON {
			process.Command = ""
			if err := json.Unmarshal([]byte(config), &process); err != nil {
				return nil, refuse("the environment's configuration is no JSON: %w", err)
			}
		}
		payload = &pipepb.ProcessPayload{Command: process.Command, Os: process.OS, Arch: process.Arch, Env: process.Env}
	case "DOCKER":
		id = pipepb.StandardEnvironments_DOCKER
		payload = &pipepb.DockerPayload{ContainerImage: config}
	default:
		return nil, refuse("an environment of type %q cannot be had here", kind)
	}
	if config == "" {
		return nil, refuse("an environment of type %s without a configuration", strings.ToUpper(kind))
	}
	encoded, err := proto.Marshal(payload)
	if err != nil {
		return nil, refuse("the environment's configuration: %w", err)
	}
	return &pipepb.Environment{Urn: urnOf(id), Payload: encoded}, nil
}

// overrideEnvironment replaces the pipeline's environment. Dependencies and capabilities stay.
func overrideEnvironment(pipeline *pipepb.Pipeline, kind, config string) error {
	with, err := makeEnvironment(kind, config)
	if err != nil {
		return err
	}
	// Of several, it could not be said which is meant; and two that become equal would be fused, which changes what rows belong to.
	different := make(map[string]bool)
	for _, env := range pipeline.GetComponents().GetEnvironments() {
		different[env.GetUrn()+"\x00"+string(env.GetPayload())] = true
	}
	if len(different) > 1 {
		return fault.New(fault.Pipeline, codeOverride, "the pipeline has %d different environments", len(different)).
			WithHint("restore the job where its environments are")
	}
	for _, env := range pipeline.GetComponents().GetEnvironments() {
		env.Urn, env.Payload = with.GetUrn(), with.GetPayload()
	}
	return nil
}

// urnOf reads the URN of a standard environment, or kind of display data, from its proto.
func urnOf(kind protoreflect.Enum) string {
	options := kind.Descriptor().Values().ByNumber(kind.Number()).Options()
	urn, _ := proto.GetExtension(options, pipepb.E_BeamUrn).(string)
	return urn
}

// EnvironmentText says what an environment is, for people: its type and what it runs.
func EnvironmentText(env *pipepb.Environment) string {
	kind, what := environmentParts(env)
	return strings.TrimSpace(kind + " " + what)
}

// environmentParts returns the type of an environment, its URN if it is of no standard type, and what it runs: an image, the address of a
// pool, a command. "": its payload does not say.
func environmentParts(env *pipepb.Environment) (kind, what string) {
	standard := func(id pipepb.StandardEnvironments_Environments) bool { return env.GetUrn() == urnOf(id) }
	switch {
	case standard(pipepb.StandardEnvironments_DOCKER):
		var p pipepb.DockerPayload
		if proto.Unmarshal(env.GetPayload(), &p) == nil {
			what = p.GetContainerImage()
		}
		return "DOCKER", what
	case standard(pipepb.StandardEnvironments_EXTERNAL):
		var p pipepb.ExternalPayload
		if proto.Unmarshal(env.GetPayload(), &p) == nil {
			what = p.GetEndpoint().GetUrl()
		}
		return "EXTERNAL", what
	case standard(pipepb.StandardEnvironments_PROCESS):
		var p pipepb.ProcessPayload
		if proto.Unmarshal(env.GetPayload(), &p) == nil {
			what = p.GetCommand()
		}
		return "PROCESS", what
	case standard(pipepb.StandardEnvironments_ANYOF):
		var texts []string
		for _, one := range alternatives(env) {
			texts = append(texts, EnvironmentText(one))
		}
		return "any of", strings.Join(texts, ", ")
	default:
		return cmp.Or(env.GetUrn(), "an environment without a name"), ""
	}
}

// WorkerPools is how many worker pools an environment names; 0 if it is none of those.
func WorkerPools(env *pipepb.Environment) int {
	if kind, url := environmentParts(env); kind == "EXTERNAL" {
		return strings.Count(url, ",") + 1
	}
	return 0
}

// alternatives returns the environments that an any-of offers; none if it does not parse, which the executor refuses.
func alternatives(env *pipepb.Environment) []*pipepb.Environment {
	var p pipepb.AnyOfEnvironmentPayload
	if env.GetUrn() != urnOf(pipepb.StandardEnvironments_ANYOF) || proto.Unmarshal(env.GetPayload(), &p) != nil {
		return nil
	}
	return p.GetEnvironments()
}

// environmentTexts says what the environments of a pipeline are, by id.
func environmentTexts(p *pipepb.Pipeline) map[string]string {
	all := make(map[string]string)
	for id, env := range p.GetComponents().GetEnvironments() {
		all[id] = EnvironmentText(env)
	}
	return all
}

// keyReplaces marks the display data of an environment that says what it runs instead of.
const keyReplaces, namespace = "replaces", "padstone"

// noteReplaced keeps what the environment replaces with it, in its display data: that distinguishes no environments.
func noteReplaced(env *pipepb.Environment, was string) {
	if earlier := EnvironmentReplaces(env); earlier != "" {
		was = earlier // what the pipeline came with
	}
	label := &pipepb.LabelledPayload{
		Label: "Replaces", Key: keyReplaces, Namespace: namespace, Value: &pipepb.LabelledPayload_StringValue{StringValue: was},
	}
	encoded, err := proto.Marshal(label)
	if err != nil { // a name that is no text: it is not shown
		return
	}
	env.DisplayData = append(env.DisplayData, &pipepb.DisplayData{Urn: urnOf(pipepb.StandardDisplayData_LABELLED), Payload: encoded})
}

// EnvironmentReplaces says what an environment runs instead of; "" if it is what the pipeline came with.
func EnvironmentReplaces(env *pipepb.Environment) string {
	for _, d := range env.GetDisplayData() {
		var label pipepb.LabelledPayload
		if d.GetUrn() != urnOf(pipepb.StandardDisplayData_LABELLED) || proto.Unmarshal(d.GetPayload(), &label) != nil {
			continue
		}
		if label.GetKey() == keyReplaces && label.GetNamespace() == namespace {
			return label.GetStringValue()
		}
	}
	return ""
}
