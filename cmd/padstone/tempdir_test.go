package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"padstone/harness/docker"
	"padstone/harness/docker/dockertest"
)

// TestLostServers has four servers on temporary directories, each with a container: one that lives, one that was killed, one of another
// Engine and one of which nothing is known. The next server that starts removes what the second one has left, and nothing else.
func TestLostServers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	fake := dockertest.Start(t, func(ctx context.Context, _ *dockertest.Container) int {
		<-ctx.Done()
		return 0
	})
	open := func(dir string) *docker.Engine {
		owner, err := identity(dir)
		if err != nil {
			t.Fatal(err)
		}
		e, err := docker.New(docker.Config{Host: fake.Host, Owner: owner})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	// serve starts a server with a container, without the end that it would have; die ends the server as a kill does.
	serve := func(engine, name string) (dir string, die func()) {
		dir, _, file, err := newTempDir(engine)
		if err != nil {
			t.Fatal(err)
		}
		e := open(dir)
		c, err := e.Start(t.Context(), docker.Spec{Image: "beam", JobName: name, EnvID: "env", Number: 1, Options: docker.Options{Network: "host"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Stop(0, nil)
			_ = e.Close()
			_ = file.Close()
		})
		return dir, func() { _ = file.Close() }
	}
	lives, _ := serve("e", "lives")
	killed, die := serve("e", "killed")
	stagedFiles := staged(t, newStagingOf(t, killed), "padstone-harness-1")
	die()
	elsewhere, die := serve("other", "elsewhere")
	die()
	unknown, die := serve("e", "unknown")
	die()
	if err := os.Truncate(filepath.Join(unknown, ownerFileName), 0); err != nil {
		t.Fatal(err)
	}

	e := open(t.TempDir())
	defer e.Close()
	fake.Leave()
	removeLost(t.Context(), e, "e", zap.NewNop())
	fake.Return(t)
	if _, err := os.Stat(killed); err != nil {
		t.Errorf("while the Engine was away: %v", err)
	}
	removeLost(t.Context(), e, "e", zap.NewNop())
	for _, dir := range []string{lives, elsewhere, unknown} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(killed); !os.IsNotExist(err) {
		t.Errorf("the directory of the server that was killed: %v", err)
	}
	if _, err := os.Stat(stagedFiles); !os.IsNotExist(err) {
		t.Errorf("the staged files of the server that was killed: %v", err)
	}
	left := fake.Containers()
	for _, name := range []string{"padstone-lives-env-1", "padstone-elsewhere-env-1", "padstone-unknown-env-1"} {
		if left[name] == nil {
			t.Errorf("%s is gone: %v", name, left)
		}
	}
	if len(left) != 3 {
		t.Errorf("left are %v", left)
	}
}

// TestTempDirOfOthers: what somebody else could have made says nothing.
func TestTempDirOfOthers(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, _, file, err := newTempDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(os.TempDir(), tempDirPrefix+"link")); err != nil {
		t.Fatal(err)
	}
	lost := lostDirs("")
	if len(lost) != 1 || lost[0].path != dir {
		t.Fatalf("lost are %v", lost)
	}
	if again := lostDirs(""); len(again) != 0 {
		t.Errorf("two servers have %v", again)
	}
	if err := lost[0].owner.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if lost := lostDirs(""); len(lost) != 0 {
		t.Errorf("a directory that everybody can write to is lost: %v", lost)
	}
}
