package store

import (
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/internal/fault"
)

// uncleanFile lies in the directory of a store without a log while that is open. Found at the next opening it tells of a crash: what
// the store held then is a prefix of history, but the outside may have seen what came after it.
const uncleanFile = "unclean"

// checkClean refuses a store without a log that was not closed in order.
func (s *Store) checkClean() error {
	_, err := s.fs.Stat(s.uncleanPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New(fault.Environment, CodeUnclean, "the job kept no log (durability none), and its store was not closed in order")
}

// begun marks a store without a log as open.
func (s *Store) begun() error {
	if s.durability != None {
		return nil
	}
	f, err := s.fs.Create(s.uncleanPath(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), s.syncDir())
}

// ended makes a store without a log complete, before it is closed.
func (s *Store) ended() error {
	if s.durability != None || s.Err() != nil {
		return nil
	}
	if err := errors.Join(s.segments.syncAll(), s.db.Flush()); err != nil {
		return err
	}
	if s.Err() != nil {
		return nil
	}
	return errors.Join(s.fs.Remove(s.uncleanPath()), s.syncDir())
}

func (s *Store) syncDir() error {
	d, err := s.fs.OpenDir(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Store) uncleanPath() string { return s.fs.PathJoin(s.dir, uncleanFile) }
