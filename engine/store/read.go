package store

import (
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/watermark"
	"padstone/internal/fault"
)

// load reads the counters that Commit goes on from.
func (s *Store) load() error {
	v, err := s.get(append(rows.Prefix(rows.Meta, 0, 0), metaApplied...))
	if err != nil {
		return err
	}
	if len(v) >= 16 {
		s.mu.applied = binary.BigEndian.Uint64(v)
		s.mu.durable = s.mu.applied
		s.blockSeq = binary.BigEndian.Uint64(v[8:])
	}
	if len(v) >= 24 {
		s.contentSeq.Store(binary.BigEndian.Uint64(v[16:]))
	}
	s.dropping = s.mu.applied + 1
	if err := s.loadContents(); err != nil {
		return err
	}
	if err := s.loadSide(); err != nil {
		return err
	}
	return s.loadHolds()
}

// loadHolds reads the watermark holds, of which there may be millions.
func (s *Store) loadHolds() error {
	s.holds = make(map[uint32]*watermark.Multiset)
	var counts []watermark.Count
	last := uint32(0)
	load := func() {
		if len(counts) > 0 {
			s.holds[last] = &watermark.Multiset{}
			s.holds[last].Load(counts)
		}
		counts = nil
	}
	err := s.scanTable(rows.Hold, func(stage uint32, _ uint16, suffix, v []byte) error {
		if len(suffix) != 8 || len(v) != 8 {
			return fault.New(fault.Corruption, "store-corrupt", "a watermark hold of stage %d is malformed", stage)
		}
		if stage != last {
			load()
			last = stage
		}
		if n := int(binary.BigEndian.Uint64(v)); n != 0 {
			counts = append(counts, watermark.Count{At: rows.Time(suffix), N: n})
		}
		return nil
	})
	load()
	return err
}

// Holds calls fn for the stages that hold their watermark. After Open the holds are ascending.
func (s *Store) Holds(fn func(stage uint32, holds []watermark.Count)) error {
	for number, holds := range s.holds {
		stage, err := s.stageOf(number)
		if err != nil {
			return err
		}
		if all := holds.All(); len(all) > 0 {
			fn(stage, all)
		}
	}
	return nil
}

// Inbox calls fn for the header of every block that waits, oldest first within a stage's key group and edge.
func (s *Store) Inbox(fn func(stage uint32, group uint16, edge uint32, h Header)) error {
	return s.scanTable(rows.Inbox, func(number uint32, group uint16, suffix, v []byte) error {
		if len(suffix) != 12 {
			return fault.New(fault.Corruption, "store-corrupt", "an inbox key of stage %d is malformed", number)
		}
		b, err := parseBlock(binary.BigEndian.Uint64(suffix[4:]), v)
		if err != nil {
			return err
		}
		stage, err := s.stageOf(number)
		if err != nil {
			return err
		}
		edge, err := s.edgeOf(binary.BigEndian.Uint32(suffix))
		if err != nil {
			return err
		}
		fn(stage, group, edge, b.Header)
		return nil
	})
}

// Block reads one block of a stage's inbox, with the data of its body. The data is owned by the caller.
func (s *Store) Block(stage uint32, id BlockID) (Block, error) {
	return s.BlockIn(stage, id, func(n int) []byte { return make([]byte, n) })
}

// BlockIn is Block that has the data put where alloc says, if it is not short.
func (s *Store) BlockIn(stage uint32, id BlockID, alloc func(n int) []byte) (Block, error) {
	v, err := s.get(s.inboxKey(stage, id.Group, id.Edge, id.Seq))
	if err != nil {
		return Block{}, err
	}
	if v == nil {
		return Block{}, fault.New(fault.Corruption, "store-corrupt", "block %d of stage %d, group %d is missing", id.Seq, stage, id.Group)
	}
	b, err := parseBlock(id.Seq, v)
	switch {
	case err != nil:
	case b.Body != 0:
		err = s.readPage(b.Body, 0, func(n int) []byte { b.Data = alloc(n); return b.Data })
	case b.apart:
		if b.Data, err = s.get(dataKey(s.inboxKey(stage, id.Group, id.Edge, id.Seq))); err == nil && len(b.Data) != b.Bytes {
			err = fault.New(fault.Corruption, "store-corrupt", "block %d has %d bytes, not %d", id.Seq, len(b.Data), b.Bytes)
		}
	}
	return b, err
}

// Outbox calls fn for every block that a sink stage has yet to publish, in order, until it returns false.
func (s *Store) Outbox(stage uint32, fn func(b Block) bool) error {
	from := rows.Prefix(rows.Outbox, s.numbers.stage(stage), 0)
	return scan(s.db, from, after(from), func(k, v []byte) (bool, error) {
		b, err := parseBlock(binary.BigEndian.Uint64(k[rows.PrefixLen:]), append([]byte(nil), v...))
		if err != nil {
			return false, err
		}
		return fn(b), nil
	})
}

// CountRows counts the rows of a table, over all stages: for tests and for people who wonder what a job keeps.
func (s *Store) CountRows(t rows.Table) (n int, err error) {
	err = s.scanTable(t, func(uint32, uint16, []byte, []byte) error { n++; return nil })
	return n, err
}

// Positions returns the positions of a source stage.
func (s *Store) Positions(stage uint32) ([]Entry, error) {
	return s.entries(rows.Source, s.numbers.stage(stage))
}

// Meta returns the job's metadata entries; Metrics its committed metrics.
func (s *Store) Meta() ([]Entry, error) { return s.entries(rows.Meta, 0) }

// Metrics returns the committed metrics as written by Commit.Metrics.
func (s *Store) Metrics() ([]Entry, error) { return s.entries(rows.Metric, 0) }

// Applied returns the sequence of the last commit; 0 for a new store.
func (s *Store) Applied() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.applied
}

// LastBlock returns the last sequence that a block was given. Not to be called while Commit runs.
func (s *Store) LastBlock() uint64 { return s.blockSeq }

func (s *Store) entries(t rows.Table, number uint32) ([]Entry, error) {
	var out []Entry
	from := rows.Prefix(t, number, 0)
	err := scan(s.db, from, after(from), func(k, v []byte) (bool, error) {
		out = append(out, Entry{Name: string(k[rows.PrefixLen:]), Value: append([]byte{}, v...)})
		return true, nil
	})
	return out, err
}

// get returns a copy of the value, or nil when there is no row.
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, readError(err)
	}
	return append([]byte{}, v...), closer.Close()
}

func (s *Store) scanTable(t rows.Table, fn func(number uint32, group uint16, suffix, v []byte) error) error {
	from := []byte{byte(t)}
	return scan(s.db, from, after(from), func(k, v []byte) (bool, error) {
		if len(k) < rows.PrefixLen {
			return false, fault.New(fault.Corruption, "store-corrupt", "a key of table %#x is too short", byte(t))
		}
		return true, fn(binary.BigEndian.Uint32(k[1:]), binary.BigEndian.Uint16(k[5:]), k[rows.PrefixLen:], v)
	})
}

// Holds returns the bundle's hold deltas.
func (b *Bundle) Holds() map[element.Time]int { return b.holds }
