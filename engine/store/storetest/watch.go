package storetest

import (
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Change is a kind of change of a disk.
type Change string

// The changes.
const (
	Create Change = "create"
	Write  Change = "write"
	Sync   Change = "sync"
	Link   Change = "link"
	Rename Change = "rename"
	Remove Change = "remove"
	Mkdir  Change = "mkdir"
)

// Op is a change that is about to happen.
type Op struct {
	Change Change
	File   string // what kind of file: log, sst, segment, manifest, options, marker, dir or other
	Bytes  int    // of a Write
}

func (o Op) String() string { return string(o.Change) + " " + o.File }

// change is called before each change. room says that it needs room.
func (d *Disk) change(c Change, name string, bytes int, room bool) error {
	if d.Watch != nil {
		if err := d.Watch(Op{Change: c, File: kindOf(name), Bytes: bytes}); err != nil {
			return err
		}
	}
	return d.write(room)
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

func kindOf(name string) string {
	base := path.Base(name)
	switch {
	case isLog(base):
		return "log"
	case strings.HasSuffix(base, ".sst"):
		return "sst"
	case strings.HasSuffix(base, ".segment"):
		return "segment"
	case strings.HasPrefix(base, "MANIFEST"):
		return "manifest"
	case strings.HasPrefix(base, "OPTIONS"):
		return "options"
	case strings.HasPrefix(base, "marker"):
		return "marker"
	case !strings.Contains(base, "."):
		return "dir"
	}
	return "other"
}

// RemoveAll implements store.FS.
func (d *Disk) RemoveAll(name string) error {
	return d.unless(Remove, name, false, func() error { return d.FS.RemoveAll(name) })
}

// log keeps account of how much of a log is synced.
func (d *Disk) log(name string, f vfs.File) vfs.File {
	if w, ok := f.(*file); ok && w.log {
		w.tail = &tail{}
		d.mu.Lock()
		d.mu.logs[name] = w.tail
		d.mu.Unlock()
	}
	return f
}

// wrote and synced count the bytes of a log.
func (f *file) wrote(n int) {
	if f.tail != nil {
		f.disk.mu.Lock()
		f.tail.written += int64(n)
		f.disk.mu.Unlock()
	}
}

func (f *file) synced(fn func() error) error {
	if f.tail == nil {
		return fn()
	}
	if f.disk.Lies {
		return nil
	}
	f.disk.mu.Lock()
	written := f.tail.written
	f.disk.mu.Unlock()
	err := fn()
	if err == nil {
		f.disk.mu.Lock()
		f.tail.synced = max(f.tail.synced, written)
		f.disk.mu.Unlock()
	}
	return err
}
