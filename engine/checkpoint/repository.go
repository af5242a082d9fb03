package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"padstone/internal/fault"
)

// Folders of a job.
const (
	dirJobs        = "jobs"
	dirCheckpoints = "checkpoints"
	dirSavepoints  = "savepoints"
	dirFiles       = "files"
	dirPending     = "pending"

	manifestSuffix = ".json"
)

const (
	// abandonedAfter is how old an unfinished checkpoint of somebody else must be until it is taken to be nobody's.
	abandonedAfter = 24 * time.Hour
	// transfersMax bounds the files that go up or come down at a time.
	transfersMax = 4
	// manifestBytesMax bounds what is read of a manifest; one of 100 000 files has 20 MB.
	manifestBytesMax = 256 << 20
)

const codeNotFound fault.Code = "checkpoint-not-found"

// Latest asks for the newest checkpoint of either kind.
const Latest = "latest"

// Repository is a place for checkpoints of any number of jobs.
type Repository struct {
	url   string
	blobs Blobs
	now   func() time.Time

	mu struct {
		sync.Mutex
		jobs map[string]*jobState
	}
}

// jobState is what this process knows of a job's folder.
type jobState struct {
	sync.Mutex                            // held while a checkpoint is written or pruned
	lineage    string                     // of the last Write
	hashes     map[string]string          // what names an immutable file → its hash
	named      map[string]map[string]bool // a manifest's id → hashes that it names
}

// Open opens the repository at a location: an absolute path, file:///path, or s3://bucket/prefix?endpoint=…&region=…. It asks nothing
// of a bucket, and makes no directory. Errors: checkpoint-url.
func Open(ctx context.Context, location string) (*Repository, error) {
	b, err := openBlobs(ctx, location)
	if err != nil {
		return nil, err
	}
	return On(location, b), nil
}

// On is the repository that lies in b. The location is its name, for people.
func On(location string, b Blobs) *Repository {
	r := &Repository{url: Redacted(location), blobs: b, now: time.Now}
	r.mu.jobs = make(map[string]*jobState)
	return r
}

// URL is the location, without what may be a secret.
func (r *Repository) URL() string { return r.url }

// List lists the checkpoints of a job, or of all jobs if job is "", by job and from the earliest to the latest.
func (r *Repository) List(ctx context.Context, job string) ([]Entry, error) {
	jobs := []string{job}
	if job == "" {
		jobs = nil
		err := r.list(ctx, dirJobs, func(b Blob) error {
			if b.Dir && jobShape.MatchString(b.Name) {
				jobs = append(jobs, b.Name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		slices.Sort(jobs)
	} else if !jobShape.MatchString(job) {
		return nil, notFound(r, "no checkpoint of a job %.100q", job)
	}
	var all []Entry
	for _, job := range jobs {
		entries, err := r.entries(ctx, job)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// entries lists the checkpoints of one job from the earliest to the latest.
func (r *Repository) entries(ctx context.Context, job string) ([]Entry, error) {
	var entries []Entry
	for _, kind := range []Kind{Checkpoint, Savepoint} {
		err := r.list(ctx, kindDir(job, kind), func(b Blob) error {
			id, ok := strings.CutSuffix(b.Name, manifestSuffix)
			if _, _, shaped := order(id); ok && shaped && !b.Dir {
				entries = append(entries, Entry{Job: job, ID: id, Kind: kind})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return compareIDs(a.ID, b.ID) })
	return entries, nil
}

// Manifest reads the manifest of a checkpoint: of the job with the id, or with an id that begins so, or of the only job there is if job
// is ""; the one with the id, or the latest one if id is "" or Latest. Errors: checkpoint-not-found, checkpoint-damaged,
// checkpoint-format.
func (r *Repository) Manifest(ctx context.Context, job, id string) (*Manifest, error) {
	entries, err := r.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var jobs []string
	for _, e := range entries {
		if !slices.Contains(jobs, e.Job) && strings.HasPrefix(e.Job, job) {
			jobs = append(jobs, e.Job)
		}
	}
	switch {
	case slices.Contains(jobs, job):
	case len(jobs) == 1:
		job = jobs[0]
	case len(jobs) == 0:
		return nil, notFound(r, "no checkpoint of a job %.100q", job)
	default:
		return nil, fault.New(fault.Pipeline, "checkpoint-ambiguous", "%s has checkpoints of several jobs: %s", r.url,
			strings.Join(jobs, ", ")).WithHint("name one of them with --job")
	}
	var found *Entry
	for _, e := range entries {
		if e.Job == job && (id == "" || id == Latest || e.ID == id) {
			found = &e
		}
	}
	if found == nil {
		return nil, notFound(r, "job %s has no checkpoint %.100q", job, id)
	}
	return r.Read(ctx, *found)
}

func notFound(r *Repository, format string, args ...any) error {
	return fault.New(fault.Pipeline, codeNotFound, "%s: %w", r.url, fmt.Errorf(format, args...)).
		WithHint("`padstone checkpoints list` lists what is there")
}

// Read reads the manifest of an entry of a listing.
func (r *Repository) Read(ctx context.Context, e Entry) (*Manifest, error) {
	data, err := r.read(ctx, manifestName(e))
	if errors.Is(err, ErrNotFound) {
		return nil, notFound(r, "job %s has no checkpoint %.100q", e.Job, e.ID)
	}
	if err != nil {
		return nil, err
	}
	return decodeManifest(e, data)
}

// Remove removes a checkpoint or savepoint; Prune removes what nobody names any more.
func (r *Repository) Remove(ctx context.Context, e Entry) error {
	return r.failed(ctx, "removing a checkpoint", r.blobs.Remove(ctx, manifestName(e)))
}

// read reads a small content; ErrNotFound when there is none.
func (r *Repository) read(ctx context.Context, name string) ([]byte, error) {
	in, err := r.blobs.Get(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, r.failed(ctx, "reading "+name, err)
	}
	data, err := io.ReadAll(io.LimitReader(in, manifestBytesMax))
	return data, r.failed(ctx, "reading "+name, errors.Join(err, in.Close()))
}

func (r *Repository) list(ctx context.Context, dir string, fn func(Blob) error) error {
	return r.failed(ctx, "listing "+dir, r.blobs.List(ctx, dir, fn))
}

// failed is the *fault.Error of an operation on what holds the repository; nil for nil.
func (r *Repository) failed(ctx context.Context, doing string, err error) error {
	if err == nil || fault.Of(err) != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fault.New(fault.Environment, "checkpoint-repository", "%s: %s: %w", r.url, doing, err).
		WithHint("check that the place is there, that it has room, and that credentials and rights are right")
}

// state returns what is known of a job's folder.
func (r *Repository) state(job string) *jobState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.mu.jobs[job]
	if s == nil {
		s = &jobState{hashes: make(map[string]string), named: make(map[string]map[string]bool)}
		r.mu.jobs[job] = s
	}
	return s
}

// pending is what is stored of a checkpoint that is being written.
type pending struct {
	Lineage string   `json:"lineage"`
	Hashes  []string `json:"hashes"`
}

// readPending reads one; nil when it is gone meanwhile.
func (r *Repository) readPending(ctx context.Context, job, id string) (*pending, error) {
	data, err := r.read(ctx, pendingName(job, id))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &pending{}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, damaged(Entry{Job: job, ID: id}, "what it was to have does not read back: %w", err)
	}
	return p, nil
}

func jobDir(job string) string { return dirJobs + "/" + job }

func kindDir(job string, kind Kind) string {
	if kind == Savepoint {
		return jobDir(job) + "/" + dirSavepoints
	}
	return jobDir(job) + "/" + dirCheckpoints
}

func manifestName(e Entry) string { return kindDir(e.Job, e.Kind) + "/" + e.ID + manifestSuffix }

func filesDir(job string) string { return jobDir(job) + "/" + dirFiles }

func pendingDir(job string) string { return jobDir(job) + "/" + dirPending }

func pendingName(job, id string) string { return pendingDir(job) + "/" + id + manifestSuffix }
