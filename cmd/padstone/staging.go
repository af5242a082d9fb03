package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// staging is where the harness processes of a server have their staged files: elsewhere than its state, whose disk may be full.
type staging struct {
	dir  string
	left []string // what was there before this server
}

// newStaging returns the one of a data directory. The next server on it finds it, one on a copy of it does not.
func newStaging(dataDir string) (staging, error) {
	owner, err := identity(dataDir)
	if err != nil {
		return staging{}, err
	}
	path, err := filepath.Abs(dataDir)
	if err != nil {
		return staging{}, fmt.Errorf("data directory: %w", err)
	}
	s := staging{dir: stagingDir(owner, path)}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return staging{}, fmt.Errorf("directory for staged files: %w", err)
	}
	for _, e := range entries {
		s.left = append(s.left, filepath.Join(s.dir, e.Name()))
	}
	return s, nil
}

// stagingDir is where the harnesses of a server have their staged files, by the identity and absolute path of its data directory.
func stagingDir(owner, path string) string {
	sum := sha256.Sum256([]byte(owner + path))
	return filepath.Join(os.TempDir(), "padstone-"+hex.EncodeToString(sum[:8]))
}

// reap removes what a server that was killed has left. The data directory must be locked by now; jobs may be starting.
func (s staging) reap() error {
	var errs []error
	for _, path := range s.left {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
