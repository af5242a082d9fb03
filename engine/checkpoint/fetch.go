package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"padstone/internal/durable"
	"padstone/internal/fault"
)

// Fetch puts the files of a checkpoint into the directory dir, which it makes, under their paths: dir/store is a directory that
// engine/store opens. They are on disk when it returns. Errors: checkpoint-damaged for a file that is missing or not the one that was
// stored. After an error the caller removes dir.
func (r *Repository) Fetch(ctx context.Context, m *Manifest, dir string) error {
	return r.FetchOnly(ctx, m, dir, func(File) bool { return true })
}

// FetchOnly is Fetch for those of the files that want picks.
func (r *Repository) FetchOnly(ctx context.Context, m *Manifest, dir string, want func(File) bool) error {
	dirs := map[string]bool{dir: true}
	for _, sub := range []string{DirJob, DirStore, DirArtifacts} {
		dirs[filepath.Join(dir, sub)] = true
	}
	var files []File
	for _, f := range m.Files {
		if want(f) {
			files = append(files, f)
			for d := filepath.Dir(filepath.Join(dir, filepath.FromSlash(f.Path))); len(d) > len(dir); d = filepath.Dir(d) {
				dirs[d] = true
			}
		}
	}
	for d := range dirs {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fetchError(err)
		}
	}
	work, stop := errgroup.WithContext(ctx)
	work.SetLimit(transfersMax)
	for _, f := range files {
		work.Go(func() error { return r.fetch(stop, m, f, filepath.Join(dir, filepath.FromSlash(f.Path))) })
	}
	if err := work.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	synced := make([]string, 0, len(dirs))
	for d := range dirs {
		synced = append(synced, d)
	}
	slices.Sort(synced)
	for _, d := range synced {
		if err := durable.SyncDir(d); err != nil {
			return fetchError(err)
		}
	}
	return nil
}

// fetch writes one file to path.
func (r *Repository) fetch(ctx context.Context, m *Manifest, f File, path string) (err error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fetchError(err)
	}
	defer func() {
		if err == nil {
			err = out.Sync()
		}
		if err = errors.Join(err, out.Close()); err != nil && fault.Of(err) == nil && ctx.Err() == nil {
			err = fetchError(err)
		}
	}()
	if f.Size == 0 {
		return nil
	}
	e := Entry{Job: m.Job, ID: m.ID, Kind: m.Kind}
	in, err := r.blobs.Get(ctx, filesDir(m.Job)+"/"+f.SHA256)
	if errors.Is(err, ErrNotFound) {
		return damaged(e, "its file %s (%s) is missing", f.Path, f.SHA256)
	}
	if err != nil {
		return r.failed(ctx, "reading "+f.Path, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	hash := sha256.New()
	source := &sourceReader{r: in}
	n, err := io.Copy(io.MultiWriter(out, hash), contextReader{ctx, io.LimitReader(source, f.Size+1)})
	switch {
	case source.err != nil && ctx.Err() == nil:
		return r.failed(ctx, "reading "+f.Path, source.err)
	case err != nil:
		return err
	case n != f.Size || hex.EncodeToString(hash.Sum(nil)) != f.SHA256:
		return damaged(e, "its file %s (%s) is not the one that was stored: %d bytes of %d", f.Path, f.SHA256, n, f.Size)
	}
	return nil
}

// sourceReader remembers the error of reading, to tell it from one of writing.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func fetchError(err error) error {
	return fault.New(fault.Environment, "checkpoint-fetch", "a checkpoint cannot be written to this machine's disk: %w", err).
		WithHint("check free space and permissions of the server's data directory")
}
