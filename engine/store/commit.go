package store

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/watermark"
	"padstone/internal/fault"
)

var metaApplied = []byte("applied")

// BlockID names a stored block of a stage's inbox.
type BlockID struct {
	Group uint16
	Edge  uint32
	Seq   uint64
}

// Added is a block for a consumer stage. Commit assigns Block.Seq.
type Added struct {
	Stage uint32
	Group uint16
	Edge  uint32
	Block Block
}

// Trimmed is what is left of a block of the inbox of which a bundle has consumed the beginning. It keeps its sequence, and so its place.
type Trimmed struct {
	ID    BlockID
	Block Block
}

// Entry is a named value: a source position, a metric, a piece of job metadata.
type Entry struct {
	Name  string
	Value []byte // nil deletes the entry
}

// Commit is everything one bundle does to the durable state. It is applied whole or not at all.
type Commit struct {
	Stage     uint32
	Rows      *Bundle // row writes and holds of keyed state; nil when there are none
	Consumed  []BlockID
	Trimmed   []Trimmed
	Added     []Added
	Side      []SideRow
	SidePanes []SidePane
	// SideExpired drops windows of side inputs.
	SideExpired []SideExpiry
	Outbox      []Block  // to be published by this sink stage, in order; Commit assigns Seq
	Published   []uint64 // outbox sequences of this stage that the outside has acknowledged
	Ahead       *Ahead   // contents that the bundle has written; nil when there are none
	Positions   []Entry  // of this source stage
	Meta        []Entry
	Metrics     []Entry
}

// Commit applies c and returns its place in history. It is visible to every later read at once and durable when WaitDurable says
// so. Called by one goroutine. After an error the store refuses every later commit.
func (s *Store) Commit(c *Commit) (uint64, error) {
	s.mu.Lock()
	if s.mu.err != nil {
		defer s.mu.Unlock()
		return 0, s.mu.err
	}
	seq := s.mu.applied + 1
	s.mu.Unlock()
	s.committing.Lock()
	defer s.committing.Unlock()
	batch := s.db.NewBatch()
	defer batch.Close()
	if err := s.fill(batch, c, seq); err != nil {
		s.fail(err)
		return 0, fault.New(fault.Environment, "store-write", "cannot build a commit: %w", err)
	}
	opts := pebble.NoSync
	if s.durability == Sync {
		opts = pebble.Sync
	}
	if err := batch.Commit(opts); err != nil {
		s.fail(err)
		return 0, fault.New(fault.Environment, "store-write", "cannot commit: %w", err)
	}
	if s.durability == Sync {
		s.keepFrontier(seq)
	}
	s.mu.Lock()
	if s.mu.err != nil { // the log has swallowed it
		defer s.mu.Unlock()
		return 0, s.mu.err
	}
	s.mu.applied = seq
	if s.durability == Sync {
		s.mu.durable = seq
		s.broadcastLocked()
	}
	s.mu.Unlock()
	return seq, s.reap(seq)
}

// fill writes c into the batch.
func (s *Store) fill(batch *pebble.Batch, c *Commit, seq uint64) error {
	s.dropping = seq
	w := batchWriter{batch: batch}
	stage := s.numbers.stage(c.Stage)
	if c.Rows != nil {
		w.note(c.Rows.err)
		if !c.Rows.batch.Empty() {
			w.note(batch.Apply(c.Rows.batch, nil))
		}
		for t, delta := range c.Rows.holds {
			w.hold(stage, t, s.addHold(stage, t, delta))
		}
	}
	s.adopt(c.Ahead)
	for i := range c.Added {
		a := &c.Added[i]
		a.Block.Seq = s.nextSeq()
		w.inbox(s.inboxKey(a.Stage, a.Group, a.Edge, a.Block.Seq), &a.Block)
		w.note(s.refer(batch, &a.Block))
	}
	for _, id := range c.Consumed { // after Added: what passes from block to block is not let go
		key := s.inboxKey(c.Stage, id.Group, id.Edge, id.Seq)
		w.note(batch.SingleDelete(key, nil))
		w.note(batch.SingleDelete(dataKey(key), nil))
		w.note(s.release(batch, id.Seq))
	}
	for i := range c.Trimmed {
		w.note(s.trim(&w, c.Stage, &c.Trimmed[i]))
	}
	w.note(s.keepAhead(batch, c.Ahead))
	s.fillSide(&w, c)
	for i := range c.Outbox {
		c.Outbox[i].Seq = s.nextSeq()
		w.block(outboxKey(stage, c.Outbox[i].Seq), &c.Outbox[i])
	}
	for _, seq := range c.Published {
		w.note(batch.SingleDelete(outboxKey(stage, seq), nil))
	}
	w.entries(rows.Source, stage, c.Positions)
	w.entries(rows.Meta, 0, c.Meta)
	w.entries(rows.Metric, 0, c.Metrics)
	w.note(s.counters(batch, seq))
	return w.err
}

// counters writes what the store goes on to count from.
func (s *Store) counters(batch *pebble.Batch, applied uint64) error {
	mark := binary.BigEndian.AppendUint64(nil, applied)
	mark = binary.BigEndian.AppendUint64(mark, s.blockSeq)
	mark = binary.BigEndian.AppendUint64(mark, s.contentSeq.Load()) // a run of side input rows is named by it for as long as they live
	return batch.Set(append(rows.Prefix(rows.Meta, 0, 0), metaApplied...), mark, nil)
}

// trim puts what is left of a block in its place. What the block referred to it goes on referring to.
func (s *Store) trim(w *batchWriter, stage uint32, t *Trimmed) error {
	t.Block.Seq = t.ID.Seq
	key := s.inboxKey(stage, t.ID.Group, t.ID.Edge, t.ID.Seq)
	// The rows are to be deleted by SingleDelete, which counts what was set since the last deletion.
	w.note(w.batch.Delete(key, nil))
	w.note(w.batch.Delete(dataKey(key), nil))
	w.inbox(key, &t.Block)
	return s.referBody(w.batch, &t.Block)
}

func (s *Store) nextSeq() uint64 {
	s.blockSeq++
	return s.blockSeq
}

// addHold keeps the absolute number of holds at t, which is what the rows store: recovery then reads one row a time.
func (s *Store) addHold(stage uint32, t element.Time, delta int) int {
	if s.holds[stage] == nil {
		s.holds[stage] = &watermark.Multiset{}
	}
	return s.holds[stage].Add(t, delta)
}

// batchWriter remembers the first error of a run of writes.
type batchWriter struct {
	batch *pebble.Batch
	buf   []byte
	err   error
}

func (w *batchWriter) note(err error) {
	if err != nil && w.err == nil {
		w.err = err
	}
}

func (w *batchWriter) block(key []byte, b *Block) {
	w.buf = appendBlock(w.buf[:0], b, false)
	w.note(w.batch.Set(key, w.buf, nil))
}

// inbox writes a block of an inbox, data of some length into a row of its own.
func (w *batchWriter) inbox(key []byte, b *Block) {
	apart := b.Body == 0 && len(b.Data) > inlineBytesMax
	w.buf = appendBlock(w.buf[:0], b, apart)
	w.note(w.batch.Set(key, w.buf, nil))
	if apart {
		w.note(w.batch.Set(dataKey(key), b.Data, nil))
	}
}

func (w *batchWriter) hold(stage uint32, t element.Time, count int) {
	key := rows.AppendTime(rows.Prefix(rows.Hold, stage, 0), t)
	if count == 0 {
		w.note(w.batch.Delete(key, nil))
		return
	}
	w.note(w.batch.Set(key, binary.BigEndian.AppendUint64(nil, uint64(count)), nil))
}

func (w *batchWriter) entries(t rows.Table, stage uint32, entries []Entry) {
	for _, e := range entries {
		key := append(rows.Prefix(t, stage, 0), e.Name...)
		if e.Value == nil {
			w.note(w.batch.Delete(key, nil))
			continue
		}
		w.note(w.batch.Set(key, e.Value, nil))
	}
}

func outboxKey(stage uint32, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(rows.Prefix(rows.Outbox, stage, 0), seq)
}
