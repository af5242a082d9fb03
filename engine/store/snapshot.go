package store

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// Snapshot is the store as it was at one moment. Safe for concurrent use.
type Snapshot struct {
	store *Store
	view  *pebble.Snapshot
	mu    struct {
		sync.Mutex
		ahead map[uint64]bool // runs that a commit had made known, or not
	}
}

// Snapshot returns the store as it is. It must be closed.
func (s *Store) Snapshot() *Snapshot {
	v := &Snapshot{store: s, view: s.db.NewSnapshot()}
	v.mu.ahead = make(map[uint64]bool)
	return v
}

// Close gives the snapshot back.
func (v *Snapshot) Close() error {
	if err := v.view.Close(); err != nil {
		return readError(err)
	}
	return nil
}

// Side calls fn for the rows of a side input whose key starts with prefix and whose full suffix is at least from, in order, until
// it returns false. The suffix is the SideRow's key with what tells rows of one key apart behind it. fn may name a prefix to go on
// behind.
func (v *Snapshot) Side(edge uint32, prefix, from []byte, fn func(suffix, values []byte) (skip []byte, more bool)) (err error) {
	lower := v.store.sideKey(edge, prefix)
	it, err := v.view.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: after(lower)})
	if err != nil {
		return readError(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = readError(cerr)
		}
	}()
	ok := false
	if from != nil {
		ok = it.SeekGE(v.store.sideKey(edge, from))
	} else {
		ok = it.First()
	}
	for ok {
		value, verr := it.ValueAndErr()
		if verr != nil {
			return readError(verr)
		}
		values, there, verr := v.values(value)
		if verr != nil {
			return verr
		}
		if !there {
			ok = it.Next()
			continue
		}
		skip, more := fn(it.Key()[rows.PrefixLen:], values)
		switch {
		case !more:
			return nil
		case skip != nil:
			ok = it.SeekGE(after(v.store.sideKey(edge, skip)))
		default:
			ok = it.Next()
		}
	}
	return nil
}

// values returns the values of a row, unless it was written ahead of a commit that had not come.
func (v *Snapshot) values(value []byte) ([]byte, bool, error) {
	run, values, ahead := takeRun(value)
	if !ahead {
		if len(value) == 0 {
			return nil, false, fault.New(fault.Corruption, "store-corrupt", "a row of a side input is empty")
		}
		return value[1:], true, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	known, asked := v.mu.ahead[run]
	if !asked {
		_, closer, err := v.view.Get(runKey(run))
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			known = true
		case err != nil:
			return nil, false, readError(err)
		default:
			if err := closer.Close(); err != nil {
				return nil, false, readError(err)
			}
		}
		v.mu.ahead[run] = known
	}
	return values, known, nil
}
