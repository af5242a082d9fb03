package httpapi

import (
	"net/http"

	"padstone/jobserver"
)

// threadList is what harness processes of a job are doing.
type threadList struct {
	Workers []jobserver.WorkerThreads `json:"workers"`
}

// threadsPageData is the data of templates/threads.html.
type threadsPageData struct {
	threadList
	ID, Name, Version string
}

// getThreads asks the harnesses of a job, or the one that ?worker= names. One that does not answer says so within seconds.
func (h *handler) getThreads(w http.ResponseWriter, r *http.Request) {
	list, err := h.threads(r)
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, list)
}

func (h *handler) threadsPage(w http.ResponseWriter, r *http.Request) {
	info, err := h.cfg.Server.Job(r.PathValue("id"))
	if err != nil {
		h.fail(w, err)
		return
	}
	list, err := h.threads(r)
	if err != nil {
		h.fail(w, err)
		return
	}
	h.render(w, "threads.html", threadsPageData{threadList: list, ID: info.ID, Name: info.Name, Version: h.cfg.Version})
}

func (h *handler) threads(r *http.Request) (list threadList, err error) {
	list.Workers, err = h.cfg.Server.Threads(r.Context(), r.PathValue("id"), r.URL.Query().Get("worker"))
	if list.Workers == nil {
		list.Workers = []jobserver.WorkerThreads{}
	}
	return list, err
}
