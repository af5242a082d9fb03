package fakesdk

import (
	"context"
	"errors"
	"strconv"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// dataStream is one Data stream to the server.
type dataStream struct {
	stream fnpb.BeamFnData_DataClient
	cancel context.CancelFunc
	tamper func(proto.Message) []proto.Message
	mu     sync.Mutex // of sending
}

func (d *dataStream) send(els *fnpb.Elements) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range tampered(d.tamper, els) {
		if err := d.stream.Send(m); err != nil {
			return err
		}
	}
	return nil
}

// dataStream opens the data stream with the id, once.
func (h *Harness) dataStream(ctx context.Context, id string) (*dataStream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.mu.streams[id]; d != nil {
		return d, nil
	}
	if id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "data_stream_id", id)
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := fnpb.NewBeamFnDataClient(h.conn).Data(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	d := &dataStream{stream: stream, cancel: cancel, tamper: h.cfg.Tamper}
	h.mu.streams[id] = d
	h.running.Go(func() { h.read(d) })
	return d, nil
}

// read hands what comes on a data stream to the bundles.
func (h *Harness) read(d *dataStream) {
	for {
		els, err := d.stream.Recv()
		if err != nil {
			h.mu.Lock()
			for _, b := range h.mu.bundles {
				b.queue.close(err)
			}
			h.mu.Unlock()
			return
		}
		for _, t := range els.GetTimers() {
			h.deliver(t.GetInstructionId(), item{
				transform: t.GetTransformId(), family: t.GetTimerFamilyId(), timers: true, data: t.GetTimers(), last: t.GetIsLast(),
			})
		}
		for _, t := range els.GetData() {
			h.deliver(t.GetInstructionId(), item{transform: t.GetTransformId(), data: t.GetData(), last: t.GetIsLast()})
		}
	}
}

// deliver queues an item. The control and the data stream race, so that it may be for a bundle that is yet to come; what is for a
// finished one is dropped.
func (h *Harness) deliver(id string, it item) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.mu.bundles[id]; b != nil {
		b.queue.put(it)
		return
	}
	if h.mu.finished[id] {
		return
	}
	if h.mu.early[id] == nil {
		h.mu.early[id] = newQueue()
	}
	h.mu.early[id].put(it)
}

// item is an Elements.Data or Elements.Timers of one bundle.
type item struct {
	transform, family string
	timers            bool
	data              []byte
	last              bool
}

// queue is an unbounded queue of items: a test's data is small.
type queue struct {
	mu    sync.Mutex
	items []item
	err   error
	more  chan struct{} // has room for one wake-up
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) put(it item) {
	q.mu.Lock()
	q.items = append(q.items, it)
	q.mu.Unlock()
	q.wake()
}

func (q *queue) close(err error) {
	q.mu.Lock()
	q.err = err
	q.mu.Unlock()
	q.wake()
}

func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

func (q *queue) take(ctx context.Context) (item, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			it := q.items[0]
			q.items = q.items[1:]
			q.mu.Unlock()
			return it, nil
		}
		err := q.err
		q.mu.Unlock()
		if err != nil {
			return item{}, err
		}
		select {
		case <-ctx.Done():
			return item{}, ctx.Err()
		case <-q.more:
		}
	}
}

// stateClient is the State stream to the server.
type stateClient struct {
	stream  fnpb.BeamFnState_StateClient
	tamper  func(proto.Message) []proto.Message
	mu      sync.Mutex
	last    int
	waiting map[string]chan *fnpb.StateResponse
	err     error
}

// stateClient opens the state stream, once.
func (h *Harness) stateClient(ctx context.Context) (*stateClient, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.state != nil {
		return h.mu.state, nil
	}
	stream, err := fnpb.NewBeamFnStateClient(h.conn).State(ctx)
	if err != nil {
		return nil, err
	}
	s := &stateClient{stream: stream, tamper: h.cfg.Tamper, waiting: make(map[string]chan *fnpb.StateResponse)}
	h.mu.state = s
	h.running.Go(s.read)
	return s, nil
}

func (s *stateClient) read() {
	for {
		resp, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.err = err
			for _, reply := range s.waiting {
				close(reply)
			}
			s.waiting = nil
			s.mu.Unlock()
			return
		}
		reply := s.waiting[resp.GetId()]
		delete(s.waiting, resp.GetId())
		s.mu.Unlock()
		if reply != nil {
			reply <- resp
		}
	}
}

// send sends a request and returns where its answer will come.
func (s *stateClient) send(req *fnpb.StateRequest) (chan *fnpb.StateResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.last++
	req.Id = strconv.Itoa(s.last)
	reply := make(chan *fnpb.StateResponse, 1)
	s.waiting[req.Id] = reply
	for _, m := range tampered(s.tamper, req) {
		if err := s.stream.Send(m); err != nil {
			return nil, err
		}
	}
	return reply, nil
}

// call sends a request and waits for its answer.
func (s *stateClient) call(req *fnpb.StateRequest) (*fnpb.StateResponse, error) {
	reply, err := s.send(req)
	if err != nil {
		return nil, err
	}
	resp, ok := <-reply
	switch {
	case !ok:
		return nil, errors.New("the state stream has ended")
	case resp.GetError() != "":
		return nil, errors.New(resp.GetError())
	}
	return resp, nil
}
