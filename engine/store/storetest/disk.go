package storetest

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/store"
)

// Disk is a store.FS in memory.
type Disk struct {
	store.FS
	// Watch is called before each change; an error fails it. It may wait, and take pictures of the disk. Set it before the disk is used.
	Watch func(op Op) error
	// Lies makes syncs of logs say that they are done, and do nothing. Set it likewise.
	Lies bool

	mem *vfs.MemFS
	mu  struct {
		sync.Mutex
		logs    map[string]*tail // by path
		synced  chan struct{}    // closed while syncs of the log pass
		waiting int
		stalled chan struct{} // closed when changes pass again; nil while they do
		// What FailAfter was given, and how often it has struck.
		failing  error
		left     int
		failures int
	}
}

// tail is how far a log is written and synced.
type tail struct{ written, synced int64 }

// NewDisk returns an empty disk.
func NewDisk() *Disk { return newDisk(vfs.NewCrashableMem()) }

func newDisk(mem *vfs.MemFS) *Disk {
	d := &Disk{FS: mem, mem: mem}
	d.mu.logs = make(map[string]*tail)
	d.mu.synced = make(chan struct{})
	close(d.mu.synced)
	return d
}

// Crashed returns what would be left after a crash now: all that was synced, and of the rest each block with a probability in percent.
func (d *Disk) Crashed(percent int, rng *rand.Rand) *Disk {
	return newDisk(d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
}

// Torn returns what would be left after a crash now of a machine whose disk writes in order: all that was synced, and of each log the
// first bytes of the rest, as many as keep says, maybe not all of a record.
func (d *Disk) Torn(keep func(unsynced int64) int64) (*Disk, error) {
	d.mu.Lock()
	logs := make(map[string]tail)
	for name, t := range d.mu.logs {
		logs[name] = *t
	}
	d.mu.Unlock()
	crashed := d.Crashed(0, nil)
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		t := logs[name]
		_, lost := crashed.Stat(name)
		_, removed := d.FS.Stat(name)
		if lost != nil || removed != nil || t.written <= t.synced {
			continue // the directory had not been synced, before or after it was removed, or all was
		}
		if err := crashed.resume(name, d.FS, t.synced+keep(t.written-t.synced)); err != nil {
			return nil, err
		}
	}
	return crashed, nil
}

// resume gives a file the first n bytes that it has on another disk, and what it has itself behind them.
func (d *Disk) resume(name string, from store.FS, n int64) error {
	data, err := read(from, name)
	if err != nil {
		return err
	}
	own, err := read(d.FS, name)
	if err != nil {
		return err
	}
	data = data[:min(n, int64(len(data)))]
	if len(own) > len(data) {
		data = append(data, own[len(data):]...)
	}
	f, err := d.mem.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	dir, derr := d.mem.OpenDir(path.Dir(name))
	if derr != nil {
		return errors.Join(err, derr, f.Close())
	}
	return errors.Join(err, f.Sync(), f.Close(), dir.Sync(), dir.Close())
}

func read(fs store.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// BlockLog makes syncs of logs wait until release is called.
func (d *Disk) BlockLog() (release func()) {
	gate := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.synced = gate
	return sync.OnceFunc(func() { close(gate) })
}

// Stall makes every change of the disk wait until release is called.
func (d *Disk) Stall() (release func()) {
	gate := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.stalled = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (d *Disk) awaitStall() {
	d.mu.Lock()
	gate := d.mu.stalled
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
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
	if err := d.change(Create, name, 0, true); err != nil {
		return nil, &os.PathError{Op: "create", Path: name, Err: err}
	}
	f, err := d.FS.Create(name, category)
	return d.log(name, d.wrap(name, f)), err
}

// ReuseForWrite implements store.FS.
func (d *Disk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.change(Create, name, 0, true); err != nil {
		return nil, &os.PathError{Op: "rename", Path: name, Err: err}
	}
	f, err := d.FS.ReuseForWrite(old, name, category)
	return d.log(name, d.wrap(name, f)), err
}
