package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeServer is a Job service and its HTTP API with jobs that end as they are told. A job named "until-cancelled" runs until then.
type fakeServer struct {
	jobpb.UnimplementedJobServiceServer
	endpoints Endpoints
	breakOnce sync.Once // the first message stream of a job named "breaks" is cut off
	stop      func()    // cuts off every call; nobody listens from then on

	mu        sync.Mutex
	starts    int // of the server; a job named "outlives" ends with the second
	prepared  int
	jobs      map[string]*fakeJob
	cancelled []string
}

type fakeJob struct {
	id     string
	ends   jobpb.JobState_Enum
	cancel chan struct{}
}

// fakeEnds maps a job's name to the state in which it ends.
var fakeEnds = map[string]jobpb.JobState_Enum{
	"done": jobpb.JobState_DONE, "drained": jobpb.JobState_DRAINED, "failed": jobpb.JobState_FAILED,
	"cancelled": jobpb.JobState_CANCELLED, "until-cancelled": jobpb.JobState_CANCELLED, "breaks": jobpb.JobState_DONE, "outlives": jobpb.JobState_DONE,
}

func startFake(t *testing.T) *fakeServer {
	t.Helper()
	f := &fakeServer{jobs: map[string]*fakeJob{}}
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(l)
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	f.endpoints = Endpoints{Job: l.Addr().String(), Expansion: "localhost:8097", HTTP: strings.TrimPrefix(web.URL, "http://")}
	mux.HandleFunc("GET /api/v1/server", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(ServerInfo{PID: 4711, Endpoints: f.endpoints})
	})
	t.Cleanup(func() {
		web.Close()
		f.stop()
	})
	return f
}

// serve answers on l until stop.
func (f *fakeServer) serve(l net.Listener) {
	server := grpc.NewServer()
	jobpb.RegisterJobServiceServer(server, f)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	f.stop = func() { server.Stop(); serving.Wait() }
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
}

// restart has the server gone for a while, then back at the same address with its jobs.
func (f *fakeServer) restart(t *testing.T) {
	t.Helper()
	f.stop()
	time.Sleep(relinkMax) // more attempts than one find nobody
	l, err := net.Listen("tcp", f.endpoints.Job)
	for end := time.Now().Add(time.Minute); err != nil; l, err = net.Listen("tcp", f.endpoints.Job) { // somebody's connection may have it
		if time.Now().After(end) {
			t.Error(err) // not the test's goroutine
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.serve(l)
}

func (f *fakeServer) started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

func (f *fakeServer) Prepare(_ context.Context, r *jobpb.PrepareJobRequest) (*jobpb.PrepareJobResponse, error) {
	if r.GetJobName() == "refused" {
		return nil, status.Error(codes.InvalidArgument, `unsupported-thing: transform "Parse": it cannot be`)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared++
	return &jobpb.PrepareJobResponse{PreparationId: "prep/" + r.GetJobName()}, nil
}

func (f *fakeServer) Run(_ context.Context, r *jobpb.RunJobRequest) (*jobpb.RunJobResponse, error) {
	name := strings.TrimPrefix(r.GetPreparationId(), "prep/")
	f.mu.Lock()
	defer f.mu.Unlock()
	id := name + "-" + string(rune('a'+len(f.jobs)))
	f.jobs[id] = &fakeJob{id: id, ends: fakeEnds[name], cancel: make(chan struct{})}
	return &jobpb.RunJobResponse{JobId: id}, nil
}

func (f *fakeServer) job(id string) (*fakeJob, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j := f.jobs[id]; j != nil {
		return j, nil
	}
	return nil, status.Error(codes.NotFound, "no job "+id)
}

func (f *fakeServer) Cancel(_ context.Context, r *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	j, err := f.job(r.GetJobId())
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancelled = append(f.cancelled, j.id)
	select {
	case <-j.cancel:
	default:
		close(j.cancel)
	}
	return &jobpb.CancelJobResponse{State: jobpb.JobState_CANCELLING}, nil
}

// await blocks until the job ends.
func (f *fakeServer) await(ctx context.Context, j *fakeJob) error {
	if strings.HasPrefix(j.id, "outlives") && f.started() == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	if !strings.HasPrefix(j.id, "until-cancelled") {
		return nil
	}
	select {
	case <-j.cancel:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeServer) GetState(_ context.Context, r *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	if _, err := f.job(r.GetJobId()); err != nil {
		return nil, err
	}
	return &jobpb.JobStateEvent{State: jobpb.JobState_RUNNING}, nil
}

func (f *fakeServer) GetStateStream(r *jobpb.GetJobStateRequest, stream jobpb.JobService_GetStateStreamServer) error {
	j, err := f.job(r.GetJobId())
	if err != nil {
		return err
	}
	if err := stream.Send(&jobpb.JobStateEvent{State: jobpb.JobState_RUNNING}); err != nil {
		return err
	}
	if err := f.await(stream.Context(), j); err != nil {
		return err
	}
	return stream.Send(&jobpb.JobStateEvent{State: j.ends})
}

func (f *fakeServer) GetMessageStream(r *jobpb.JobMessagesRequest, stream jobpb.JobService_GetMessageStreamServer) error {
	j, err := f.job(r.GetJobId())
	if err != nil {
		return err
	}
	state := func(s jobpb.JobState_Enum) *jobpb.JobMessagesResponse {
		return &jobpb.JobMessagesResponse{
			Response: &jobpb.JobMessagesResponse_StateResponse{StateResponse: &jobpb.JobStateEvent{State: s}},
		}
	}
	say := func(importance jobpb.JobMessage_MessageImportance, text string) *jobpb.JobMessagesResponse {
		return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_MessageResponse{
			MessageResponse: &jobpb.JobMessage{MessageId: fmt.Sprint(len(text)), Importance: importance, MessageText: text},
		}}
	}
	send := func(responses ...*jobpb.JobMessagesResponse) error {
		for _, r := range responses {
			if err := stream.Send(r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := send(state(jobpb.JobState_RUNNING), say(jobpb.JobMessage_JOB_MESSAGE_BASIC, "three stages")); err != nil {
		return err
	}
	if strings.HasPrefix(j.id, "breaks") {
		cut := false
		f.breakOnce.Do(func() { cut = true })
		if cut {
			return status.Error(codes.Unavailable, "cut off")
		}
	}
	if err := f.await(stream.Context(), j); err != nil {
		return err
	}
	if j.ends == jobpb.JobState_FAILED {
		err = send(say(jobpb.JobMessage_JOB_MESSAGE_ERROR, "transform \"Parse\" failed\nTraceback\nValueError: no number"))
	}
	if err == nil {
		err = send(say(jobpb.JobMessage_JOB_MESSAGE_DEBUG, "a detail of its end"), state(j.ends))
	}
	return err
}

// calls returns how many pipelines were prepared and which jobs were cancelled.
func (f *fakeServer) calls() (prepared int, cancelled []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prepared, append([]string(nil), f.cancelled...)
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
	// onWrite, if not nil, is called with all that was written so far.
	onWrite func(all string)
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	n, err := b.buf.Write(p)
	all, call := b.buf.String(), b.onWrite
	b.mu.Unlock()
	if call != nil {
		call(all)
	}
	return n, err
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// testTerminal is a terminal without a terminal.
func testTerminal(env map[string]string) (*terminal, *syncBuffer, *syncBuffer) {
	out, err := &syncBuffer{}, &syncBuffer{}
	return &terminal{
		out: out, err: err, width: func() int { return 0 }, getenv: func(k string) string { return env[k] },
	}, out, err
}
