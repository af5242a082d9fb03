package fnapi

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"padstone/internal/fault"
)

// A harness that was stopped (SIGSTOP), or whose machine is gone, keeps its connections: the kernel goes on to acknowledge what it is
// sent. So the server pings, which the harness's gRPC library answers whatever user code does, and a session from whose connection
// nothing comes for too long ends: its bundles run again, and the harness is shut out. What it sends when it wakes up comes on streams
// that have ended.

// ErrHung is the cause of the loss of a harness that was connected and did not answer any more; ErrWorkerLost is another.
var ErrHung = errors.New("the SDK harness does not answer, it hangs or was stopped")

// ticksMax is how many times within Config.SilenceMax a connection is looked at. Silence is counted in these looks and not in time: a
// server that was stopped itself must not take its own silence for that of its harnesses.
const ticksMax = 8

// SilenceMin is the least Config.SilenceMax: four of the shortest intervals at which gRPC pings.
const SilenceMin = 4 * time.Second

// heard is a connection with what has been heard on it.
type heard struct {
	net.Conn
	reads atomic.Uint64
}

// Read implements net.Conn.
func (c *heard) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.reads.Add(1)
	}
	return n, err
}

// RemoteAddr implements net.Conn. It leads from the connection's calls to the connection.
func (c *heard) RemoteAddr() net.Addr { return heardAddr{c.Conn.RemoteAddr(), c} }

type heardAddr struct {
	net.Addr
	conn *heard
}

// hearing is a listener of connections that are listened to.
type hearing struct{ net.Listener }

// Accept implements net.Listener.
func (l hearing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &heard{Conn: c}, nil
}

// watch ends the session when its connection has been silent for too long. It returns when the session has ended.
func (s *session) watch(c *connection, silenceMax time.Duration) {
	if c == nil || c.heard == nil {
		return
	}
	ticker := time.NewTicker(silenceMax / ticksMax)
	defer ticker.Stop()
	last, silent := c.heard.reads.Load(), 0
	for {
		select {
		case <-s.done:
			return
		case <-ticker.C:
		}
		reads := c.heard.reads.Load()
		if reads != last {
			last, silent = reads, 0
			continue
		}
		if silent++; silent < ticksMax {
			continue
		}
		s.log.Warn("harness does not answer", zap.Duration("for", silenceMax))
		s.worker.hung.Store(true)
		s.end(hung(s.worker.spec.ID, silenceMax))
		return
	}
}

// Hung says whether the last harness was given up because it did not answer.
func (w *Worker) Hung() bool { return w.hung.Load() }

// hung says that the worker's harness did not answer for a while.
func hung(id WorkerID, silence time.Duration) error {
	return fault.New(fault.Environment, codeWorkerLost, "worker %s: nothing was heard of it for %v: %w",
		id, silence, fmt.Errorf("%w: %w", ErrHung, ErrWorkerLost)).
		WithHint("its process is killed and started again; a process that is alive answers whatever user code does")
}
