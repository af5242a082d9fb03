package fnapi

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"
)

// dataStreamHeader names a data stream; absent for the default one. Spec: python worker_id_interceptor.py DataStreamIdInterceptor.
const dataStreamHeader = "data_stream_id"

// dataStream is one Data stream of a generation.
type dataStream struct {
	id       string
	out      chan outgoing
	budget   budget        // bytes that may wait in out
	done     chan struct{} // closed by shut
	once     sync.Once
	used     atomic.Bool // something was sent on it
	replaced bool        // guarded by the session's lock: the harness has opened another stream under the same id
}

// shut ends the stream. Idempotent.
func (ds *dataStream) shut() { ds.once.Do(func() { close(ds.done) }) }

// outgoing is a message on its way to the writer.
type outgoing struct {
	els  elements
	size int // what it holds of the budget
}

// dataSlot is where senders wait for a stream that the harness has yet to open: it does so when it first runs a bundle on it.
type dataSlot struct {
	ready     chan struct{}
	stream    *dataStream // set before ready is closed
	farewells elements    // what farewell could not send yet
}

// Data serves one data stream. Spec: beam_fn_api.proto BeamFnData.
func (s *Server) Data(stream fnpb.BeamFnData_DataServer) error {
	w, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	sess, err := w.current()
	if err != nil {
		return asStatus(err)
	}
	ds := s.newDataStream(stream.Context())
	if err := sess.attach(ds); err != nil {
		return asStatus(err)
	}
	sess.log.Debug("data stream opened", zap.String("stream", ds.id))
	err = s.pump(ds.done, func() error {
		var els elements
		for {
			if err := stream.RecvMsg(&els); err != nil {
				return err
			}
			for i := range els {
				sess.deliver(&els[i])
			}
		}
	}, func(halt <-chan struct{}) error { return ds.write(halt, stream) })
	ds.shut()
	sess.detach(ds, err)
	return nil
}

func (s *Server) newDataStream(ctx context.Context) *dataStream {
	const messagesMax = 64
	md, _ := metadata.FromIncomingContext(ctx)
	ds := &dataStream{out: make(chan outgoing, messagesMax), done: make(chan struct{})}
	ds.budget.init(s.cfg.StreamBytesMax)
	if ids := md.Get(dataStreamHeader); len(ids) > 0 {
		ds.id = ids[0]
	}
	return ds
}

func (ds *dataStream) write(halt <-chan struct{}, stream fnpb.BeamFnData_DataServer) error {
	for {
		select {
		case <-halt:
			return nil
		case m := <-ds.out:
			err := stream.SendMsg(&m.els)
			ds.budget.give(m.size)
			if err != nil {
				return err
			}
		}
	}
}

// send queues a message. It blocks while the stream's budget is spent; the ends of ctx, the stream and the bundle (abort) release it.
func (ds *dataStream) send(ctx context.Context, abort <-chan struct{}, els elements) error {
	ds.used.Store(true)
	m := outgoing{els: els}
	for i := range els {
		m.size += len(els[i].payload)
	}
	m.size = min(m.size, ds.budget.max)
	for {
		freed := ds.budget.take(m.size)
		if freed == nil {
			break
		}
		select {
		case <-freed:
		case <-ds.done:
			return errSendAborted
		case <-abort:
			return errSendAborted
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var err error
	select {
	case ds.out <- m:
		return nil
	case <-ds.done:
		err = errSendAborted
	case <-abort:
		err = errSendAborted
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ds.budget.give(m.size)
	return err
}

// errSendAborted says that a message was not sent because its bundle or stream has ended; the bundle knows why.
var errSendAborted = errors.New("send aborted")

// budget bounds the bytes that wait in a queue.
type budget struct {
	max int
	mu  struct {
		sync.Mutex
		free  int
		freed chan struct{} // closed when bytes come free; nil while nobody waits
	}
}

func (b *budget) init(n int) { b.max, b.mu.free = n, n }

// take takes n <= max bytes and returns nil, or a channel that is closed when it is worth trying again.
func (b *budget) take(n int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.free >= n {
		b.mu.free -= n
		return nil
	}
	if b.mu.freed == nil {
		b.mu.freed = make(chan struct{})
	}
	return b.mu.freed
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.free += n
	if b.mu.freed != nil {
		close(b.mu.freed)
		b.mu.freed = nil
	}
}

// slotLocked returns the slot of a data stream id.
func (s *session) slotLocked(id string) *dataSlot {
	slot := s.mu.data[id]
	if slot == nil {
		slot = &dataSlot{ready: make(chan struct{})}
		s.mu.data[id] = slot
	}
	return slot
}

// attach makes the stream the one that bundles of its id send on.
func (s *session) attach(ds *dataStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return s.mu.err
	}
	slot := s.slotLocked(ds.id)
	if slot.stream != nil {
		slot.stream.replaced = true
		slot.stream.shut()
		slot = &dataSlot{ready: make(chan struct{})}
		s.mu.data[ds.id] = slot
	}
	slot.stream = ds
	if len(slot.farewells) > 0 {
		ds.out <- outgoing{els: slot.farewells} // has room: nothing was sent on it yet
		slot.farewells = nil
	}
	close(slot.ready)
	return nil
}

// farewell sends the end markers of an abandoned bundle without waiting: now, or when the harness opens the stream, which it does
// even for a bundle that nobody waits for any more. Else the bundle would hold a thread of the harness for as long as it lives. A
// stream so full that it does not take them has a harness that does not read; it keeps its thread.
func (s *session) farewell(id string, els elements) {
	const farewellsMax = 1000 // bundles abandoned before the stream was opened
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slotLocked(id)
	if slot.stream == nil {
		if len(slot.farewells) < farewellsMax {
			slot.farewells = append(slot.farewells, els...)
		}
		return
	}
	select {
	case slot.stream.out <- outgoing{els: els}:
	default:
	}
}

// detach fails the bundles of an ended stream: what was on its way in either direction is lost, and a bundle that has yet to send
// would wait for a successor that may never come. A stream that broke, unlike one that the harness closed or replaced, costs the
// generation too: the Python SDK never reopens one. Spec: python data_plane.py GrpcClientDataChannelFactory.
//
// A stream that no bundle of this generation has ever asked for is left alone: a predecessor that dies slowly may have opened it just
// after its successor had connected.
func (s *session) detach(ds *dataStream, err error) {
	cause := lost(s.worker.spec.ID, "its data stream "+strconv.Quote(ds.id)+" ended: "+streamEnd(err))
	s.mu.Lock()
	if slot := s.mu.data[ds.id]; slot != nil && slot.stream == ds {
		delete(s.mu.data, ds.id)
	}
	var bundles []*Bundle
	if s.mu.err == nil {
		for _, b := range s.mu.bundles {
			if b.usesStream(ds) || !ds.replaced && b.spec.DataStreamID == ds.id {
				bundles = append(bundles, b)
			}
		}
	}
	wanted := ds.used.Load() || len(bundles) > 0
	broken := wanted && !ds.replaced && err != nil && !errors.Is(err, io.EOF)
	s.mu.Unlock()
	if broken {
		s.end(cause)
	}
	for _, b := range bundles {
		b.finish(cause)
	}
}

// waitStream returns the data stream with the id, as soon as the harness has opened it.
func (s *session) waitStream(ctx context.Context, id string, abort <-chan struct{}) (*dataStream, error) {
	s.mu.Lock()
	slot := s.slotLocked(id)
	s.mu.Unlock()
	select {
	case <-slot.ready:
		return slot.stream, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-abort:
		return nil, errSendAborted
	}
}

// deliver hands an entry to its bundle. Entries of finished bundles are normal: a harness that fails stops where it is.
func (s *session) deliver(e *entry) {
	if b := s.bundle(InstructionID(e.instruction)); b != nil {
		b.receive(e)
		return
	}
	s.log.Debug("data of an unknown instruction dropped", zap.String("instruction", e.instruction),
		zap.Stringer("port", e.port()), zap.Int("bytes", len(e.payload)))
}
