package dockertest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
)

// Program is what a container runs; it returns its exit status. ctx ends when the container is stopped or killed.
type Program func(ctx context.Context, c *Container) int

// Exec answers a program that is run in a running container.
type Exec func(ctx context.Context, args []string) (output string, status int)

// Engine is a scripted Docker Engine.
type Engine struct {
	Host string // for DOCKER_HOST
	// Program runs in all containers.
	Program Program
	// Pull answers the pull of an image with messages of its progress, and an error's text or "". After done it must return.
	Pull PullProgram
	// Registry answers a question about an image at its registry with the text of an error and its HTTP status.
	Registry func(image string) (text string, status int)
	// Before is called with each request; true says that it has answered.
	Before func(w http.ResponseWriter, r *http.Request) bool

	socket  string
	serving sync.WaitGroup
	life    context.Context

	mu         sync.Mutex
	server     *http.Server
	images     map[string][]string // their entry points
	networks   map[string][2]string
	containers map[string]*Container
	execs      map[string]*execution
	requests   []string
	exec       Exec
	first      string // what programs that are run say before
	serial     int
	usage      map[string]any
	components []string
	hangs      <-chan struct{}
}

// PullProgram is what the pull of an image does.
type PullProgram func(image string, progress func(jsonstream.Message), done <-chan struct{}) string

// Container is a container of the scripted Engine.
type Container struct {
	ID, Name string
	Create   container.CreateRequest
	Args     []string
	Stdout   *Output
	Stderr   *Output

	engine           *Engine
	cancel           context.CancelFunc
	done             chan struct{} // closed at its end
	log              *log
	started, running bool
	oom              bool
	starved          int
	code             int
}

// Start starts the Engine, which ends with the test.
func Start(t *testing.T, program Program) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "dockertest") // a test's own directory may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{
		Program: program, socket: filepath.Join(dir, "docker.sock"),
		images:   map[string][]string{"beam": {"/opt/apache/beam/boot"}},
		networks: map[string][2]string{"bridge": {"127.0.0.0/8", "127.0.0.1"}},
	}
	e.Host = "unix://" + e.socket
	e.containers, e.execs = make(map[string]*Container), make(map[string]*execution)
	life, cancel := context.WithCancel(context.Background())
	e.life = life
	e.Return(t)
	t.Cleanup(func() {
		cancel()
		e.Leave()
		e.serving.Wait()
		os.RemoveAll(dir)
	})
	return e
}

// Leave makes the Engine go away: it listens no more and its connections end. Containers run on.
func (e *Engine) Leave() {
	e.mu.Lock()
	server := e.server
	e.server = nil
	e.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// Return makes the Engine listen again.
func (e *Engine) Return(t *testing.T) {
	t.Helper()
	_ = os.Remove(e.socket)
	lis, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	e.mu.Lock()
	e.server = server
	e.mu.Unlock()
	e.serving.Go(func() { _ = server.Serve(lis) })
}

// AddImage makes an image known, with its entry point.
func (e *Engine) AddImage(name string, entrypoint ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[name] = entrypoint
}

// OnExec says what answers programs that are run in running containers; nil: there is no program in the image.
func (e *Engine) OnExec(run Exec) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exec = run
}

// SayFirst has programs that are run in running containers begin with a text.
func (e *Engine) SayFirst(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first = text
}

// SetStats says what all containers use, as the API words it.
func (e *Engine) SetStats(stats map[string]any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.usage = stats
}

// SetComponents says what the Engine names as its parts.
func (e *Engine) SetComponents(names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.components = names
}

// Hang lets all requests that come wait until wakes is closed.
func (e *Engine) Hang(wakes <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hangs = wakes
}

// AddNetwork makes a network known. An empty gateway is one that the Engine does not name.
func (e *Engine) AddNetwork(name, subnet, gateway string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.networks[name] = [2]string{subnet, gateway}
}

// AddContainer makes a container known that somebody else has created.
func (e *Engine) AddContainer(name string, labels map[string]string) *Container {
	return e.create(name, container.CreateRequest{Config: &container.Config{Labels: labels}})
}

// Containers returns those that are there, by name.
func (e *Engine) Containers() map[string]*Container {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := make(map[string]*Container)
	for _, c := range e.containers {
		found[c.Name] = c
	}
	return found
}

// Requests returns what was asked, as "METHOD path".
func (e *Engine) Requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.requests...)
}

// Over is closed when the test ends.
func (c *Container) Over() <-chan struct{} { return c.engine.life.Done() }

// Kill ends a container by a signal that it cannot catch, for memory or otherwise.
func (c *Container) Kill(oom bool) {
	c.engine.mu.Lock()
	c.oom = c.oom || oom
	c.engine.mu.Unlock()
	c.end(137)
}

// Starve is what the Engine notes when the kernel has killed a process of the container for memory, which runs on: an event, and at the
// container's end its state.
func (c *Container) Starve() {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	c.oom = true
	c.starved++
}

// end ends the container with a status; the first one counts.
func (c *Container) end(code int) {
	c.engine.mu.Lock()
	running := c.running
	c.running = false
	if running {
		c.code = code
	}
	c.engine.mu.Unlock()
	if running {
		c.cancel()
		c.log.close()
		close(c.done)
	}
}

// ServeHTTP implements http.Handler.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		_, path, _ = strings.Cut(path[1:], "/")
		path = "/" + path
	}
	e.mu.Lock()
	e.requests = append(e.requests, r.Method+" "+path)
	hangs := e.hangs
	e.mu.Unlock()
	if hangs != nil {
		select {
		case <-hangs:
		case <-r.Context().Done():
			return
		}
	}
	if e.Before != nil && e.Before(w, r) {
		return
	}
	r.URL.Path, r.URL.RawPath = path, ""
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request){
		"/_ping":                      e.ping,
		"GET /version":                e.version,
		"POST /images/create":         e.pull,
		"GET /images/{name...}":       e.inspectImage,
		"GET /distribution/{name...}": e.inspectRegistry,
		"GET /networks/{name}":        e.inspectNetwork,
		"GET /containers/{id}/stats":  e.of(e.stats),
		"GET /events":                 e.events,
		"GET /containers/json":        e.list,
		"POST /containers/create":     e.createContainer,
		"POST /containers/{id}/start": e.of(e.start),
		"POST /containers/{id}/wait":  e.of(e.wait),
		"GET /containers/{id}/logs":   e.of(e.logs),
		"GET /containers/{id}/json":   e.of(e.inspect),
		"POST /containers/{id}/stop":  e.of(e.stop),
		"DELETE /containers/{id}":     e.of(e.remove),
		"POST /containers/{id}/exec":  e.of(e.createExec),
		"POST /exec/{id}/start":       e.startExec,
		"GET /exec/{id}/json":         e.inspectExec,
	} {
		mux.HandleFunc(pattern, handle)
	}
	mux.ServeHTTP(w, r)
}

func (e *Engine) ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Api-Version", "1.41")
}

func (e *Engine) version(w http.ResponseWriter, _ *http.Request) {
	components := []map[string]string{}
	e.mu.Lock()
	for _, name := range e.components {
		components = append(components, map[string]string{"Name": name})
	}
	e.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"Components": components})
}

func (e *Engine) inspectNetwork(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	n, ok := e.networks[r.PathValue("name")]
	e.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "network "+r.PathValue("name")+" not found")
		return
	}
	config := map[string]any{"Subnet": netip.MustParsePrefix(n[0])}
	if n[1] != "" {
		config["Gateway"] = n[1]
	}
	answer(w, http.StatusOK, map[string]any{"Name": r.PathValue("name"), "IPAM": map[string]any{"Config": []any{config}}})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have left
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"message": text})
}
