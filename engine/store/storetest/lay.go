package storetest

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Lay copies the files of a directory of this machine to the disk, where they survive every crash. Nothing watches that.
func (d *Disk) Lay(dir string) error {
	files := d.FS
	if err := files.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := files.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	for at := dir; ; at = filepath.Dir(at) {
		parent, err := files.OpenDir(at)
		if err != nil {
			return err
		}
		if err := errors.Join(parent.Sync(), parent.Close()); err != nil || at == filepath.Dir(at) {
			return err
		}
	}
}
