package store_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/store"
	"padstone/engine/store/storetest"
)

// TestOpeningIsCutShort has the machine crash before each change of the disk that a new store's first opening makes. The store that is
// opened then keeps what is committed to it, and so does what a copy of it restores.
func TestOpeningIsCutShort(t *testing.T) {
	for _, survives := range []int{0, 100} {
		var left []*storetest.Disk
		disk := storetest.NewDisk()
		disk.Watch = func(storetest.Op) error {
			left = append(left, disk.Crashed(survives, rand.New(rand.NewPCG(1, 1))))
			return nil
		}
		shut(t, openOn(t, disk, store.Frontier))
		for i, d := range left {
			t.Run(fmt.Sprint("before change ", i, " ", survives, "% survives"), func(t *testing.T) {
				s := openOn(t, d, store.Frontier)
				copied, err := s.Copy()
				if err != nil {
					t.Fatal(err)
				}
				empty := restored(t, copied)
				for n := range 2 {
					if _, err := count(s, n); err != nil {
						t.Fatal(err)
					}
				}
				if copied, err = s.Copy(); err != nil {
					t.Fatal(err)
				}
				shut(t, s)
				for _, d := range []*storetest.Disk{d, d.Crashed(0, nil), empty, restored(t, copied)} {
					want := 2
					if d == empty {
						want = 0
					}
					for range 3 { // and again after it has been opened, and closed
						s := openOn(t, d, store.Frontier)
						if n := counted(t, s); n != want {
							t.Errorf("%d commits are there, not %d", n, want)
						}
						if _, err := count(s, want); err != nil {
							t.Error(err)
						}
						want++
						shut(t, s)
					}
				}
			})
		}
	}
}

func shut(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// restored is a disk with the files of a copy, as a restore lays them out.
func restored(t *testing.T, c *store.Copy) *storetest.Disk {
	t.Helper()
	d := storetest.NewDisk()
	if err := d.FS.MkdirAll("job", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		in, err := c.Open(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || in.Close() != nil {
			t.Fatal(err)
		}
		out, err := d.FS.Create(path.Join("job", f.Name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil || out.Close() != nil {
			t.Fatal(err)
		}
	}
	return d
}
