package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"padstone/internal/fault"
)

func TestPlanArgs(t *testing.T) {
	const cores = " --sdk_worker_parallelism=0"
	const ours = "--runner=PortableRunner --job_endpoint=h:1 --environment_type=LOOPBACK" + cores
	cases := []struct {
		name, user, want string
		loopback         bool
		own              string
	}{
		{"nothing chosen", "", ours, true, ""},
		{"after the user's", "in.txt --n 3", "in.txt --n 3 " + ours, true, ""},
		{"before a bare dash", "--n 3 -- rest --runner=x", "--n 3 " + ours + " -- rest --runner=x", true, ""},
		{"runner chosen", "--runner=FlinkRunner", "--runner=FlinkRunner --job_endpoint=h:1 --environment_type=LOOPBACK" + cores, true, ""},
		{"runner chosen apart", "--runner FlinkRunner", "--runner FlinkRunner --job_endpoint=h:1 --environment_type=LOOPBACK" + cores, true, ""},
		{"environment chosen", "--environment_type=PROCESS",
			"--environment_type=PROCESS --runner=PortableRunner --job_endpoint=h:1" + cores, false, ""},
		{"loopback chosen", "--environment_type LOOPBACK",
			"--environment_type LOOPBACK --runner=PortableRunner --job_endpoint=h:1" + cores, true, ""},
		{"image chosen", "--environment_config=img", "--environment_config=img --runner=PortableRunner --job_endpoint=h:1" + cores, false, ""},
		{"endpoint chosen", "--job_endpoint other:2",
			"--job_endpoint other:2 --runner=PortableRunner --environment_type=LOOPBACK" + cores, true, "other:2"},
		{"workers chosen", "--sdk_worker_parallelism 3",
			"--sdk_worker_parallelism 3 --runner=PortableRunner --job_endpoint=h:1 --environment_type=LOOPBACK", true, ""},
		{"only alike", "--runner_x=1 -runner=2", "--runner_x=1 -runner=2 " + ours, true, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			plan := planArgs(strings.Fields(c.user), "h:1")
			if got := strings.Join(plan.args, " "); got != c.want {
				t.Errorf("args %q, want %q", got, c.want)
			}
			if plan.loopback != c.loopback || plan.ownEndpoint != c.own {
				t.Errorf("loopback %v, own endpoint %q", plan.loopback, plan.ownEndpoint)
			}
		})
	}
}

func TestPlanEnv(t *testing.T) {
	target := expansionTargets[0]
	cases := []struct {
		name     string
		environ  []string
		endpoint string
		want     map[string]string // a part of the overrides
		fault    bool
	}{
		{"none before", []string{"A=1"}, "localhost:8097", map[string]string{target: "localhost:8097", ":" + target: "localhost:8097"}, false},
		{"empty before", []string{overridesVariable + "="}, "h:1", map[string]string{target: "h:1"}, false},
		{"others stay", []string{overridesVariable + `={"x:y":"/a.jar"}`}, "h:1", map[string]string{target: "h:1", "x:y": "/a.jar"}, false},
		{"the user's own stays", []string{overridesVariable + `={"` + target + `":"mine:7"}`}, "h:1", map[string]string{target: "mine:7"}, false},
		{"IPv6 loopback", nil, "[::1]:8097", map[string]string{target: "localhost:8097"}, false},
		{"not JSON", []string{overridesVariable + "=x"}, "h:1", nil, true},
		{"not strings", []string{overridesVariable + `={"x":1}`}, "h:1", nil, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			env, err := planEnv(c.environ, c.endpoint)
			if c.fault {
				if f := fault.Of(err); f == nil || f.Code != codeConfig {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			count := 0
			for _, e := range env {
				if text, ok := strings.CutPrefix(e, overridesVariable+"="); ok {
					count++
					if err := json.Unmarshal([]byte(text), &got); err != nil {
						t.Fatal(err)
					}
				}
			}
			if count != 1 {
				t.Errorf("%d entries for %s", count, overridesVariable)
			}
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s: %q, want %q", k, got[k], v)
				}
			}
			if slices.Contains(c.environ, "A=1") && !slices.Contains(env, "A=1") {
				t.Error("the rest of the environment is gone")
			}
		})
	}
}

func TestFindPython(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	interpreter := func(path string) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flag := interpreter(filepath.Join(dir, "flag", "python"))
	active := interpreter(filepath.Join(dir, "venv", "bin", "python"))
	onPath := interpreter(filepath.Join(dir, "path", "python3"))
	t.Setenv("PATH", filepath.Dir(onPath))
	env := func(value string) func(string) string {
		return func(name string) string {
			if name == "VIRTUAL_ENV" {
				return value
			}
			return ""
		}
	}
	check := func(what, flag, venv, want string) {
		t.Helper()
		got, err := findPython(flag, env(venv))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", what, got, err, want)
		}
	}
	check("the PATH", "", "", onPath)
	local := interpreter(filepath.Join(dir, ".venv", "bin", "python"))
	check("./.venv over the PATH", "", "", local)
	check("the active environment over ./.venv", "", filepath.Join(dir, "venv"), active)
	check("the flag over all", flag, filepath.Join(dir, "venv"), flag)

	for _, c := range []struct{ flag, venv string }{{"/no/python", ""}, {"", "/no/venv"}} {
		if _, err := findPython(c.flag, env(c.venv)); fault.Of(err) == nil || fault.Of(err).Code != codePython {
			t.Errorf("%+v: error %v", c, err)
		}
	}
}
