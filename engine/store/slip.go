package store

import (
	"errors"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/internal/fault"
)

// slipBytes is the length of a slip.
const slipBytes = 8

// Slip is a file of a few bytes beside a job's store that can be written when nothing else can be: a byte overwrites another in place,
// which takes no room on a full disk. It keeps what must not be forgotten then: what was asked of the job, and how it ended. The zero
// byte says nothing. Not safe for concurrent use.
type Slip struct {
	fs    vfs.FS
	path  string
	bytes [slipBytes]byte
}

// OpenSlip opens or creates the slip at path. fs is nil for the disk.
func OpenSlip(fs FS, path string) (*Slip, error) {
	s, err := ReadSlip(fs, path)
	if err != nil || s != nil {
		return s, err
	}
	if fs == nil {
		fs = vfs.Default
	}
	s = &Slip{fs: fs, path: path}
	if err := s.create(); err != nil {
		return nil, diskError("write", err)
	}
	return s, nil
}

// ReadSlip reads the slip at path; nil if there is none.
func ReadSlip(fs FS, path string) (*Slip, error) {
	if fs == nil {
		fs = vfs.Default
	}
	s := &Slip{fs: fs, path: path}
	f, err := fs.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, diskError("read", err)
	}
	n, err := f.ReadAt(s.bytes[:], 0)
	cerr := f.Close()
	if n == 0 {
		return nil, nil // created by a server that ended before it had written it, and so before anybody was told anything
	}
	if n < slipBytes {
		return nil, diskError("read", err)
	}
	return s, cerr
}

// create makes the file. It exists whole or is empty.
func (s *Slip) create() error {
	dir := s.fs.PathDir(s.path)
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := s.fs.Create(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Clone(s.bytes[:])) // a file may change what it is given to write, and one of memory does in race builds
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get returns the byte at the index.
func (s *Slip) Get(i int) byte { return s.bytes[i] }

// Set writes the byte at the index, and returns once it is durable.
func (s *Slip) Set(i int, b byte) error {
	if i < 0 || i >= slipBytes {
		return fault.New(fault.Internal, "slip-index", "a slip has %d bytes, not one at %d", slipBytes, i)
	}
	if s.bytes[i] == b {
		return nil
	}
	f, err := s.fs.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return diskError("write", err)
	}
	_, err = f.WriteAt([]byte{b}, int64(i))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return diskError("write", err)
	}
	s.bytes[i] = b
	return nil
}
