package harness

import (
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/fnapi"
	"padstone/internal/fault"
)

func TestSupported(t *testing.T) {
	m := newManager(t, withEngine(t, "unix:///nobody/is/asked"))
	process := func(p *pipepb.ProcessPayload) *pipepb.Environment {
		return &pipepb.Environment{Urn: urnProcess, Payload: marshal(t, p)}
	}
	withDeps := func(command string, names ...string) *pipepb.Environment {
		env := process(&pipepb.ProcessPayload{Command: command})
		for _, name := range names {
			env.Dependencies = append(env.Dependencies, dependency(t, name, ""))
		}
		return env
	}
	docker := &pipepb.Environment{Urn: urnDocker, Payload: marshal(t, &pipepb.DockerPayload{ContainerImage: "apache/beam"})}
	anyOf := func(envs ...*pipepb.Environment) *pipepb.Environment {
		return &pipepb.Environment{Urn: urnAnyOf, Payload: marshal(t, &pipepb.AnyOfEnvironmentPayload{Environments: envs})}
	}
	tests := []struct {
		name string
		env  *pipepb.Environment
		code fault.Code // "" is supported
	}{
		{"external", externalEnv(t, "localhost:50000"), ""},
		{"external without port", externalEnv(t, "localhost"), "invalid-environment"},
		{"external without address", externalEnv(t, ""), "invalid-environment"},
		{"garbage", &pipepb.Environment{Urn: urnExternal, Payload: []byte{0xff}}, "invalid-environment"},
		{"boot", process(&pipepb.ProcessPayload{Command: "/opt/boot"}), ""},
		{"no command", process(&pipepb.ProcessPayload{}), "invalid-environment"},
		{"other system", process(&pipepb.ProcessPayload{Command: "/opt/boot", Os: "plan9"}), "invalid-environment"},
		{"other processor", process(&pipepb.ProcessPayload{Command: "/opt/boot", Arch: "pdp11"}), "invalid-environment"},
		{"interpreter with main session", withDeps("/venv/bin/python3.11", "pickled_main_session"), ""},
		{"interpreter with list of packages", withDeps("python3", "submission_environment_dependencies.txt"), ""},
		{"interpreter with requirements", withDeps("/venv/bin/python", "requirements.txt"), "unsupported-python-packages"},
		{"interpreter with setup file", withDeps("python3", "workflow.tar.gz"), "unsupported-python-packages"},
		{"boot with requirements", withDeps("/opt/boot", "requirements.txt"), ""},
		{"default", &pipepb.Environment{Urn: urnDefault}, "unsupported-environment-default"},
		{"unknown", &pipepb.Environment{Urn: "beam:env:cloud:v1"}, "unsupported-environment"},
		{"none", nil, "unsupported-environment"},
		{"any of docker and external", anyOf(docker, externalEnv(t, "localhost:1")), ""},
		{"docker", docker, ""},
		{"docker without image", &pipepb.Environment{Urn: urnDocker}, "invalid-environment"},
		{"docker with garbage", &pipepb.Environment{Urn: urnDocker, Payload: []byte{0xff}}, "invalid-environment"},
		{"any of nothing", anyOf(), "invalid-environment"},
		{"any of any of", anyOf(anyOf(docker)), "invalid-environment"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := m.Supported(tt.env)
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, fault.Pipeline, tt.code)
		})
	}
}

// TestChoiceOfEnvironment: a container is the last resort of a choice, wherever it stands.
func TestChoiceOfEnvironment(t *testing.T) {
	docker := &pipepb.Environment{Urn: urnDocker, Payload: marshal(t, &pipepb.DockerPayload{ContainerImage: "apache/beam"})}
	choose := func(m *Manager, envs ...*pipepb.Environment) (*target, error) {
		return m.cfg.resolve(&pipepb.Environment{Urn: urnAnyOf, Payload: marshal(t, &pipepb.AnyOfEnvironmentPayload{Environments: envs})})
	}
	m := newManager(t, withEngine(t, "unix:///nobody/is/asked"))
	if got, err := choose(m, docker, externalEnv(t, "localhost:1")); err != nil || got.external == nil {
		t.Errorf("docker and external: %v, %v", got, err)
	}
	if got, err := choose(m, docker, externalEnv(t, "nowhere")); err != nil || got.docker.GetContainerImage() != "apache/beam" {
		t.Errorf("docker and what does not work: %v, %v", got, err)
	}
	_, err := choose(newManager(t, nil), docker)
	wantCode(t, err, fault.Pipeline, "unsupported-environment")
}

func TestDefaultEnvironment(t *testing.T) {
	m := newManager(t, func(c *Config) { c.DefaultEnvironment = externalEnv(t, "localhost:1") })
	env := &pipepb.Environment{Urn: urnDefault, Capabilities: []string{"c"}}
	got, err := m.cfg.resolve(env)
	if err != nil || got.external == nil || len(got.env.GetCapabilities()) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if len(m.cfg.DefaultEnvironment.GetCapabilities()) != 0 {
		t.Fatal("the default itself was changed")
	}
}

func TestConfigListsItsFaults(t *testing.T) {
	err := Config{StartTimeout: -1, RestartsMax: -1}.Validate()
	wantCode(t, err, fault.Internal, "harness-config")
	for _, want := range []string{"Server", "StartTimeout", "RestartsMax"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
}

func TestRing(t *testing.T) {
	r := newRing(3)
	for _, line := range []string{"a", "b", "c", "d", "e"} {
		r.add(line)
	}
	if got := strings.Join(r.last(), ""); got != "cde" {
		t.Fatalf("got %q", got)
	}
	r.add(strings.Repeat("x", 5000))
	if n := len(r.last()[2]); n > 2010 {
		t.Fatalf("a line of %d bytes", n)
	}
}

func TestLineWriter(t *testing.T) {
	var got []string
	w := &lineWriter{severity: printed, log: func(e fnapi.LogEntry) { got = append(got, e.Message) }}
	for _, part := range []string{"one\ntw", "o\n\n", "three\r\nfo", "ur"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	w.flush()
	if strings.Join(got, ",") != "one,two,three,four" {
		t.Fatalf("got %q", got)
	}
	got = nil
	if _, err := w.Write([]byte(strings.Repeat("x", 200<<10))); err != nil || len(got) != 3 {
		t.Fatalf("%d lines, %v", len(got), err)
	}
}
