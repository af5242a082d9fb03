package jobserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
	"padstone/jobserver"
	"padstone/jobserver/jobtest"
)

const (
	stopped    = jobpb.JobState_STOPPED
	starting   = jobpb.JobState_STARTING
	running    = jobpb.JobState_RUNNING
	done       = jobpb.JobState_DONE
	failed     = jobpb.JobState_FAILED
	cancelling = jobpb.JobState_CANCELLING
	cancelled  = jobpb.JobState_CANCELLED
	draining   = jobpb.JobState_DRAINING
	drained    = jobpb.JobState_DRAINED
)

// world is a server with a gRPC client.
type world struct {
	*testing.T
	dir    string
	exec   *jobtest.Executor
	server *jobserver.Server
	jobs   jobpb.JobServiceClient
	conn   *grpc.ClientConn
	stop   func()
}

// start starts a server on dir; the test's end stops it if the test has not.
func start(t *testing.T, dir string, exec *jobtest.Executor, change func(*jobserver.Config)) *world {
	t.Helper()
	w := &world{T: t, dir: dir, exec: exec}
	cfg := jobserver.Config{DataDir: dir, ArtifactEndpoint: "localhost:8098", Executor: exec, Log: zap.NewNop()}
	if change != nil {
		change(&cfg)
	}
	server, err := jobserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(jobserver.ServerOptions()...)
	server.Register(g)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	w.conn, err = grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	w.server, w.jobs = server, jobpb.NewJobServiceClient(w.conn)
	w.stop = sync.OnceFunc(func() {
		if err := errors.Join(server.Close(), w.conn.Close()); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	w.Cleanup(cancel)
	return ctx
}

func pipeline() *pipepb.Pipeline {
	return &pipepb.Pipeline{Components: &pipepb.Components{
		Transforms: map[string]*pipepb.PTransform{"t": {UniqueName: "Read payments"}},
	}}
}

func options(fields map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(fields)
	if err != nil {
		panic(err)
	}
	return s
}

// submit does what Beam's clients do, less the staging.
func (w *world) submit(name string) string {
	w.Helper()
	prepared, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{
		JobName: "job", Pipeline: pipeline(), PipelineOptions: options(map[string]any{"beam:option:job_name:v1": name}),
	})
	if err != nil {
		w.Fatal(err)
	}
	run, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	if err != nil {
		w.Fatal(err)
	}
	return run.GetJobId()
}

// states follows the state stream to its end.
func (w *world) states(id string) []jobpb.JobState_Enum {
	w.Helper()
	stream, err := w.jobs.GetStateStream(w.ctx(), &jobpb.GetJobStateRequest{JobId: id})
	if err != nil {
		w.Fatal(err)
	}
	var states []jobpb.JobState_Enum
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return states
		}
		if err != nil {
			w.Fatalf("after %v: %v", states, err)
		}
		if e.GetTimestamp() == nil {
			w.Errorf("state %v without a time", e.GetState())
		}
		states = append(states, e.GetState())
	}
}

// story follows the message stream to its end: states by name, messages as "IMPORTANCE text".
func (w *world) story(id string) []string {
	w.Helper()
	stream, err := w.jobs.GetMessageStream(w.ctx(), &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		w.Fatal(err)
	}
	var lines []string
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			w.Fatalf("after %v: %v", lines, err)
		}
		if s := e.GetStateResponse(); s != nil {
			lines = append(lines, s.GetState().String())
		} else {
			m := e.GetMessageResponse()
			lines = append(lines, strings.TrimPrefix(m.GetImportance().String(), "JOB_MESSAGE_")+" "+m.GetMessageText())
		}
	}
}

func (w *world) same(got any, want string) {
	w.Helper()
	if text := fmt.Sprint(got); text != want {
		w.Errorf("got  %s\nwant %s", text, want)
	}
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %v with %q", err, code, text)
	}
}

func TestRunToDone(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "reading")
		r.SetMetrics(&jobpb.MetricResults{Committed: []*pipepb.MonitoringInfo{{Urn: "m"}}})
		r.SetDescription(&jobserver.Description{Plan: "the plan"})
		r.State(done)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "too late")
		r.State(failed)
	}}, nil)
	id := w.submit("My Job: №1")
	w.same(w.states(id), "[STOPPED STARTING RUNNING DONE]")
	w.same(w.story(id), "[STOPPED STARTING RUNNING BASIC reading DONE]")
	if !strings.HasPrefix(id, "my-job-1-") || len(id) != len("my-job-1-")+32 {
		t.Errorf("job id %q", id)
	}
	spec := w.exec.Runs()[0].Spec
	if spec.ID != id || spec.Name != "My Job: №1" || spec.Dir != filepath.Join(w.dir, "jobs", id) || spec.ArtifactEndpoint == "" {
		t.Errorf("spec %+v", spec)
	}
	// Answered by the running server, then by the next one.
	for range 2 {
		metrics, err := w.jobs.GetJobMetrics(w.ctx(), &jobpb.GetJobMetricsRequest{JobId: id})
		if err != nil || len(metrics.GetMetrics().GetCommitted()) != 1 {
			t.Errorf("metrics %v, %v", metrics, err)
		}
		description, err := w.server.Describe(w.ctx(), id)
		if err != nil || description.Plan != "the plan" {
			t.Errorf("description %v, %v", description, err)
		}
		got, err := w.jobs.GetPipeline(w.ctx(), &jobpb.GetJobPipelineRequest{JobId: id})
		if err != nil || !proto.Equal(got.GetPipeline(), pipeline()) {
			t.Errorf("pipeline %v, %v", got, err)
		}
		jobs, err := w.jobs.GetJobs(w.ctx(), &jobpb.GetJobsRequest{})
		if err != nil || len(jobs.GetJobInfo()) != 1 {
			t.Fatalf("jobs %v, %v", jobs, err)
		}
		info := jobs.GetJobInfo()[0]
		if info.GetJobId() != id || info.GetJobName() != "My Job: №1" || info.GetState() != done ||
			len(info.GetPipelineOptions().GetFields()) != 1 {
			t.Errorf("job info %v", info)
		}
		w.same(w.story(id), "[STOPPED STARTING RUNNING BASIC reading DONE]")
		w.stop()
		w = start(t, w.dir, &jobtest.Executor{}, nil)
	}
}

// TestPreparationID walks through Python's client: it opens both streams with the preparation id before Run, and only their failure
// makes it open them again without a deadline.
func TestStagingEndpointByTheAddressCalled(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, func(c *jobserver.Config) {
		c.StagingEndpoint = func(called string) string { return "as-" + called }
	})
	prepared, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: pipeline()}, grpc.CallAuthority("padstone:8099"))
	if err != nil {
		t.Fatal(err)
	}
	if got := prepared.GetArtifactStagingEndpoint().GetUrl(); got != "as-padstone:8099" {
		t.Errorf("artifacts are staged at %s", got)
	}
}

func TestPreparationID(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	prepared, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: pipeline()})
	if err != nil {
		t.Fatal(err)
	}
	if prepared.GetArtifactStagingEndpoint().GetUrl() != "localhost:8098" || prepared.GetStagingSessionToken() == "" {
		t.Errorf("prepared %v", prepared)
	}
	id := prepared.GetPreparationId()
	states, err := w.jobs.GetStateStream(w.ctx(), &jobpb.GetJobStateRequest{JobId: id})
	if err != nil {
		t.Fatal(err)
	}
	_, err = states.Recv()
	wantCode(t, err, codes.NotFound, "job-not-found")
	messages, err := w.jobs.GetMessageStream(w.ctx(), &jobpb.JobMessagesRequest{JobId: id})
	if err != nil {
		t.Fatal(err)
	}
	_, err = messages.Recv()
	wantCode(t, err, codes.NotFound, "job-not-found")

	// Run is idempotent, at once and after a restart.
	var group sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		group.Go(func() {
			run, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: id, RetrievalToken: prepared.GetStagingSessionToken()})
			if err != nil {
				t.Error(err)
			}
			ids[i] = run.GetJobId()
		})
	}
	group.Wait()
	if n := len(slices.Compact(ids)); n != 1 || ids[0] == id || len(w.exec.Runs()) != 1 {
		t.Errorf("%d jobs from one preparation %s: %v", n, id, ids)
	}
	w.states(ids[0])
	w.stop()
	w = start(t, w.dir, &jobtest.Executor{}, nil)
	run, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: id})
	if err != nil || run.GetJobId() != ids[0] || len(w.exec.Runs()) != 0 {
		t.Errorf("after a restart: %v, %v", run, err)
	}
}

func TestUnknownIDs(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	for _, id := range []string{"", "nobody", "../../etc/passwd", strings.Repeat("x", 1<<20), "\x00"} {
		_, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: id})
		wantCode(t, err, codes.NotFound, "preparation-not-found")
		_, err = w.jobs.GetState(w.ctx(), &jobpb.GetJobStateRequest{JobId: id})
		wantCode(t, err, codes.NotFound, "job-not-found")
		_, err = w.jobs.GetPipeline(w.ctx(), &jobpb.GetJobPipelineRequest{JobId: id})
		wantCode(t, err, codes.NotFound, "job-not-found")
		_, err = w.jobs.GetJobMetrics(w.ctx(), &jobpb.GetJobMetricsRequest{JobId: id})
		wantCode(t, err, codes.NotFound, "job-not-found")
		_, err = w.jobs.Cancel(w.ctx(), &jobpb.CancelJobRequest{JobId: id})
		wantCode(t, err, codes.NotFound, "job-not-found")
		_, err = w.jobs.Drain(w.ctx(), &jobpb.DrainJobRequest{JobId: id})
		wantCode(t, err, codes.NotFound, "job-not-found")
	}
}

func TestPrepareRefusals(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{CheckErr: func(spec jobserver.Spec) error {
		if strings.HasPrefix(spec.Name, "bad") {
			return fault.New(fault.Pipeline, "unsupported-trigger", "%s", strings.Repeat("ü", 5000)).In("Window payments").WithHint("use another")
		}
		if strings.HasPrefix(spec.Name, "refused") {
			return fault.New(fault.Pipeline, "unsupported-trigger", "no such trigger").In("Window payments").WithHint("use another")
		}
		return nil
	}}, nil)
	_, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{})
	wantCode(t, err, codes.InvalidArgument, "invalid-request")
	_, err = w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{JobName: "refused", Pipeline: pipeline()})
	wantCode(t, err, codes.InvalidArgument, `unsupported-trigger: transform "Window payments": no such trigger (hint: use another)`)
	// The text fits the 8 KiB of trailers that Python's client accepts, percent-encoded as it is.
	_, err = w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{JobName: "bad", Pipeline: pipeline()})
	wantCode(t, err, codes.InvalidArgument, "unsupported-trigger")
	if text := status.Convert(err).Message(); 3*len(text) > 7000 || !strings.Contains(text, "server's log") {
		t.Errorf("%d bytes of text: %.100s", len(text), text)
	}
	http := pipeline()
	payload, err := proto.Marshal(&pipepb.ArtifactUrlPayload{Url: "https://example.com/x.jar"})
	if err != nil {
		t.Fatal(err)
	}
	http.Components.Environments = map[string]*pipepb.Environment{"e": {Dependencies: []*pipepb.ArtifactInformation{
		{TypeUrn: "beam:artifact:type:url:v1", TypePayload: payload},
	}}}
	_, err = w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: http})
	wantCode(t, err, codes.InvalidArgument, "unsupported-artifact-url")
	if entries, err := os.ReadDir(filepath.Join(w.dir, "jobs")); err != nil || len(entries) != 0 {
		t.Errorf("refusals left %v, %v", entries, err)
	}
}

func TestHostileNames(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	for _, name := range []string{"../../../etc", strings.Repeat("long ", 1<<18), "\x1b[31mred\n", "日本語", ".", "-", "a\x00b", ""} {
		id := w.submit(name)
		w.states(id)
		if strings.ContainsAny(id, "/.\x00\n ") || len(id) > 80 {
			t.Errorf("name %.40q makes id %q", name, id)
		}
		info, err := w.server.Job(id)
		if err != nil || info.Name == "" || len([]rune(info.Name)) > 200 || strings.ContainsAny(info.Name, "\x00\n\x1b") {
			t.Errorf("name %.40q is shown as %q, %v", name, info.Name, err)
		}
	}
}

func TestStartRefused(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{StartErr: func(jobserver.Spec) error {
		return fault.New(fault.Environment, "kafka-unreachable", "no broker at localhost:9092")
	}}, nil)
	id := w.submit("x")
	w.same(w.story(id), "[STOPPED STARTING ERROR kafka-unreachable: no broker at localhost:9092 FAILED]")
}

// TestContractBreaches: whatever an executor does, a job ends and says why.
func TestContractBreaches(t *testing.T) {
	for name, c := range map[string]struct {
		script func(*jobtest.Run)
		want   string
	}{
		"silent end":     {func(r *jobtest.Run) { r.State(running) }, "executor-ended-silently"},
		"silent failure": {func(r *jobtest.Run) { r.State(failed) }, "gave no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, t.TempDir(), &jobtest.Executor{Script: c.script}, nil)
			story := w.story(w.submit("x"))
			if n := len(story); story[n-1] != "FAILED" || !strings.HasPrefix(story[n-2], "ERROR ") || !strings.Contains(story[n-2], c.want) {
				t.Errorf("story %q", story)
			}
		})
	}
}

func TestCancelAndDrain(t *testing.T) {
	script := func(r *jobtest.Run) {
		r.State(running)
		select {
		case <-r.Cancelled:
			r.State(cancelled)
		case <-r.Drained:
			<-r.Cancelled // the drain takes for ever
			r.State(cancelled)
		}
	}
	w := start(t, t.TempDir(), &jobtest.Executor{Script: script}, nil)
	a, b := w.submit("a"), w.submit("b")
	drain, err := w.jobs.Drain(w.ctx(), &jobpb.DrainJobRequest{JobId: a})
	if err != nil || drain.GetState() != draining {
		t.Errorf("drain %v, %v", drain, err)
	}
	for _, id := range []string{a, b} {
		cancel, err := w.jobs.Cancel(w.ctx(), &jobpb.CancelJobRequest{JobId: id})
		if err != nil || (cancel.GetState() != cancelling && cancel.GetState() != cancelled) {
			t.Errorf("cancel %v, %v", cancel, err)
		}
		states := w.states(id)
		if states[len(states)-1] != cancelled {
			t.Errorf("states %v", states)
		}
		again, err := w.jobs.Cancel(w.ctx(), &jobpb.CancelJobRequest{JobId: id})
		if err != nil || again.GetState() != cancelled {
			t.Errorf("second cancel %v, %v", again, err)
		}
	}
	w.same(w.states(a)[2:4], "[RUNNING DRAINING]")
}

func TestDrainOfCancelling(t *testing.T) {
	release := make(chan struct{})
	w := start(t, t.TempDir(), &jobtest.Executor{Script: func(r *jobtest.Run) {
		<-release
		r.State(cancelled)
	}}, nil)
	id := w.submit("a")
	cancel, err := w.jobs.Cancel(w.ctx(), &jobpb.CancelJobRequest{JobId: id})
	if err != nil || cancel.GetState() != cancelling {
		t.Errorf("cancel %v, %v", cancel, err)
	}
	_, err = w.jobs.Drain(w.ctx(), &jobpb.DrainJobRequest{JobId: id})
	wantCode(t, err, codes.FailedPrecondition, "job-cancelling")
	close(release)
	w.same(w.states(id), "[STOPPED STARTING CANCELLING CANCELLED]")
}

// TestRestart stops a server over running jobs, as kill -9 would as far as the registry is concerned.
func TestRestart(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	hold := &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "before")
		<-release
	}}
	w := start(t, t.TempDir(), hold, nil)
	plain, toCancel := w.submit("plain"), w.submit("cancel")
	if _, err := w.server.Cancel(w.ctx(), toCancel); err != nil {
		t.Fatal(err)
	}
	stream, err := w.jobs.GetStateStream(w.ctx(), &jobpb.GetJobStateRequest{JobId: plain})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetState() == running {
			break
		}
	}
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantCode(t, err, codes.Unavailable, "server-closing")
	if !jobserver.Gone(err) {
		t.Error("a client that waits would give up")
	}
	hold.Runs()[0].State(done) // from an executor that is being stopped: too late to be recorded
	w.stop()

	next := &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		if r.Spec.ID == toCancel {
			<-r.Cancelled
			r.State(cancelled)
			return
		}
		r.State(done)
	}}
	w = start(t, w.dir, next, func(c *jobserver.Config) { c.Recover = next.Start })
	if info, err := w.server.Job(plain); err != nil || info.State != running {
		t.Errorf("before recovery: %v, %v", info, err)
	}
	if err := w.server.Recover(w.ctx()); err != nil {
		t.Fatal(err)
	}
	w.same(w.states(plain), "[STOPPED STARTING RUNNING STARTING RUNNING DONE]")
	states := w.states(toCancel)
	w.same(states[len(states)-2:], "[CANCELLING CANCELLED]")
	for _, run := range next.Runs() {
		if !proto.Equal(run.Spec.Pipeline, pipeline()) || len(run.Spec.Options.GetFields()) != 1 || run.Spec.Dir == "" {
			t.Errorf("recovered spec %+v", run.Spec)
		}
	}
}

func TestRestartWithoutRecovery(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	w := start(t, t.TempDir(), &jobtest.Executor{Script: func(*jobtest.Run) { <-release }}, nil)
	id := w.submit("x")
	w.stop()
	w = start(t, w.dir, &jobtest.Executor{}, nil)
	if err := w.server.Recover(w.ctx()); err != nil {
		t.Fatal(err)
	}
	story := w.story(id)
	w.same(len(story), "4")
	if !strings.HasPrefix(story[2], "ERROR server-restarted: ") || story[3] != "FAILED" {
		t.Errorf("story %q", story)
	}
}

func TestSecondServer(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	_, err := jobserver.New(jobserver.Config{DataDir: w.dir, ArtifactEndpoint: "x", Executor: w.exec, Log: zap.NewNop()})
	if f := fault.Of(err); f == nil || f.Code != "data-dir-locked" || !strings.Contains(f.Msg, fmt.Sprint(os.Getpid())) {
		t.Errorf("second server: %v", err)
	}
	if _, err := jobserver.New(jobserver.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

func TestPreparationsAreBounded(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, func(c *jobserver.Config) { c.PreparationsMax = 2 })
	var ids []string
	for range 3 {
		prepared, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: pipeline()})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, prepared.GetPreparationId())
	}
	_, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: ids[0]})
	wantCode(t, err, codes.NotFound, "preparation-not-found")
	run, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: ids[2]})
	if err != nil {
		t.Fatal(err)
	}
	w.states(run.GetJobId())
}

// TestManyJobs runs a hundred jobs one after another, staging an artifact each, and finds goroutines, files and artifacts bounded.
func TestManyJobs(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, func(c *jobserver.Config) { c.JobsKept = 5 })
	var before int
	for i := range 100 {
		id := w.submitWithArtifact(fmt.Sprintf("content %d", i))
		w.states(id)
		if i == 5 {
			before = runtime.NumGoroutine()
		}
	}
	for ctx := w.ctx(); runtime.NumGoroutine() > before+5 || len(w.server.Jobs()) > 5; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil { // what the last jobs have left to do takes less
			t.Fatalf("%d goroutines after 5 jobs, %d after 100; %d jobs kept, want 5", before, runtime.NumGoroutine(), len(w.server.Jobs()))
		}
	}
	w.stop()
	for pattern, want := range map[string]int{"jobs/*": 6, "artifacts/sha256/*/*": 6} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		if err != nil || len(found) > want {
			t.Errorf("%s: %d files, %v; want at most %d", pattern, len(found), err, want)
		}
	}
}

// submitWithArtifact submits a pipeline with one file, staging it as Go's client does.
func (w *world) submitWithArtifact(content string) string {
	w.Helper()
	payload, err := proto.Marshal(&pipepb.ArtifactFilePayload{Path: "/client/worker"})
	if err != nil {
		w.Fatal(err)
	}
	p := pipeline()
	p.Components.Environments = map[string]*pipepb.Environment{"go": {Dependencies: []*pipepb.ArtifactInformation{
		{TypeUrn: "beam:artifact:type:file:v1", TypePayload: payload, RoleUrn: "beam:artifact:role:go_worker_binary:v1"},
	}}}
	prepared, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: p})
	if err != nil {
		w.Fatal(err)
	}
	_, err = w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	wantCode(w.T, err, codes.FailedPrecondition, "artifacts-not-staged")
	if err := w.stage(prepared.GetStagingSessionToken(), content); err != nil {
		w.Fatal(err)
	}
	run, err := w.jobs.Run(w.ctx(), &jobpb.RunJobRequest{
		PreparationId: prepared.GetPreparationId(), RetrievalToken: prepared.GetStagingSessionToken(),
	})
	if err != nil {
		w.Fatal(err)
	}
	stored := w.exec.Runs()[len(w.exec.Runs())-1].Spec.Pipeline.GetComponents().GetEnvironments()["go"].GetDependencies()[0]
	file := &pipepb.ArtifactFilePayload{}
	if err := proto.Unmarshal(stored.GetTypePayload(), file); err != nil || len(file.GetSha256()) != 64 ||
		stored.GetRoleUrn() != "beam:artifact:role:go_worker_binary:v1" {
		w.Errorf("stored dependency %v: %v, %v", stored, file, err)
	}
	return run.GetJobId()
}

func (w *world) stage(token, content string) error {
	stream, err := jobpb.NewArtifactStagingServiceClient(w.conn).ReverseArtifactRetrievalService(w.ctx())
	if err != nil {
		return err
	}
	answer := &jobpb.ArtifactResponseWrapper{StagingToken: token}
	for {
		if err := stream.Send(answer); err != nil {
			return err
		}
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer = &jobpb.ArtifactResponseWrapper{IsLast: true, Response: &jobpb.ArtifactResponseWrapper_GetArtifactResponse{
			GetArtifactResponse: &jobpb.GetArtifactResponse{Data: []byte(content)},
		}}
		if r := request.GetResolveArtifact(); r != nil {
			answer = &jobpb.ArtifactResponseWrapper{Response: &jobpb.ArtifactResponseWrapper_ResolveArtifactResponse{
				ResolveArtifactResponse: &jobpb.ResolveArtifactsResponse{Replacements: r.GetArtifacts()},
			}}
		}
	}
}

func TestDescribePipelineOptions(t *testing.T) {
	want := &jobpb.PipelineOptionDescriptor{Name: "max_bundle_size", Type: jobpb.PipelineOptionType_INTEGER}
	w := start(t, t.TempDir(), &jobtest.Executor{}, func(c *jobserver.Config) {
		c.Options = []*jobpb.PipelineOptionDescriptor{want}
	})
	got, err := w.jobs.DescribePipelineOptions(w.ctx(), &jobpb.DescribePipelineOptionsRequest{})
	if err != nil || len(got.GetOptions()) != 2 || !proto.Equal(got.GetOptions()[0], want) || got.GetOptions()[1].GetName() != "environment_override" {
		t.Errorf("options %v, %v", got, err)
	}
}

// TestBigPipeline submits more than gRPC takes by default.
func TestBigPipeline(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	p := pipeline()
	p.Components.Transforms["t"].Spec = &pipepb.FunctionSpec{Payload: make([]byte, 32<<20)}
	if _, err := w.jobs.Prepare(w.ctx(), &jobpb.PrepareJobRequest{Pipeline: p}); err != nil {
		t.Error(err)
	}
}
