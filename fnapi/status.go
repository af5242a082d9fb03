package fnapi

import (
	"context"
	"errors"
	"strconv"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/internal/fault"
)

// statusStream is a harness's open WorkerStatus stream.
type statusStream struct {
	out  chan *fnpb.WorkerStatusRequest
	done chan struct{}
	mu   struct {
		sync.Mutex
		last    int
		waiting map[string]chan *fnpb.WorkerStatusResponse
	}
}

// WorkerStatus serves the stream on which a harness describes itself. Like a log stream it ends when the harness does.
func (s *Server) WorkerStatus(stream fnpb.BeamFnWorkerStatus_WorkerStatusServer) error {
	w, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	const requestsMax = 4
	ss := &statusStream{out: make(chan *fnpb.WorkerStatusRequest, requestsMax), done: make(chan struct{})}
	ss.mu.waiting = make(map[string]chan *fnpb.WorkerStatusResponse)
	w.setStatus(nil, ss)
	defer w.setStatus(ss, nil)
	defer close(ss.done)
	return s.pump(nil, func() error {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return nil // as for Logging
			}
			ss.answer(resp)
		}
	}, func(halt <-chan struct{}) error {
		for {
			select {
			case <-halt:
				return nil
			case req := <-ss.out:
				if err := stream.Send(req); err != nil {
					return nil // as for Logging
				}
			}
		}
	})
}

// setStatus replaces the status stream; when was is set, only if it is still the current one.
func (w *Worker) setStatus(was, is *statusStream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was == nil || w.mu.status == was {
		w.mu.status = is
	}
}

func (ss *statusStream) answer(resp *fnpb.WorkerStatusResponse) {
	ss.mu.Lock()
	reply := ss.mu.waiting[resp.GetId()]
	delete(ss.mu.waiting, resp.GetId())
	ss.mu.Unlock()
	if reply != nil {
		reply <- resp // has room: each request is answered at most once
	}
}

// Status asks the harness to describe itself: active bundles, thread dump, memory. For people. Errors: no harness is connected that
// offers it, ctx's cause.
func (w *Worker) Status(ctx context.Context) (string, error) {
	w.mu.Lock()
	ss := w.mu.status
	w.mu.Unlock()
	if ss == nil {
		return "", noStatus(w.spec.ID, "the harness does not offer its status").
			WithHint("workers of LOOPBACK, and of a pool that was started without a boot program, never do")
	}
	reply := make(chan *fnpb.WorkerStatusResponse, 1)
	ss.mu.Lock()
	ss.mu.last++
	id := strconv.Itoa(ss.mu.last)
	ss.mu.waiting[id] = reply
	ss.mu.Unlock()
	defer func() {
		ss.mu.Lock()
		delete(ss.mu.waiting, id)
		ss.mu.Unlock()
	}()
	select {
	case ss.out <- &fnpb.WorkerStatusRequest{Id: id}:
	case <-ss.done:
		return "", lost(w.spec.ID, "its status stream ended")
	case <-ctx.Done():
		return "", silent(ctx, w.spec.ID)
	}
	var resp *fnpb.WorkerStatusResponse
	select {
	case resp = <-reply:
	case <-ss.done:
		select {
		case resp = <-reply: // it answered, and then ended the stream
		default:
			return "", lost(w.spec.ID, "its status stream ended")
		}
	case <-ctx.Done():
		return "", silent(ctx, w.spec.ID)
	}
	if resp.GetError() != "" {
		return "", noStatus(w.spec.ID, resp.GetError())
	}
	return resp.GetStatusInfo(), nil
}

// silent is why a harness has not answered by the end of ctx.
func silent(ctx context.Context, id WorkerID) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return noStatus(id, "the harness does not answer: it hangs, was stopped, or its code holds the interpreter's lock")
}

func noStatus(id WorkerID, why string) *fault.Error {
	return fault.New(fault.Environment, codeNoStatus, "worker %s: %s", id, why)
}
