package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/encoding/protojson"

	"padstone/engine/store"
	"padstone/internal/durable"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// A job's directory holds the store while it runs, and the outcome once it is terminal.
const (
	storeDir    = "store"
	outcomeFile = "outcome.json"
)

// outcome is what is left of a terminal job. It is written before the state is reported: a server that goes away in between finds
// it and reports it again, and does not run the job twice.
type outcome struct {
	State       jobpb.JobState_Enum    `json:"state"`
	Message     string                 `json:"message,omitempty"` // the error message of a failed job
	Metrics     json.RawMessage        `json:"metrics"`           // a MetricResults
	Description *jobserver.Description `json:"description"`
}

// save makes the outcome durable and removes the store, which serves recovery only.
func (o *outcome) save(dir string, fs store.FS) error {
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, outcomeFile), data); err != nil {
		return err
	}
	return store.Remove(fs, filepath.Join(dir, storeDir))
}

// loadOutcome returns the outcome of a terminal job, or nil.
func loadOutcome(dir string) (*outcome, error) {
	data, err := os.ReadFile(filepath.Join(dir, outcomeFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Environment, "store-read", "the job's outcome: %w", err)
	}
	o := &outcome{}
	if err := json.Unmarshal(data, o); err != nil {
		return nil, fault.New(fault.Corruption, "store-corrupt", "the job's outcome: %w", err)
	}
	return o, nil
}

// report tells the outcome.
func (o *outcome) report(r jobserver.Reporter) {
	if o.State == jobpb.JobState_FAILED {
		r.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, o.Message)
	}
	r.State(o.State)
}

// finishedJob stands for a job that had ended when it was to be recovered.
type finishedJob struct{ outcome *outcome }

func (f finishedJob) Cancel(context.Context) error { return nil }
func (f finishedJob) Drain(context.Context) error  { return nil }
func (f finishedJob) Wait(context.Context) error   { return nil }

func (f finishedJob) Metrics(context.Context) (*jobpb.MetricResults, error) {
	m := &jobpb.MetricResults{}
	if err := protojson.Unmarshal(f.outcome.Metrics, m); err != nil {
		return nil, fault.New(fault.Corruption, "store-corrupt", "the metrics of the job's outcome: %w", err)
	}
	return m, nil
}

func (f finishedJob) Describe(context.Context) (*jobserver.Description, error) {
	return f.outcome.Description, nil
}
