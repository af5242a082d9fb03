package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/internal/fault"
	"padstone/jobserver"
)

// The bodies of answers; docs/http-api.md describes them.
type (
	jobList struct {
		Jobs []jobView `json:"jobs"` // newest first
	}
	jobView struct {
		ID        string      `json:"id"`
		Name      string      `json:"name"`
		State     string      `json:"state"`
		Terminal  bool        `json:"terminal"`
		CreatedAt time.Time   `json:"created_at"`
		EndedAt   *time.Time  `json:"ended_at,omitempty"`
		History   []stateView `json:"history"`
		LastError string      `json:"last_error,omitempty"`
	}
	stateView struct {
		State string    `json:"state"`
		At    time.Time `json:"at"`
	}
	jobDetail struct {
		jobView
		Description *jobserver.Description `json:"description,omitempty"`
		// DescriptionError says why there is no description.
		DescriptionError string `json:"description_error,omitempty"`
	}
	messageList struct {
		Messages []messageView `json:"messages"`
		Next     int64         `json:"next"` // pass as ?after= to get what comes after these
	}
	messageView struct {
		Seq        int64  `json:"seq"`
		Time       string `json:"time,omitempty"`
		Importance string `json:"importance"`
		Text       string `json:"text"`
	}
	transformList struct {
		Transforms  []jobserver.TransformInfo `json:"transforms"`             // composites before their parts
		DisplayData []jobserver.DisplayItem   `json:"display_data,omitempty"` // of the pipeline
	}
	stateAnswer struct {
		State string `json:"state"`
	}
	version struct {
		Version string `json:"version"`
		Go      string `json:"go"`
	}
	errorAnswer struct {
		Error errorView `json:"error"`
	}
	errorView struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Transform string `json:"transform,omitempty"`
		Hint      string `json:"hint,omitempty"`
	}
)

func viewOf(info jobserver.JobInfo) jobView {
	view := jobView{
		ID: info.ID, Name: info.Name, State: info.State.String(), Terminal: jobserver.IsTerminal(info.State),
		CreatedAt: info.CreatedAt, LastError: info.LastError,
	}
	for _, change := range info.History {
		view.History = append(view.History, stateView{State: change.State.String(), At: change.At})
		if view.Terminal {
			view.EndedAt = &change.At
		}
	}
	return view
}

func (h *handler) jobs() jobList {
	infos := h.cfg.Server.Jobs()
	list := jobList{Jobs: make([]jobView, len(infos))}
	for i, info := range infos {
		list.Jobs[len(infos)-1-i] = viewOf(info)
	}
	return list
}

func (h *handler) listJobs(w http.ResponseWriter, _ *http.Request) {
	h.writeJSON(w, http.StatusOK, h.jobs())
}

func (h *handler) getJob(w http.ResponseWriter, r *http.Request) {
	detail, err := h.detail(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, detail)
}

// detail is a job with its description, or with the reason why its executor gives none just now.
func (h *handler) detail(ctx context.Context, id string) (jobDetail, error) {
	info, err := h.cfg.Server.Job(id)
	if err != nil {
		return jobDetail{}, err
	}
	detail := jobDetail{jobView: viewOf(info)}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.AnswerFor)
	defer cancel()
	if detail.Description, err = h.cfg.Server.Describe(ctx, id); err != nil {
		detail.DescriptionError = err.Error()
	}
	return detail, nil
}

// ready says whether all jobs can go on: of each that stands still, why. It answers in time, as probes want it.
func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AnswerFor)
	defer cancel()
	var still []byte
	for _, info := range h.cfg.Server.Jobs() {
		if jobserver.IsTerminal(info.State) {
			continue
		}
		if d, err := h.cfg.Server.Describe(ctx, info.ID); err == nil && d != nil && d.Waiting != "" {
			still = fmt.Appendf(still, "job %s: %s\n", info.ID, d.Waiting)
		}
	}
	if still == nil {
		h.write(w, []byte("ok\n"))
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	h.write(w, still)
}

func (h *handler) getMessages(w http.ResponseWriter, r *http.Request) {
	after := int64(0)
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil || after < 0 {
			h.fail(w, fault.New(fault.Pipeline, "invalid-request", "after=%.40q is not a message number", text))
			return
		}
	}
	list, err := h.messages(r.PathValue("id"), after)
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, list)
}

func (h *handler) messages(id string, after int64) (messageList, error) {
	messages, err := h.cfg.Server.Messages(id, after)
	if err != nil {
		return messageList{}, err
	}
	list := messageList{Messages: make([]messageView, len(messages)), Next: after}
	for i, m := range messages {
		list.Messages[i] = messageView{Seq: m.Seq, Time: m.Time, Importance: importanceName(m.Importance), Text: m.Text}
		list.Next = m.Seq
	}
	return list, nil
}

func (h *handler) getTransforms(w http.ResponseWriter, r *http.Request) {
	var list transformList
	var err error
	if list.Transforms, list.DisplayData, err = h.cfg.Server.Transforms(r.PathValue("id")); err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, list)
}

func importanceName(importance jobpb.JobMessage_MessageImportance) string {
	switch importance {
	case jobpb.JobMessage_JOB_MESSAGE_ERROR:
		return "error"
	case jobpb.JobMessage_JOB_MESSAGE_WARNING:
		return "warning"
	case jobpb.JobMessage_JOB_MESSAGE_DEBUG, jobpb.JobMessage_JOB_MESSAGE_DETAILED:
		return "debug"
	default:
		return "info"
	}
}

func (h *handler) cancelJob(w http.ResponseWriter, r *http.Request) { h.ask(w, r, h.cfg.Server.Cancel) }

func (h *handler) drainJob(w http.ResponseWriter, r *http.Request) { h.ask(w, r, h.cfg.Server.Drain) }

func (h *handler) ask(
	w http.ResponseWriter, r *http.Request, request func(ctx context.Context, id string) (jobpb.JobState_Enum, error),
) {
	state, err := request(r.Context(), r.PathValue("id"))
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, stateAnswer{State: state.String()})
}

func (h *handler) writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		h.cfg.Log.Error("an answer does not encode", zap.Error(err))
		http.Error(w, "the answer does not encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	h.write(w, append(data, '\n'))
}

// fail answers with an error's code, message and hint.
func (h *handler) fail(w http.ResponseWriter, err error) {
	view := errorView{Code: "internal", Message: err.Error()}
	if f := fault.Of(err); f != nil {
		view = errorView{Code: string(f.Code), Message: f.Msg, Transform: f.Transform, Hint: f.Hint}
	}
	h.writeJSON(w, statusOf(err), errorAnswer{Error: view})
}

func statusOf(err error) int {
	f := fault.Of(err)
	if f == nil {
		return http.StatusInternalServerError
	}
	switch f.Code {
	case "job-not-found", "checkpoint-not-found", "worker-not-found":
		return http.StatusNotFound
	case "job-cancelling", "job-over", "job-exists", "outbox-behind", "setting-fixed":
		return http.StatusConflict
	case "host-not-allowed":
		return http.StatusMisdirectedRequest
	case "cross-origin-refused":
		return http.StatusForbidden
	}
	switch f.Kind {
	case fault.Pipeline:
		return http.StatusBadRequest
	case fault.Environment:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
