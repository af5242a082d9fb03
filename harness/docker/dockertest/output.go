package dockertest

import (
	"encoding/binary"
	"net/http"
	"sync"
	"time"
)

// log is what a container has printed.
type log struct {
	mu      sync.Mutex
	frames  []frame
	closed  bool
	changed chan struct{}
}

// frame is one write.
type frame struct {
	at     time.Time
	stream byte
	data   []byte
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) add(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frames = append(l.frames, f)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.changed)
	l.changed = make(chan struct{})
}

// Output is a stream of a container.
type Output struct {
	log    *log
	stream byte
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.log.add(frame{at: time.Now(), stream: o.stream, data: append([]byte(nil), p...)})
	return len(p), nil
}

// mux frames a write as the API does. Spec: moby api/pkg/stdcopy.
func (f frame) mux() []byte {
	head := make([]byte, 8, 8+len(f.data))
	head[0] = f.stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(f.data)))
	return append(head, f.data...)
}

// logs streams what the container has printed since a time, until it ends.
func (e *Engine) logs(w http.ResponseWriter, r *http.Request, c *Container) {
	since := time.Time{}
	if text := r.URL.Query().Get("since"); text != "" {
		since = parseTime(text)
	}
	w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for next := 0; ; {
		c.log.mu.Lock()
		frames, closed, changed := c.log.frames[next:], c.log.closed, c.log.changed
		c.log.mu.Unlock()
		for _, f := range frames {
			next++
			if f.at.Before(since) {
				continue
			}
			if _, err := w.Write(f.mux()); err != nil {
				return
			}
		}
		w.(http.Flusher).Flush()
		if closed {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
