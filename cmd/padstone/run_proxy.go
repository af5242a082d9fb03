package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"padstone/internal/streamend"
)

// Methods of the Job service that tell about the script's jobs. Spec: beam_job_api.proto JobService.
var (
	methodRun     = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/Run"
	methodPrepare = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/Prepare"
)

// jobProxy stands between one script and the Job service. It passes every call on byte by byte and learns from the answers which
// jobs are the script's own, on a server that others use too. While the server is away, calls of the Job service wait for it.
// Goroutines: one for each call in flight, ended by close.
type jobProxy struct {
	endpoint string
	link     *link
	server   *grpc.Server
	conn     *grpc.ClientConn
	onJob    func(id string)      // a job of the script's runs; called before the script is told
	onRefuse func(message string) // the server refused a pipeline

	pumps   sync.WaitGroup
	serving sync.WaitGroup
}

// startJobProxy listens on a free loopback port in front of the Job service that dial connects to. onJob and onRefuse may be called
// concurrently and must not block.
func startJobProxy(
	ctx context.Context, dial func(context.Context, string) (net.Conn, error), server *link, onJob, onRefuse func(string),
) (*jobProxy, error) {
	conn, err := dialJobs(server.name, relinking(), grpc.WithContextDialer(dial))
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the script: %w", errors.Join(err, conn.Close()))
	}
	p := &jobProxy{endpoint: l.Addr().String(), link: server, conn: conn, onJob: onJob, onRefuse: onRefuse}
	p.server = grpc.NewServer(append(streamend.Options(byFrame),
		grpc.UnknownServiceHandler(p.handle),
		grpc.ForceServerCodecV2(frameCodec{}),
		grpc.MaxRecvMsgSize(math.MaxInt32),
	)...)
	p.serving.Go(func() {
		// Serve ends with an error only when the listener fails; the script then sees the connection break.
		_ = p.server.Serve(l)
	})
	return p, nil
}

// dialJobs connects to a Job service; pipelines may be of any size.
func dialJobs(target string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+target, append(more,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Job service at %s: %w", target, err)
	}
	return conn, nil
}

// close cuts off what is left of the script's calls.
func (p *jobProxy) close() error {
	p.server.Stop()
	p.serving.Wait()
	err := p.conn.Close()
	p.pumps.Wait()
	return err
}

// handle passes one call on.
func (p *jobProxy) handle(_ any, script grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(script)
	ctx, cancel := context.WithCancel(script.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, forwarded(md))
	}
	if !strings.HasPrefix(method, "/"+jobpb.JobService_ServiceDesc.ServiceName+"/") {
		return p.pass(ctx, cancel, method, script)
	}
	err := p.call(ctx, method, script)
	if method == methodPrepare && err != nil {
		p.onRefuse(status.Convert(err).Message())
	}
	return err
}

// pass passes on a call of any kind. It reads answers in this goroutine and requests in another, which ends when the call does.
func (p *jobProxy) pass(ctx context.Context, cancel context.CancelFunc, method string, script grpc.ServerStream) error {
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	server, err := p.conn.NewStream(ctx, desc, method, grpc.ForceCodecV2(frameCodec{}))
	if err != nil {
		return err
	}
	p.pumps.Go(func() {
		if err := pump(script, server); err != nil {
			cancel()
			return
		}
		_ = server.CloseSend() // never fails for a stream that is open; one that is not reports so to RecvMsg
	})
	header, err := server.Header()
	if err == nil {
		err = script.SendHeader(header)
	}
	if err == nil {
		err = pump(server, script)
	}
	script.SetTrailer(server.Trailer())
	return err
}

// receiver and sender are the halves of a stream that a pump needs.
type (
	receiver interface{ RecvMsg(m any) error }
	sender   interface{ SendMsg(m any) error }
)

// pump copies messages until from ends, which is no error.
func pump(from receiver, to sender) error {
	for {
		var f frame
		if err := from.RecvMsg(&f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := to.SendMsg(&f); err != nil {
			return err
		}
	}
}

// forwarded drops what belongs to one connection.
func forwarded(md metadata.MD) metadata.MD {
	out := metadata.MD{}
	for k, v := range md {
		if strings.HasPrefix(k, ":") || k == "content-type" || k == "user-agent" || k == "te" {
			continue
		}
		out[k] = v
	}
	return out
}

// frame is one message as it came.
type frame struct{ data []byte }

// byFrame is the streamend.KeyOf of frames. The requests of both streams of a job are the same bytes: the job's id is their only field,
// and has the same number. Spec: beam_job_api.proto GetJobStateRequest, JobMessagesRequest.
func byFrame(request any) string {
	if f, ok := request.(*frame); ok {
		return string(f.data)
	}
	return ""
}

// frameCodec moves frames without decoding them.
type frameCodec struct{}

func (frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("frame codec got a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
}

func (frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("frame codec got a %T", v)
	}
	f.data = data.Materialize()
	return nil
}

func (frameCodec) Name() string { return "proto" }
