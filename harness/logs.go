package harness

import (
	"bytes"
	"strings"
	"sync"
	"time"

	"padstone/fnapi"
)

// ring keeps the last lines that the harnesses of a pool have logged.
type ring struct {
	mu    sync.Mutex
	lines []string
	next  int // where the oldest line is, once the ring is full
}

func newRing(n int) *ring { return &ring{lines: make([]string, 0, n)} }

func (r *ring) add(line string) {
	const lineMax = 2000
	if len(line) > lineMax {
		line = line[:lineMax] + "…"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < cap(r.lines) {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % len(r.lines)
}

// last returns the lines, oldest first.
func (r *ring) last() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(r.lines))
	out = append(out, r.lines[r.next:]...)
	return append(out, r.lines[:r.next]...)
}

// addEntry keeps a log entry, with its stack trace.
func (r *ring) addEntry(e fnapi.LogEntry) {
	for _, text := range []string{e.Message, e.Trace} {
		if text = strings.TrimRight(text, " \t\r\n"); text != "" {
			r.add(text)
		}
	}
}

// lineWriter turns what a process prints into log entries, one a line.
type lineWriter struct {
	worker   fnapi.WorkerID
	severity func() fnapi.Severity
	log      func(fnapi.LogEntry)

	mu      sync.Mutex
	partial []byte
}

// Write implements io.Writer; it never fails, because a process must not block or die for its logs.
func (w *lineWriter) Write(p []byte) (int, error) {
	const lineMax = 64 << 10 // a longer line is cut in pieces
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, p...)
	for {
		i := bytes.IndexByte(w.partial, '\n')
		if i < 0 && len(w.partial) < lineMax {
			return len(p), nil
		}
		if i < 0 {
			i = lineMax
			w.emit(w.partial[:i])
			w.partial = w.partial[i:]
			continue
		}
		w.emit(w.partial[:i])
		w.partial = w.partial[i+1:]
	}
}

// flush emits what has no line end yet.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emit(w.partial)
	w.partial = nil
}

func (w *lineWriter) emit(line []byte) {
	text := strings.TrimRight(string(line), " \t\r")
	if text == "" {
		return
	}
	w.log(fnapi.LogEntry{Worker: w.worker, Severity: w.severity(), Time: time.Now(), Message: text})
}
