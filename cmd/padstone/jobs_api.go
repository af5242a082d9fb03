package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/jobserver"
)

// jobRecord is a job as the HTTP API describes it; see docs/http-api.md.
type jobRecord struct {
	ID          string                 `json:"id"`
	Name        string                 `json:"name"`
	State       string                 `json:"state"`
	CreatedAt   time.Time              `json:"created_at"`
	StateSince  time.Time              `json:"state_since"`
	Error       string                 `json:"error,omitempty"`
	Description *jobserver.Description `json:"description,omitempty"`

	raw json.RawMessage // as the server sent it
}

// terminal tells whether the job has ended.
func (j *jobRecord) terminal() bool {
	return jobserver.IsTerminal(jobpb.JobState_Enum(jobpb.JobState_Enum_value[j.State]))
}

// jobMessage is one message of a job.
type jobMessage struct {
	Time       time.Time `json:"time"`
	Importance string    `json:"importance"`
	Text       string    `json:"text"`
}

// jobs lists the jobs, without descriptions.
func (c *client) jobs(ctx context.Context) ([]jobRecord, error) {
	var reply struct {
		Jobs []jobRecord `json:"jobs"`
	}
	err := c.get(ctx, "/api/v1/jobs", &reply)
	return reply.Jobs, err
}

// job returns one job with its description.
func (c *client) job(ctx context.Context, id string) (*jobRecord, error) {
	var raw json.RawMessage
	if err := c.get(ctx, jobPath(id), &raw); err != nil {
		return nil, err
	}
	job := &jobRecord{raw: raw}
	if err := json.Unmarshal(raw, job); err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	return job, nil
}

// messages returns the messages of a job, oldest first.
func (c *client) messages(ctx context.Context, id string) ([]jobMessage, error) {
	var reply struct {
		Messages []jobMessage `json:"messages"`
	}
	err := c.get(ctx, jobPath(id, "messages"), &reply)
	return reply.Messages, err
}

// request asks for a job to be cancelled or drained.
func (c *client) request(ctx context.Context, id, verb string) error {
	return c.call(ctx, http.MethodPost, jobPath(id, verb), nil)
}
