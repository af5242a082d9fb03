package jobserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/jobserver/artifact"
)

// The registry's files, below <data-dir>/jobs:
//
//	<job id>/job.json           record
//	<job id>/pipeline.pb        the pipeline as run, dependencies rewritten to stored artifacts
//	<job id>/options.pb         pipeline options as submitted
//	<job id>/events.log         states and messages (eventlog.go)
//	<job id>/metrics.pb         final metrics      } written before the terminal state
//	<job id>/description.json   last Description   }
//	<job id>/engine/            the executor's own
//	.new-<job id>, .old-<job id>  being created, being deleted; removed when the registry is opened
const (
	fileRecord      = "job.json"
	filePipeline    = "pipeline.pb"
	fileOptions     = "options.pb"
	fileEvents      = "events.log"
	fileMetrics     = "metrics.pb"
	fileDescription = "description.json"

	prefixNew = ".new-"
	prefixOld = ".old-"

	recordFormat = 1
)

// record is what a job is from Run on; it never changes.
type record struct {
	Format        int               `json:"format"`
	ID            string            `json:"id"`
	Name          string            `json:"name"`
	PreparationID string            `json:"preparation_id"`
	CreatedAt     time.Time         `json:"created_at"`
	Artifacts     []artifact.Digest `json:"artifacts,omitempty"` // one reference each
}

// registry is the directory of jobs. Methods on different jobs may run concurrently.
type registry struct {
	dir string
	log *zap.Logger
}

// openRegistry opens or creates the registry and removes what a crash left half-made.
func openRegistry(dir string, log *zap.Logger) (*registry, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create job registry: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list job registry: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefixNew) || strings.HasPrefix(entry.Name(), prefixOld) {
			if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("clean job registry: %w", err)
			}
		}
	}
	return &registry{dir: dir, log: log}, nil
}

// jobDir is a job's directory. id is one that the server made, never one that a caller sent.
func (r *registry) jobDir(id string) string { return filepath.Join(r.dir, id) }

// create makes the job's directory with its record, pipeline and options, all of it or nothing.
func (r *registry) create(rec record, pipeline *pipepb.Pipeline, options *structpb.Struct) (err error) {
	fresh := filepath.Join(r.dir, prefixNew+rec.ID)
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("create job directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	encoded, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode job record: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(fresh, fileRecord), encoded); err != nil {
		return err
	}
	if err := writeProto(filepath.Join(fresh, filePipeline), pipeline); err != nil {
		return err
	}
	if err := writeProto(filepath.Join(fresh, fileOptions), options); err != nil {
		return err
	}
	if err := os.Rename(fresh, r.jobDir(rec.ID)); err != nil {
		return fmt.Errorf("place job directory: %w", err)
	}
	return durable.SyncDir(r.dir)
}

// list reads the records of all jobs, oldest first. A directory whose record does not read back is left alone and named in the log:
// one damaged job must not keep the others from being served.
func (r *registry) list() ([]record, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list job registry: %w", err)
	}
	var records []record
	for _, entry := range entries {
		rec, err := r.readRecord(entry.Name())
		if err != nil {
			r.log.Error("a job's record does not read back; the job is not listed", zap.String("directory", entry.Name()), zap.Error(err))
			continue
		}
		records = append(records, rec)
	}
	return records, nil
}

func (r *registry) readRecord(id string) (record, error) {
	var rec record
	data, err := os.ReadFile(filepath.Join(r.jobDir(id), fileRecord))
	if err != nil {
		return rec, fmt.Errorf("read job record: %w", err)
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fault.New(fault.Corruption, "registry-corrupt", "job record: %w", err)
	}
	if rec.Format != recordFormat || rec.ID != id {
		return rec, fault.New(fault.Corruption, "registry-corrupt", "job record has format %d and id %q", rec.Format, rec.ID)
	}
	return rec, nil
}

// remove deletes a job's directory; a crash in the middle leaves it gone or whole.
func (r *registry) remove(id string) error {
	old := filepath.Join(r.dir, prefixOld+id)
	if err := os.Rename(r.jobDir(id), old); err != nil {
		return fmt.Errorf("remove job: %w", err)
	}
	if err := durable.SyncDir(r.dir); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

func (r *registry) pipeline(id string) (*pipepb.Pipeline, error) {
	pipeline := &pipepb.Pipeline{}
	return pipeline, r.readProto(id, filePipeline, pipeline)
}

func (r *registry) options(id string) (*structpb.Struct, error) {
	options := &structpb.Struct{}
	return options, r.readProto(id, fileOptions, options)
}

// metrics returns the final metrics; empty ones for a job that ended without any.
func (r *registry) metrics(id string) (*jobpb.MetricResults, error) {
	metrics := &jobpb.MetricResults{}
	if err := r.readProto(id, fileMetrics, metrics); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return metrics, nil
}

func (r *registry) saveMetrics(id string, metrics *jobpb.MetricResults) error {
	return writeProto(filepath.Join(r.jobDir(id), fileMetrics), metrics)
}

// description returns the last Description; an empty one for a job that ended without.
func (r *registry) description(id string) (*Description, error) {
	data, err := os.ReadFile(filepath.Join(r.jobDir(id), fileDescription))
	if errors.Is(err, fs.ErrNotExist) {
		return &Description{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read description: %w", err)
	}
	description := &Description{}
	if err := json.Unmarshal(data, description); err != nil {
		return nil, fault.New(fault.Corruption, "registry-corrupt", "description of job %s: %w", id, err)
	}
	return description, nil
}

func (r *registry) saveDescription(id string, description *Description) error {
	data, err := json.Marshal(description)
	if err != nil {
		return fmt.Errorf("encode description: %w", err)
	}
	return durable.WriteFile(filepath.Join(r.jobDir(id), fileDescription), data)
}

func (r *registry) readProto(id, name string, into proto.Message) error {
	data, err := os.ReadFile(filepath.Join(r.jobDir(id), name))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := proto.Unmarshal(data, into); err != nil {
		return fault.New(fault.Corruption, "registry-corrupt", "%s of job %s: %w", name, id, err)
	}
	return nil
}

func writeProto(path string, message proto.Message) error {
	data, err := proto.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return durable.WriteFile(path, data)
}
