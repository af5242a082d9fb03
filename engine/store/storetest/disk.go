package storetest

import (
	"math/rand/v2"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/store"
)

// Disk is a store.FS in memory.
type Disk struct {
	store.FS
	mem *vfs.MemFS
	mu  struct {
		sync.Mutex
		synced  chan struct{} // closed while syncs of the log pass
		waiting int
		// What FailAfter was given, and how often it has struck.
		failing  error
		left     int
		failures int
	}
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return newDisk(vfs.NewCrashableMem()) }

func newDisk(mem *vfs.MemFS) *Disk {
	d := &Disk{FS: mem, mem: mem}
	d.mu.synced = make(chan struct{})
	close(d.mu.synced)
	return d
}

// Crashed returns what would be left after a crash now: all that was synced, and of the rest each block with a probability in percent.
func (d *Disk) Crashed(percent int, rng *rand.Rand) *Disk {
	return newDisk(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
}

// BlockLog makes syncs of logs wait until release is called.
func (d *Disk) BlockLog() (release func()) {
	gate := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.synced = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (d *Disk) wait() {
	d.mu.Lock()
	gate := d.mu.synced
	d.mu.waiting++
	d.mu.Unlock()
	<-gate
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.waiting--
}

// Waiting is how many syncs of logs wait.
func (d *Disk) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.waiting
}

// Create implements store.FS.
func (d *Disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.write(true); err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	f, err := d.FS.Create(name, category)
	return d.wrap(name, f), err
}

// ReuseForWrite implements store.FS.
func (d *Disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.write(true); err != nil {
		return nil, &os.PathError{Op: "rename", Path: name, Err: err}
	}
	f, err := d.FS.ReuseForWrite(old, name, category)
	return d.wrap(name, f), err
}
