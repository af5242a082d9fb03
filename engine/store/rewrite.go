package store

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/rows"
)

// Holding is what lies under a number.
type Holding struct {
	Elements  int64 // in the inbox
	Outbox    int64 // elements that wait to be published
	Positions int
	Keyed     bool // state, timers, groups
	Side      bool // rows of a side input
}

// numbered are the tables whose rows lie under the number of a stage or edge; keyed are those of state that is kept by key.
var (
	numbered = []rows.Table{
		rows.Inbox, rows.Group, rows.Trigger, rows.State, rows.TimerID, rows.TimerTS, rows.Hold, rows.Side, rows.Source, rows.Outbox,
		rows.SideWindow, rows.Sorted, rows.Data,
	}
	keyed = []rows.Table{rows.Group, rows.Trigger, rows.State, rows.TimerID, rows.Sorted}
)

// holding returns what is known of a number.
func holding(all map[uint32]*Holding, number uint32) *Holding {
	if all[number] == nil {
		all[number] = &Holding{}
	}
	return all[number]
}

// Kept tells by number what the store keeps, without the elements that wait: who runs a job knows how many those are.
func (s *Store) Kept() (map[uint32]*Holding, error) {
	all := make(map[uint32]*Holding)
	at := func(number uint32) *Holding { return holding(all, number) }
	for _, t := range keyed {
		if err := s.eachNumber(t, func(number uint32) { at(number).Keyed = true }); err != nil {
			return nil, err
		}
	}
	if err := s.eachNumber(rows.Side, func(number uint32) { at(number).Side = true }); err != nil {
		return nil, err
	}
	err := s.scanTable(rows.Source, func(number uint32, _ uint16, _, _ []byte) error { at(number).Positions++; return nil })
	return all, err
}

// Holdings tells by number what the store holds. It reads all blocks that wait.
func (s *Store) Holdings() (map[uint32]*Holding, error) {
	all, err := s.Kept()
	if err != nil {
		return nil, err
	}
	count := func(into func(h *Holding) *int64) func(uint32, uint16, []byte, []byte) error {
		return func(number uint32, _ uint16, suffix, v []byte) error {
			b, err := parseBlock(binary.BigEndian.Uint64(suffix[max(len(suffix)-8, 0):]), v)
			*into(holding(all, number)) += int64(b.Count)
			return err
		}
	}
	if err := s.scanTable(rows.Inbox, count(func(h *Holding) *int64 { return &h.Elements })); err != nil {
		return nil, err
	}
	return all, s.scanTable(rows.Outbox, count(func(h *Holding) *int64 { return &h.Outbox }))
}

// eachNumber calls fn for the numbers that a table has rows of. It reads one row of each.
func (s *Store) eachNumber(t rows.Table, fn func(number uint32)) error {
	for from := []byte{byte(t)}; ; {
		found := false
		var number uint32
		err := scan(s.db, from, after([]byte{byte(t)}), func(k, _ []byte) (bool, error) {
			found = len(k) >= rows.PrefixLen
			if found {
				number = binary.BigEndian.Uint32(k[1:])
			}
			return false, nil
		})
		if err != nil || !found {
			return err
		}
		fn(number)
		from = after(underNumber(t, number))
	}
}

// Rewrite is what is done to rows when another plan takes the store over. All of it speaks of numbers.
type Rewrite struct {
	// Inbox and Side copy the waiting blocks of a stage, and the rows of a side input, to numbers that nothing lies under.
	Inbox, Side []Copied
	ClearInbox  []uint32 // waiting blocks go
	Drop        []uint32 // everything goes
	Meta        []Entry
}

// Copied is a copy of the rows of a number.
type Copied struct{ From, To uint32 }

// Rewrite rewrites the store and keeps the inventory of what it holds then, in one batch, before Number and the first commit. Only the
// copies of side inputs are written ahead of it: a crash leaves them under numbers that nobody knows, and a second try writes them anew.
func (s *Store) Rewrite(r *Rewrite, inventory []byte) error {
	for _, c := range r.Side {
		if err := s.copySide(c); err != nil {
			return writeFailed(s, err)
		}
	}
	w := batchWriter{batch: s.db.NewBatch()}
	defer w.batch.Close()
	for _, c := range r.Inbox {
		w.note(s.copyInbox(&w, c))
	}
	for _, number := range r.ClearInbox {
		w.note(s.clearInbox(&w, number))
	}
	for _, number := range r.Drop {
		w.note(s.clearInbox(&w, number))
		for _, t := range numbered {
			from := underNumber(t, number)
			w.note(w.batch.DeleteRange(from, after(from), nil))
		}
		delete(s.holds, number)
		delete(s.side, number)
	}
	w.entries(rows.Meta, 0, append([]Entry{{Name: metaInventory, Value: inventory}}, r.Meta...))
	w.note(s.counters(w.batch, s.Applied()))
	if w.err == nil {
		w.err = w.batch.Commit(pebble.NoSync)
	}
	return writeFailed(s, w.err)
}

// copyInbox copies blocks under sequences of their own; they refer to the same contents.
func (s *Store) copyInbox(w *batchWriter, c Copied) error {
	from := underNumber(rows.Inbox, c.From)
	return scan(s.db, from, after(from), func(k, v []byte) (bool, error) {
		old, seq := binary.BigEndian.Uint64(k[len(k)-8:]), s.nextSeq()
		key := rows.Prefix(rows.Inbox, c.To, binary.BigEndian.Uint16(k[5:]))
		key = binary.BigEndian.AppendUint32(key, c.To)
		key = binary.BigEndian.AppendUint64(key, seq)
		w.note(w.batch.Set(key, v, nil))
		if b, err := parseBlock(old, v); err != nil {
			return false, err
		} else if b.apart {
			data, err := s.get(dataKey(k))
			if err != nil {
				return false, err
			}
			w.note(w.batch.Set(dataKey(key), data, nil))
		}
		for _, id := range s.referred[old] {
			s.contents[id].refs++
			s.referred[seq] = append(s.referred[seq], id)
			w.note(w.batch.Set(refKey(seq, id), nil, nil))
		}
		return w.err == nil, w.err
	})
}

func (s *Store) clearInbox(w *batchWriter, number uint32) error {
	from := underNumber(rows.Inbox, number)
	err := scan(s.db, from, after(from), func(k, _ []byte) (bool, error) {
		return true, s.release(w.batch, binary.BigEndian.Uint64(k[len(k)-8:]))
	})
	for _, t := range []rows.Table{rows.Inbox, rows.Data} {
		from := underNumber(t, number)
		w.note(w.batch.DeleteRange(from, after(from), nil))
	}
	return err
}

// copySide copies the rows of a side input and the list of its windows.
func (s *Store) copySide(c Copied) error {
	const batchMax = 4 << 20
	for _, t := range []rows.Table{rows.Side, rows.SideWindow} {
		batch := s.db.NewBatch()
		from, to := underNumber(t, c.From), underNumber(t, c.To)
		err := batch.DeleteRange(to, after(to), nil)
		if err == nil {
			err = scan(s.db, from, after(from), func(k, v []byte) (bool, error) {
				err := batch.Set(append(to[:len(to):len(to)], k[len(to):]...), v, nil)
				if err == nil && batch.Len() > batchMax {
					err = batch.Commit(pebble.NoSync)
					batch = s.db.NewBatch()
				}
				return true, err
			})
		}
		if err == nil {
			err = batch.Commit(pebble.NoSync)
		}
		if err != nil {
			return err
		}
	}
	if x := s.side[c.From]; x != nil {
		w := batchWriter{batch: s.db.NewBatch()} // what it writes is there already
		defer w.batch.Close()
		for window, end := range x.windows {
			s.sideWindow(&w, c.To, window, end)
		}
	}
	return nil
}

// underNumber is the prefix of the rows of a number in a table.
func underNumber(t rows.Table, number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(t)}, number)
}
