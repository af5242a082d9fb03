package store

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/internal/fault"
)

// frontierFile lies in the store's directory and holds the durability frontier: sequence and checksum. The end of the log that a crash
// tears and damage near the end of the log look alike to pebble; with the frontier the damage of what was durable does not pass for a
// crash. The file is written after each sync of the log and never synced itself: what a crash of the machine takes of it only makes
// the frontier an earlier one.
const (
	frontierFile  = "frontier"
	frontierBytes = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openFrontier opens the frontier's file and holds against it what the database shows.
func (s *Store) openFrontier() error {
	f, err := s.fs.OpenReadWrite(s.fs.PathJoin(s.dir, frontierFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	s.frontier = f
	var b [frontierBytes]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return readError(err)
	}
	frontier := binary.BigEndian.Uint64(b[:])
	if n < len(b) || crc32.Checksum(b[:8], castagnoli) != binary.BigEndian.Uint32(b[8:]) {
		return nil // it is new, or was being written
	}
	if s.mu.applied < frontier {
		return corrupt("the log of the job's store in %s ends at commit %d, but commit %d was durable", s.dir, s.mu.applied, frontier)
	}
	return nil
}

// keepFrontier notes a frontier that the log has been synced to. An error freezes the disk, as any does.
func (s *Store) keepFrontier(seq uint64) {
	b := binary.BigEndian.AppendUint64(nil, seq)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, _ = s.frontier.WriteAt(b, 0)
}

// syncer advances the durability frontier while somebody waits for it.
func (s *Store) syncer() {
	defer close(s.synced)
	for range s.kick {
		s.advance()
	}
}

// advance syncs the log if somebody waits for that.
func (s *Store) advance() {
	s.mu.Lock()
	target, durable, wanted := s.mu.applied, s.mu.durable, s.mu.wanted
	stop := s.mu.err != nil || s.mu.closed
	s.mu.Unlock()
	if stop || wanted <= durable {
		return
	}
	// Everything applied before this record precedes it in the log; when the record is synced, so are they.
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		s.fail(err)
		return
	}
	s.keepFrontier(target)
	if err := s.segments.reap(target); err != nil {
		s.fail(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if target > s.mu.durable && s.mu.err == nil {
		s.mu.durable = target
	}
	s.broadcastLocked()
}

// reap removes segments after a commit, or sees to it that the log is synced when there are many that wait for that.
func (s *Store) reap(applied uint64) error {
	if s.durability == Frontier {
		if s.segments.full() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wantLocked(applied)
		}
		return nil
	}
	err := s.segments.reap(applied)
	if err != nil {
		s.fail(err)
	}
	return err
}

// wantLocked has the syncer make a commit durable.
func (s *Store) wantLocked(seq uint64) {
	s.mu.wanted = max(s.mu.wanted, seq)
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// WaitDurable returns once every commit up to seq is on disk, or with the write error or the context's cause.
func (s *Store) WaitDurable(ctx context.Context, seq uint64) error {
	for {
		s.mu.Lock()
		switch {
		case s.mu.err != nil:
			defer s.mu.Unlock()
			return s.mu.err
		case s.durability == None || s.mu.durable >= seq:
			s.mu.Unlock()
			return nil
		case s.mu.closed:
			s.mu.Unlock()
			return fault.New(fault.Environment, "store-closed", "the job's store was closed before commit %d was durable", seq)
		}
		s.wantLocked(seq)
		wake := s.mu.wake
		s.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
