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

	kept  bool // the store is left for somebody to look at
	saved bool
}

// report makes the outcome durable and tells it. A run that is suspended or interrupted has none.
func (j *job) report() {
	if errors.Is(j.outcome, errSuspended) || j.interrupted() {
		return
	}
	o := &outcome{State: jobpb.JobState_DONE, Description: j.last.description}
	switch {
	case errors.Is(j.outcome, errReplaced):
		o.State = jobpb.JobState_UPDATED
	case j.canceled:
		o.State = jobpb.JobState_CANCELLED
	case j.outcome != nil:
		o.State, o.Message, o.kept = jobpb.JobState_FAILED, j.outcome.Error(), keptStore(j.outcome)
	case j.draining:
		o.State = jobpb.JobState_DRAINED
	}
	o.settle(j.last.metrics, j.home)
}

// settle makes the outcome of a job durable and reports it.
func (o *outcome) settle(m *jobpb.MetricResults, h home) {
	o.keep(m, h)
	o.report(h.reporter)
}

// keep makes the outcome durable and removes the job's store, which serves recovery only. On a full disk the slip has the outcome; then
// the store goes first, since that is what may have filled the disk.
func (o *outcome) keep(m *jobpb.MetricResults, h home) {
	var err error
	if o.Metrics, err = protojson.Marshal(m); err != nil {
		h.warn(err, "keeping the job's metrics")
		o.Metrics = []byte("{}")
	}
	if err = o.save(h.dir); err != nil {
		h.warn(err, "keeping the job's outcome")
		if err = h.slip.end(o.State); err != nil {
			h.warn(err, "keeping the job's outcome on its slip")
		}
	}
	if err == nil && !o.kept {
		h.warn(store.Remove(h.fs, h.storeDir()), "removing the job's store")
		h.warn(o.save(h.dir), "keeping the job's outcome")
	}
}

// save makes the outcome durable, unless it is already.
func (o *outcome) save(dir string) error {
	if o.saved {
		return nil
	}
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("outcome: %w", err)
	}
	if err := durable.MkdirAll(dir); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, outcomeFile), data); err != nil {
		return err
	}
	o.saved = true
	return nil
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
