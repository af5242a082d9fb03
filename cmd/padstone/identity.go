package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// identityFileName is the file in the data directory that tells its server's containers from those of others.
const identityFileName = "server-id"

// identity returns what containers of servers on this data directory are labelled with. It is the directory's for ever; two servers that
// make it at a time agree on one.
func identity(dir string) (string, error) {
	path := filepath.Join(dir, identityFileName)
	if id, err := os.ReadFile(path); err == nil && len(id) > 0 {
		return strings.TrimSpace(string(id)), nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading %s: %w", identityFileName, err)
	}
	tmp, err := os.CreateTemp(dir, identityFileName+".*")
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", identityFileName, err)
	}
	_, err = tmp.WriteString(strings.ToLower(rand.Text()) + "\n")
	if err = errors.Join(err, tmp.Close()); err == nil {
		if err = os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
			err = nil // another server was faster
		}
	}
	if err = errors.Join(err, os.Remove(tmp.Name())); err != nil {
		return "", fmt.Errorf("writing %s: %w", identityFileName, err)
	}
	id, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", identityFileName, err)
	}
	return strings.TrimSpace(string(id)), nil
}
