package store

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
)

// countingFS counts the bytes that are read from files.
type countingFS struct {
	vfs.FS
	read atomic.Int64
}

func (fs *countingFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := fs.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &countingFile{f, fs}, nil
}

type countingFile struct {
	vfs.File
	fs *countingFS
}

func (f *countingFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.fs.read.Add(int64(n))
	return n, err
}

// TestInboxReadsHeaders: the headers of a backlog are read without its data, short and long blocks read back, and leave nothing behind.
func TestInboxReadsHeaders(t *testing.T) {
	const n, long = 200, 100_000
	fs := &countingFS{FS: vfs.NewMem()}
	s := open(t, fs, Frontier)
	rng := rand.NewChaCha8([32]byte{1})
	data := make([][]byte, n)
	c := &Commit{Stage: 1}
	for i := range data {
		data[i] = make([]byte, max(1, i%3*long/2)) // 1 is in the row of its header
		_, _ = rng.Read(data[i])
		c.Added = append(c.Added, Added{Stage: 1, Group: uint16(i % 4), Edge: 7, Block: Block{Header: Header{Count: i + 1}, Data: data[i]}})
	}
	if _, err := s.Commit(c); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, fs, Frontier)
	fs.read.Store(0)
	consumed := &Commit{Stage: 1}
	err := s.Inbox(func(_ uint32, group uint16, edge uint32, h Header) {
		consumed.Consumed = append(consumed.Consumed, BlockID{Group: group, Edge: edge, Seq: h.Seq})
		if i := h.Count - 1; h.Bytes != len(data[i]) {
			t.Errorf("block %d has %d bytes, not %d", h.Seq, h.Bytes, len(data[i]))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(consumed.Consumed) != n || fs.read.Load() > long {
		t.Errorf("%d headers were read out of %d bytes", len(consumed.Consumed), fs.read.Load())
	}
	for _, id := range consumed.Consumed {
		b, err := s.Block(1, id)
		if err != nil || !bytes.Equal(b.Data, data[b.Count-1]) {
			t.Errorf("block %d does not read back: %v", id.Seq, err)
		}
	}
	if _, err := s.Commit(consumed); err != nil {
		t.Fatal(err)
	}
	for _, table := range []rows.Table{rows.Inbox, rows.Data} {
		if n, err := s.CountRows(table); n != 0 || err != nil {
			t.Errorf("%d rows of table %#x are left: %v", n, table, err)
		}
	}
	closeStore(t, s)
}
