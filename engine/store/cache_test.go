package store

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap/zaptest"

	"padstone/engine/rows"
)

// TestMemTables: however many stores come, their memtables stay within twice those of the first, and a MiB for each.
func TestMemTables(t *testing.T) {
	const alone = 16 << 20
	sum := uint64(0)
	for n := range int64(30) {
		sum += memTable(alone, n+1)
		if sum > 2*alone+uint64(n)<<20 {
			t.Errorf("%d bytes for %d stores", sum, n+1)
		}
	}
	if n := memTable(1000, 3); n != 1000 {
		t.Errorf("a store of memtables of 1000 bytes has some of %d", n)
	}
	cache := NewCache(1<<20, 0)
	defer cache.Close()
	fs := vfs.NewMem()
	for _, c := range []Config{{Dir: "a", FS: fs}, {Dir: "b", FS: fs}, {Dir: "a", FS: fs}} {
		c.Cache, c.Logger = cache, zaptest.NewLogger(t)
		s, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		if n := cache.stores.Load(); n != 1 {
			t.Errorf("%d stores are open, not one", n)
		}
		closeStore(t, s)
	}
}

// TestCacheKeepsBlocks: a block that was read is not read again, though memtables are counted against the cache.
func TestCacheKeepsBlocks(t *testing.T) {
	const memTable = 4 << 20
	cache := NewCache(1<<20, memTable)
	defer cache.Close()
	s, err := Open(Config{Dir: "job", FS: vfs.NewMem(), Cache: cache, MemTable: memTable, Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	b := s.Begin(1)
	for i := range 1000 {
		b.Group(0).Set(rows.State, fmt.Appendf(nil, "%04d", i), make([]byte, 100))
	}
	if _, err := s.Commit(&Commit{Stage: 1, Rows: b}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	misses := func() int64 {
		b := s.Begin(1)
		defer b.Discard()
		if v, err := b.Group(0).Get(rows.State, []byte("0500")); err != nil || v == nil {
			t.Fatalf("%q, %v", v, err)
		}
		return s.db.Metrics().BlockCache.Misses
	}
	if first, again := misses(), misses(); again != first {
		t.Errorf("%d blocks were read again", again-first)
	}
}
