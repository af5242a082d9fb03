package checkpoint

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"padstone/internal/durable"
)

// ErrNotFound is what Blobs return for a name that is not there.
var ErrNotFound = errors.New("not found")

// Reader is an open file that is to be stored.
type Reader interface {
	io.Reader
	io.ReaderAt
	io.Closer
}

// Blob is one entry of a listing.
type Blob struct {
	Name     string // without its directory
	Size     int64
	Modified time.Time
	Dir      bool
}

// Blobs is where a repository's contents lie, by names with slashes. Implementations are safe for concurrent use.
type Blobs interface {
	// Put stores a content in one piece: whoever reads the name finds all of it or what was there before. It is durable afterwards.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	// Get opens a content; ErrNotFound when there is none.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// List calls fn for what lies in a directory, in no order. A directory that is not there is empty.
	List(ctx context.Context, dir string, fn func(Blob) error) error
	// Remove removes a content; one that is not there is no error.
	Remove(ctx context.Context, name string) error
}

// tmpPrefix begins the names of files that are being written; a crash leaves them behind.
const tmpPrefix = ".tmp-"

// dirBlobs is a directory.
type dirBlobs struct{ root string }

func (d dirBlobs) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

func (d dirBlobs) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	path := d.path(name)
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), tmpPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	n, err := io.Copy(tmp, contextReader{ctx, r})
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// mkdirAll makes a directory with its parents so that they survive a power loss.
func mkdirAll(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := mkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

func (d dirBlobs) Get(_ context.Context, name string) (io.ReadCloser, error) {
	f, err := os.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	return f, err
}

func (d dirBlobs) List(_ context.Context, dir string, fn func(Blob) error) error {
	entries, err := os.ReadDir(d.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), tmpPrefix) {
			if time.Since(info.ModTime()) > abandonedAfter { // as a bucket drops uploads that were never completed
				if err := os.Remove(filepath.Join(d.path(dir), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			continue
		}
		if err := fn(Blob{Name: e.Name(), Size: info.Size(), Modified: info.ModTime(), Dir: e.IsDir()}); err != nil {
			return err
		}
	}
	return nil
}

func (d dirBlobs) Remove(_ context.Context, name string) error {
	if err := os.Remove(d.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // the reader lives for one call only
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
