package checkpoint

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"padstone/internal/fault"
)

// Pruned is what Prune has removed.
type Pruned struct {
	Checkpoints int
	Files       int
	Bytes       int64
}

// Prune removes all but the last keep checkpoints of a job, savepoints excepted, and every content that nothing names any more. keep 0
// keeps all checkpoints. It may be called while another process writes checkpoints of the job.
func (r *Repository) Prune(ctx context.Context, job string, keep int) (Pruned, error) {
	var done Pruned
	s := r.state(job)
	s.Lock()
	defer s.Unlock()
	entries, err := r.entries(ctx, job)
	if err != nil {
		return done, err
	}
	checkpoints := slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Kind == Savepoint })
	if keep > 0 && len(checkpoints) > keep {
		for _, e := range checkpoints[:len(checkpoints)-keep] {
			if err := r.Remove(ctx, e); err != nil {
				return done, err
			}
			done.Checkpoints++
		}
	}
	return done, r.sweep(ctx, s, job, &done)
}

// sweep removes contents that nobody names. The order matters: a content that is in the listing was announced before it was stored, and
// its announcement goes only once its manifest is there.
func (r *Repository) sweep(ctx context.Context, s *jobState, job string, done *Pruned) error {
	files := make(map[string]int64)
	err := r.list(ctx, filesDir(job), func(b Blob) error { files[b.Name] = b.Size; return nil })
	if err != nil {
		return err
	}
	announced, err := r.announced(ctx, s, job)
	if err != nil {
		return err
	}
	named, err := r.named(ctx, s, job)
	if err != nil {
		return err
	}
	work, stop := errgroup.WithContext(ctx)
	work.SetLimit(transfersMax)
	for name, size := range files {
		if named[name] || announced[name] || !isHash(name) {
			continue
		}
		done.Files++
		done.Bytes += size
		work.Go(func() error { return r.blobs.Remove(stop, filesDir(job)+"/"+name) })
	}
	return r.failed(ctx, "removing files", work.Wait())
}

// announced are the contents of checkpoints that are being written. An announcement of this process's own lineage is one of an earlier
// attempt, since only one is under way; an old one of another lineage is taken to be nobody's. Both are removed.
func (r *Repository) announced(ctx context.Context, s *jobState, job string) (map[string]bool, error) {
	var found []Blob
	err := r.list(ctx, pendingDir(job), func(b Blob) error { found = append(found, b); return nil })
	if err != nil {
		return nil, err
	}
	hashes := make(map[string]bool)
	for _, b := range found {
		id := strings.TrimSuffix(b.Name, manifestSuffix)
		old := r.now().Sub(b.Modified) > abandonedAfter
		p, err := r.readPending(ctx, job, id)
		if err != nil && !old {
			return nil, err
		}
		if p == nil && err == nil {
			continue
		}
		if old || p.Lineage == s.lineage {
			if err := r.failed(ctx, "removing an announcement", r.blobs.Remove(ctx, pendingName(job, id))); err != nil {
				return nil, err
			}
			continue
		}
		for _, h := range p.Hashes {
			hashes[h] = true
		}
	}
	return hashes, nil
}

// named are the contents that manifests name. One that does not read back keeps everything: it may be of a later version.
func (r *Repository) named(ctx context.Context, s *jobState, job string) (map[string]bool, error) {
	entries, err := r.entries(ctx, job)
	if err != nil {
		return nil, err
	}
	all, kept := make(map[string]bool), make(map[string]map[string]bool)
	for _, e := range entries {
		hashes := s.named[e.ID]
		if hashes == nil {
			m, err := r.Read(ctx, e)
			if f := fault.Of(err); f != nil && f.Code == codeNotFound {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			hashes = hashesOf(m)
		}
		kept[e.ID] = hashes
		for h := range hashes {
			all[h] = true
		}
	}
	s.named = kept
	return all, nil
}
