package store

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// restore copies the files of a copy to a directory of their own and opens a store there.
func restore(t *testing.T, c *Copy, fs vfs.FS) *Store {
	t.Helper()
	if err := fs.MkdirAll("job", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		in, err := c.Open(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || int64(len(data)) != f.Size {
			t.Fatalf("%s: %d bytes of %d, %v", f.Name, len(data), f.Size, err)
		}
		out, err := fs.Create(fs.PathJoin("job", f.Name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, fs, Frontier)
}

// TestCopyIsAPrefix takes copies at random moments while commits go on. What they restore is a prefix of history with all
// that was applied before, and the store that was restored goes on by itself.
func TestCopyIsAPrefix(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			s := open(t, vfs.NewMem(), []Durability{Frontier, None}[seed%2])
			stop, stopped := make(chan struct{}), sync.WaitGroup{}
			commit := func() {
				for n := int(s.Applied()); ; n++ {
					select {
					case <-stop:
						return
					default:
						step(t, s, n)
						if n%7 == 0 {
							if err := s.db.Flush(); err != nil {
								t.Error(err)
							}
						}
					}
				}
			}
			for range 4 {
				for n, to := int(s.Applied()), int(s.Applied())+rng.IntN(20); n < to; n++ {
					step(t, s, n)
				}
				before := s.Applied()
				stop = make(chan struct{})
				stopped.Go(commit)
				c, err := s.Copy()
				close(stop)
				stopped.Wait()
				if err != nil {
					t.Fatal(err)
				}
				r := restore(t, c, vfs.NewMem())
				if got := r.Applied(); got < before || got > s.Applied() {
					t.Fatalf("the copy has %d commits, want %d to %d", got, before, s.Applied())
				}
				check(t, r, int(r.Applied()))
				step(t, r, int(r.Applied()))
				check(t, r, int(r.Applied()))
				closeStore(t, r)
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
			}
			closeStore(t, s)
		})
	}
}

// TestCopiesAreEmptied opens a store in which a crash has left a copy.
func TestCopiesAreEmptied(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	step(t, s, 0)
	if _, err := s.Copy(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	closeStore(t, open(t, fs, Frontier))
	if names, err := fs.List(fs.PathJoin("job", copiesDir)); err == nil {
		t.Errorf("%q are left", names)
	}
}

// TestSkipBlocks has new blocks come after a number, also once the store was opened again.
func TestSkipBlocks(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Frontier)
	step(t, s, 0)
	if err := s.SkipBlocks(1 << 40); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, fs, Frontier)
	defer closeStore(t, s)
	if err := s.SkipBlocks(3); err != nil || s.LastBlock() != 1<<40 {
		t.Fatalf("the last block is %d, %v", s.LastBlock(), err)
	}
	step(t, s, 1)
	if s.LastBlock() != 1<<40+1 {
		t.Errorf("the last block is %d", s.LastBlock())
	}
}
