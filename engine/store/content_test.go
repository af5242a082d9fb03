package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// written writes a content of some pages ahead.
func written(t *testing.T, a *Ahead, pages ...string) rows.ContentID {
	t.Helper()
	c := a.New()
	for _, p := range pages {
		if err := c.Append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	return c.ID()
}

// adding is a commit that adds a block of stage 1 that refers to the contents.
func adding(a *Ahead, refs ...rows.ContentID) *Commit {
	return &Commit{Stage: 1, Ahead: a, Added: []Added{{Stage: 1, Block: Block{Header: Header{Count: 1}, Data: []byte("x"), Refs: refs}}}}
}

func commit(t *testing.T, s *Store, c *Commit) uint64 {
	t.Helper()
	if _, err := s.Commit(c); err != nil {
		t.Fatal(err)
	}
	if len(c.Added) == 0 {
		return 0
	}
	return c.Added[0].Block.Seq
}

func consume(seqs ...uint64) *Commit {
	c := &Commit{Stage: 1}
	for _, seq := range seqs {
		c.Consumed = append(c.Consumed, BlockID{Seq: seq})
	}
	return c
}

// kept checks which contents are known, in memory and in rows, and that there are files for them and no others, but for some that are
// being written or wait for the log.
func kept(t *testing.T, s *Store, others int, want ...rows.ContentID) {
	t.Helper()
	known := slices.Sorted(maps.Keys(s.contents))
	var stored []rows.ContentID
	files := make(map[string]bool)
	err := s.scanTable(rows.Page, func(_ uint32, _ uint16, suffix, v []byte) error {
		stored = append(stored, rows.ContentID(binary.BigEndian.Uint64(suffix)))
		e, err := parseExtent(v)
		files[segmentName(e.segment)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stored = slices.Compact(stored)
	if !slices.Equal(known, want) || !slices.Equal(stored, want) {
		t.Errorf("contents %v are known and %v stored, not %v", known, stored, want)
	}
	there := segmentFiles(t, s)
	for name := range files {
		if !there[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if len(there) != len(files)+others {
		t.Errorf("there are %d segments, not %d and %d", len(there), len(files), others)
	}
}

func segmentFiles(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	names, err := s.fs.List(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) {
			there[name] = true
		}
	}
	return there
}

// makeDurable makes everything durable that was committed.
func makeDurable(t *testing.T, s *Store) {
	t.Helper()
	if err := s.WaitDurable(t.Context(), s.Applied()); err != nil {
		t.Fatal(err)
	}
}

// TestContentLives as long as a block that refers to it waits, over restarts, and no longer.
func TestContentLives(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	a := s.WriteAhead()
	one, unused := written(t, a, "a", "b", "c"), written(t, a, "nobody wants it")
	kept(t, s, 1)
	page, err := a.Page(one, 1)
	if err != nil || string(page) != "b" {
		t.Errorf("page 1 is %q, %v", page, err)
	}
	first := commit(t, s, adding(a, one))
	a.Discard() // harmless now
	kept(t, s, 0, one)
	if page, err := s.Page(one, 2); err != nil || string(page) != "c" {
		t.Errorf("page 2 is %q, %v", page, err)
	}
	for _, id := range []rows.ContentID{one, unused} {
		if _, err := s.Page(id, 3); fault.KindOf(err) != fault.Corruption {
			t.Errorf("a page that is not there: %v", err)
		}
	}
	second := commit(t, s, adding(nil, one))

	closeStore(t, s)
	s = open(t, fs, Frontier)
	kept(t, s, 0, one)
	a = s.WriteAhead()
	two := written(t, a, make([]string, 40)...) // more pages than are deleted one by one
	if two <= one {
		t.Errorf("content %d after %d", two, one)
	}
	c := adding(a, one, two)
	c.Consumed = consume(first, second).Consumed
	third := commit(t, s, c) // from block to block
	kept(t, s, 0, one, two)
	commit(t, s, consume(third))
	kept(t, s, 2) // what has let go of them is not durable
	makeDurable(t, s)
	kept(t, s, 0)

	a = s.WriteAhead()
	lost := written(t, a, "a")
	a.Discard()
	kept(t, s, 0)
	written(t, s.WriteAhead(), "a")
	kept(t, s, 1)
	closeStore(t, s)
	s = open(t, fs, Frontier)
	kept(t, s, 0)
	if _, err := s.Commit(adding(nil, lost)); err == nil {
		t.Errorf("a block refers to content %d, which is not there: %v", lost, err)
	}
	closeStore(t, s)
}

// TestBody: a block whose elements were written ahead reads like another.
func TestBody(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	a := s.WriteAhead()
	body := written(t, a, "elements")
	values := written(t, a, "values")
	c := &Commit{Stage: 1, Ahead: a, Added: []Added{{Stage: 1, Group: 3, Edge: 4, Block: Block{
		Header: Header{Count: 2, Bytes: 8, MinTS: 5, Residual: true}, Body: body, Refs: []rows.ContentID{values},
	}}}}
	seq := commit(t, s, c)
	closeStore(t, s)
	s = open(t, fs, Frontier)
	var h Header
	if err := s.Inbox(func(_ uint32, _ uint16, _ uint32, found Header) { h = found }); err != nil {
		t.Fatal(err)
	}
	if h.Seq != seq || h.Bytes != 8 || h.Count != 2 || !h.Residual {
		t.Errorf("header %+v", h)
	}
	b, err := s.Block(1, BlockID{Group: 3, Edge: 4, Seq: seq})
	if err != nil || string(b.Data) != "elements" || b.MinTS != 5 {
		t.Errorf("block %+v, %v", b, err)
	}
	consumed := consume()
	consumed.Consumed = []BlockID{{Group: 3, Edge: 4, Seq: seq}}
	commit(t, s, consumed)
	makeDurable(t, s)
	kept(t, s, 0)
	closeStore(t, s)
}

// TestContentsCrash crashes the disk at random moments of a history that writes ahead, commits, consumes and discards: after each
// crash every block finds its contents whole, and there is no other content.
func TestContentsCrash(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			fs := vfs.NewCrashableMem()
			for range 4 {
				s := open(t, fs, Frontier)
				whole(t, s)
				for range 1 + rng.IntN(30) {
					a := s.WriteAhead()
					id := written(t, a, "begin", "end")
					if rng.IntN(4) == 0 {
						a.Discard()
						continue
					}
					c := adding(a, id)
					for seq := range s.referred {
						if rng.IntN(3) == 0 {
							c.Consumed = append(c.Consumed, BlockID{Seq: seq})
						} else if rng.IntN(3) == 0 {
							c.Added[0].Block.Refs = append(c.Added[0].Block.Refs, s.referred[seq]...)
						}
					}
					slices.Sort(c.Added[0].Block.Refs)
					c.Added[0].Block.Refs = slices.Compact(c.Added[0].Block.Refs)
					commit(t, s, c)
				}
				written(t, s.WriteAhead(), "orphan")
				image := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				closeStore(t, s)
				fs = image
			}
		})
	}
}

// whole checks what TestContentsCrash promises.
func whole(t *testing.T, s *Store) {
	t.Helper()
	var want []rows.ContentID
	for _, ids := range s.referred {
		want = append(want, ids...)
	}
	slices.Sort(want)
	want = slices.Compact(want)
	kept(t, s, 0, want...)
	for _, id := range want {
		for page, text := range []string{"begin", "end"} {
			if got, err := s.Page(id, uint64(page)); err != nil || string(got) != text {
				t.Errorf("page %d of content %d is %q, %v", page, id, got, err)
			}
		}
	}
}

// TestScratch: files are read as they were written, and nothing is left, also of a process that is gone.
func TestScratch(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	c := s.Scratch()
	left := func() int {
		names, err := fs.List(s.scratchPath())
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for i := range 3 {
		f, err := c.Create()
		if err != nil {
			t.Fatal(err)
		}
		text := bytes.Repeat([]byte{byte(i)}, 1000)
		if _, err := f.Write(bytes.Clone(text)); err != nil { // pebble's file system in memory spoils what was written
			t.Fatal(err)
		}
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, text) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			continue
		}
		if err := f.Remove(); err != nil || left() != 0 {
			t.Errorf("%d files are left, %v", left(), err)
		}
	}
	if err := c.Close(); err != nil || left() != 0 {
		t.Errorf("%d files are left, %v", left(), err)
	}
	if _, err := s.Scratch().Create(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, fs, Frontier)
	if left() != 0 {
		t.Errorf("%d files are left by the last process", left())
	}
	closeStore(t, s)
}

// TestTrimmed: what is left of a block keeps its place, over restarts and compactions, and lets go in the end of all that it referred to.
func TestTrimmed(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	a := s.WriteAhead()
	values := written(t, a, "values")
	first := commit(t, s, adding(a, values))
	second := commit(t, s, adding(nil))
	for i, data := range []string{"abc", "bc"} {
		commit(t, s, &Commit{Stage: 1, Trimmed: []Trimmed{{
			ID: BlockID{Seq: first}, Block: Block{Header: Header{Count: len(data)}, Data: []byte(data)},
		}}})
		if i == 0 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	a = s.WriteAhead()
	body := written(t, a, "c")
	commit(t, s, &Commit{Stage: 1, Ahead: a, Trimmed: []Trimmed{{
		ID: BlockID{Seq: first}, Block: Block{Header: Header{Count: 1, Bytes: 1}, Body: body},
	}}})
	kept(t, s, 0, values, body)
	closeStore(t, s)
	s = open(t, fs, Frontier)
	kept(t, s, 0, values, body)
	var seqs []uint64
	if err := s.Inbox(func(_ uint32, _ uint16, _ uint32, h Header) { seqs = append(seqs, h.Seq) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seqs, []uint64{first, second}) {
		t.Errorf("blocks %v, not %v", seqs, []uint64{first, second})
	}
	b, err := s.Block(1, BlockID{Seq: first})
	if err != nil || string(b.Data) != "c" || b.Count != 1 {
		t.Errorf("the block is %q, %d elements, %v", b.Data, b.Count, err)
	}
	commit(t, s, consume(first))
	makeDurable(t, s)
	kept(t, s, 0)
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	seqs = nil
	if err := s.Inbox(func(_ uint32, _ uint16, _ uint32, h Header) { seqs = append(seqs, h.Seq) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seqs, []uint64{second}) {
		t.Errorf("blocks %v, not the second alone", seqs)
	}
	closeStore(t, s)
}
