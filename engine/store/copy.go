package store

import (
	"errors"
	"io"
	"path"
	"strconv"

	"github.com/cockroachdb/pebble/v2"

	"padstone/internal/fault"
)

// copiesDir is where copies lie, in the store's directory. Open empties it.
const copiesDir = "copies"

// Copy is the store as it was at one moment: a prefix of its history that has every commit applied before it was taken. A store
// that is opened on copies of its files is the store of that moment. It costs links to files and a copy of the log; while it is
// open, files that the store drops stay on disk. Close removes it.
type Copy struct {
	store *Store
	dir   string
	// Files are those of the store's directory, by name.
	Files []CopyFile
}

// CopyFile is a file of a copy.
type CopyFile struct {
	Name string
	Size int64
	// Immutable tells that a file of this name never has other contents, as long as the store is not put back to an earlier state.
	Immutable bool
}

// CopyReader reads a file of a copy.
type CopyReader interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// Copy takes a copy of the store. It may be called while another goroutine commits, but not while Close runs.
func (s *Store) Copy() (_ *Copy, err error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return fault.New(fault.Environment, "store-copy", "cannot take a copy of the job's store: %w", err).
			WithHint("check the disk of the data directory")
	}
	if err := s.fs.MkdirAll(s.copiesPath(), 0o755); err != nil {
		return nil, fail(err)
	}
	s.segments.pin() // what the copy will refer to is there from now on
	defer s.unpin()
	if s.durability == None { // whether or not there is a log, all that was committed is in tables then
		if err := s.db.Flush(); err != nil {
			return nil, fail(err)
		}
	}
	c := &Copy{store: s, dir: s.fs.PathJoin(s.copiesPath(), strconv.FormatUint(s.scratchSeq.Add(1), 10))}
	if err := s.db.Checkpoint(c.dir, pebble.WithFlushedWAL()); err != nil {
		return nil, fail(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fail(err), c.Close())
		}
	}()
	if err := s.copySegments(c.dir); err != nil {
		return nil, err
	}
	names, err := s.fs.List(c.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		info, err := s.fs.Stat(s.fs.PathJoin(c.dir, name))
		if err != nil {
			return nil, err
		}
		ext := path.Ext(name)
		c.Files = append(c.Files, CopyFile{Name: name, Size: info.Size(), Immutable: ext == ".sst" || ext == ".blob" || ext == segmentSuffix})
	}
	return c, s.Err() // what a disk that has failed did not take is missing, and nobody was told
}

// copySegments gives a copy links to all segments that it may refer to. Those have become durable then, so that their numbers are not
// given again, whatever crashes.
func (s *Store) copySegments(dir string) error {
	s.committing.Lock()
	ids := s.segments.referred()
	s.committing.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if s.durability == Frontier {
		if err := s.syncLog(); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := s.fs.Link(s.segments.path(id), s.fs.PathJoin(dir, segmentName(id))); err != nil {
			return err
		}
	}
	return nil
}

// unpin ends what kept segments.
func (s *Store) unpin() {
	s.segments.unpin()
	s.mu.Lock()
	durable := s.mu.durable
	if s.durability == None {
		durable = s.mu.applied
	}
	s.mu.Unlock()
	if err := s.segments.reap(durable); err != nil {
		s.fail(err)
	}
}

// Open opens a file of the copy.
func (c *Copy) Open(name string) (CopyReader, error) {
	f, err := c.store.fs.Open(c.store.fs.PathJoin(c.dir, name))
	if err != nil {
		return nil, fault.New(fault.Environment, "store-read", "cannot read a copy of the job's store: %w", err)
	}
	return f, nil
}

// Close removes the copy.
func (c *Copy) Close() error {
	if err := c.store.fs.RemoveAll(c.dir); err != nil {
		return fault.New(fault.Environment, "store-write", "cannot remove a copy of the job's store: %w", err)
	}
	return nil
}

// SkipBlocks makes the next block's sequence greater than after, durably. A store that was put back to an earlier state does so, lest
// its new blocks are taken for those that were written since.
func (s *Store) SkipBlocks(after uint64) error {
	s.blockSeq = max(s.blockSeq, after)
	if _, err := s.Commit(&Commit{}); err != nil {
		return err
	}
	if s.durability == None {
		return nil
	}
	return s.syncLog()
}

// syncLog makes durable what has been applied. That the disk has failed the guard tells the store, not pebble.
func (s *Store) syncLog() error {
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		s.fail(err)
	}
	return s.Err()
}

func (s *Store) copiesPath() string { return s.fs.PathJoin(s.dir, copiesDir) }

// emptyCopies removes what an earlier process has left.
func (s *Store) emptyCopies() error { return s.fs.RemoveAll(s.copiesPath()) }
