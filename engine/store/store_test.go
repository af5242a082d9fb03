package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap/zaptest"

	"padstone/engine/element"
	"padstone/engine/rows"
	"padstone/engine/watermark"
)

func open(t testing.TB, fs vfs.FS, d Durability) *Store {
	t.Helper()
	s, err := Open(Config{Dir: "job", FS: fs, Durability: d, Logger: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// step commits one bundle of a two-stage job: it consumes the oldest block of stage 1, if there is one, adds a block to it, counts
// in a row and moves a hold. All of it must survive or vanish together.
func step(t *testing.T, s *Store, n int) uint64 {
	t.Helper()
	b := s.Begin(1)
	tx := b.Group(3)
	tx.Set(rows.State, []byte("n"), []byte(fmt.Sprint(n)))
	tx.Merge(rows.State, []byte("log"), []byte{byte(n)})
	tx.Hold(element.Time(n), 1)
	if n > 0 {
		tx.Hold(element.Time(n-1), -1)
	}
	c := &Commit{Stage: 1, Rows: b, Positions: []Entry{{Name: "p", Value: []byte(fmt.Sprint(n))}}}
	err := s.Inbox(func(_ uint32, group uint16, edge uint32, h Header) {
		c.Consumed = append(c.Consumed, BlockID{Group: group, Edge: edge, Seq: h.Seq})
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Added = []Added{{Stage: 1, Group: 3, Edge: 7, Block: Block{
		Header: Header{Count: 1, MinTS: element.Time(n), MaxTS: element.Time(n), Hold: element.Time(n)}, Data: []byte(fmt.Sprint(n)),
	}}}
	seq, err := s.Commit(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Discard()
	return seq
}

// check verifies that the store shows exactly the first n steps.
func check(t *testing.T, s *Store, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	want := fmt.Sprint(n - 1)
	b := s.Begin(1)
	defer b.Discard()
	v, err := b.Group(3).Get(rows.State, []byte("n"))
	if err != nil || string(v) != want {
		t.Fatalf("row: %q, %v; want %q", v, err, want)
	}
	if v, err = b.Group(3).Get(rows.State, []byte("log")); err != nil || len(v) != n {
		t.Fatalf("merged row has %d bytes (%v), want %d", len(v), err, n)
	}
	blocks := 0
	err = s.Inbox(func(stage uint32, group uint16, edge uint32, h Header) {
		blocks++
		blk, err := s.Block(stage, BlockID{Group: group, Edge: edge, Seq: h.Seq})
		if err != nil || string(blk.Data) != want || blk.MinTS != element.Time(n-1) {
			t.Fatalf("block: %+v, %v; want %q", blk, err, want)
		}
	})
	if err != nil || blocks != 1 {
		t.Fatalf("%d blocks wait (%v), want 1", blocks, err)
	}
	holds := 0
	err = s.Holds(func(_ uint32, all []watermark.Count) {
		for _, c := range all {
			holds += c.N
			if c.At != element.Time(n-1) {
				t.Fatalf("a hold at %v, want %d", c.At, n-1)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if holds != 1 {
		t.Fatalf("%d holds, want 1", holds)
	}
	p, err := s.Positions(1)
	if err != nil || len(p) != 1 || string(p[0].Value) != want {
		t.Fatalf("positions %v, %v; want %q", p, err, want)
	}
}

// TestCrashKeepsAPrefix crashes the disk at random moments. What comes back is a prefix of history, whole bundles only, that
// reaches the durability frontier at least; and the store goes on from there.
func TestCrashKeepsAPrefix(t *testing.T) {
	for seed := uint64(0); seed < 20; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			fs := vfs.NewCrashableMem()
			done := 0
			for crash := 0; crash < 4; crash++ {
				s := open(t, fs, Frontier)
				kept := int(s.Applied())
				if kept > done {
					t.Fatalf("%d commits after a crash at %d", kept, done)
				}
				check(t, s, kept)
				durable := kept
				for done = kept; done < kept+1+rng.IntN(30); done++ {
					seq := step(t, s, done)
					if rng.IntN(5) == 0 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						if err := s.WaitDurable(ctx, seq); err != nil {
							t.Fatal(err)
						}
						cancel()
						durable = done + 1
					}
				}
				image := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
				closeStore(t, s)
				fs = image
				after := open(t, fs, Frontier)
				if got := int(after.Applied()); got < durable || got > done {
					t.Fatalf("%d commits survived, want %d to %d", got, durable, done)
				}
				closeStore(t, after)
			}
		})
	}
}

// TestDiscardLeavesNothing checks that a bundle that is not committed leaves no trace.
func TestDiscardLeavesNothing(t *testing.T) {
	s := open(t, vfs.NewMem(), None)
	defer closeStore(t, s)
	b := s.Begin(1)
	b.Group(3).Set(rows.State, []byte("n"), []byte("x"))
	if v, err := b.Group(3).Get(rows.State, []byte("n")); err != nil || string(v) != "x" {
		t.Fatalf("own write reads %q, %v", v, err)
	}
	b.Discard()
	b = s.Begin(1)
	defer b.Discard()
	if v, err := b.Group(3).Get(rows.State, []byte("n")); err != nil || v != nil {
		t.Fatalf("discarded write reads %q, %v", v, err)
	}
}

// TestDeletePrefix deletes a few rows and many, committed and of the bundle itself, and leaves their neighbours alone.
func TestDeletePrefix(t *testing.T) {
	for _, n := range []int{0, 1, deletedAlone, deletedAlone + 1, 5 * deletedAlone} {
		s := open(t, vfs.NewMem(), None)
		b := s.Begin(1)
		tx := b.Group(3)
		for i := range n {
			tx.Set(rows.Group, fmt.Appendf(nil, "b%05d", i), []byte("committed"))
		}
		tx.Set(rows.Group, []byte("a"), []byte("kept"))
		tx.Set(rows.Group, []byte("c"), []byte("kept"))
		if _, err := s.Commit(&Commit{Stage: 1, Rows: b}); err != nil {
			t.Fatal(err)
		}
		b = s.Begin(1)
		tx = b.Group(3)
		for i := range n {
			tx.Merge(rows.Group, fmt.Appendf(nil, "b%05d", i/2), []byte("own"))
		}
		tx.DeletePrefix(rows.Group, []byte("b"))
		tx.Set(rows.Group, []byte("b00001"), []byte("new"))
		if _, err := s.Commit(&Commit{Stage: 1, Rows: b}); err != nil {
			t.Fatal(err)
		}
		b = s.Begin(1)
		var got []string
		err := b.Group(3).Scan(rows.Group, nil, nil, func(k, v []byte) bool {
			got = append(got, string(k)+"="+string(v))
			return true
		})
		if want := []string{"a=kept", "b00001=new", "c=kept"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%d rows: %q, %v; want %q", n, got, err, want)
		}
		b.Discard()
		closeStore(t, s)
	}
}

// BenchmarkExpiry deletes what 256 key groups have of twelve windows, four keys in each, and reads in between, as a grouping does.
func BenchmarkExpiry(b *testing.B) {
	s := open(b, vfs.NewMem(), None)
	defer closeStore(b, s)
	name := func(window, key int) []byte { return fmt.Appendf(nil, "w%02d/k%d", window, key) }
	for b.Loop() {
		bundle := s.Begin(1)
		for g := range uint16(256) {
			tx := bundle.Group(g)
			for w := range 12 {
				for k := range 4 {
					tx.Set(rows.Trigger, name(w, k), []byte("cell"))
				}
				tx.DeletePrefix(rows.Trigger, name(w, 0)[:4])
				if v, err := tx.Get(rows.Trigger, name(w, 1)); err != nil || v != nil {
					b.Fatalf("%q, %v", v, err)
				}
			}
		}
		bundle.Discard()
	}
}

// TestTxScan checks ranges, order and own writes of a transaction, and that groups do not see each other.
func TestTxScan(t *testing.T) {
	s := open(t, vfs.NewMem(), None)
	defer closeStore(t, s)
	b := s.Begin(1)
	defer b.Discard()
	tx, other := b.Group(3), b.Group(4)
	for _, k := range []string{"a1", "a2", "a3", "b1", "\xff\xff"} {
		tx.Set(rows.State, []byte(k), []byte("v"+k))
	}
	other.Set(rows.State, []byte("a2"), []byte("other"))
	tx.DeletePrefix(rows.State, []byte("a3"))
	got := ""
	list := func(prefix, from string) string {
		got = ""
		var f []byte
		if from != "" {
			f = []byte(from)
		}
		err := tx.Scan(rows.State, []byte(prefix), f, func(k, v []byte) bool {
			got += string(k) + "=" + string(v) + " "
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, c := range []struct{ prefix, from, want string }{
		{"a", "", "a1=va1 a2=va2 "},
		{"a", "a2", "a2=va2 "},
		{"b", "", "b1=vb1 "},
		{"\xff", "", "\xff\xff=v\xff\xff "},
		{"a", "0", "a1=va1 a2=va2 "},
	} {
		if g := list(c.prefix, c.from); g != c.want {
			t.Errorf("scan %q from %q: %q, want %q", c.prefix, c.from, g, c.want)
		}
	}
}
