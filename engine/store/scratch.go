package store

import (
	"errors"
	"io"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
)

// scratchDir is where scratch files lie, in the store's directory. Open empties it.
const scratchDir = "scratch"

// Scratch makes files that one bundle needs no longer than it runs, and removes those that are left when it closes. It implements
// rows.Scratch. Not for concurrent use.
type Scratch struct {
	store *Store
	files map[*scratchFile]bool
}

// Scratch begins the scratch of a bundle.
func (s *Store) Scratch() *Scratch { return &Scratch{store: s, files: make(map[*scratchFile]bool)} }

// Create makes an empty file.
func (c *Scratch) Create() (rows.ScratchFile, error) {
	s := c.store
	path := s.fs.PathJoin(s.scratchPath(), strconv.FormatUint(s.scratchSeq.Add(1), 10))
	out, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	f := &scratchFile{scratch: c, path: path, out: out}
	c.files[f] = true
	return f, nil
}

// Close removes the files that are left.
func (c *Scratch) Close() error {
	var errs []error
	for f := range c.files {
		errs = append(errs, f.Remove())
	}
	return errors.Join(errs...)
}

func (s *Store) scratchPath() string { return s.fs.PathJoin(s.dir, scratchDir) }

// emptyScratch makes an empty scratch directory.
func (s *Store) emptyScratch() error {
	if err := s.fs.RemoveAll(s.scratchPath()); err != nil {
		return err
	}
	return s.fs.MkdirAll(s.scratchPath(), 0o755)
}

// scratchFile implements rows.ScratchFile.
type scratchFile struct {
	scratch *Scratch
	path    string
	out     vfs.File // nil once the writing has ended
}

func (f *scratchFile) Write(b []byte) (int, error) { return f.out.Write(b) }

func (f *scratchFile) Open() (io.ReadCloser, error) {
	if err := f.end(); err != nil {
		return nil, err
	}
	return f.scratch.store.fs.Open(f.path, vfs.SequentialReadsOption)
}

func (f *scratchFile) Remove() error {
	delete(f.scratch.files, f)
	return errors.Join(f.end(), f.scratch.store.fs.Remove(f.path))
}

func (f *scratchFile) end() error {
	if f.out == nil {
		return nil
	}
	out := f.out
	f.out = nil
	return out.Close()
}
