package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
)

// bulk is the data of the block that a commit adds.
func bulk(commit int) []byte {
	return bytes.Repeat([]byte(fmt.Sprintf("%08d", commit)), 200+commit%300)
}

// bulky commits to a store blocks that lie in segments, and consumes some, as a seed decides. live is what waits after each commit: by
// the sequence of the block, which commit brought it.
type bulky struct {
	store *store.Store
	rng   *rand.Rand
	live  []map[uint64]int // by number of commits
}

func newBulky(s *store.Store, seed uint64) *bulky {
	return &bulky{store: s, rng: rand.New(rand.NewPCG(seed, 33)), live: []map[uint64]int{{}}}
}

func (b *bulky) commit(t *testing.T) uint64 {
	t.Helper()
	n := len(b.live)
	live := maps.Clone(b.live[n-1])
	failed := b.store.WriteAhead() // of a bundle that fails
	if err := failed.New().Append(bulk(n + 1)); err != nil {
		t.Fatal(err)
	}
	a := b.store.WriteAhead()
	body := a.New()
	if err := body.Append(bulk(n)); err != nil {
		t.Fatal(err)
	}
	failed.Discard()
	filler := b.store.Begin(1) // so that memtables go to tables, and logs follow each other
	filler.Group(3).Set(rows.State, []byte(fmt.Sprint("filler ", n%50)), []byte(strings.Repeat(fmt.Sprint(n), 2000)))
	c := &store.Commit{Stage: 1, Rows: filler, Ahead: a, Added: []store.Added{{Stage: 1, Block: store.Block{
		Header: store.Header{Count: 1, Bytes: len(bulk(n))}, Body: body.ID(),
	}}}}
	for _, seq := range slices.Sorted(maps.Keys(live)) {
		if b.rng.IntN(3) > 0 {
			c.Consumed = append(c.Consumed, store.BlockID{Seq: seq})
			delete(live, seq)
		}
	}
	seq, err := b.store.Commit(c)
	if err != nil {
		t.Fatal(err)
	}
	live[c.Added[0].Block.Seq] = n
	b.live = append(b.live, live)
	return seq
}

// waiting reads all blocks that wait, and lists the segments that are there.
func waiting(t *testing.T, s *store.Store, disk store.FS) (map[uint64]int, int) {
	t.Helper()
	found := make(map[uint64]int)
	err := s.Inbox(func(_ uint32, group uint16, edge uint32, h store.Header) {
		b, err := s.Block(1, store.BlockID{Group: group, Edge: edge, Seq: h.Seq})
		if err != nil {
			t.Errorf("block %d: %v", h.Seq, err)
			return
		}
		n := -1
		if _, err := fmt.Sscanf(string(b.Data[:8]), "%d", &n); err != nil || !bytes.Equal(b.Data, bulk(n)) {
			t.Errorf("block %d is %.20q…, %v", h.Seq, b.Data, err)
		}
		found[h.Seq] = n
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := disk.List("job")
	if err != nil {
		t.Fatal(err)
	}
	return found, len(slices.DeleteFunc(names, func(name string) bool { return filepath.Ext(name) != ".segment" }))
}

// TestSegmentsSurvive a crash at any write: what is there then is what was there after one of the commits, one that comes not before
// those that were durable, with all its bytes, and there are no other segments.
func TestSegmentsSurvive(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 34))
			disk := storetest.NewDisk()
			type picture struct {
				disk    *storetest.Disk
				durable int
				op      storetest.Op
			}
			var mu sync.Mutex
			var pictures []picture
			durable, armed := 0, false
			disk.Watch = func(op storetest.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if armed && rng.IntN(4) == 0 {
					pictures = append(pictures, picture{disk.Crashed([]int{0, 50, 100}[rng.IntN(3)], rng), durable, op})
				}
				return nil
			}
			s := openOn(t, disk, store.Frontier)
			mu.Lock()
			armed = true
			mu.Unlock()
			b := newBulky(s, seed)
			for range 40 {
				seq := b.commit(t)
				if b.rng.IntN(4) == 0 {
					if err := s.WaitDurable(context.Background(), seq); err != nil {
						t.Fatal(err)
					}
					mu.Lock()
					durable = int(seq)
					mu.Unlock()
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if len(pictures) < 20 {
				t.Fatalf("%d pictures", len(pictures))
			}
			for _, p := range pictures {
				r := openOn(t, p.disk, store.Frontier)
				n := int(r.Applied())
				found, files := waiting(t, r, p.disk)
				if n < p.durable || !maps.Equal(found, b.live[n]) || files != len(found) {
					t.Errorf("before %s: after %d commits, of which %d were durable, %v wait, not %v, in %d segments",
						p.op, n, p.durable, found, b.live[n], files)
				}
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestSegmentsInAnyDurability are there after the store was closed, and go when nothing refers to them.
func TestSegmentsInAnyDurability(t *testing.T) {
	for _, d := range store.Durabilities {
		t.Run(string(d), func(t *testing.T) {
			disk := storetest.NewDisk()
			s := openOn(t, disk, d)
			b := newBulky(s, 1)
			for range 20 {
				b.commit(t)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			disk = disk.Crashed(0, nil)
			s = openOn(t, disk, d)
			found, files := waiting(t, s, disk)
			if d != store.Frontier || s.Applied() == 20 { // nobody has waited, so that the end may be missing
				if !maps.Equal(found, b.live[20]) {
					t.Errorf("%v wait, not %v", found, b.live[20])
				}
			}
			if files != len(found) {
				t.Errorf("%d segments for %d blocks", files, len(found))
			}
			c := &store.Commit{Stage: 1}
			for seq := range found {
				c.Consumed = append(c.Consumed, store.BlockID{Seq: seq})
			}
			seq, err := s.Commit(c)
			if err == nil {
				err = s.WaitDurable(t.Context(), seq)
			}
			if err != nil {
				t.Fatal(err)
			}
			if found, files := waiting(t, s, disk); len(found)+files > 0 {
				t.Errorf("%v wait, %d segments are left", found, files)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestManySegmentsAreRemoved without anybody waiting for a commit.
func TestManySegmentsAreRemoved(t *testing.T) {
	s, err := store.Open(store.Config{Dir: t.TempDir(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	page := make([]byte, 8<<20)
	var last uint64
	most := int64(0)
	for range 40 {
		a := s.WriteAhead()
		body := a.New()
		if err := body.Append(page); err != nil {
			t.Fatal(err)
		}
		c := &store.Commit{Stage: 1, Ahead: a, Added: []store.Added{{Stage: 1, Block: store.Block{
			Header: store.Header{Count: 1, Bytes: len(page)}, Body: body.ID(),
		}}}}
		if last > 0 {
			c.Consumed = []store.BlockID{{Seq: last}}
		}
		if _, err := s.Commit(c); err != nil {
			t.Fatal(err)
		}
		last = c.Added[0].Block.Seq
		most = max(most, s.SegmentBytes())
	}
	if err := s.WaitDurable(t.Context(), s.Applied()); err != nil {
		t.Fatal(err)
	}
	if now := s.SegmentBytes(); now != int64(len(page)) || most < now {
		t.Errorf("%d bytes in segments, %d at most", now, most)
	}
}

// TestSegmentsAreDamaged: each way in which a segment does not have what was written is refused by name, and none passes for data.
func TestSegmentsAreDamaged(t *testing.T) {
	for _, how := range []string{"flipped", "cut", "removed"} {
		t.Run(how, func(t *testing.T) {
			disk := storetest.NewDisk()
			s := openOn(t, disk, store.Frontier)
			b := newBulky(s, 2)
			b.commit(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			harm(t, disk, how)
			s, err := store.Open(store.Config{Dir: "job", FS: disk, Logger: zap.NewNop()})
			if err == nil {
				if _, err = s.Block(1, store.BlockID{Seq: 1}); err != nil {
					<-s.Failed() // for good
				}
				if cerr := s.Close(); cerr != nil {
					t.Fatal(cerr)
				}
			}
			if f := fault.Of(err); f == nil || f.Kind != fault.Corruption || f.Code != store.CodeCorrupt || store.Failed(err) {
				t.Fatalf("the error is %v", err)
			}
		})
	}
}

// harm does something to the segments of a store.
func harm(t *testing.T, disk *storetest.Disk, how string) {
	t.Helper()
	n, err := disk.Damage("job", func(name string, _ int64) (int64, bool) {
		if filepath.Ext(name) != ".segment" {
			return 0, false
		}
		var err error
		switch how {
		case "removed":
			err = disk.Remove("job/" + name)
		case "cut":
			err = disk.Remove("job/" + name)
			if f, cerr := disk.Create("job/"+name, ""); err == nil && cerr == nil {
				_, err = f.Write([]byte("short"))
			}
		}
		if err != nil {
			t.Error(err)
		}
		return 3, how != "removed"
	})
	if err != nil || n == 0 && how != "removed" {
		t.Fatal(n, err)
	}
}

// TestSegmentsOfACopy has a copy outlive what the store lets go of, and restores it.
func TestSegmentsOfACopy(t *testing.T) {
	for _, d := range store.Durabilities {
		t.Run(string(d), func(t *testing.T) {
			disk := storetest.NewDisk()
			s := openOn(t, disk, d)
			b := newBulky(s, 3)
			for range 10 {
				b.commit(t)
			}
			stop, stopped := make(chan struct{}), sync.WaitGroup{}
			stopped.Go(func() {
				for range 200 {
					select {
					case <-stop:
						return
					default:
						b.commit(t)
					}
				}
			})
			c, err := s.Copy()
			close(stop)
			stopped.Wait()
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				b.commit(t)
			}
			other := storetest.NewDisk()
			fill(t, c, other)
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			r := openOn(t, other, store.Frontier)
			if found, files := waiting(t, r, other); !maps.Equal(found, b.live[r.Applied()]) || files != len(found) || r.Applied() < 10 {
				t.Errorf("after %d commits %v wait, not %v, in %d segments", r.Applied(), found, b.live[r.Applied()], files)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// fill copies the files of a copy to a disk.
func fill(t *testing.T, c *store.Copy, disk store.FS) {
	t.Helper()
	if err := disk.MkdirAll("job", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		in, err := c.Open(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Immutable && filepath.Ext(f.Name) == ".segment" {
			t.Errorf("%s would be copied each time", f.Name)
		}
		out, err := disk.Create(disk.PathJoin("job", f.Name), "")
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
}
