package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"padstone/fnapi"
)

// services are those of the Fn API that a fake harness calls.
var services = []*grpc.ServiceDesc{&fnpb.BeamFnControl_ServiceDesc, &fnpb.BeamFnData_ServiceDesc, &fnpb.BeamFnState_ServiceDesc}

// wire is the connection of a harness process to the server, in the place of gRPC's: every message waits for its turn. It implements
// grpc.ClientConnInterface.
type wire struct {
	life    *life
	server  *fnapi.Server
	env     string
	process int
	name    string

	mu struct {
		sync.Mutex
		broken  bool
		streams []*stream // that are open
	}
}

// Invoke implements grpc.ClientConnInterface. What the harness asks for in this way never changes: it is answered at once.
func (w *wire) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	_, call, err := find(method)
	if err != nil {
		return err
	}
	resp, err := call.Handler(w.server, incoming(ctx), func(req any) error { return recode(args, req) }, nil)
	if err != nil {
		return err
	}
	return recode(resp, reply)
}

// NewStream implements grpc.ClientConnInterface.
func (w *wire) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	desc, _, err := find(method)
	if err != nil {
		return nil, err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	name := fmt.Sprintf("%s %s%v", w.name, path.Base(method), md.Get("data_stream_id"))
	s := &stream{data: path.Base(method) == "Data", up: newPipe(w.life, name+" up"), down: newPipe(w.life, name+" down")}
	s.ctx, s.cancel = context.WithCancel(ctx)
	w.mu.Lock()
	if w.mu.broken {
		w.mu.Unlock()
		s.cancel()
		return nil, status.Error(codes.Unavailable, "the connection is broken")
	}
	w.mu.streams = append(w.mu.streams, s)
	w.mu.Unlock()
	serving, served := context.WithCancel(incoming(s.ctx))
	go func() {
		err := desc.Handler(w.server, serverStream{s, serving})
		if err == nil {
			err = io.EOF
		}
		s.down.close(err)
		served()
	}()
	return clientStream{s}, nil
}

// Close breaks the connection.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.broken = true
	for _, s := range w.mu.streams {
		s.cancel()
	}
	return nil
}

func (w *wire) isBroken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.broken
}

// data are the data streams that are open.
func (w *wire) data() []*stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	var open []*stream
	for _, s := range w.mu.streams {
		if s.data && s.ctx.Err() == nil {
			open = append(open, s)
		}
	}
	return open
}

func find(method string) (*grpc.StreamDesc, *grpc.MethodDesc, error) {
	service, name := path.Base(path.Dir(method)), path.Base(method)
	for _, s := range services {
		for i := range s.Streams {
			if s.ServiceName == service && s.Streams[i].StreamName == name {
				return &s.Streams[i], nil, nil
			}
		}
		for i := range s.Methods {
			if s.ServiceName == service && s.Methods[i].MethodName == name {
				return nil, &s.Methods[i], nil
			}
		}
	}
	return nil, nil, status.Error(codes.Unimplemented, method)
}

// incoming makes of a caller's context the server's.
func incoming(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	return metadata.NewIncomingContext(ctx, md)
}

// recode copies a message as a network does.
func recode(from, to any) error {
	data, err := encode(from)
	if err != nil {
		return err
	}
	return decode(data, to)
}

func encode(m any) ([]byte, error) {
	buffers, err := fnapi.Codec().Marshal(m)
	if err != nil {
		return nil, err
	}
	defer buffers.Free()
	return buffers.Materialize(), nil
}

func decode(data []byte, m any) error {
	return fnapi.Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, m)
}

// stream is a stream of a wire, with its two directions.
type stream struct {
	data     bool
	ctx      context.Context // ends when the client gives it up, or it breaks
	cancel   context.CancelFunc
	up, down *pipe
}

// pipe is one direction: messages in order, each of which waits for its turn.
type pipe struct {
	life *life
	name string
	more chan struct{} // 1-buffered
	mu   struct {
		sync.Mutex
		queue [][]byte
		end   error // after the queue; nil while it is open
	}
}

func newPipe(l *life, name string) *pipe {
	return &pipe{life: l, name: name, more: make(chan struct{}, 1)}
}

func (p *pipe) put(m any) error {
	data, err := encode(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.end != nil {
		return io.EOF
	}
	p.mu.queue = append(p.mu.queue, data)
	p.wake()
	return nil
}

func (p *pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.end == nil {
		p.mu.end = err
	}
	p.wake()
}

func (p *pipe) wake() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// take waits for the next message, and for its turn.
func (p *pipe) take(ctx context.Context, m any) error {
	for {
		if ctx.Err() != nil {
			return broken(ctx)
		}
		p.mu.Lock()
		ready := len(p.mu.queue) > 0 || p.mu.end != nil
		p.mu.Unlock()
		if ready {
			break
		}
		select {
		case <-p.more:
		case <-ctx.Done():
		}
	}
	if p.life.turns.await(ctx, &turn{name: p.name, about: p.about, granted: make(chan struct{})}) != nil || ctx.Err() != nil {
		return broken(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.queue) == 0 {
		return p.mu.end
	}
	data := p.mu.queue[0]
	p.mu.queue = p.mu.queue[1:]
	return decode(data, m)
}

// about describes the next message.
func (p *pipe) about() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.queue) == 0 {
		return "the end"
	}
	return p.describe(p.mu.queue[0])
}

func broken(ctx context.Context) error { return status.FromContextError(ctx.Err()).Err() }

// clientStream is the harness's end. It implements grpc.ClientStream.
type clientStream struct{ s *stream }

func (c clientStream) Header() (metadata.MD, error) { return nil, nil }
func (c clientStream) Trailer() metadata.MD         { return nil }
func (c clientStream) Context() context.Context     { return c.s.ctx }

func (c clientStream) CloseSend() error {
	c.s.up.close(io.EOF)
	return nil
}

func (c clientStream) SendMsg(m any) error {
	if c.s.ctx.Err() != nil {
		return io.EOF
	}
	return c.s.up.put(m)
}

func (c clientStream) RecvMsg(m any) error { return c.s.down.take(c.s.ctx, m) }

// serverStream is the server's end. It implements grpc.ServerStream.
type serverStream struct {
	s   *stream
	ctx context.Context
}

var errNoHeaders = errors.New("headers are not simulated")

func (s serverStream) SetHeader(metadata.MD) error  { return errNoHeaders }
func (s serverStream) SendHeader(metadata.MD) error { return errNoHeaders }
func (s serverStream) SetTrailer(metadata.MD)       {}
func (s serverStream) Context() context.Context     { return s.ctx }

func (s serverStream) SendMsg(m any) error {
	if s.ctx.Err() != nil {
		return broken(s.ctx)
	}
	return s.s.down.put(m)
}

func (s serverStream) RecvMsg(m any) error { return s.s.up.take(s.ctx, m) }
