package fnapi

import (
	"context"
	"errors"
	"io"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// StateHandler answers the state requests of one bundle.
type StateHandler interface {
	// HandleState answers one request. Calls for one bundle come one at a time, in the order in which the harness sent the
	// requests. It need not set the response's id, and must not change what it has returned. ctx ends when the bundle fails. An error
	// is sent to the harness as text, which normally fails the bundle there.
	HandleState(ctx context.Context, req *fnpb.StateRequest) (*fnpb.StateResponse, error)
}

// PromptState is a StateHandler that answers without waiting for others. Its requests are answered on the goroutine that reads the
// stream: handing each over to another costs more than the answer.
type PromptState interface {
	StateHandler
	Prompt()
}

// stateQueueMax bounds the requests of one bundle that wait. A harness that clears and appends many cells pipelines them; when the
// queue is full its stream waits.
const stateQueueMax = 1024

// stateQueue answers the state requests of one bundle in order. A goroutine runs while there are some that wait.
type stateQueue struct {
	handle  func(*fnpb.StateRequest) (*fnpb.StateResponse, error) // nil: the bundle has no state
	prompt  bool
	abandon context.CancelFunc // of the context of handler calls
	running sync.WaitGroup
	mu      struct {
		sync.Mutex
		room   *sync.Cond // signalled when the queue shrinks or closes
		queue  []stateCall
		active bool // a request is being answered
		closed bool
	}
}

// stateCall is a request and the stream that waits for its answer.
type stateCall struct {
	req    *fnpb.StateRequest
	stream *stateStream
}

func (q *stateQueue) init(h StateHandler) {
	ctx, cancel := context.WithCancel(context.Background())
	q.abandon = cancel
	if h != nil {
		q.handle = func(req *fnpb.StateRequest) (*fnpb.StateResponse, error) { return h.HandleState(ctx, req) }
	}
	_, q.prompt = h.(PromptState)
	q.mu.room = sync.NewCond(&q.mu)
}

// take answers a request, or queues it; false when the bundle has finished.
func (q *stateQueue) take(c stateCall) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.mu.queue) >= stateQueueMax && !q.mu.closed {
		q.mu.room.Wait()
	}
	if q.mu.closed {
		return false
	}
	if q.prompt && !q.mu.active {
		q.mu.active = true
		q.running.Add(1)
		q.mu.Unlock()
		c.stream.reply(q.answer(c.req))
		q.running.Done()
		q.mu.Lock()
		q.mu.active = false
	} else {
		q.mu.queue = append(q.mu.queue, c)
	}
	if len(q.mu.queue) > 0 && !q.mu.active { // others may have come meanwhile, on another stream
		q.mu.active = true
		q.running.Go(q.run)
	}
	return true
}

// close makes the queue refuse requests; those that wait are answered with an error.
func (q *stateQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.closed = true
	q.mu.room.Broadcast()
	q.abandon()
}

// wait returns when no handler call runs any more. Call it after close.
func (q *stateQueue) wait() { q.running.Wait() }

// run answers requests until there are none.
func (q *stateQueue) run() {
	for {
		q.mu.Lock()
		if len(q.mu.queue) == 0 {
			q.mu.active, q.mu.queue = false, nil
			q.mu.Unlock()
			return
		}
		c := q.mu.queue[0]
		q.mu.queue = q.mu.queue[1:]
		closed := q.mu.closed
		q.mu.room.Signal()
		q.mu.Unlock()
		if closed {
			c.stream.reply(refusal(c.req, errNotInFlight))
			continue
		}
		c.stream.reply(q.answer(c.req))
	}
}

// answer asks the handler.
func (q *stateQueue) answer(req *fnpb.StateRequest) *fnpb.StateResponse {
	if q.handle == nil {
		return refusal(req, errNoState)
	}
	resp, err := q.handle(req)
	switch {
	case err != nil:
		return refusal(req, err)
	case resp == nil:
		return refusal(req, errNoAnswer)
	}
	resp.Id = req.GetId()
	return resp
}

var (
	errNotInFlight = errors.New("the instruction is not in flight")
	errNoState     = errors.New("the bundle has no state")
	errNoAnswer    = errors.New("the state handler gave no answer")
)

func refusal(req *fnpb.StateRequest, err error) *fnpb.StateResponse {
	return &fnpb.StateResponse{Id: req.GetId(), Error: err.Error()}
}

// State serves one state stream: every request is answered, those of one bundle in order, and a bundle whose handler may wait does not
// hold up another.
// The Python SDK waits for an answer for ever. Spec: beam_fn_api.proto BeamFnState.
func (s *Server) State(stream fnpb.BeamFnState_StateServer) error {
	w, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	sess, err := w.current()
	if err != nil {
		return asStatus(err)
	}
	ss := newStateStream(stream)
	defer ss.end()
	err = s.pump(sess.done, func() error {
		for {
			req, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				ss.pending.Wait() // the harness may close its half and still read answers
				ss.flush()
			}
			if err != nil {
				return err
			}
			ss.pending.Add(1)
			b := sess.bundle(InstructionID(req.GetInstructionId()))
			if b == nil || !b.state.take(stateCall{req: req, stream: ss}) {
				ss.reply(refusal(req, errNotInFlight))
			}
		}
	}, nil)
	if err != nil && !errors.Is(err, io.EOF) {
		sess.end(lost(w.spec.ID, "its state stream ended: "+streamEnd(err)))
	}
	return nil
}
