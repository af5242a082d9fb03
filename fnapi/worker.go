package fnapi

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"
)

// WorkerSpec describes a harness before it connects.
type WorkerSpec struct {
	ID WorkerID // from NewWorkerID
	// Environment is the one of the pipeline proto. Its capabilities say what the harness understands, its dependencies what it must
	// fetch. May be nil.
	Environment *pipepb.Environment
	Endpoint    string           // what the harness dials to reach the server; "": Server.Endpoint
	Options     *structpb.Struct // pipeline options as submitted
	// ArtifactEndpoint is where the server fetches what the harness asks it for; "" when there are no artifacts.
	ArtifactEndpoint string
	RetrievalToken   string
	JobID, JobName   string
	// Log takes what the harness logs, in its order; it must not block for long. nil: to the server's logger at debug level.
	Log func(LogEntry)
}

// Worker is one expected worker id and the harness that is connected under it, if any. Safe for concurrent use.
type Worker struct {
	server *Server
	spec   WorkerSpec
	of     atomic.Pointer[WorkerSpec] // whose worker it is: spec, until a job has adopted it
	log    *zap.Logger
	// provisioned is set once a harness has asked for its provisioning.
	provisioned atomic.Bool
	logs        atomic.Bool // set once a harness has sent a log entry
	hung        atomic.Bool // the last harness did not answer any more

	mu struct {
		sync.Mutex
		session    *session // nil while no harness is connected
		generation int
		stopped    bool
		connection *connection   // of the last control stream; nil before the first
		changed    chan struct{} // closed and replaced when session or stopped changes
		status     *statusStream // nil while the harness offers none
	}
}

func newWorker(s *Server, spec WorkerSpec) *Worker {
	if spec.Endpoint == "" {
		spec.Endpoint = s.endpoint
	}
	w := &Worker{server: s, spec: spec, log: s.log.With(zap.String("worker", string(spec.ID)))}
	w.of.Store(&w.spec)
	w.mu.changed = make(chan struct{})
	return w
}

// Adopt makes a worker that was started for nobody that of a job. Its id and its endpoint stay what they are. A harness that has asked for
// its provisioning knows whose it is, and must not be adopted.
func (w *Worker) Adopt(spec WorkerSpec) {
	spec.ID, spec.Endpoint = w.spec.ID, w.spec.Endpoint
	w.of.Store(&spec)
}

// ID returns the worker's id.
func (w *Worker) ID() WorkerID { return w.spec.ID }

// Supports says whether the environment declares the capability.
func (w *Worker) Supports(capability string) bool {
	return slices.Contains(w.of.Load().Environment.GetCapabilities(), capability)
}

// Ready waits until a harness is connected; one whose loss Done has told of is not, not for a moment. Errors: ctx's cause, or
// ErrWorkerLost once the worker is stopped.
func (w *Worker) Ready(ctx context.Context) error {
	_, err := w.Connected(ctx)
	return err
}

// Connected waits as Ready does, and returns the generation of the harness.
func (w *Worker) Connected(ctx context.Context) (generation int, err error) {
	for {
		w.mu.Lock()
		sess, stopped, changed := w.mu.session, w.mu.stopped, w.mu.changed
		w.mu.Unlock()
		switch {
		case stopped:
			return 0, lost(w.spec.ID, "the worker is stopped")
		case sess != nil && !sess.over():
			return sess.number, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-changed:
		}
	}
}

// Generation counts the harnesses that have connected under the id: 0 before the first.
func (w *Worker) Generation() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.generation
}

// Done returns a channel that is closed when the harness that is connected now goes away; an already closed one when none is.
func (w *Worker) Done() <-chan struct{} {
	if sess, err := w.current(); err == nil {
		return sess.done
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// Lost returns a channel that is closed when the harness of a generation goes away; an already closed one when it has.
func (w *Worker) Lost(generation int) <-chan struct{} {
	if sess, err := w.current(); err == nil && sess.number == generation {
		return sess.done
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// Gone returns a channel that is closed when the connection of the last harness's control stream has ended, which a program does that
// ends; an already closed one when none has ever been connected. A harness that is a part of a longer-lived program may keep it open.
func (w *Worker) Gone() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.connection != nil {
		return w.mu.connection.ended
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

// Bundles returns the number of bundles in flight on the connected harness.
func (w *Worker) Bundles() int {
	sess, err := w.current()
	if err != nil {
		return 0
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return len(sess.mu.bundles)
}

// Disconnect ends the connected harness's control stream, on which a well-behaved harness exits. Its bundles fail with ErrWorkerLost.
// The id stays expected: another generation may come.
func (w *Worker) Disconnect(reason string) {
	if sess, err := w.current(); err == nil {
		sess.end(lost(w.spec.ID, reason))
	}
}

// Stop disconnects the harness and makes the id unknown. Idempotent.
func (w *Worker) Stop() {
	w.server.forget(w.spec.ID)
	w.mu.Lock()
	sess, first := w.mu.session, !w.mu.stopped
	w.mu.session, w.mu.stopped = nil, true
	if first {
		w.changedLocked()
	}
	w.mu.Unlock()
	if sess != nil {
		sess.end(lost(w.spec.ID, "the worker is stopped"))
	}
}

// changedLocked wakes those who wait for a session.
func (w *Worker) changedLocked() {
	close(w.mu.changed)
	w.mu.changed = make(chan struct{})
}

// current returns the session of the connected harness.
func (w *Worker) current() (*session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.session == nil {
		return nil, lost(w.spec.ID, "no harness is connected")
	}
	return w.mu.session, nil
}

// connect begins a generation. A harness that restarts reconnects under its old id, maybe before the loss of its predecessor was
// noticed: the newcomer wins. Spec: python/container/boot.go launchSDKProcess.
func (w *Worker) connect(c *connection) (*session, error) {
	w.mu.Lock()
	if w.mu.stopped {
		w.mu.Unlock()
		return nil, lost(w.spec.ID, "the worker is stopped")
	}
	former := w.mu.session
	w.mu.generation++
	sess := newSession(w, w.mu.generation)
	w.mu.session, w.mu.connection = sess, c
	if c != nil {
		c.worker.Store(w)
	}
	w.hung.Store(false)
	w.changedLocked()
	w.mu.Unlock()
	if former != nil {
		former.end(lost(w.spec.ID, "another harness has connected under the same id"))
	}
	return sess, nil
}

// disconnected forgets a session that has ended, unless it has been replaced already.
func (w *Worker) disconnected(sess *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.session == sess {
		w.mu.session = nil
		w.changedLocked()
	}
}

// StartBundle sends a ProcessBundle request to the connected harness. ctx bounds the start only; the bundle lives until it is
// complete, fails or is abandoned. Errors: ErrWorkerLost, or an unsupported or wrong StartBundle.
func (w *Worker) StartBundle(ctx context.Context, sb StartBundle) (*Bundle, error) {
	if sb.DataStreamID != "" && !w.Supports(CapabilityNamedDataStreams) {
		return nil, unsupportedStreams(w.spec.ID)
	}
	if w.server.descriptor(sb.DescriptorID) == nil {
		return nil, misuse("descriptor %q is not known", sb.DescriptorID)
	}
	sess, err := w.current()
	if err != nil {
		return nil, err
	}
	b, err := newBundle(sess, sb)
	if err != nil {
		return nil, err
	}
	req := &fnpb.ProcessBundleRequest{ProcessBundleDescriptorId: string(sb.DescriptorID), CacheTokens: sb.CacheTokens}
	setRequestExtras(req, &sb)
	err = sess.send(ctx, &fnpb.InstructionRequest{
		InstructionId: string(sb.InstructionID), Request: &fnpb.InstructionRequest_ProcessBundle{ProcessBundle: req},
	})
	if err != nil {
		b.finish(err)
		return nil, err
	}
	return b, nil
}
