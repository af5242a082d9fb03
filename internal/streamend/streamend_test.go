package streamend_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"padstone/internal/streamend"
)

// TestMessagesEndLast has the handlers of three state streams return after that of the message stream. Two belong to the job.
func TestMessagesEndLast(t *testing.T) {
	jobs := newJobs()
	client, trailers := serve(t, jobs)
	states := openStates(t, client, "job")
	again := openStates(t, client, "job")
	other := openStates(t, client, "other")
	for range 3 {
		<-jobs.begun
	}
	messages := openMessages(t, client, "job")
	<-jobs.told
	began := time.Now()
	jobs.end("job")
	expectEnd(t, states)
	expectEnd(t, again)
	expectEnd(t, messages)
	if took := time.Since(began); took < streamend.Settled {
		t.Errorf("the message stream ended %v after the state streams", took)
	}
	jobs.end("other")
	expectEnd(t, other)

	state, message := streamend.States, streamend.Messages
	if got, want := trailers.all(), []string{state, state, message, state}; !slices.Equal(got, want) {
		t.Errorf("streams ended in the order %q, want %q", got, want)
	}
}

// TestErrorsDoNotWait has a message stream that fails while a state stream is open.
func TestErrorsDoNotWait(t *testing.T) {
	jobs := newJobs()
	client, _ := serve(t, jobs)
	states := openStates(t, client, "refused")
	<-jobs.begun
	messages := openMessages(t, client, "refused")
	if _, err := messages.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the message stream ended with %v, want UNAVAILABLE", err)
	}
	jobs.end("refused")
	expectEnd(t, states)
}

// jobs is a Job service whose state streams end when told to, and whose message streams end at once.
type jobs struct {
	jobpb.UnimplementedJobServiceServer
	begun chan struct{} // a value for each state stream
	told  chan struct{} // a value for each message stream whose handler is about to return

	mu   sync.Mutex
	over map[string]chan struct{}
}

func newJobs() *jobs {
	return &jobs{begun: make(chan struct{}, 10), told: make(chan struct{}, 10), over: make(map[string]chan struct{})}
}

func (j *jobs) of(id string) chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over[id] == nil {
		j.over[id] = make(chan struct{})
	}
	return j.over[id]
}

func (j *jobs) end(id string) { close(j.of(id)) }

func (j *jobs) GetStateStream(request *jobpb.GetJobStateRequest, stream jobpb.JobService_GetStateStreamServer) error {
	j.begun <- struct{}{}
	select {
	case <-j.of(request.GetJobId()):
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (j *jobs) GetMessageStream(request *jobpb.JobMessagesRequest, _ jobpb.JobService_GetMessageStreamServer) error {
	if request.GetJobId() == "refused" {
		return status.Error(codes.Unavailable, "refused")
	}
	j.told <- struct{}{}
	return nil
}

// trailers lists the streams whose ends have arrived at the client, in order.
type trailers struct {
	mu      sync.Mutex
	methods []string
}

type methodKey struct{}

func (l *trailers) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.methods)
}

func (*trailers) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (*trailers) HandleConn(context.Context, stats.ConnStats) {}

func (*trailers) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, info.FullMethodName)
}

func (l *trailers) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.InTrailer); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.methods = append(l.methods, ctx.Value(methodKey{}).(string))
	}
}

func serve(t *testing.T, service jobpb.JobServiceServer) (jobpb.JobServiceClient, *trailers) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(streamend.Options(streamend.ByJob)...)
	jobpb.RegisterJobServiceServer(g, service)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := g.Serve(l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	seen := &trailers{}
	conn, err := grpc.NewClient(
		l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(seen),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		serving.Wait()
	})
	return jobpb.NewJobServiceClient(conn), seen
}

func openStates(t *testing.T, client jobpb.JobServiceClient, job string) jobpb.JobService_GetStateStreamClient {
	t.Helper()
	stream, err := client.GetStateStream(t.Context(), &jobpb.GetJobStateRequest{JobId: job})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func openMessages(t *testing.T, client jobpb.JobServiceClient, job string) jobpb.JobService_GetMessageStreamClient {
	t.Helper()
	stream, err := client.GetMessageStream(t.Context(), &jobpb.JobMessagesRequest{JobId: job})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func expectEnd(t *testing.T, stream grpc.ClientStream) {
	t.Helper()
	if err := stream.RecvMsg(&jobpb.JobStateEvent{}); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}
