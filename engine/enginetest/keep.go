package enginetest

import (
	"math/rand/v2"
	"path/filepath"

	"padstone/engine"
	"padstone/engine/rows"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
)

// kept is a disk in memory on which the stores of jobs outlive the jobs.
type kept struct{ *storetest.Disk }

// RemoveAll implements store.FS.
func (k kept) RemoveAll(name string) error {
	if filepath.Base(name) == "store" {
		return nil
	}
	return k.Disk.RemoveAll(name)
}

// KeepStores is a change for New: stores are in memory, and stay when their jobs end, for Rows.
func KeepStores(c *engine.Config) { c.FS = kept{storetest.NewDisk()} }

// Crashed is what would be left of a disk of KeepStores after a crash now: see storetest.Disk.
func (r *Rig) Crashed(percent int, rng *rand.Rand) store.FS {
	return kept{r.Config.FS.(kept).Disk.Crashed(percent, rng)}
}

// Rows is how many rows of the table are left in the store of a job that has ended, or is suspended.
func (r *Rig) Rows(j *Job, t rows.Table) int {
	r.T.Helper()
	s := r.OpenStore(j)
	defer func() {
		if err := s.Close(); err != nil {
			r.T.Error(err)
		}
	}()
	n, err := s.CountRows(t)
	if err != nil {
		r.T.Fatal(err)
	}
	return n
}

var _ store.FS = kept{}
