package httpapi

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"padstone/internal/fault"
	"padstone/jobserver"
)

//go:embed static templates
var content embed.FS

// Config configures the handler.
type Config struct {
	Server  *jobserver.Server // required
	Log     *zap.Logger       // required
	Version string            // of the binary
	// AnyHost answers requests under every host name. Set it when HTTP is served on an address that is not loopback, by the
	// operator's wish; otherwise only localhost and loopback addresses are answered.
	AnyHost bool
	// Collectors are shown at /metrics beside the job server's own.
	Collectors []prometheus.Collector
	// AnswerFor bounds the wait for one job's picture; default 3 s.
	AnswerFor time.Duration
}

// handler serves all routes.
type handler struct {
	cfg   Config
	pages *template.Template
	mux   *http.ServeMux
}

// New returns the handler. It fails on a collector that is registered twice.
func New(cfg Config) (http.Handler, error) {
	if cfg.Server == nil || cfg.Log == nil {
		return nil, errors.New("http api: no job server or no logger")
	}
	if cfg.AnswerFor <= 0 {
		cfg.AnswerFor = 3 * time.Second
	}
	cfg.Log = cfg.Log.Named("http")
	pages, err := template.New("").Funcs(pageFuncs()).ParseFS(content, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("http api: %w", err)
	}
	registry := prometheus.NewRegistry()
	own := []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(cfg),
	}
	for _, c := range append(own, cfg.Collectors...) {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("http api: %w", err)
		}
	}
	h := &handler{cfg: cfg, pages: pages, mux: http.NewServeMux()}
	h.routes(promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	return h, nil
}

func (h *handler) routes(metrics http.Handler) {
	h.mux.HandleFunc("GET /api/v1/jobs", h.listJobs)
	h.mux.HandleFunc("GET /api/v1/jobs/{id}", h.getJob)
	h.mux.HandleFunc("GET /api/v1/jobs/{id}/messages", h.getMessages)
	h.mux.HandleFunc("GET /api/v1/jobs/{id}/transforms", h.getTransforms)
	h.mux.HandleFunc("GET /api/v1/jobs/{id}/threads", h.getThreads)
	h.mux.HandleFunc("POST /api/v1/preview", h.preview)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/cancel", h.cancelJob)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/drain", h.drainJob)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/settings", h.setJob)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/checkpoint", h.checkpointJob)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/savepoint", h.savepointJob)
	h.mux.HandleFunc("POST /api/v1/jobs/{id}/stop", h.stopJob)
	h.mux.HandleFunc("POST /api/v1/restore", h.restore)
	h.mux.HandleFunc("GET /api/v1/version", func(w http.ResponseWriter, _ *http.Request) {
		h.writeJSON(w, http.StatusOK, version{Version: h.cfg.Version, Go: runtime.Version()})
	})
	h.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { h.write(w, []byte("ok\n")) })
	h.mux.HandleFunc("GET /readyz", h.ready)
	h.mux.Handle("GET /metrics", metrics)
	h.mux.Handle("GET /static/", http.FileServerFS(content))
	h.mux.HandleFunc("GET /{$}", h.jobsPage)
	h.mux.HandleFunc("GET /jobs/{id}", h.jobPage)
	h.mux.HandleFunc("GET /jobs/{id}/threads", h.threadsPage)
}

// ServeHTTP checks where a request comes from, then routes it.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	if !h.cfg.AnyHost && !isLoopback(r.Host) {
		h.fail(w, fault.New(fault.Pipeline, "host-not-allowed", "this server does not answer as %.100q", r.Host).
			WithHint("use localhost, or serve HTTP on an address that is not loopback"))
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !sentOnPurpose(r) {
		h.fail(w, fault.New(fault.Pipeline, "cross-origin-refused",
			"a %s needs the header Content-Type: application/json or X-Padstone", r.Method).
			WithHint("add -H 'X-Padstone: 1'"))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// isLoopback tells whether a Host header names this machine to itself.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// sentOnPurpose tells whether a request carries what a browser lets a page of another origin send only after asking the server, which
// never agrees: this header, or a body declared as JSON. A form or an image cannot do either.
func sentOnPurpose(r *http.Request) bool {
	if r.Header.Get("X-Padstone") != "" {
		return true
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/json"
}

func (h *handler) write(w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		h.cfg.Log.Debug("a client left before its answer", zap.Error(err))
	}
}
