package fnapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"padstone/internal/fault"
)

// session is one generation of a worker: what lives and dies with one control stream.
type session struct {
	worker   *Worker
	number   int // the generation's
	log      *zap.Logger
	out      chan *fnpb.InstructionRequest
	done     chan struct{} // closed by end, after mu.err is set
	lastCall atomic.Uint64
	infos    shortIDs

	mu struct {
		sync.Mutex
		err     error // why it ended, nil while it lives
		bundles map[InstructionID]*Bundle
		calls   map[string]chan *fnpb.InstructionResponse
		data    map[string]*dataSlot // by data stream id
	}
}

func newSession(w *Worker, generation int) *session {
	const requestsMax = 64 // the writer only ever waits for the transport
	s := &session{
		worker: w,
		number: generation,
		log:    w.log.With(zap.Int("generation", generation)),
		out:    make(chan *fnpb.InstructionRequest, requestsMax),
		done:   make(chan struct{}),
	}
	s.mu.bundles = make(map[InstructionID]*Bundle)
	s.mu.calls = make(map[string]chan *fnpb.InstructionResponse)
	s.mu.data = make(map[string]*dataSlot)
	return s
}

// Control serves the stream on which a harness takes instructions. It lives as long as the generation.
func (s *Server) Control(stream fnpb.BeamFnControl_ControlServer) error {
	w, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	sess, err := w.connect(connectionOf(stream.Context()))
	if err != nil {
		return asStatus(err)
	}
	sess.log.Debug("harness connected")
	s.streams.Go(func() { sess.watch(connectionOf(stream.Context()), s.cfg.SilenceMax) })
	err = s.pump(sess.done, func() error {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return err
			}
			sess.respond(resp)
		}
	}, func(halt <-chan struct{}) error {
		for {
			select {
			case <-halt:
				return nil
			case req := <-sess.out:
				if err := stream.Send(req); err != nil {
					return err
				}
			}
		}
	})
	sess.end(lost(w.spec.ID, "its control stream ended: "+streamEnd(err)))
	return nil
}

// GetProcessBundleDescriptor serves a descriptor to a harness that meets its id for the first time. The TypeScript SDK calls it without
// metadata: the descriptor's id, which cannot be guessed either, then stands for the worker's.
// Spec: typescript worker.ts Worker.process.
func (s *Server) GetProcessBundleDescriptor(
	ctx context.Context, req *fnpb.GetProcessBundleDescriptorRequest,
) (*fnpb.ProcessBundleDescriptor, error) {
	d := s.descriptor(DescriptorID(req.GetProcessBundleDescriptorId()))
	anonymous := len(metadata.ValueFromIncomingContext(ctx, workerIDHeader)) == 0
	w, err := s.admit(ctx)
	switch {
	case err != nil && (d == nil || !anonymous):
		return nil, err
	case err != nil:
		w = s.owner(ctx)
	case d == nil:
		return nil, asStatus(fmt.Errorf("descriptor %q is not known", req.GetProcessBundleDescriptorId()))
	}
	if d, err = s.seenFrom(w, d); err != nil {
		return nil, asStatus(err)
	}
	return d, nil
}

// streamEnd words how a stream ended.
func streamEnd(err error) string {
	if err == nil || errors.Is(err, io.EOF) {
		return "closed by the harness"
	}
	return err.Error()
}

// end fails everything of the generation with err. The first call counts.
func (s *session) end(err error) {
	s.mu.Lock()
	if s.mu.err != nil {
		s.mu.Unlock()
		return
	}
	s.mu.err = err
	bundles := make([]*Bundle, 0, len(s.mu.bundles))
	for _, b := range s.mu.bundles {
		bundles = append(bundles, b)
	}
	for _, slot := range s.mu.data {
		if slot.stream != nil {
			slot.stream.shut()
		}
	}
	close(s.done)
	s.mu.Unlock()
	s.worker.disconnected(s)
	s.log.Debug("harness disconnected", zap.Error(err), zap.Int("bundles", len(bundles)))
	for _, b := range bundles {
		b.finish(err)
	}
}

// over says whether the session has ended. Its worker may not know yet.
func (s *session) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// cause returns why the session ended. Only valid after done is closed.
func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// send hands a request to the control stream's writer.
func (s *session) send(ctx context.Context, req *fnpb.InstructionRequest) error {
	if ctx.Err() != nil { // else it would be a matter of chance, and the harness would begin what nobody waits for
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.done:
		return s.cause()
	case s.out <- req:
		return nil
	}
}

// call sends a request that is not a bundle and waits for its response.
func (s *session) call(ctx context.Context, req *fnpb.InstructionRequest) (*fnpb.InstructionResponse, error) {
	req.InstructionId = "call-" + strconv.FormatUint(s.lastCall.Add(1), 10)
	reply := make(chan *fnpb.InstructionResponse, 1)
	s.mu.Lock()
	s.mu.calls[req.InstructionId] = reply
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.mu.calls, req.InstructionId)
		s.mu.Unlock()
	}()
	if err := s.send(ctx, req); err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		select {
		case resp := <-reply: // it was there first
			return answer(req, resp)
		default:
			return nil, context.Cause(ctx)
		}
	case <-s.done:
		select {
		case resp := <-reply: // it answered, and then went away
			return answer(req, resp)
		default:
			return nil, s.cause()
		}
	case resp := <-reply:
		return answer(req, resp)
	}
}

func answer(req *fnpb.InstructionRequest, resp *fnpb.InstructionResponse) (*fnpb.InstructionResponse, error) {
	if resp.GetError() != "" {
		return nil, fault.New(fault.Environment, CodeRequestFailed, "%T: %s", req.GetRequest(), resp.GetError())
	}
	return resp, nil
}

// respond routes one response of the harness.
func (s *session) respond(resp *fnpb.InstructionResponse) {
	id := resp.GetInstructionId()
	s.mu.Lock()
	b, reply := s.mu.bundles[InstructionID(id)], s.mu.calls[id]
	delete(s.mu.calls, id) // a second answer to one call is dropped below
	s.mu.Unlock()
	switch {
	case reply != nil:
		reply <- resp // has room: each call is answered at most once
	case b != nil:
		b.respond(resp)
	default:
		s.log.Debug("response to an unknown instruction dropped", zap.String("instruction", id))
	}
}

// bundle returns the bundle in flight with the id, or nil.
func (s *session) bundle(id InstructionID) *Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.bundles[id]
}

// add registers a bundle.
func (s *session) add(b *Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return s.mu.err
	}
	if _, ok := s.mu.bundles[b.spec.InstructionID]; ok {
		return misuse("instruction %s is in flight already", b.spec.InstructionID)
	}
	s.mu.bundles[b.spec.InstructionID] = b
	return nil
}

// remove forgets a finished bundle: what still comes for it is dropped or, for state, answered with an error.
func (s *session) remove(b *Bundle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.bundles, b.spec.InstructionID)
}
