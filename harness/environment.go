package harness

import (
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
)

// Environment URNs. Spec: beam_runner_api.proto StandardEnvironments.
const (
	urnDocker   = "beam:env:docker:v1"
	urnProcess  = "beam:env:process:v1"
	urnExternal = "beam:env:external:v1"
	urnDefault  = "beam:env:default:v1"
	urnAnyOf    = "beam:env:anyof:v1"
)

// target is an environment that can be started here: exactly one of its fields is set.
type target struct {
	env      *pipepb.Environment // the resolved one
	external *pipepb.ExternalPayload
	process  *pipepb.ProcessPayload
	docker   *pipepb.DockerPayload
	python   bool // process's command is a Python interpreter
}

// String names the target for error messages.
func (t *target) String() string {
	switch {
	case t.external != nil:
		names := splitPools(t.external.GetEndpoint().GetUrl())
		if len(names) > 1 {
			return "worker pools at " + strings.Join(names, ", ")
		}
		return "worker pool at " + names[0]
	case t.docker != nil:
		return "container of " + t.docker.GetContainerImage()
	case t.python:
		return "Python worker of " + t.process.GetCommand()
	default:
		return "process " + t.process.GetCommand()
	}
}

// resolve picks what to start for an environment: of an any-of the first one that is supported, a container only if nothing else is.
// Errors name the reason and have a hint.
func (c *Config) resolve(env *pipepb.Environment) (*target, error) {
	switch env.GetUrn() {
	case urnExternal:
		return resolveExternal(env)
	case urnProcess:
		return resolveProcess(env)
	case urnAnyOf:
		return c.resolveAnyOf(env)
	case urnDefault:
		if c.DefaultEnvironment == nil || c.DefaultEnvironment.GetUrn() == urnDefault {
			return nil, fault.New(fault.Pipeline, codeDefault, "the pipeline leaves its environment to the server, which has no default").
				WithHint("choose one, for example --environment_type=LOOPBACK")
		}
		def := proto.CloneOf(c.DefaultEnvironment)
		def.Dependencies = append(def.Dependencies, env.GetDependencies()...)
		def.Capabilities = append(def.Capabilities, env.GetCapabilities()...)
		return c.resolve(def)
	case urnDocker:
		return c.resolveDocker(env)
	default:
		return nil, fault.New(fault.Pipeline, codeUnsupported, "environment %q", env.GetUrn()).
			WithHint("use --environment_type=LOOPBACK, DOCKER, PROCESS or EXTERNAL")
	}
}

func (c *Config) resolveAnyOf(env *pipepb.Environment) (*target, error) {
	var any pipepb.AnyOfEnvironmentPayload
	if err := proto.Unmarshal(env.GetPayload(), &any); err != nil {
		return nil, fault.New(fault.Pipeline, codeInvalid, "payload of %s: %w", urnAnyOf, err)
	}
	var first error
	container := func(e *pipepb.Environment) bool { return e.GetUrn() == urnDocker }
	// A container costs most to start, and SDKs that offer a choice name it first.
	choices := append(slices.DeleteFunc(slices.Clone(any.GetEnvironments()), container),
		slices.DeleteFunc(slices.Clone(any.GetEnvironments()), func(e *pipepb.Environment) bool { return !container(e) })...)
	for _, choice := range choices {
		if choice.GetUrn() == urnAnyOf { // a nest could be endless
			continue
		}
		t, err := c.resolve(choice)
		if err == nil {
			return t, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		return nil, fault.New(fault.Pipeline, codeInvalid, "%s offers no environment", urnAnyOf)
	}
	return nil, first
}

func (c *Config) resolveDocker(env *pipepb.Environment) (*target, error) {
	var payload pipepb.DockerPayload
	if err := proto.Unmarshal(env.GetPayload(), &payload); err != nil {
		return nil, fault.New(fault.Pipeline, codeInvalid, "payload of %s: %w", urnDocker, err)
	}
	if strings.TrimSpace(payload.GetContainerImage()) == "" {
		return nil, fault.New(fault.Pipeline, codeInvalid, "%s without an image", urnDocker).
			WithHint("give --environment_config=IMAGE, with an SDK of the version that builds the pipeline")
	}
	if c.Docker == nil {
		return nil, fault.New(fault.Pipeline, codeUnsupported, "this server starts no containers").
			WithHint("use --environment_type=LOOPBACK, PROCESS or EXTERNAL")
	}
	return &target{env: env, docker: &payload}, nil
}

func resolveExternal(env *pipepb.Environment) (*target, error) {
	var ext pipepb.ExternalPayload
	if err := proto.Unmarshal(env.GetPayload(), &ext); err != nil {
		return nil, fault.New(fault.Pipeline, codeInvalid, "payload of %s: %w", urnExternal, err)
	}
	for _, name := range splitPools(ext.GetEndpoint().GetUrl()) {
		host, port, err := net.SplitHostPort(name)
		if err != nil || host == "" || port == "" {
			return nil, fault.New(fault.Pipeline, codeInvalid, "%q is not the host:port of a worker pool", name).
				WithHint("give --environment_config=host:port, of several pools host:port,host:port")
		}
	}
	return &target{env: env, external: &ext}, nil
}

// pythonCommand matches the file name of a Python interpreter.
var pythonCommand = regexp.MustCompile(`^python[0-9.]*$`)

func resolveProcess(env *pipepb.Environment) (*target, error) {
	var proc pipepb.ProcessPayload
	if err := proto.Unmarshal(env.GetPayload(), &proc); err != nil {
		return nil, fault.New(fault.Pipeline, codeInvalid, "payload of %s: %w", urnProcess, err)
	}
	if strings.TrimSpace(proc.GetCommand()) == "" {
		return nil, fault.New(fault.Pipeline, codeInvalid, "%s without a command", urnProcess).
			WithHint(`give --environment_config='{"command": "/path/to/boot"}', or the path of a Python interpreter`)
	}
	if os := proc.GetOs(); os != "" && !strings.EqualFold(os, runtime.GOOS) {
		return nil, fault.New(fault.Pipeline, codeInvalid, "the process is for %s and this is %s", os, runtime.GOOS)
	}
	if arch := proc.GetArch(); arch != "" && goArch(arch) != runtime.GOARCH {
		return nil, fault.New(fault.Pipeline, codeInvalid, "the process is for %s and this is %s", arch, runtime.GOARCH)
	}
	t := &target{env: env, process: &proc, python: pythonCommand.MatchString(filepath.Base(proc.GetCommand()))}
	if t.python {
		return t, checkPackages(env.GetDependencies())
	}
	return t, nil
}

// goArch returns Go's name of a processor.
func goArch(arch string) string {
	switch arch = strings.ToLower(arch); arch {
	case "x86_64", "x64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return arch
	}
}

// checkPackages refuses dependencies that Beam's boot program would install: a Python interpreter that is started directly runs with
// what it has. Spec: python/container/boot.go installSetupPackages; names from python stager.py.
func checkPackages(deps []*pipepb.ArtifactInformation) error {
	for _, dep := range deps {
		name, err := stagedName(dep)
		if err != nil {
			continue // a dependency without a name is fetched under a made-up one and is no package
		}
		switch {
		case dep.GetRoleUrn() == rolePipRequirements, name == "requirements.txt", name == "workflow.tar.gz",
			name == "extra_packages.txt", name == "dataflow_python_sdk.tar":
			return fault.New(fault.Pipeline, codePackages,
				"the pipeline stages %q, which a directly started Python worker does not install", name).
				WithHint("install the packages into the interpreter and drop the option, or name Beam's boot program as the command")
		}
	}
	return nil
}
