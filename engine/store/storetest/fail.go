package storetest

import (
	"errors"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FailAfter makes writes fail with err, after the next n of them, until Heal is called: files that are made, written, synced, renamed
// or removed, and directories that are made. Of a write of several bytes the first half reaches the disk. With syscall.ENOSPC only
// that fails which needs room.
func (d *Disk) FailAfter(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.failing, d.mu.left = err, n
}

// Heal ends what FailAfter began.
func (d *Disk) Heal() { d.FailAfter(0, nil) }

// Failures counts the writes that have failed.
func (d *Disk) Failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.failures
}

// write returns the error that the next write has. room says that it needs room.
func (d *Disk) write(room bool) error {
	d.awaitStall()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.failing == nil || !room && errors.Is(d.mu.failing, syscall.ENOSPC) {
		return nil
	}
	if d.mu.left > 0 {
		d.mu.left--
		return nil
	}
	d.mu.failures++
	return d.mu.failing
}

// Damage flips a bit of every file below dir for which flip returns a place in it, and returns how many there were.
func (d *Disk) Damage(dir string, flip func(name string, size int64) (at int64, ok bool)) (int, error) {
	names, err := d.FS.List(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		path := d.FS.PathJoin(dir, name)
		info, err := d.FS.Stat(path)
		if err != nil {
			return n, err
		}
		at, ok := flip(name, info.Size())
		if info.IsDir() || !ok {
			continue
		}
		f, err := d.FS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return n, err
		}
		b := make([]byte, 1)
		_, rerr := f.ReadAt(b, at)
		b[0] ^= 0x10
		_, werr := f.WriteAt(b, at)
		if err := errors.Join(rerr, werr, f.Sync(), f.Close()); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// OpenReadWrite implements store.FS.
func (d *Disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	_, missing := d.FS.Stat(name)
	if err := d.write(missing != nil); err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f, err := d.FS.OpenReadWrite(name, category, opts...)
	return d.wrap(name, f), err
}

// OpenDir implements store.FS.
func (d *Disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.wrap(name, f), err
}

// Link implements store.FS.
func (d *Disk) Link(old, name string) error {
	return d.unless(Link, name, true, func() error { return d.FS.Link(old, name) })
}

// Rename implements store.FS.
func (d *Disk) Rename(old, name string) error {
	return d.unless(Rename, name, false, func() error { return d.FS.Rename(old, name) })
}

// Remove implements store.FS.
func (d *Disk) Remove(name string) error {
	return d.unless(Remove, name, false, func() error { return d.FS.Remove(name) })
}

// MkdirAll implements store.FS.
func (d *Disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.unless(Mkdir, dir, true, func() error { return d.FS.MkdirAll(dir, perm) })
}

func (d *Disk) unless(c Change, name string, room bool, fn func() error) error {
	if err := d.change(c, name, 0, room); err != nil {
		return &os.PathError{Op: string(c), Path: name, Err: err}
	}
	return fn()
}

// file is a file of the disk, whose writes may fail, and whose syncs may have to wait if it is a log.
type file struct {
	vfs.File
	disk *Disk
	name string
	log  bool
	tail *tail // of a log that was made here
}

func (d *Disk) wrap(name string, f vfs.File) vfs.File {
	if f == nil {
		return nil
	}
	return &file{File: f, disk: d, name: name, log: isLog(name)}
}

// Write implements vfs.File.
func (f *file) Write(p []byte) (int, error) {
	if err := f.disk.change(Write, f.name, len(p), true); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		f.wrote(n)
		return n, &os.PathError{Op: "write", Path: f.name, Err: err}
	}
	n, err := f.File.Write(p)
	f.wrote(n)
	return n, err
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(p []byte, at int64) (int, error) {
	info, err := f.File.Stat()
	if err := f.disk.write(err != nil || at+int64(len(p)) > info.Size()); err != nil {
		return 0, &os.PathError{Op: "write", Path: f.name, Err: err}
	}
	return f.File.WriteAt(p, at)
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(n int64) (fully bool, err error) {
	err = f.sync(func() (err error) { fully, err = f.File.SyncTo(n); return err })
	return fully, err
}

func (f *file) sync(fn func() error) error {
	if f.log {
		f.disk.wait()
	}
	if err := f.disk.change(Sync, f.name, 0, false); err != nil {
		return &os.PathError{Op: "sync", Path: f.name, Err: err}
	}
	return f.synced(fn)
}
