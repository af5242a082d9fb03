package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between pebble and the disk. At the first write that fails it freezes the disk: what is there stays as it is, and every
// later write is swallowed and reported as done. So the disk shows what a crash at that moment would leave, which is what recovery
// starts from, and pebble, which ends the process at errors of its log and its manifest, closes in peace. Nobody is told that anything
// is durable any more, as the store has failed before the swallowed write returns.
//
// A write that failed is not tried again. After a sync that failed nobody knows what is on disk, and pages that were not written are
// taken for written from then on.
type guard struct {
	vfs.FS
	failed func(error)   // told of the error that froze the disk; called once
	told   chan struct{} // closed when it has been told: until then no swallowed write returns
	// waiting is what the disk has been asked and has not answered. Set before the guard is used; may be nil.
	waiting *Outstanding
	// barrier is called before each write of a log. Set before the guard is used.
	barrier func()

	mu struct {
		sync.RWMutex
		frozen bool
		err    error // the first error of the disk, reads included; nil while there was none
		// made are tables that no manifest can know of yet, as none was written since.
		made map[string]bool
	}
}

// errFrozen is what reads get of files that were never written.
var errFrozen = errors.New("the store has failed, and nothing more is read from it")

func newGuard(fs vfs.FS, failed func(error)) *guard {
	return &guard{FS: fs, failed: failed, told: make(chan struct{})}
}

// freeze freezes the disk for a reason, nil when the store is only to be given up. It returns when the store knows.
func (g *guard) freeze(err error) {
	g.mu.Lock()
	was := g.mu.frozen
	g.mu.frozen = true
	if g.mu.err == nil {
		g.mu.err = err
	}
	g.mu.Unlock()
	if was {
		<-g.told
		return
	}
	if err != nil {
		g.failed(err)
	}
	close(g.told)
}

func (g *guard) frozen() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.mu.frozen
}

// cause is the first error of the disk.
func (g *guard) cause() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.mu.err
}

// read notes the error of a read. That a file is not there is an answer, not an error: pebble asks.
func (g *guard) read(err error) error {
	if err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, io.EOF) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.err == nil {
		g.mu.err = err
	}
	return err
}

// write performs a write, unless the disk is frozen, and freezes it if the write fails.
func (g *guard) write(doing, name string, fn func() error) {
	if g.frozen() {
		<-g.told
		return
	}
	id := g.waiting.Begin(doing, name)
	err := fn()
	g.waiting.End(id)
	if err != nil {
		g.freeze(err)
	}
}

// Create implements vfs.FS.
func (g *guard) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if filepath.Ext(name) == ".sst" && !g.frozen() {
		g.mu.Lock()
		if g.mu.made == nil {
			g.mu.made = make(map[string]bool)
		}
		g.mu.made[name] = true
		g.mu.Unlock()
	}
	return g.file(name, func() (vfs.File, error) { return g.FS.Create(name, category) }), nil
}

// OpenReadWrite implements vfs.FS.
func (g *guard) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.OpenReadWrite(name, category, opts...) }), nil
}

// ReuseForWrite implements vfs.FS.
func (g *guard) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return g.file(name, func() (vfs.File, error) { return g.FS.ReuseForWrite(old, name, category) }), nil
}

func (g *guard) file(name string, open func() (vfs.File, error)) vfs.File {
	var f vfs.File
	g.write("creation", name, func() (err error) { f, err = open(); return err })
	if f == nil {
		f = nowhere{name: name}
	}
	return &guarded{guard: g, name: name, log: filepath.Ext(name) == ".log", File: f}
}

// Open implements vfs.FS. Tables that pebble knows must be there; it would end the process when one is not.
func (g *guard) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	id := g.waiting.Begin("opening", name)
	f, err := g.FS.Open(name, opts...)
	g.waiting.End(id)
	switch {
	case err == nil:
		return &guarded{guard: g, name: name, File: f}, nil
	case g.frozen():
		return nil, errFrozen
	case errors.Is(err, os.ErrNotExist) && filepath.Ext(name) == ".sst":
		return nil, fmt.Errorf("%s is missing: %w", name, pebble.ErrCorruption)
	}
	return nil, g.read(err)
}

// OpenDir implements vfs.FS.
func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, g.read(err)
	}
	return &guarded{guard: g, name: name, File: f}, nil
}

// tidy removes from a frozen disk the tables that were not made to their end: on a full disk each attempt to open the store would leave
// more of them, and pebble removes them only when one has succeeded.
func (g *guard) tidy() {
	g.mu.Lock()
	made := g.mu.made
	g.mu.made = nil
	frozen := g.mu.frozen
	g.mu.Unlock()
	if !frozen {
		return
	}
	for name := range made {
		_ = g.FS.Remove(name) // what cannot be removed the next opening removes
	}
}

// written notes a write of a file. A manifest may name each table that was made before.
func (g *guard) written(name string) {
	if !strings.HasPrefix(filepath.Base(name), "MANIFEST-") {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.made = nil
}

// Link implements vfs.FS.
func (g *guard) Link(old, name string) error {
	g.write("link", name, func() error { return g.FS.Link(old, name) })
	return nil
}

// Remove implements vfs.FS. A file that is not there cannot be removed, which pebble is told.
func (g *guard) Remove(name string) error {
	return g.remove(name, func() error { return g.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (g *guard) RemoveAll(name string) error {
	return g.remove(name, func() error { return g.FS.RemoveAll(name) })
}

func (g *guard) remove(name string, fn func() error) (missing error) {
	g.write("removal", name, func() error {
		err := fn()
		if errors.Is(err, os.ErrNotExist) {
			missing, err = err, nil
		}
		return err
	})
	return missing
}

// Rename implements vfs.FS.
func (g *guard) Rename(old, name string) error {
	g.write("renaming", name, func() error { return g.FS.Rename(old, name) })
	return nil
}

// MkdirAll implements vfs.FS.
func (g *guard) MkdirAll(dir string, perm os.FileMode) error {
	g.write("creation", dir, func() error { return g.FS.MkdirAll(dir, perm) })
	return nil
}

// Lock implements vfs.FS.
func (g *guard) Lock(name string) (io.Closer, error) {
	l, err := g.FS.Lock(name)
	return l, g.read(err)
}

// List implements vfs.FS.
func (g *guard) List(dir string) ([]string, error) {
	names, err := g.FS.List(dir)
	return names, g.read(err)
}

// Stat implements vfs.FS.
func (g *guard) Stat(name string) (vfs.FileInfo, error) {
	info, err := g.FS.Stat(name)
	return info, g.read(err)
}

// GetDiskUsage implements vfs.FS. Pebble takes an error of it for one in the background; it only paces deletions by it.
func (g *guard) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	usage, err := g.FS.GetDiskUsage(path)
	if err != nil {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	return usage, nil
}

// Unwrap implements vfs.FS.
func (g *guard) Unwrap() vfs.FS { return g.FS }

// guarded is a file behind the guard.
type guarded struct {
	vfs.File
	guard *guard
	name  string
	log   bool
}

// Write implements vfs.File.
func (f *guarded) Write(p []byte) (int, error) {
	if f.log {
		f.guard.barrier()
	}
	f.guard.write("write", f.name, func() error { f.guard.written(f.name); _, err := f.File.Write(p); return err })
	return len(p), nil
}

// WriteAt implements vfs.File.
func (f *guarded) WriteAt(p []byte, at int64) (int, error) {
	if f.log {
		f.guard.barrier()
	}
	f.guard.write("write", f.name, func() error { _, err := f.File.WriteAt(p, at); return err })
	return len(p), nil
}

// Preallocate implements vfs.File.
func (f *guarded) Preallocate(offset, length int64) error {
	f.guard.write("write", f.name, func() error { return f.File.Preallocate(offset, length) })
	return nil
}

// Sync implements vfs.File.
func (f *guarded) Sync() error {
	f.guard.write("sync", f.name, f.File.Sync)
	return nil
}

// SyncData implements vfs.File.
func (f *guarded) SyncData() error {
	f.guard.write("sync", f.name, f.File.SyncData)
	return nil
}

// SyncTo implements vfs.File.
func (f *guarded) SyncTo(length int64) (fully bool, err error) {
	f.guard.write("sync", f.name, func() (err error) { fully, err = f.File.SyncTo(length); return err })
	return fully, nil
}

// Read implements vfs.File.
func (f *guarded) Read(p []byte) (int, error) {
	id := f.guard.waiting.Begin("read", f.name)
	n, err := f.File.Read(p)
	f.guard.waiting.End(id)
	return n, f.guard.read(err)
}

// ReadAt implements vfs.File.
func (f *guarded) ReadAt(p []byte, at int64) (int, error) {
	id := f.guard.waiting.Begin("read", f.name)
	n, err := f.File.ReadAt(p, at)
	f.guard.waiting.End(id)
	return n, f.guard.read(err)
}

// Close implements vfs.File. What a failed close may have lost a sync would have reported.
func (f *guarded) Close() error {
	if err := f.File.Close(); err != nil && !f.guard.frozen() {
		return f.guard.read(err)
	}
	return nil
}

// nowhere is a file that the disk did not make. It implements vfs.File and vfs.FileInfo.
type nowhere struct{ name string }

func (nowhere) Close() error                           { return nil }
func (nowhere) Read([]byte) (int, error)               { return 0, errFrozen }
func (nowhere) ReadAt([]byte, int64) (int, error)      { return 0, errFrozen }
func (nowhere) Write(p []byte) (int, error)            { return len(p), nil }
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Preallocate(int64, int64) error         { return nil }
func (nowhere) Sync() error                            { return nil }
func (nowhere) SyncData() error                        { return nil }
func (nowhere) SyncTo(int64) (bool, error)             { return false, nil }
func (nowhere) Prefetch(int64, int64) error            { return nil }
func (nowhere) Fd() uintptr                            { return vfs.InvalidFd }
func (f nowhere) Stat() (vfs.FileInfo, error)          { return f, nil }

// Of vfs.FileInfo: an empty file.
func (f nowhere) Name() string         { return filepath.Base(f.name) }
func (nowhere) Size() int64            { return 0 }
func (nowhere) Mode() os.FileMode      { return 0o600 }
func (nowhere) ModTime() time.Time     { return time.Time{} }
func (nowhere) IsDir() bool            { return false }
func (nowhere) Sys() any               { return nil }
func (nowhere) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
