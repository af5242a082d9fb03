package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"padstone/internal/durable"
	"padstone/internal/fault"
)

// Digest is the lower-case hexadecimal SHA-256 of a content; the only name that content has.
type Digest string

// ParseDigest checks the form of a digest that came from outside: it becomes part of a path.
func ParseDigest(text string) (Digest, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return "", false
	}
	return Digest(hex.EncodeToString(raw)), true
}

// Store is a directory of contents, each under its digest:
//
//	<dir>/sha256/<first two digits>/<digest>
//	<dir>/tmp/<random>                        being written; emptied when the store is opened
//
// Contents are counted by reference, in memory: every holder retains what it needs, and the last release deletes the file. The
// holders are staging sessions and jobs; jobs retain again when the server starts, before Sweep deletes what nobody holds.
type Store struct {
	dir string
	mu  struct {
		sync.Mutex
		refs map[Digest]int
	}
}

// OpenStore opens or creates the store in dir. One process at a time: the caller holds the data directory's lock.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: dir}
	s.mu.refs = make(map[Digest]int)
	if err := os.RemoveAll(s.tmpDir()); err != nil {
		return nil, fmt.Errorf("empty the artifact store's tmp: %w", err)
	}
	for _, d := range []string{s.tmpDir(), s.contentDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("create the artifact store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) tmpDir() string     { return filepath.Join(s.dir, "tmp") }
func (s *Store) contentDir() string { return filepath.Join(s.dir, "sha256") }

// Path is where the content of digest lies, if it is there. The file is read-only and shared: never write to it.
func (s *Store) Path(d Digest) string { return filepath.Join(s.contentDir(), string(d[:2]), string(d)) }

// Open opens a content for reading and returns its size. Errors: artifact-not-found.
func (s *Store) Open(d Digest) (*os.File, int64, error) {
	f, err := os.Open(s.Path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fault.New(fault.Environment, "artifact-not-found", "no artifact %s is stored", d).
			WithHint("the job that staged it may have been pruned; submit the pipeline again")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open artifact: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("stat artifact: %w", err), f.Close())
	}
	return f, info.Size(), nil
}

// Retain adds one reference to each digest, stored or not.
func (s *Store) Retain(digests ...Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range digests {
		s.mu.refs[d]++
	}
}

// Release takes one reference from each digest and deletes contents that lost their last one.
func (s *Store) Release(digests ...Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, d := range digests {
		if s.mu.refs[d]--; s.mu.refs[d] > 0 {
			continue
		}
		delete(s.mu.refs, d)
		if err := os.Remove(s.Path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("delete artifact: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Sweep deletes every content without a reference and returns how many went: what sessions of an earlier process left behind.
func (s *Store) Sweep() (removed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err = filepath.WalkDir(s.contentDir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if s.mu.refs[Digest(entry.Name())] > 0 {
			return nil
		}
		removed++
		return os.Remove(path)
	})
	if err != nil {
		return removed, fmt.Errorf("sweep the artifact store: %w", err)
	}
	return removed, nil
}

// Create starts a new content. The caller ends it with Commit or Abort.
func (s *Store) Create() (*Writer, error) {
	f, err := os.CreateTemp(s.tmpDir(), "")
	if err != nil {
		return nil, fmt.Errorf("create artifact: %w", err)
	}
	return &Writer{store: s, file: f, hash: sha256.New()}, nil
}

// Writer takes the bytes of one content. Not safe for concurrent use.
type Writer struct {
	store *Store
	file  *os.File
	hash  hash.Hash
	size  int64
}

// Write appends bytes. A full disk is fault.Environment.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	if durable.Full(err) {
		return n, durable.Explain(err)
	}
	if err != nil {
		return n, fault.New(fault.Environment, "artifact-store-write", "the artifact store cannot be written: %w", err).
			WithHint("check free space and permissions of the server's data directory")
	}
	return n, nil
}

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Commit makes the content durable and returns its digest with one reference, owned by the caller.
func (w *Writer) Commit() (Digest, error) {
	if err := errors.Join(w.file.Chmod(0o400), w.file.Sync()); err != nil {
		return "", errors.Join(fmt.Errorf("sync artifact: %w", err), w.Abort())
	}
	if err := w.file.Close(); err != nil {
		return "", errors.Join(fmt.Errorf("close artifact: %w", err), os.Remove(w.file.Name()))
	}
	d := Digest(hex.EncodeToString(w.hash.Sum(nil)))
	// The rename happens under the lock that Release deletes under: otherwise another job's last Release could delete the file
	// between our rename and our reference.
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	dir := filepath.Dir(w.store.Path(d))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", errors.Join(fmt.Errorf("create artifact directory: %w", err), os.Remove(w.file.Name()))
	}
	if err := os.Rename(w.file.Name(), w.store.Path(d)); err != nil {
		return "", errors.Join(fmt.Errorf("place artifact: %w", err), os.Remove(w.file.Name()))
	}
	w.store.mu.refs[d]++
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(w.store.contentDir())); err != nil {
		return "", err
	}
	return d, nil
}

// Abort throws the content away.
func (w *Writer) Abort() error { return errors.Join(w.file.Close(), os.Remove(w.file.Name())) }
