package jobserver

import (
	"context"
	"path/filepath"
	"time"
)

// Checkpointing is implemented by a Running whose executor can copy the job to another place while it runs.
type Checkpointing interface {
	// Checkpoint copies the job and returns once the copy can be restored. The job goes on. One at a time: a call waits for those before
	// it. An error leaves the job as it is.
	Checkpoint(ctx context.Context, request CheckpointRequest) (*Checkpoint, error)
	// Stop ends the job with a savepoint: nothing is read or processed any more, what is done is published as far as that is possible,
	// and once the savepoint can be restored the job is UPDATED. After an error the job goes on.
	Stop(ctx context.Context, to string) (*Checkpoint, error)
}

// CheckpointRequest asks for a copy of a job.
type CheckpointRequest struct {
	To        string // where to, a location; "": where the server keeps checkpoints
	Savepoint bool   // it is kept until somebody removes it
}

// Checkpoint is a copy of a job in a repository.
type Checkpoint struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"` // checkpoint or savepoint
	Repository string    `json:"repository"`
	Job        string    `json:"job"`
	CreatedAt  time.Time `json:"created_at"` // the job is as it was then
	Commit     uint64    `json:"commit"`     // the number of commits in it
	Files      int       `json:"files"`
	Bytes      int64     `json:"bytes"`
	// What was not there before.
	UploadedFiles int   `json:"uploaded_files"`
	UploadedBytes int64 `json:"uploaded_bytes"`
	// Millis is how long it took, from taking it until it could be restored.
	Millis int64 `json:"duration_millis,omitempty"`
}

// CheckpointDescription is what a job has to say about its checkpoints.
type CheckpointDescription struct {
	Repository     string             `json:"repository,omitempty"`      // where they go by themselves, and unless one is told otherwise
	IntervalMillis int64              `json:"interval_millis,omitempty"` // 0: on demand only
	InProgress     bool               `json:"in_progress,omitempty"`
	Completed      int64              `json:"completed"` // since the server took the job
	Failed         int64              `json:"failed"`
	UploadedBytes  int64              `json:"uploaded_bytes"`
	Last           *Checkpoint        `json:"last,omitempty"`
	LastFailure    *CheckpointFailure `json:"last_failure,omitempty"`
}

// CheckpointFailure is a checkpoint that was not to be.
type CheckpointFailure struct {
	At      time.Time `json:"at"`
	Message string    `json:"message"`
}

// Restorer is implemented by an Executor that can take up copies of jobs.
type Restorer interface {
	// Fetch makes of an empty directory the directory of a job, as it was when the checkpoint was taken, with the job's artifacts in its
	// folder artifacts.
	Fetch(ctx context.Context, r RestoreRequest, dir string) (*Checkpoint, error)
	// Ready makes what was fetched to spec.Dir ready to be recovered. It refuses a checkpoint that is older than what the job has written
	// since, unless the rewind is allowed, and returns what is given up: what will, or may, be written again.
	Ready(ctx context.Context, spec Spec, allowRewind bool) (givenUp []string, err error)
}

// RestoreRequest asks for a job to be taken up from a checkpoint.
type RestoreRequest struct {
	From        string // location of the repository
	Job         string // id, or the beginning of one; "": the only job there
	ID          string // of the checkpoint; "": the latest
	AllowRewind bool
	// EnvironmentType and EnvironmentConfig, where given, replace the pipeline's own; as Beam's options of these names.
	EnvironmentType, EnvironmentConfig string
}

// SpecFile is a file of a job that is not the executor's own, but that a copy of the job needs.
type SpecFile struct {
	Path      string // in the copy: below job/ or artifacts/
	Name      string // on this machine's disk
	Immutable bool
}

// The folders of SpecFile.Path.
const (
	specFilesJob       = "job/"
	specFilesArtifacts = "artifacts/"
)

// files lists what a copy of the job needs. Pipeline, options and record never change; the log is appended to, so that what it holds when
// it is looked at is a log.
func (s *Server) files(rec record) []SpecFile {
	dir := s.registry.jobDir(rec.ID)
	var files []SpecFile
	for _, name := range []string{fileRecord, filePipeline, fileOptions, fileEvents} {
		files = append(files, SpecFile{Path: specFilesJob + name, Name: filepath.Join(dir, name), Immutable: name != fileEvents})
	}
	for _, d := range rec.Artifacts {
		files = append(files, SpecFile{Path: specFilesArtifacts + string(d), Name: s.store.Path(d), Immutable: true})
	}
	return files
}
