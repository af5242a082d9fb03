package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"padstone/harness/docker"
)

func TestDockerFlags(t *testing.T) {
	cfg, err := parseConfig(t, `
docker-network: bridge
docker-memory: 512m
docker-env: [A=1]
docker-volume: ["/data:/data:ro"]
docker-allow: [network]
`, "--docker-memory=2g", "--docker-env", "OPTS=-a,-b", "--docker-env=HOME", "--docker-env=NOT_SET_ANYWHERE", "--docker-cpus=1.5")
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.Docker.options(func(name string) (string, bool) { return "/home/x", name == "HOME" })
	want := docker.Options{
		Network: "bridge", Pull: docker.PullMissing, Env: []string{"OPTS=-a,-b", "HOME=/home/x"}, Volumes: []string{"/data:/data:ro"},
		Memory: 2 << 30, CPUs: 1.5,
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || strings.Join(cfg.Docker.Allow, "") != "network" {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if cfg, err = parseConfig(t, ""); err != nil || cfg.Docker.Network != "host" || cfg.Docker.Pull != "missing" {
		t.Errorf("defaults: %+v, %v", cfg.Docker, err)
	}
}

func TestDockerFlagsAreChecked(t *testing.T) {
	cfg := defaultConfig(noEnv)
	cfg.DataDir = t.TempDir()
	cfg.Docker = DockerConfig{
		Network: "none", Pull: "sometimes", Env: []string{"=x"}, Volumes: []string{"data"}, Hosts: []string{"x"}, Memory: 1000, CPUs: -1,
		Allow: []string{"everything"},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("no fault was found")
	}
	for _, part := range []string{"network: ", "pull: ", "env: ", "volume: ", "add-host: ", "memory: ", "cpus: ", "allow: "} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not tell of %s", err, part)
		}
	}
}

// TestIdentity: a data directory has one identity for ever, also when two servers ask for it at a time.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	var asking sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		asking.Go(func() { ids[i], _ = identity(dir) })
	}
	asking.Wait()
	for _, id := range ids {
		if len(id) < 26 || id != ids[0] {
			t.Fatalf("got %q", ids)
		}
	}
	if other, err := identity(t.TempDir()); err != nil || other == ids[0] {
		t.Errorf("another directory: %q, %v", other, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != identityFileName {
		t.Errorf("files %v, %v", left, err)
	}
	if _, err := identity(filepath.Join(dir, "missing")); !os.IsNotExist(err) && err == nil {
		t.Error("a missing directory has an identity")
	}
}
