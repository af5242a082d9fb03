package store

import (
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// content is a content that a commit has made known.
type content struct {
	refs  int    // waiting blocks that refer to it
	pages uint64 // 0: an earlier process wrote it, and did not tell
}

// Ahead is what one bundle writes ahead of its commit. Its pages go into the log before the commit does, so that a commit that
// survives a crash finds them; without the commit nobody refers to them, and Open removes them. It implements rows.Contents, belongs
// to one goroutine at a time, and ends in Store.Commit or Discard.
type Ahead struct {
	store *Store
	made  []*Content
	side  *sideRun // nil until rows of side inputs are written ahead
	ended bool
}

// WriteAhead begins what a bundle writes ahead of its commit.
func (s *Store) WriteAhead() *Ahead { return &Ahead{store: s} }

// New begins a content.
func (a *Ahead) New() rows.Content {
	c := &Content{store: a.store, id: rows.ContentID(a.store.contentSeq.Add(1))}
	a.made = append(a.made, c)
	return c
}

// Discard removes the contents. Harmless after Commit.
func (a *Ahead) Discard() {
	if a.ended {
		return
	}
	a.ended = true
	for _, c := range a.made {
		if err := deletePages(a.store.db, c.id, c.pages); err != nil {
			a.store.fail(err)
			return
		}
	}
	if err := a.discardSide(); err != nil {
		a.store.fail(err)
	}
}

// Content is a content that is being written. It implements rows.Content.
type Content struct {
	store *Store
	id    rows.ContentID
	pages uint64
}

// ID returns the content's id.
func (c *Content) ID() rows.ContentID { return c.id }

// Append adds a page.
func (c *Content) Append(page []byte) error {
	if err := c.store.db.Set(pageKey(c.id, c.pages), page, pebble.NoSync); err != nil {
		c.store.fail(err)
		return fault.New(fault.Environment, "store-write", "cannot write ahead of a commit: %w", err)
	}
	c.pages++
	return nil
}

// Page reads a page of a content. The data is owned by the caller.
func (s *Store) Page(id rows.ContentID, page uint64) ([]byte, error) {
	data, err := s.get(pageKey(id, page))
	if err == nil && data == nil {
		err = fault.New(fault.Corruption, "store-corrupt", "page %d of content %d is missing", page, id)
	}
	return data, err
}

// adopt makes the contents of a bundle known.
func (s *Store) adopt(a *Ahead) {
	if a == nil {
		return
	}
	a.ended = true
	for _, c := range a.made {
		s.contents[c.id] = &content{pages: c.pages}
	}
}

// refer counts the contents that a new block refers to.
func (s *Store) refer(batch *pebble.Batch, b *Block) error {
	ids := b.Refs
	if b.Body != 0 {
		ids = append([]rows.ContentID{b.Body}, ids...)
	}
	if b.RefsOf != 0 { // a content that was the other's body is among them and stays for longer than it must
		ids = append(slices.Clone(ids), s.referred[b.RefsOf]...)
	}
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		c := s.contents[id]
		if c == nil {
			return fault.New(fault.Internal, "content-unknown", "a block refers to content %d, which is not there", id)
		}
		c.refs++
		if err := batch.Set(refKey(b.Seq, id), nil, nil); err != nil {
			return err
		}
	}
	s.referred[b.Seq] = ids
	return nil
}

// referBody has a block that stays refer to a new body, too. The old one goes with the block.
func (s *Store) referBody(batch *pebble.Batch, b *Block) error {
	if b.Body == 0 {
		return nil
	}
	c := s.contents[b.Body]
	if c == nil {
		return fault.New(fault.Internal, "content-unknown", "a block refers to content %d, which is not there", b.Body)
	}
	c.refs++
	s.referred[b.Seq] = append(slices.Clone(s.referred[b.Seq]), b.Body)
	return batch.Set(refKey(b.Seq, b.Body), nil, nil)
}

// release forgets what a block referred to that is consumed. A content that no waiting block refers to goes.
func (s *Store) release(batch *pebble.Batch, seq uint64) error {
	ids := s.referred[seq]
	delete(s.referred, seq)
	for _, id := range ids {
		if err := batch.Delete(refKey(seq, id), nil); err != nil {
			return err
		}
		c := s.contents[id]
		if c.refs--; c.refs > 0 {
			continue
		}
		if err := s.drop(batch, id, c); err != nil {
			return err
		}
	}
	return nil
}

// dropUnreferred drops what a bundle wrote for nobody: every consumer wanted the values inline.
func (s *Store) dropUnreferred(batch *pebble.Batch, a *Ahead) error {
	if a == nil {
		return nil
	}
	for _, made := range a.made {
		if c := s.contents[made.id]; c != nil && c.refs == 0 {
			if err := s.drop(batch, made.id, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) drop(batch *pebble.Batch, id rows.ContentID, c *content) error {
	delete(s.contents, id)
	return deletePages(batch, id, c.pages)
}

// deletePages deletes a content: page by page while they are few, as pebble pays dearly for many small deleted ranges.
func deletePages(w pebble.Writer, id rows.ContentID, pages uint64) error {
	const fewPages = 16
	if pages == 0 || pages > fewPages {
		return w.DeleteRange(contentKey(id), contentKey(id+1), pebble.NoSync)
	}
	for page := range pages {
		if err := w.Delete(pageKey(id, page), pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// loadContents reads which contents are referred to, and removes those that no commit has made known.
func (s *Store) loadContents() error {
	s.contents = make(map[rows.ContentID]*content)
	s.referred = make(map[uint64][]rows.ContentID)
	err := s.scanTable(rows.ContentRef, func(_ uint32, _ uint16, suffix, _ []byte) error {
		if len(suffix) != 16 {
			return fault.New(fault.Corruption, "store-corrupt", "a reference to a content is malformed")
		}
		seq, id := binary.BigEndian.Uint64(suffix), rows.ContentID(binary.BigEndian.Uint64(suffix[8:]))
		s.referred[seq] = append(s.referred[seq], id)
		if s.contents[id] == nil {
			s.contents[id] = &content{}
		}
		s.contents[id].refs++
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := s.contentIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		s.contentSeq.Store(max(s.contentSeq.Load(), uint64(id)))
		if s.contents[id] == nil {
			if err := deletePages(s.db, id, 0); err != nil {
				return readError(err)
			}
		}
	}
	return nil
}

// contentIDs lists all contents, known or not. It reads one row of each.
func (s *Store) contentIDs() (ids []rows.ContentID, err error) {
	for next := rows.ContentID(0); ; {
		found := false
		err := scan(s.db, contentKey(next), after([]byte{byte(rows.Page)}), func(k, _ []byte) (bool, error) {
			if len(k) != rows.PrefixLen+16 {
				return false, fault.New(fault.Corruption, "store-corrupt", "the key of a page is malformed")
			}
			found = true
			ids = append(ids, rows.ContentID(binary.BigEndian.Uint64(k[rows.PrefixLen:])))
			return false, nil
		})
		if err != nil || !found {
			return ids, err
		}
		next = ids[len(ids)-1] + 1
	}
}

func contentKey(id rows.ContentID) []byte {
	return binary.BigEndian.AppendUint64(rows.Prefix(rows.Page, 0, 0), uint64(id))
}

func pageKey(id rows.ContentID, page uint64) []byte {
	return binary.BigEndian.AppendUint64(contentKey(id), page)
}

func refKey(seq uint64, id rows.ContentID) []byte {
	k := binary.BigEndian.AppendUint64(rows.Prefix(rows.ContentRef, 0, 0), seq)
	return binary.BigEndian.AppendUint64(k, uint64(id))
}
