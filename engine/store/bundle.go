package store

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/element"
	"padstone/engine/rows"
)

// Bundle collects the row writes of one bundle. It belongs to one goroutine at a time and ends in Store.Commit or Discard.
type Bundle struct {
	store *Store
	stage uint32        // its number
	batch *pebble.Batch // indexed: reads see the bundle's own writes
	holds map[element.Time]int
	err   error // first failure of a write into the batch; reported by Commit
}

// Begin starts a bundle of the stage.
func (s *Store) Begin(stage uint32) *Bundle {
	return &Bundle{store: s, stage: s.numbers.stage(stage), batch: s.db.NewIndexedBatch(), holds: make(map[element.Time]int)}
}

// Group returns the rows of one key group. The caller owns that key group until the bundle ends.
func (b *Bundle) Group(group uint16) rows.Tx { return &tx{bundle: b, stage: b.stage, group: group} }

// Discard throws the bundle away. Harmless after Commit.
func (b *Bundle) Discard() {
	if b.batch != nil {
		_ = b.batch.Close() // closing a batch that was never applied releases memory and cannot lose data
		b.batch = nil
	}
}

// Bytes returns the size of what was written so far.
func (b *Bundle) Bytes() int { return b.batch.Len() }

type tx struct {
	bundle *Bundle
	stage  uint32
	group  uint16
	last   []byte // copy returned by the last Get
}

func (t *tx) key(table rows.Table, suffix []byte) []byte {
	return append(rows.Prefix(table, t.stage, t.group), suffix...)
}

func (t *tx) Get(table rows.Table, key []byte) ([]byte, error) {
	v, closer, err := t.bundle.batch.Get(t.key(table, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(err)
	}
	t.last = append(t.last[:0], v...)
	if t.last == nil {
		t.last = []byte{}
	}
	return t.last, closer.Close()
}

func (t *tx) Set(table rows.Table, key, value []byte) {
	t.bundle.note(t.bundle.batch.Set(t.key(table, key), value, nil))
}

func (t *tx) Merge(table rows.Table, key, value []byte) {
	t.bundle.note(t.bundle.batch.Merge(t.key(table, key), value, nil)) // the store's merger concatenates
}

func (t *tx) Delete(table rows.Table, key []byte) {
	t.bundle.note(t.bundle.batch.Delete(t.key(table, key), nil))
}

// deletedAlone bounds the rows under a prefix that are deleted one by one.
const deletedAlone = 64

// DeletePrefix deletes few rows one by one. A range tombstone is dear: the first read of the bundle after each one looks at all that the
// batch has, so that a window that expires in every key group would cost their square.
func (t *tx) DeletePrefix(table rows.Table, prefix []byte) {
	from := t.key(table, prefix)
	keys := make([][]byte, 0, 4)
	err := scan(t.bundle.batch, from, after(from), func(k, _ []byte) (bool, error) {
		keys = append(keys, bytes.Clone(k))
		return len(keys) <= deletedAlone, nil
	})
	t.bundle.note(err)
	if len(keys) > deletedAlone {
		t.bundle.note(t.bundle.batch.DeleteRange(from, after(from), nil))
		return
	}
	for _, k := range keys {
		t.bundle.note(t.bundle.batch.Delete(k, nil))
	}
}

func (t *tx) Scan(table rows.Table, prefix, from []byte, fn func(key, value []byte) bool) error {
	lower := t.key(table, prefix)
	start := lower
	if from != nil {
		if f := t.key(table, from); string(f) > string(lower) {
			start = f
		}
	}
	return scan(t.bundle.batch, start, after(lower), func(k, v []byte) (bool, error) { return fn(k[rows.PrefixLen:], v), nil })
}

func (t *tx) Hold(at element.Time, delta int) {
	if n := t.bundle.holds[at] + delta; n != 0 {
		t.bundle.holds[at] = n
	} else {
		delete(t.bundle.holds, at)
	}
}

func (b *Bundle) note(err error) {
	if err != nil && b.err == nil {
		b.err = err
	}
}

// scan iterates over [from, to) of a reader.
func scan(r pebble.Reader, from, to []byte, fn func(k, v []byte) (bool, error)) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = readError(cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		v, verr := it.ValueAndErr()
		if verr != nil {
			return readError(verr)
		}
		more, ferr := fn(it.Key(), v)
		if ferr != nil || !more {
			return ferr
		}
	}
	return nil
}

// after returns the smallest key that is greater than every key with the prefix. Prefixes start with a table byte below 0xff, so
// there always is one.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0xff}
}
