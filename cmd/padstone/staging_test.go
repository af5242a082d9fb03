package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestStagedFilesOfAKilledServerGo holds that the next server on a data directory removes what harnesses of the former one had staged, and
// nothing of its own, nor of a server on a copy.
func TestStagedFilesOfAKilledServerGo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	data, other := t.TempDir(), t.TempDir()
	left := staged(t, newStagingOf(t, data), "padstone-harness-1")

	id, err := os.ReadFile(filepath.Join(data, identityFileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, identityFileName), id, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newStagingOf(t, other).reap(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err != nil {
		t.Fatalf("a server on a copy of the data directory has removed staged files: %v", err)
	}

	next := newStagingOf(t, data)
	own := staged(t, next, "padstone-harness-2")
	if err := next.reap(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("staged files of the killed server are left: %v", err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Fatalf("a server has removed its own staged files: %v", err)
	}
}

func newStagingOf(t *testing.T, dataDir string) staging {
	t.Helper()
	s, err := newStaging(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func staged(t *testing.T, s staging, name string) string {
	t.Helper()
	dir := filepath.Join(s.dir, name, "staged")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
