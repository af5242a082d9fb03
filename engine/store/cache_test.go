package store

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap/zaptest"
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
	cache := NewCache(1 << 20)
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
