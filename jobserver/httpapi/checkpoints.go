package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"padstone/internal/fault"
	"padstone/jobserver"
)

// requestBytesMax bounds the body of a request.
const requestBytesMax = 1 << 20

// The bodies of requests and answers about checkpoints; docs/http-api.md describes them.
type (
	checkpointAsked struct {
		To string `json:"to"`
	}
	stopAnswer struct {
		State     string                `json:"state"`
		Savepoint *jobserver.Checkpoint `json:"savepoint"`
	}
	restoreAsked struct {
		From              string `json:"from"`
		Job               string `json:"job"`
		ID                string `json:"id"`
		AllowRewind       bool   `json:"allow_rewind"`
		EnvironmentType   string `json:"environment_type"`
		EnvironmentConfig string `json:"environment_config"`
	}
	restoreAnswer struct {
		Job        jobView              `json:"job"`
		Checkpoint jobserver.Checkpoint `json:"checkpoint"`
		GivenUp    []string             `json:"given_up,omitempty"`
	}
)

// read decodes the body of a request; none is as good as {}.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	in := json.NewDecoder(http.MaxBytesReader(w, r.Body, requestBytesMax))
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fault.New(fault.Pipeline, "invalid-request", "the body of the request: %w", err)
	}
	return nil
}

func (h *handler) checkpointJob(w http.ResponseWriter, r *http.Request) {
	h.takeCheckpoint(w, r, false)
}

func (h *handler) savepointJob(w http.ResponseWriter, r *http.Request) { h.takeCheckpoint(w, r, true) }

// takeCheckpoint answers when the checkpoint can be restored.
func (h *handler) takeCheckpoint(w http.ResponseWriter, r *http.Request, savepoint bool) {
	var asked checkpointAsked
	err := read(w, r, &asked)
	var taken *jobserver.Checkpoint
	if err == nil {
		request := jobserver.CheckpointRequest{To: asked.To, Savepoint: savepoint}
		taken, err = h.cfg.Server.Checkpoint(r.Context(), r.PathValue("id"), request)
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, taken)
}

// stopJob answers when the job is over.
func (h *handler) stopJob(w http.ResponseWriter, r *http.Request) {
	var asked checkpointAsked
	err := read(w, r, &asked)
	var answer stopAnswer
	if err == nil {
		answer.Savepoint, err = h.cfg.Server.Stop(r.Context(), r.PathValue("id"), asked.To)
	}
	var info jobserver.JobInfo
	if err == nil {
		info, err = h.cfg.Server.Job(r.PathValue("id"))
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	answer.State = info.State.String()
	h.writeJSON(w, http.StatusOK, answer)
}

// restore answers when the job has been taken up.
func (h *handler) restore(w http.ResponseWriter, r *http.Request) {
	var asked restoreAsked
	err := read(w, r, &asked)
	if err == nil && asked.From == "" {
		err = fault.New(fault.Pipeline, "invalid-request", "the request does not say from where")
	}
	var restored *jobserver.Restored
	if err == nil {
		restored, err = h.cfg.Server.Restore(r.Context(), jobserver.RestoreRequest(asked))
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, restoreAnswer{
		Job: viewOf(restored.Job), Checkpoint: restored.Checkpoint, GivenUp: restored.GivenUp,
	})
}
