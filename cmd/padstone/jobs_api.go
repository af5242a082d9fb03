package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"padstone/jobserver"
)

// jobRecord is a job as the HTTP API describes it; see docs/http-api.md.
type jobRecord struct {
	ID               string                 `json:"id"`
	Name             string                 `json:"name"`
	State            string                 `json:"state"`
	Terminal         bool                   `json:"terminal"`
	CreatedAt        time.Time              `json:"created_at"`
	History          []stateChange          `json:"history"` // oldest first, ends with State
	LastError        string                 `json:"last_error"`
	Description      *jobserver.Description `json:"description"`
	DescriptionError string                 `json:"description_error"`

	raw json.RawMessage // as the server sent it
}

// stateChange is one entry of a job's history.
type stateChange struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// since returns when the job took its present state.
func (j *jobRecord) since() time.Time {
	if n := len(j.History); n > 0 {
		return j.History[n-1].At
	}
	return j.CreatedAt
}

// jobMessage is one message of a job.
type jobMessage struct {
	Time       string `json:"time"`
	Importance string `json:"importance"` // error, warning, info or debug
	Text       string `json:"text"`
}

// jobs lists the jobs, newest first, without descriptions.
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

// transforms returns the transforms of a job's pipeline, and what the pipeline displays.
func (c *client) transforms(ctx context.Context, id string) (transformsReply, error) {
	var reply transformsReply
	err := c.get(ctx, jobPath(id, "transforms"), &reply)
	return reply, err
}

// transformsReply is the answer about a job's transforms.
type transformsReply struct {
	Transforms  []jobserver.TransformInfo `json:"transforms"`
	DisplayData []jobserver.DisplayItem   `json:"display_data"`
}

// request asks for a job to be cancelled or drained.
func (c *client) request(ctx context.Context, id, verb string) error {
	return c.call(ctx, http.MethodPost, jobPath(id, verb), nil, nil)
}

// settingsReply is the answer about a job's settings.
type settingsReply struct {
	Settings []jobserver.SettingDescription `json:"settings"`

	raw json.RawMessage
}

// set changes settings of a job.
func (c *client) set(ctx context.Context, id string, values map[string]string) (*settingsReply, error) {
	reply := &settingsReply{}
	if err := c.call(ctx, http.MethodPost, jobPath(id, "settings"), values, &reply.raw); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(reply.raw, reply); err != nil {
		return nil, fmt.Errorf("settings of job %s: %w", id, err)
	}
	return reply, nil
}
