package dockertest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// of leads a request to its container, by id or name.
func (e *Engine) of(handle func(http.ResponseWriter, *http.Request, *Container)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		e.mu.Lock()
		c := e.containers[id]
		for _, other := range e.containers {
			if other.Name == id {
				c = other
			}
		}
		e.mu.Unlock()
		if c == nil {
			refuse(w, http.StatusNotFound, "No such container: "+id)
			return
		}
		handle(w, r, c)
	}
}

func (e *Engine) create(name string, request container.CreateRequest) *Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.serial++
	c := &Container{ID: fmt.Sprintf("%064x", e.serial), Name: name, Create: request, engine: e, done: make(chan struct{}), log: newLog()}
	c.Args = request.Config.Cmd
	c.Stdout, c.Stderr = &Output{c.log, 1}, &Output{c.log, 2}
	e.containers[c.ID] = c
	return c
}

func (e *Engine) createContainer(w http.ResponseWriter, r *http.Request) {
	var request container.CreateRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	name := r.URL.Query().Get("name")
	e.mu.Lock()
	_, known := e.images[request.Image]
	taken := false
	for _, c := range e.containers {
		taken = taken || c.Name == name
	}
	e.mu.Unlock()
	switch {
	case !known:
		refuse(w, http.StatusNotFound, "No such image: "+request.Image)
	case taken:
		refuse(w, http.StatusConflict, "Conflict. The container name "+name+" is already in use")
	default:
		answer(w, http.StatusCreated, container.CreateResponse{ID: e.create(name, request).ID})
	}
}

func (e *Engine) start(w http.ResponseWriter, _ *http.Request, c *Container) {
	ctx, cancel := context.WithCancel(e.life)
	e.mu.Lock()
	c.started, c.running, c.cancel = true, true, cancel
	e.mu.Unlock()
	e.serving.Go(func() { c.end(e.Program(ctx, c)) })
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) wait(w http.ResponseWriter, r *http.Request, c *Container) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	select {
	case <-c.done:
		_ = json.NewEncoder(w).Encode(container.WaitResponse{StatusCode: int64(c.code)}) // the client may have left
	case <-r.Context().Done():
	}
}

func (e *Engine) inspect(w http.ResponseWriter, _ *http.Request, c *Container) {
	e.mu.Lock()
	state := &container.State{Running: c.running, OOMKilled: c.oom && !c.running, ExitCode: c.code, Status: "created"}
	e.mu.Unlock()
	answer(w, http.StatusOK, container.InspectResponse{ID: c.ID, Name: "/" + c.Name, State: state, Config: c.Create.Config})
}

func (e *Engine) list(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	if text := r.URL.Query().Get("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	found := []container.Summary{}
	e.mu.Lock()
	for _, c := range e.containers {
		labels := c.Create.Labels
		fits := true
		for want := range filters["label"] {
			key, value, _ := strings.Cut(want, "=")
			fits = fits && labels[key] == value
		}
		if fits {
			found = append(found, container.Summary{ID: c.ID, Names: []string{"/" + c.Name}, Labels: labels})
		}
	}
	e.mu.Unlock()
	slices.SortFunc(found, func(a, b container.Summary) int { return strings.Compare(a.ID, b.ID) })
	answer(w, http.StatusOK, found)
}

// events answers with what has happened to a container.
func (e *Engine) events(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range filters["container"] {
		if c := e.containers[id]; c != nil && filters["event"]["oom"] {
			for range c.starved {
				_ = json.NewEncoder(w).Encode(map[string]any{"Type": "container", "Action": "oom", "Actor": map[string]any{"ID": id}})
			}
		}
	}
}

func (e *Engine) stats(w http.ResponseWriter, _ *http.Request, _ *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer(w, http.StatusOK, e.usage)
}

// stop asks the container to end and waits for it, as long as the client does.
func (e *Engine) stop(w http.ResponseWriter, r *http.Request, c *Container) {
	e.mu.Lock()
	cancel := c.cancel
	e.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	select {
	case <-c.done:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

func (e *Engine) remove(w http.ResponseWriter, r *http.Request, c *Container) {
	e.mu.Lock()
	running := c.running
	e.mu.Unlock()
	if running && r.URL.Query().Get("force") != "1" {
		refuse(w, http.StatusConflict, "You cannot remove a running container")
		return
	}
	c.end(137)
	e.mu.Lock()
	delete(e.containers, c.ID)
	e.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}
