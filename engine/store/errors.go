package store

import (
	"github.com/cockroachdb/pebble/v2"

	"padstone/internal/durable"
	"padstone/internal/fault"
)

// Codes that say that a store has failed for its disk's sake: opened again it goes on from what is on disk, when the disk lets it.
const (
	codeOpen  fault.Code = "store-open"
	codeRead  fault.Code = "store-read"
	codeWrite fault.Code = "store-write"
)

// CodeCorrupt says that what is stored does not read back.
const CodeCorrupt fault.Code = "store-corrupt"

// CodeUnclean says that a store without a log was not closed in order, so that what it held is lost.
const CodeUnclean fault.Code = "store-unclean"

// Failed says whether an error is one of a store that may be opened again.
func Failed(err error) bool {
	f := fault.Of(err)
	if f == nil || f.Kind != fault.Environment {
		return false
	}
	switch f.Code {
	case durable.CodeFull, codeOpen, codeRead, codeWrite:
		return true
	}
	return false
}

// diskError gives an error of pebble or of the disk its meaning. doing is what could not be done to the job's store.
func diskError(doing string, err error) error {
	if fault.Of(err) != nil {
		return err
	}
	switch info := pebble.ExtractDataCorruptionInfo(err); {
	case info != nil:
		return corrupt("the job's store is corrupt: %s: %w", info.Path, info.Details)
	case pebble.IsCorruptionError(err): // which knows pebble's own wrapping, that of package errors does not
		return corrupt("the job's store is corrupt: %w", err)
	case durable.Full(err):
		return fault.New(fault.Environment, durable.CodeFull, "the disk is full: cannot %s the job's store: %w", doing, err).
			WithHint("make room on the disk of the data directory; the job then goes on by itself from its last durable commit")
	}
	code := fault.Code("store-" + doing)
	return fault.New(fault.Environment, code, "cannot %s the job's store: %w", doing, err).
		WithHint("check the disk of the data directory; the job goes on by itself from its last durable commit when the disk works")
}

// corrupt says that what is stored does not read back, and what to do with it.
func corrupt(format string, args ...any) error {
	return fault.New(fault.Corruption, CodeCorrupt, format, args...).
		WithHint("check the disk; what is left of the store is kept; restore the job from a checkpoint, or submit it again")
}

func readError(err error) error { return diskError("read", err) }

// openError explains why the store could not be opened. What pebble refuses although the disk gave it everything is damaged.
func (s *Store) openError(err error) error {
	if failed := s.Err(); failed != nil {
		return failed
	}
	if fault.Of(err) != nil {
		return err
	}
	if cause := s.guard.cause(); cause != nil {
		return diskError("open", cause)
	}
	return corrupt("the job's store in %s cannot be opened: %w", s.dir, err)
}
