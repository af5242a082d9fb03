package storetest

import (
	"math/rand/v2"
	"strings"
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
		synced chan struct{} // closed while syncs of the log pass
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
	d.mu.Unlock()
	<-gate
}

// Create implements store.FS.
func (d *Disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	return d.wrap(name, f), err
}

// ReuseForWrite implements store.FS.
func (d *Disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(old, name, category)
	return d.wrap(name, f), err
}

func (d *Disk) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return logFile{f, d}
}

// logFile is a log whose syncs may have to wait.
type logFile struct {
	vfs.File
	disk *Disk
}

func (f logFile) Sync() error     { f.disk.wait(); return f.File.Sync() }
func (f logFile) SyncData() error { f.disk.wait(); return f.File.SyncData() }

func (f logFile) SyncTo(n int64) (fully bool, err error) {
	f.disk.wait()
	return f.File.SyncTo(n)
}
