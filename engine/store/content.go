package store

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// content is a content that a commit has made known.
type content struct {
	refs    int // waiting blocks that refer to it
	extents []extent
}

// Ahead is what one bundle writes ahead of its commit: contents in segments, and rows of side inputs, which go into the log. A commit that
// survives a crash finds both; without the commit nobody refers to them, and Open removes them. It implements rows.Contents, belongs
// to one goroutine at a time, and ends in Store.Commit or Discard.
type Ahead struct {
	store    *Store
	made     []*Content
	segments []*segment
	side     *sideRun // nil until rows of side inputs are written ahead
	ended    bool
}

// WriteAhead begins what a bundle writes ahead of its commit.
func (s *Store) WriteAhead() *Ahead { return &Ahead{store: s} }

// New begins a content.
func (a *Ahead) New() rows.Content {
	c := &Content{ahead: a, id: rows.ContentID(a.store.contentSeq.Add(1))}
	a.made = append(a.made, c)
	return c
}

// Discard removes the contents. Harmless after Commit.
func (a *Ahead) Discard() {
	if a.ended {
		return
	}
	a.ended = true
	if err := errors.Join(a.store.segments.abandon(a.segments), a.discardSide()); err != nil {
		a.store.fail(err)
	}
}

// Content is a content that is being written. It implements rows.Content.
type Content struct {
	ahead   *Ahead
	id      rows.ContentID
	extents []extent
}

// ID returns the content's id.
func (c *Content) ID() rows.ContentID { return c.id }

// Append adds a page.
func (c *Content) Append(page []byte) error {
	e, err := c.ahead.place(page)
	if err != nil {
		c.ahead.store.fail(err)
		return fault.New(fault.Environment, "store-write", "cannot write ahead of a commit: %w", err)
	}
	c.extents = append(c.extents, e)
	return nil
}

// place writes into the bundle's segment.
func (a *Ahead) place(b []byte) (extent, error) {
	g := a.store.segments
	n := len(a.segments)
	if n == 0 || a.segments[n-1].size >= segmentBytesMax {
		seg, err := g.create(a.store.contentSeq.Add(1))
		if err != nil {
			return extent{}, err
		}
		a.segments = append(a.segments, seg)
		n++
	}
	return g.write(a.segments[n-1], b)
}

// Page reads a page of a content of the bundle's own. The data is owned by the caller.
func (a *Ahead) Page(id rows.ContentID, page uint64) ([]byte, error) {
	for _, c := range a.made {
		if c.id == id && page < uint64(len(c.extents)) {
			b := make([]byte, c.extents[page].size)
			return b, a.store.segments.read(c.extents[page], b)
		}
	}
	return nil, noPage(id, page)
}

// Page reads a page of a content that a commit has made known. The data is owned by the caller.
func (s *Store) Page(id rows.ContentID, page uint64) ([]byte, error) {
	b := []byte(nil)
	err := s.readPage(id, page, func(n int) []byte { b = make([]byte, n); return b })
	return b, err
}

// readPage reads a page into memory that alloc gives.
func (s *Store) readPage(id rows.ContentID, page uint64, alloc func(n int) []byte) error {
	e, err := s.extent(id, page)
	if err != nil {
		return err
	}
	err = s.segments.read(e, alloc(e.size))
	if fault.KindOf(err) != fault.Corruption {
		return err
	}
	if _, gone := s.extent(id, page); gone != nil { // let go of meanwhile, for whatever reason somebody still reads it
		return gone
	}
	s.guard.freeze(err)
	return err
}

// extent reads where a page lies.
func (s *Store) extent(id rows.ContentID, page uint64) (e extent, err error) {
	v, closer, err := s.db.Get(pageKey(id, page))
	if errors.Is(err, pebble.ErrNotFound) {
		return e, noPage(id, page)
	}
	if err != nil {
		return e, readError(err)
	}
	e, err = parseExtent(v)
	return e, errors.Join(err, closer.Close())
}

func noPage(id rows.ContentID, page uint64) error {
	return fault.New(fault.Corruption, CodeCorrupt, "page %d of content %d is missing", page, id)
}

// adopt makes the contents of a bundle known.
func (s *Store) adopt(a *Ahead) {
	if a == nil {
		return
	}
	a.ended = true
	for _, c := range a.made {
		s.contents[c.id] = &content{extents: c.extents}
	}
}

// keepAhead writes where the contents of a bundle lie. What it wrote for nobody goes: every consumer wanted the values inline.
func (s *Store) keepAhead(batch *pebble.Batch, a *Ahead) error {
	if a == nil {
		return nil
	}
	pages := make(map[uint64]int)
	for _, made := range a.made {
		if s.contents[made.id].refs == 0 {
			delete(s.contents, made.id)
			continue
		}
		for i, e := range made.extents {
			pages[e.segment]++
			if err := batch.Set(pageKey(made.id, uint64(i)), e.append(nil), nil); err != nil {
				return err
			}
		}
	}
	var unused []*segment
	for _, seg := range a.segments {
		if pages[seg.id] == 0 {
			unused = append(unused, seg)
			continue
		}
		if err := s.segments.adopt(seg, pages[seg.id]); err != nil {
			return err
		}
	}
	return s.segments.abandon(unused)
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

func (s *Store) drop(batch *pebble.Batch, id rows.ContentID, c *content) error {
	delete(s.contents, id)
	for _, e := range c.extents {
		s.segments.release(e, s.dropping)
	}
	return deletePages(batch, id, uint64(len(c.extents)))
}

// deletePages deletes a content: page by page while they are few, as pebble pays dearly for many small deleted ranges.
func deletePages(w pebble.Writer, id rows.ContentID, pages uint64) error {
	const fewPages = 16
	if pages > fewPages {
		return w.DeleteRange(contentKey(id), contentKey(id+1), pebble.NoSync)
	}
	for page := range pages {
		if err := w.Delete(pageKey(id, page), pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

// loadContents reads which contents are referred to, and where they lie. What no commit has made known goes.
func (s *Store) loadContents() error {
	s.contents = make(map[rows.ContentID]*content)
	s.referred = make(map[uint64][]rows.ContentID)
	err := s.scanTable(rows.ContentRef, func(_ uint32, _ uint16, suffix, _ []byte) error {
		if len(suffix) != 16 {
			return corrupt("a reference to a content is malformed")
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
	err = s.scanTable(rows.Page, func(_ uint32, _ uint16, suffix, v []byte) error {
		if len(suffix) != 16 {
			return corrupt("the key of a page is malformed")
		}
		id, page := rows.ContentID(binary.BigEndian.Uint64(suffix)), binary.BigEndian.Uint64(suffix[8:])
		c := s.contents[id]
		if c == nil || page != uint64(len(c.extents)) {
			return corrupt("page %d of content %d is one too many", page, id)
		}
		e, err := parseExtent(v)
		c.extents = append(c.extents, e)
		return err
	})
	if err != nil {
		return err
	}
	return s.segments.load(s.contents)
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
