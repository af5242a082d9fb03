package jobserver

import (
	"encoding/json"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/internal/fault"
)

// overrideEnvironment replaces the pipeline's environment by one of the kind and configuration, given as Beam's options environment_type
// and environment_config are. Dependencies and capabilities stay. Spec: python environments.py ExternalEnvironment, ProcessEnvironment.
func overrideEnvironment(pipeline *pipepb.Pipeline, kind, config string) error {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Pipeline, "environment-override", format, args...).
			WithHint(`give EXTERNAL with host:port, or PROCESS with {"command": "/path/to/python"}`)
	}
	var urn string
	var payload proto.Message
	switch strings.ToUpper(kind) {
	case "EXTERNAL":
		urn = environmentURN(pipepb.StandardEnvironments_EXTERNAL)
		external := struct {
			URL    string            `json:"url"`
			Params map[string]string `json:"params"`
		}{URL: config}
		if strings.HasPrefix(strings.TrimSpace(config), "{") {
			external.URL = ""
			if err := json.Unmarshal([]byte(config), &external); err != nil {
				return refuse("the environment's configuration: %w", err)
			}
		}
		payload = &pipepb.ExternalPayload{Endpoint: &pipepb.ApiServiceDescriptor{Url: external.URL}, Params: external.Params}
	case "PROCESS":
		urn = environmentURN(pipepb.StandardEnvironments_PROCESS)
		process := struct {
			Command string            `json:"command"`
			OS      string            `json:"os"`
			Arch    string            `json:"arch"`
			Env     map[string]string `json:"env"`
		}{}
		if err := json.Unmarshal([]byte(config), &process); err != nil {
			return refuse("the environment's configuration is no JSON: %w", err)
		}
		payload = &pipepb.ProcessPayload{Command: process.Command, Os: process.OS, Arch: process.Arch, Env: process.Env}
	default:
		return refuse("an environment of type %q cannot be had here", kind)
	}
	encoded, err := proto.Marshal(payload)
	if err != nil {
		return refuse("the environment's configuration: %w", err)
	}
	// Of several, it could not be said which is meant; and two that become equal would be fused, which changes what rows belong to.
	different := make(map[string]bool)
	for _, env := range pipeline.GetComponents().GetEnvironments() {
		different[env.GetUrn()+"\x00"+string(env.GetPayload())] = true
	}
	if len(different) > 1 {
		return refuse("the pipeline has %d different environments", len(different))
	}
	for _, env := range pipeline.GetComponents().GetEnvironments() {
		env.Urn, env.Payload = urn, encoded
	}
	return nil
}

// environmentURN reads the URN of a standard environment from its proto.
func environmentURN(kind pipepb.StandardEnvironments_Environments) string {
	options := kind.Descriptor().Values().ByNumber(protoreflect.EnumNumber(kind)).Options()
	urn, _ := proto.GetExtension(options, pipepb.E_BeamUrn).(string)
	return urn
}
