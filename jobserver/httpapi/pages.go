package httpapi

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"padstone/jobserver"
)

// messagesShown is how many of a job's latest messages its page shows; the API has them all.
const messagesShown = 200

// jobPageData is the data of templates/job.html.
type jobPageData struct {
	jobDetail
	transformList
	Messages []messageView
	Hidden   int // older messages that are not shown
	Version  string
}

// jobsPageData is the data of templates/jobs.html.
type jobsPageData struct {
	jobList
	Version string
}

func (h *handler) jobsPage(w http.ResponseWriter, _ *http.Request) {
	h.render(w, "jobs.html", jobsPageData{jobList: h.jobs(), Version: h.cfg.Version})
}

func (h *handler) jobPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	detail, err := h.detail(r.Context(), id)
	if err != nil {
		h.fail(w, err)
		return
	}
	list, err := h.messages(id, 0)
	if err != nil {
		h.fail(w, err)
		return
	}
	var transforms transformList
	if transforms.Transforms, transforms.DisplayData, err = h.cfg.Server.Transforms(id); err != nil {
		h.fail(w, err)
		return
	}
	hidden := max(0, len(list.Messages)-messagesShown)
	h.render(w, "job.html", jobPageData{
		jobDetail: detail, transformList: transforms, Messages: list.Messages[hidden:], Hidden: hidden, Version: h.cfg.Version,
	})
}

// render builds the page before it sends any of it: half a page would look like a whole one.
func (h *handler) render(w http.ResponseWriter, page string, data any) {
	var body bytes.Buffer
	if err := h.pages.ExecuteTemplate(&body, page, data); err != nil {
		h.cfg.Log.Error("a page does not render", zap.String("page", page), zap.Error(err))
		http.Error(w, "the page does not render", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	h.write(w, body.Bytes())
}

func pageFuncs() template.FuncMap {
	return template.FuncMap{
		"profiled": func(stages []jobserver.StageDescription) bool {
			return slices.ContainsFunc(stages, func(s jobserver.StageDescription) bool { return s.Profile != nil && s.Profile.Bundles > 0 })
		},
		"shares": func(p *jobserver.ProfileDescription) (texts []string) {
			_, shares := p.Shares()
			for _, share := range shares {
				texts = append(texts, fmt.Sprintf("%.0f\u00a0%%", 100*share))
			}
			return texts
		},
		"percent": func(share float64) string { return fmt.Sprintf("%.0f\u00a0%%", 100*share) },
		"mean": func(w jobserver.Waits) string {
			if w.Count == 0 {
				return ""
			}
			return fmt.Sprintf("%.1f", 1000*w.Seconds/float64(w.Count))
		},
		"time": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		// No-break spaces, which HTML keeps.
		"indent": func(depth int) string { return strings.Repeat("\u00a0\u00a0", depth) },
		"took": func(from time.Time, to *time.Time) string {
			if to == nil {
				return time.Since(from).Round(time.Second).String()
			}
			return to.Sub(from).Round(time.Millisecond).String()
		},
	}
}
