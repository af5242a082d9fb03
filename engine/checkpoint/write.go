package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"padstone/internal/fault"
)

// Contents is what a checkpoint is made of. Fields are those of Manifest.
type Contents struct {
	Kind      Kind
	Job       string
	Name      string
	CreatedAt time.Time
	Lineage   Lineage
	Padstone  string
	Store     uint32
	Commit    uint64
	Sinks     []Sink
	Inventory json.RawMessage
	Files     []Local
}

// Local is a file on this machine that goes into a checkpoint.
type Local struct {
	Path string // in the checkpoint; see DirJob, DirStore, DirArtifacts
	Size int64  // what lies behind it is left out
	// Same, if it is not "", names the contents: within a lineage, and while the repository is open, a file of this name and size is
	// taken to have the same ones.
	Same string
	Open func() (Reader, error)
}

// Write stores a checkpoint and returns once it can be restored. What it shares with others of the job is not stored again. The files
// must not change until then. After an error there is no such checkpoint; what went up already is used by the next one, or removed by it.
func (r *Repository) Write(ctx context.Context, c Contents) (*Manifest, error) {
	if !jobShape.MatchString(c.Job) || c.Lineage.ID == "" || c.Lineage.Incarnation == 0 {
		return nil, fault.New(fault.Internal, "checkpoint-contents", "job %q of lineage %+v cannot have a checkpoint", c.Job, c.Lineage)
	}
	s := r.state(c.Job)
	s.Lock()
	defer s.Unlock()
	s.lineage = c.Lineage.ID
	m := &Manifest{
		Format: Format, Kind: c.Kind, Job: c.Job, Name: c.Name, CreatedAt: c.CreatedAt.UTC(), Lineage: c.Lineage, Padstone: c.Padstone,
		Store: c.Store, Commit: c.Commit, Sinks: c.Sinks, Inventory: c.Inventory,
	}
	byHash, err := r.hash(ctx, s, c, m)
	if err != nil {
		return nil, err
	}
	if m.ID, err = r.nextID(ctx, c); err != nil {
		return nil, err
	}
	// From here on nobody removes what this checkpoint shares with earlier ones.
	if err := r.announce(ctx, m, byHash); err != nil {
		return nil, err
	}
	if err := r.upload(ctx, m, byHash); err != nil {
		return nil, err
	}
	data, err := m.encode()
	if err != nil {
		return nil, fault.New(fault.Internal, "checkpoint-contents", "%w", err)
	}
	name := manifestName(Entry{Job: m.Job, ID: m.ID, Kind: m.Kind})
	if err := r.failed(ctx, "storing a manifest", r.blobs.Put(ctx, name, bytes.NewReader(data), int64(len(data)))); err != nil {
		return nil, err
	}
	s.named[m.ID] = hashesOf(m)
	// The checkpoint is there; what announced it goes with the next Prune if it does not go now.
	_ = r.blobs.Remove(ctx, pendingName(m.Job, m.ID))
	return m, nil
}

// hash fills in the manifest's files and returns one file for each content.
func (r *Repository) hash(ctx context.Context, s *jobState, c Contents, m *Manifest) (map[string]Local, error) {
	byHash, used := make(map[string]Local), make(map[string]string)
	for _, f := range c.Files {
		key := fmt.Sprintf("%s\x00%s\x00%d", c.Lineage.ID, f.Same, f.Size)
		sum := s.hashes[key]
		if f.Same == "" || sum == "" {
			var err error
			if sum, err = hashOf(ctx, f); err != nil {
				return nil, err
			}
		}
		if f.Same != "" {
			used[key] = sum
		}
		m.Files = append(m.Files, File{Path: f.Path, SHA256: sum, Size: f.Size})
		m.Bytes += f.Size
		if f.Size > 0 { // nothing is stored of an empty file
			byHash[sum] = f
		}
	}
	s.hashes = used // a file that is gone does not come back
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return byHash, nil
}

func hashOf(ctx context.Context, f Local) (string, error) {
	in, err := f.Open()
	if err != nil {
		return "", unreadable(f, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, contextReader{ctx, io.NewSectionReader(in, 0, f.Size)})
	if err == nil && n != f.Size {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, in.Close()); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", unreadable(f, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func unreadable(f Local, err error) error {
	if fault.Of(err) != nil {
		return err
	}
	return fault.New(fault.Environment, "checkpoint-source", "%s cannot be read for a checkpoint: %w", f.Path, err).
		WithHint("check the disk of the data directory")
}

// nextID numbers the checkpoint behind all that are there or were begun.
func (r *Repository) nextID(ctx context.Context, c Contents) (string, error) {
	last := uint64(0)
	for _, dir := range []string{kindDir(c.Job, Checkpoint), kindDir(c.Job, Savepoint), pendingDir(c.Job)} {
		err := r.list(ctx, dir, func(b Blob) error {
			_, number, _ := order(strings.TrimSuffix(b.Name, manifestSuffix))
			last = max(last, number)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return newID(c.Lineage, last+1), nil
}

// announce stores what the checkpoint is going to name.
func (r *Repository) announce(ctx context.Context, m *Manifest, byHash map[string]Local) error {
	data, err := json.Marshal(pending{Lineage: m.Lineage.ID, Hashes: slices.Sorted(maps.Keys(byHash))})
	if err != nil {
		return fault.New(fault.Internal, "checkpoint-contents", "%w", err)
	}
	return r.failed(ctx, "announcing a checkpoint",
		r.blobs.Put(ctx, pendingName(m.Job, m.ID), bytes.NewReader(data), int64(len(data))))
}

// upload stores the contents that are not there yet, and makes sure that all are there in the end.
func (r *Repository) upload(ctx context.Context, m *Manifest, byHash map[string]Local) error {
	// What somebody else has removed meanwhile is stored again; that cannot go on for ever.
	for range 3 {
		missing, err := r.missing(ctx, m.Job, byHash)
		if err != nil || len(missing) == 0 {
			return err
		}
		work, stop := errgroup.WithContext(ctx)
		work.SetLimit(transfersMax)
		for _, hash := range missing {
			f := byHash[hash]
			m.NewFiles++
			m.NewBytes += f.Size
			work.Go(func() error { return r.store(stop, m.Job, hash, f) })
		}
		if err := work.Wait(); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return fault.New(fault.Environment, "checkpoint-repository", "%s: files of job %s are removed while they are stored", r.url, m.Job).
		WithHint("another server writes checkpoints of this job to the same place, or somebody cleans it up: stop one of them")
}

// missing lists the contents that are not there, in order.
func (r *Repository) missing(ctx context.Context, job string, byHash map[string]Local) ([]string, error) {
	left := maps.Clone(byHash)
	err := r.list(ctx, filesDir(job), func(b Blob) error {
		if f, ok := left[b.Name]; ok && f.Size == b.Size {
			delete(left, b.Name)
		}
		return nil
	})
	return slices.Sorted(maps.Keys(left)), err
}

func (r *Repository) store(ctx context.Context, job, hash string, f Local) error {
	in, err := f.Open()
	if err != nil {
		return unreadable(f, err)
	}
	err = r.blobs.Put(ctx, filesDir(job)+"/"+hash, io.NewSectionReader(in, 0, f.Size), f.Size)
	return r.failed(ctx, "storing "+f.Path, errors.Join(err, in.Close()))
}

// hashesOf are the contents that a manifest names.
func hashesOf(m *Manifest) map[string]bool {
	hashes := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		if f.Size > 0 {
			hashes[f.SHA256] = true
		}
	}
	return hashes
}
