package dockertest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// parseTime reads a time as the API's clients send it: seconds and nanoseconds since 1970.
func parseTime(text string) time.Time {
	seconds, nanos, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}
	}
	n, err := strconv.ParseInt(nanos, 10, 64)
	if err != nil {
		n = 0
	}
	return time.Unix(s, n)
}

func (e *Engine) inspectImage(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSuffix(r.PathValue("name"), "/json")
	if strings.Contains(name, " ") {
		refuse(w, http.StatusBadRequest, "invalid reference format")
		return
	}
	e.mu.Lock()
	entrypoint, ok := e.images[name]
	e.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "No such image: "+name)
		return
	}
	answer(w, http.StatusOK, map[string]any{"Id": "sha256:" + name, "Config": map[string]any{"Entrypoint": entrypoint}})
}

func (e *Engine) inspectRegistry(w http.ResponseWriter, r *http.Request) {
	if e.Registry == nil {
		refuse(w, http.StatusNotFound, "page not found")
		return
	}
	text, status := e.Registry(strings.TrimSuffix(r.PathValue("name"), "/json"))
	if status >= http.StatusBadRequest {
		refuse(w, status, text)
		return
	}
	answer(w, http.StatusOK, map[string]any{"Descriptor": map[string]any{"digest": text}})
}

// pull answers with a stream of progress; an image that was pulled is there.
func (e *Engine) pull(w http.ResponseWriter, r *http.Request) {
	image := strings.TrimPrefix(r.URL.Query().Get("fromImage"), "docker.io/library/")
	if tag := r.URL.Query().Get("tag"); tag != "latest" {
		image += ":" + tag
	}
	if e.Pull == nil {
		refuse(w, http.StatusNotFound, "pull access denied for "+image+", repository does not exist or may require 'docker login'")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	text := e.Pull(image, func(m jsonstream.Message) {
		_ = json.NewEncoder(w).Encode(m) // the client may have left
		w.(http.Flusher).Flush()
	}, r.Context().Done())
	if text != "" {
		_ = json.NewEncoder(w).Encode(map[string]any{"error": text, "errorDetail": map[string]string{"message": text}})
		return
	}
	e.AddImage(image, "/opt/apache/beam/boot")
}
