package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
)

func openOn(t *testing.T, disk *storetest.Disk, d store.Durability) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Dir: "job", FS: disk, Durability: d, MemTable: 64 << 10, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// count commits a bundle that counts, among a few kilobytes that make memtables flush, tables compact and logs follow each other.
func count(s *store.Store, n int) (uint64, error) {
	b := s.Begin(1)
	defer b.Discard()
	tx := b.Group(3)
	tx.Set(rows.State, []byte("n"), []byte(fmt.Sprint(n)))
	tx.Set(rows.State, []byte(fmt.Sprint("filler ", n%50)), []byte(strings.Repeat(fmt.Sprint(n), 1000)))
	return s.Commit(&store.Commit{Stage: 1, Rows: b})
}

// counted is the number of commits that a store shows.
func counted(t *testing.T, s *store.Store) int {
	t.Helper()
	b := s.Begin(1)
	defer b.Discard()
	v, err := b.Group(3).Get(rows.State, []byte("n"))
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	if v != nil {
		if _, err := fmt.Sscan(string(v), &n); err != nil {
			t.Fatal(err)
		}
	}
	if n+1 != int(s.Applied()) {
		t.Fatalf("the row says %d, the store %d", n+1, s.Applied())
	}
	return n + 1
}

// TestDiskFails has writes of all kinds fail at random. The store says so, promises nothing any more, closes, and opened again shows a
// prefix of history that reaches as far as was promised.
func TestDiskFails(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 28))
			disk := storetest.NewDisk()
			next, durable := 0, 0
			for range 3 {
				s := openOn(t, disk, store.Frontier)
				if next = counted(t, s); next < durable {
					t.Fatalf("%d commits were durable, %d are there", durable, next)
				}
				why := []error{syscall.ENOSPC, syscall.EIO}[rng.IntN(2)]
				disk.FailAfter(rng.IntN(150), why)
				for {
					seq, err := count(s, next)
					if err == nil {
						next++
						if rng.IntN(3) == 0 {
							ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
							if err = s.WaitDurable(ctx, seq); err == nil {
								durable = next
							}
							cancel()
						}
					}
					if err == nil {
						continue
					}
					want := fault.Code("store-write")
					if why == error(syscall.ENOSPC) {
						want = "disk-full"
					}
					if f := fault.Of(err); f == nil || f.Code != want || !store.Failed(err) || !errors.Is(err, why) {
						t.Fatalf("failed with %v", err)
					}
					break
				}
				<-s.Failed()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err := store.Open(store.Config{Dir: "job", FS: disk, Logger: zap.NewNop()}); err == nil {
					t.Fatal("a store opens on a disk that fails", s.Close())
				} else if !store.Failed(err) {
					t.Fatalf("opening: %v", err)
				}
				disk.Heal()
			}
			if disk.Failures() < 6 {
				t.Fatalf("%d writes have failed", disk.Failures())
			}
		})
	}
}

// TestNothingIsDurableAfterAFailedSync: the sync that fails is not tried again, and commits that it was for are never called durable.
func TestNothingIsDurableAfterAFailedSync(t *testing.T) {
	disk := storetest.NewDisk()
	s := openOn(t, disk, store.Frontier)
	seq, err := count(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	release := disk.BlockLog()
	waited := make(chan error, 1)
	go func() { waited <- s.WaitDurable(context.Background(), seq) }()
	for len(waited) == 0 && disk.Waiting() == 0 {
		time.Sleep(time.Millisecond)
	}
	disk.FailAfter(0, syscall.EIO)
	release()
	if err := <-waited; !store.Failed(err) {
		t.Fatalf("waited: %v", err)
	}
	disk.Heal()
	if err := s.WaitDurable(context.Background(), seq); !store.Failed(err) {
		t.Fatalf("waited again: %v", err)
	}
	if _, err := count(s, 1); !store.Failed(err) {
		t.Fatalf("a commit after the failure: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// filled returns a disk with a store that has tables and a log, and how many commits are in it.
func filled(t *testing.T) (*storetest.Disk, int) {
	t.Helper()
	disk := storetest.NewDisk()
	s := openOn(t, disk, store.Frontier)
	const n = 300
	for i := range n {
		seq, err := count(s, i)
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 { // the last one, too
			if err := s.WaitDurable(context.Background(), seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	crashed := disk.Crashed(100, rand.New(rand.NewPCG(1, 1)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed, n
}

// TestDamage flips a bit of each file of a kind. Either nothing is lost, or the store is refused by name, when it is opened or when the
// place is read.
func TestDamage(t *testing.T) {
	middle := func(size int64) int64 { return size / 2 }
	for _, c := range []struct {
		files string
		at    func(size int64) int64
	}{
		{"*.sst", middle}, {"*.sst", func(int64) int64 { return 40 }}, {"*.sst", func(size int64) int64 { return size - 20 }},
		{"*.log", func(int64) int64 { return 100 }},
		{"MANIFEST-*", middle}, {"MANIFEST-*", func(int64) int64 { return 20 }},
	} {
		t.Run(fmt.Sprint(c.files, " at ", c.at(1000)), func(t *testing.T) {
			disk, n := filled(t)
			damaged, err := disk.Damage("job", func(name string, size int64) (int64, bool) {
				match, _ := filepath.Match(c.files, name)
				return c.at(size), match && size > 0
			})
			if err != nil || damaged == 0 {
				t.Fatal(damaged, err)
			}
			s, err := store.Open(store.Config{Dir: "job", FS: disk, Logger: zap.NewNop()})
			if err == nil {
				err = readAll(s)
				if err != nil {
					<-s.Failed() // it is closed for good
				} else if int(s.Applied()) != n {
					t.Errorf("%d of %d commits read back from %d damaged files", s.Applied(), n, damaged)
				}
				if cerr := s.Close(); cerr != nil {
					t.Fatal(cerr)
				}
				if err == nil { // the damage is in what is not needed any more
					return
				}
			}
			if f := fault.Of(err); f == nil || f.Kind != fault.Corruption || f.Code != store.CodeCorrupt || store.Failed(err) {
				t.Fatalf("the error is %v", err)
			}
		})
	}
}

func readAll(s *store.Store) error {
	for _, table := range []rows.Table{rows.State, rows.Meta, rows.Inbox} {
		if _, err := s.CountRows(table); err != nil {
			return err
		}
	}
	return nil
}

// TestMissingTable: a table that somebody has removed is damage, and no reason to end the process.
func TestMissingTable(t *testing.T) {
	disk, _ := filled(t)
	names, err := disk.List("job")
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, name := range names {
		if filepath.Ext(name) == ".sst" {
			removed++
			if err := disk.Remove("job/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err = store.Open(store.Config{Dir: "job", FS: disk, Logger: zap.NewNop()})
	if f := fault.Of(err); removed == 0 || f == nil || f.Code != store.CodeCorrupt {
		t.Fatalf("%d removed, the error is %v", removed, err)
	}
}

// TestTornLog cuts the last log anywhere: what is left is a prefix of history.
func TestTornLog(t *testing.T) {
	for seed := range uint64(20) {
		disk := storetest.NewDisk()
		s := openOn(t, disk, store.Frontier)
		durable := 0
		for i := range 12 {
			seq, err := count(s, i)
			if err != nil {
				t.Fatal(err)
			}
			if i == 5 {
				if err := s.WaitDurable(context.Background(), seq); err != nil {
					t.Fatal(err)
				}
				durable = i + 1
			}
		}
		crashed := disk.Crashed(50, rand.New(rand.NewPCG(seed, 2)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openOn(t, crashed, store.Frontier)
		if n := counted(t, s); n < durable || n > 12 {
			t.Errorf("seed %d: %d commits, %d were durable", seed, n, durable)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoLog keeps a store without a log: whole when it is closed in order, refused by name after a crash.
func TestNoLog(t *testing.T) {
	disk := storetest.NewDisk()
	s := openOn(t, disk, store.None)
	for i := range 20 {
		seq, err := count(s, i)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitDurable(context.Background(), seq); err != nil {
			t.Fatal(err)
		}
	}
	crashed := disk.Crashed(100, rand.New(rand.NewPCG(1, 2)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also with another durability
		s = openOn(t, disk.Crashed(0, nil), store.Frontier)
		if n := counted(t, s); n != 20 {
			t.Errorf("%d commits of a store that was closed in order", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range store.Durabilities {
		_, err := store.Open(store.Config{Dir: "job", FS: crashed, Durability: d, Logger: zap.NewNop()})
		if f := fault.Of(err); f == nil || f.Code != store.CodeUnclean {
			t.Errorf("%s after a crash: %v", d, err)
		}
	}
	if err := store.Remove(crashed, "job"); err != nil {
		t.Fatal(err)
	}
	s = openOn(t, crashed, store.None)
	if n := counted(t, s); n != 0 {
		t.Errorf("%d commits of a new store", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSlip writes a slip on a disk on which nothing else can be made, and reads it after a crash.
func TestSlip(t *testing.T) {
	disk := storetest.NewDisk()
	if s, err := store.ReadSlip(disk, "slip"); s != nil || err != nil {
		t.Fatal(s, err)
	}
	s, err := store.OpenSlip(disk, "slip")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Set(1, 'x'), s.Set(0, 'a'), s.Set(0, 'b')); err != nil {
		t.Fatal(err)
	}
	after, err := store.OpenSlip(disk.Crashed(0, nil), "slip")
	if err != nil || after.Get(0) != 'b' || after.Get(1) != 'x' || after.Get(2) != 0 {
		t.Fatalf("%+v, %v", after, err)
	}
	disk.FailAfter(0, syscall.EIO)
	if err := s.Set(2, 'y'); !store.Failed(err) || s.Get(2) != 0 {
		t.Fatalf("%v, %q", err, s.Get(2))
	}
}

// TestDiskFailsWhileSkipping has the disk fail at each write of SkipBlocks: what it says is done stands in the store that is opened next.
func TestDiskFailsWhileSkipping(t *testing.T) {
	for _, why := range []error{syscall.ENOSPC, syscall.EIO} {
		for n := range 4 {
			disk := storetest.NewDisk()
			s := openOn(t, disk, store.Frontier)
			disk.FailAfter(n, why)
			err := s.SkipBlocks(1 << 40)
			disk.Heal()
			if cerr := s.Close(); cerr != nil {
				t.Fatal(cerr)
			}
			s = openOn(t, disk, store.Frontier)
			if skipped := s.LastBlock() == 1<<40; err == nil && !skipped || err != nil && !store.Failed(err) {
				t.Errorf("%v after %d writes: %v, and the last block is %d", why, n, err, s.LastBlock())
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDiskFailsWhileCopying has the disk fail at each write of a copy: there is none then.
func TestDiskFailsWhileCopying(t *testing.T) {
	disk := storetest.NewDisk()
	s := openOn(t, disk, store.Frontier)
	if _, err := count(s, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for n, failed := 0, true; failed; n++ {
		s := openOn(t, disk, store.Frontier)
		before := disk.Failures()
		disk.FailAfter(n, syscall.EIO)
		_, err := s.Copy()
		failed = disk.Failures() > before
		disk.Heal()
		if failed != (err != nil) {
			t.Errorf("that the disk failed after %d writes is %t, but the copy: %v", n, failed, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
