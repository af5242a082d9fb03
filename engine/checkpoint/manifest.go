package checkpoint

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"padstone/internal/fault"
)

// Kind is why a checkpoint was taken.
type Kind string

// The kinds, in Flink's words: checkpoints are taken by the clock or on demand and go when newer ones have come, savepoints stay.
const (
	Checkpoint Kind = "checkpoint"
	Savepoint  Kind = "savepoint"
)

// Format is the version of manifests. A later one is refused.
const Format = 1

// The first element of a file's path says whose it is.
const (
	// DirJob has the job server's files of the job, as in its directory.
	DirJob = "job"
	// DirStore has the job's store, as engine/store opens it.
	DirStore = "store"
	// DirArtifacts has the job's staged files by their SHA-256.
	DirArtifacts = "artifacts"
)

// Manifest is one checkpoint.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	Kind      Kind      `json:"kind"`
	Job       string    `json:"job"`
	Name      string    `json:"name"` // the job's, for people
	CreatedAt time.Time `json:"created_at"`
	Lineage   Lineage   `json:"lineage"`
	Padstone  string    `json:"padstone"`     // version of the binary that wrote it
	Store     uint32    `json:"store_format"` // of the rows
	// Commit is a commit that the checkpoint has, with all before it; a few more may be in it.
	Commit uint64 `json:"commit"`
	Sinks  []Sink `json:"sinks,omitempty"`
	// Inventory says which rows of the store belong to which transform and state, for another version of the pipeline.
	Inventory json.RawMessage `json:"inventory,omitempty"`
	Files     []File          `json:"files"`
	Bytes     int64           `json:"bytes"`          // of all files
	NewFiles  int             `json:"uploaded_files"` // those that were not in the repository before
	NewBytes  int64           `json:"uploaded_bytes"`
}

// Lineage is one life of a job: in one data directory.
type Lineage struct {
	ID          string `json:"id"`                      // random
	Incarnation uint64 `json:"incarnation"`             // 1, and one more with each restore
	From        string `json:"restored_from,omitempty"` // the checkpoint that it was restored from
}

// Sink is how far a native sink has come.
type Sink struct {
	Stage     string `json:"stage"`
	Name      string `json:"name"`      // of the user's transform
	Published uint64 `json:"published"` // the highest block of the outbox that is known to be written, and was when the checkpoint was taken
}

// File is one file of a checkpoint.
type File struct {
	Path   string `json:"path"` // below where the checkpoint is fetched to, with slashes
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Entry is a checkpoint in a listing, known by its name alone.
type Entry struct {
	Job  string
	ID   string
	Kind Kind
}

// envelope is what is stored: the manifest's bytes with their hash.
type envelope struct {
	SHA256   string          `json:"sha256"`
	Manifest json.RawMessage `json:"manifest"`
}

// encode returns the stored form.
func (m *Manifest) encode() ([]byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	sum := sha256.Sum256(raw)
	return json.Marshal(envelope{SHA256: hex.EncodeToString(sum[:]), Manifest: raw})
}

// decodeManifest reads what encode wrote and checks all that is needed to use it, since it comes from outside.
func decodeManifest(e Entry, data []byte) (*Manifest, error) {
	var env envelope
	if err := json.Unmarshal(data, &env); err != nil {
		return nil, damaged(e, "its manifest does not read back: %w", err)
	}
	raw := bytes.NewBuffer(nil)
	if err := json.Compact(raw, env.Manifest); err != nil {
		return nil, damaged(e, "its manifest does not read back: %w", err)
	}
	if sum := sha256.Sum256(raw.Bytes()); hex.EncodeToString(sum[:]) != env.SHA256 {
		return nil, damaged(e, "its manifest is not the one that was written")
	}
	m := &Manifest{}
	if err := json.Unmarshal(raw.Bytes(), m); err != nil {
		return nil, damaged(e, "its manifest does not read back: %w", err)
	}
	if m.Format != Format {
		return nil, fault.New(fault.Pipeline, "checkpoint-format", "checkpoint %s of job %s has format %d, this binary reads %d",
			e.ID, e.Job, m.Format, Format).WithHint("restore it with the version of Padstone that wrote it, %s", m.Padstone)
	}
	if m.Job != e.Job || m.ID != e.ID {
		return nil, damaged(e, "its manifest is that of checkpoint %.100q of job %.100q", m.ID, m.Job)
	}
	for _, f := range m.Files {
		if dir, _, _ := strings.Cut(f.Path, "/"); !filepath.IsLocal(f.Path) || !isHash(f.SHA256) || f.Size < 0 ||
			dir != DirJob && dir != DirStore && dir != DirArtifacts {
			return nil, damaged(e, "its manifest names the file %.200q", f.Path)
		}
	}
	return m, nil
}

func damaged(e Entry, format string, args ...any) error {
	return fault.New(fault.Corruption, "checkpoint-damaged", "checkpoint %s of job %s is damaged: %w", e.ID, e.Job,
		fmt.Errorf(format, args...)).WithHint("restore another one; `padstone checkpoints list` lists them")
}

// hashShape is a SHA-256 in hexadecimal; idShape a checkpoint's id: incarnation, number, the beginning of the lineage's id.
var (
	hashShape = regexp.MustCompile(`^[0-9a-f]{64}$`)
	idShape   = regexp.MustCompile(`^([0-9]{1,10})-([0-9]{1,15})-[0-9a-zA-Z]{1,32}$`)
	jobShape  = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z_-]{0,200}$`)
)

func isHash(s string) bool { return hashShape.MatchString(s) }

// order takes an id apart: a later checkpoint has a greater order.
func order(id string) (incarnation, number uint64, ok bool) {
	parts := idShape.FindStringSubmatch(id)
	if parts == nil {
		return 0, 0, false
	}
	incarnation, _ = strconv.ParseUint(parts[1], 10, 64) // digits that fit
	number, _ = strconv.ParseUint(parts[2], 10, 64)
	return incarnation, number, true
}

// compareIDs orders ids from the earliest to the latest.
func compareIDs(a, b string) int {
	ai, an, _ := order(a)
	bi, bn, _ := order(b)
	return cmp.Or(cmp.Compare(ai, bi), cmp.Compare(an, bn), cmp.Compare(a, b))
}

func newID(l Lineage, number uint64) string {
	return fmt.Sprintf("%d-%d-%s", l.Incarnation, number, strings.ToLower(l.ID[:min(6, len(l.ID))]))
}
