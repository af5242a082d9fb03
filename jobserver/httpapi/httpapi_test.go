package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/connector"
	"padstone/jobserver"
	"padstone/jobserver/httpapi"
	"padstone/jobserver/jobtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a handler over a server with one job, named `<b>"pay"</b>`.
type site struct {
	*testing.T
	handler http.Handler
	id      string
	run     *jobtest.Run
}

const transform = "Read <payments>\xff"

func newSite(t *testing.T, change func(*httpapi.Config)) *site {
	t.Helper()
	up := make(chan struct{})
	exec := &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(jobpb.JobState_RUNNING)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "<script>alert(1)</script>")
		r.SetDescription(&jobserver.Description{
			Plan: "the plan",
			Stages: []jobserver.StageDescription{
				{ID: "s1", Name: "Group", InputWatermarkMillis: 1500, BacklogElements: 7, DroppedLate: 3, Waiting: "held by a timer"},
				{ID: "s2", Name: "Group"}, {ID: "s3", Name: transform, ElementsIn: 11, Profile: profiled(),
					Cost: &jobserver.CostDescription{Bundles: 4, FixedMillis: 3.25, ElementMicros: 12.5, QuantumMillis: 97}},
			},
			Settings: []jobserver.SettingDescription{
				{Name: "max_bundle_size", Value: new(int64), Unit: "elements", From: "option"}, {Name: "latency_budget_millis", From: "default"},
			},
			Sources: []jobserver.SourceDescription{{Stage: "s3", Name: "Kafka", Splits: []connector.SplitStatus{
				{Split: "p-0", Position: 10, End: 25}, {Split: "p-1", End: -1},
			}}},
			Workers: []jobserver.WorkerDescription{{ID: "w1"}},
			Pools: []jobserver.PoolDescription{{
				Environment: "py", Wanted: 3, Ready: 2, Starting: 1, Min: 1, Max: 4, Sized: true, BacklogSeconds: 12.5, Busy: 0.75, Grown: 2, Recycled: 1,
				Reason: "what waits would take <ages>", Holding: "4 is the most",
			}},
			Checkpoints: &jobserver.CheckpointDescription{
				Completed: 4, Failed: 2, UploadedBytes: 900,
				Last: &jobserver.Checkpoint{CreatedAt: time.UnixMilli(1500), Bytes: 300, UploadedBytes: 100, Millis: 250},
			},
		})
		r.SetMetrics(&jobpb.MetricResults{Committed: []*pipepb.MonitoringInfo{
			counter("beam:metric:user:sum_int64:v1", 5), counter("beam:metric:user:sum_int64:v1", 6),
			counter("beam:metric:user:distribution_int64:v1", 99), {Urn: "beam:metric:user:sum_int64:v1"},
		}, Attempted: []*pipepb.MonitoringInfo{counter("beam:metric:user:sum_int64:v1", 13)}})
		close(up)
		select {
		case <-r.Cancelled:
			r.State(jobpb.JobState_CANCELLED)
		case <-r.Drained:
			r.State(jobpb.JobState_DRAINED)
		case <-r.Stopped:
			r.State(jobpb.JobState_UPDATED)
		}
	}}
	server, err := jobserver.New(jobserver.Config{
		DataDir: t.TempDir(), ArtifactEndpoint: "localhost:1", Executor: exec, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := httpapi.Config{Server: server, Log: zap.NewNop(), Version: "1.2.3"}
	if change != nil {
		change(&cfg)
	}
	s := &site{T: t}
	if s.handler, err = httpapi.New(cfg); err != nil {
		t.Fatal(err)
	}
	s.id = submit(t, server)
	<-up
	s.run = exec.Runs()[0]
	t.Cleanup(func() { _ = s.run.Cancel(context.Background()) })
	return s
}

// profiled is the profile of four bundles of 1.5 ms.
func profiled() *jobserver.ProfileDescription {
	counts := make([]int64, 32)
	for k := 11; k < len(counts); k++ {
		counts[k] = 4
	}
	return &jobserver.ProfileDescription{
		Bundles: 4, Seconds: 0.006, LastElements: 7,
		Parts: []jobserver.PartDescription{
			{Group: "runner", Part: "prepare", Seconds: 0.001}, {Group: "runner", Part: "route", Seconds: 0.002},
			{Group: "harness", Part: "harness", Seconds: 0.003},
		},
		Millis: jobserver.Spread{Sum: 6, P99: 1.5, Counts: counts}, Elements: jobserver.Spread{Sum: 28, Counts: counts},
		Inbox: jobserver.Waits{Count: 2, Seconds: 0.5},
		SDK:   []jobserver.SDKTime{{Transform: "a <b>", ProcessMillis: 30}},
	}
}

func counter(urn string, value byte) *pipepb.MonitoringInfo {
	return &pipepb.MonitoringInfo{Urn: urn, Payload: []byte{value}, Labels: map[string]string{
		"PTRANSFORM": "Count \"all\"", "NAMESPACE": "ns", "NAME": "seen",
	}}
}

// submit goes through gRPC, as every job does.
func submit(t *testing.T, server *jobserver.Server) string {
	t.Helper()
	g := grpc.NewServer(jobserver.ServerOptions()...)
	server.Register(g)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		err := conn.Close()
		g.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
	}()
	options, err := structpb.NewStruct(map[string]any{"beam:option:job_name:v1": `<b>"pay"</b>`})
	if err != nil {
		t.Fatal(err)
	}
	jobs := jobpb.NewJobServiceClient(conn)
	prepared, err := jobs.Prepare(t.Context(), &jobpb.PrepareJobRequest{PipelineOptions: options, Pipeline: &pipepb.Pipeline{
		Components: &pipepb.Components{Transforms: map[string]*pipepb.PTransform{
			"t": {UniqueName: "Read", Subtransforms: []string{"u"}},
			"u": {UniqueName: "Read/<Map>", DisplayData: []*pipepb.DisplayData{{Urn: "beam:display_data:labelled:v1", Payload: labelled(t)}}},
		}},
		RootTransformIds: []string{"t"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	run, err := jobs.Run(t.Context(), &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	if err != nil {
		t.Fatal(err)
	}
	return run.GetJobId()
}

func labelled(t *testing.T) []byte {
	t.Helper()
	payload, err := proto.Marshal(&pipepb.LabelledPayload{
		Label: "Transform Function", Key: "fn", Namespace: "apache_beam.core", Value: &pipepb.LabelledPayload_StringValue{StringValue: "<lambda>"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func (s *site) do(method, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequestWithContext(s.Context(), method, "http://localhost:8100"+path, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func (s *site) json(path string) map[string]any {
	s.Helper()
	w := s.do("GET", path, nil)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		s.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		s.Fatal(err)
	}
	return body
}

func TestAPI(t *testing.T) {
	s := newSite(t, nil)
	jobs := s.json("/api/v1/jobs")["jobs"].([]any)
	if len(jobs) != 1 || jobs[0].(map[string]any)["id"] != s.id || jobs[0].(map[string]any)["state"] != "RUNNING" {
		t.Errorf("jobs %v", jobs)
	}
	job := s.json("/api/v1/jobs/" + s.id)
	stages := job["description"].(map[string]any)["stages"].([]any)
	if job["name"] != `<b>"pay"</b>` || len(stages) != 3 || stages[0].(map[string]any)["backlog_elements"] != 7.0 {
		t.Errorf("job %v", job)
	}
	messages := s.json("/api/v1/jobs/" + s.id + "/messages")
	if m := messages["messages"].([]any); len(m) != 1 || m[0].(map[string]any)["importance"] != "info" || messages["next"] != 4.0 {
		t.Errorf("messages %v", messages)
	}
	if m := s.json("/api/v1/jobs/" + s.id + "/messages?after=4")["messages"].([]any); len(m) != 0 {
		t.Errorf("messages after the last: %v", m)
	}
	transforms := s.json("/api/v1/jobs/" + s.id + "/transforms")["transforms"].([]any)
	item := map[string]any{"label": "Transform Function", "key": "fn", "namespace": "apache_beam.core", "value": "<lambda>"}
	if want := []any{
		map[string]any{"name": "Read", "depth": 0.0}, map[string]any{"name": "Read/<Map>", "depth": 1.0, "display_data": []any{item}},
	}; !reflect.DeepEqual(transforms, want) {
		t.Errorf("transforms %v", transforms)
	}
	if v := s.json("/api/v1/version"); v["version"] != "1.2.3" {
		t.Errorf("version %v", v)
	}
	if w := s.do("GET", "/healthz", nil); w.Code != http.StatusOK {
		t.Errorf("healthz %d", w.Code)
	}
}

// TestReady asks whether all jobs can go on while one of them waits for its disk, and afterwards.
func TestReady(t *testing.T) {
	s := newSite(t, nil)
	stalled := "padstone_job_disk_stalled_seconds{job=\"" + s.id + "\"} "
	if w := s.do("GET", "/readyz", nil); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("readyz %d %q", w.Code, w.Body)
	}
	s.run.SetDescription(&jobserver.Description{Waiting: "disk-stalled: it hangs", DiskStalledMillis: 12_500})
	if w := s.do("GET", "/readyz", nil); w.Code != http.StatusServiceUnavailable || w.Body.String() != "job "+s.id+": disk-stalled: it hangs\n" {
		t.Errorf("readyz %d %q", w.Code, w.Body)
	}
	if w := s.do("GET", "/metrics", nil); !strings.Contains(w.Body.String(), stalled+"12.5\n") {
		t.Errorf("the metric of the disk is missing or wrong:\n%s", w.Body)
	}
	s.run.SetDescription(&jobserver.Description{})
	if w := s.do("GET", "/readyz", nil); w.Code != http.StatusOK {
		t.Errorf("readyz %d %q", w.Code, w.Body)
	}
}

func TestErrors(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/api/v1/jobs/nobody", http.StatusNotFound, "job-not-found"},
		{"GET", "/api/v1/jobs/..%2f..%2fetc%2fpasswd", http.StatusNotFound, "job-not-found"},
		{"GET", "/api/v1/jobs/nobody/messages", http.StatusNotFound, "job-not-found"},
		{"GET", "/api/v1/jobs/nobody/transforms", http.StatusNotFound, "job-not-found"},
		{"GET", "/jobs/nobody", http.StatusNotFound, "job-not-found"},
		{"GET", "/api/v1/jobs/" + s.id + "/messages?after=x", http.StatusBadRequest, "invalid-request"},
		{"POST", "/api/v1/jobs/nobody/cancel", http.StatusNotFound, "job-not-found"},
	} {
		w := s.do(c.method, c.path, func(r *http.Request) { r.Header.Set("X-Padstone", "1") })
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.code) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	if w := s.do("GET", "/api/v1/jobs/"+s.id+"/cancel", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET of cancel: %d", w.Code)
	}
	if w := s.do("GET", "/static/../api.go", nil); w.Code == http.StatusOK {
		t.Errorf("a file outside static was served")
	}
}

func TestCrossOrigin(t *testing.T) {
	s := newSite(t, nil)
	cancel := "/api/v1/jobs/" + s.id + "/cancel"
	for media, want := range map[string]int{
		"": 403, "text/plain": 403, "application/x-www-form-urlencoded": 403, "multipart/form-data; boundary=application/json": 403,
		"text/plain; application/json": 403,
	} {
		if w := s.do("POST", cancel, func(r *http.Request) { r.Header.Set("Content-Type", media) }); w.Code != want {
			t.Errorf("POST as %q: %d", media, w.Code)
		}
	}
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:1": 200, "127.0.0.1:8100": 200, "[::1]:8100": 200, "127.9.9.9": 200, "::1": 200,
		"evil.example": 421, "localhost.evil.example:8100": 421, "192.168.0.1": 421, "": 421, "127.0.0.1.evil.example": 421,
	} {
		if w := s.do("GET", "/api/v1/jobs", func(r *http.Request) { r.Host = host }); w.Code != want {
			t.Errorf("host %q: %d", host, w.Code)
		}
	}
	any := newSite(t, func(c *httpapi.Config) { c.AnyHost = true })
	if w := any.do("GET", "/api/v1/jobs", func(r *http.Request) { r.Host = "padstone.internal" }); w.Code != 200 {
		t.Errorf("any host: %d", w.Code)
	}
	if w := any.do("POST", "/api/v1/jobs/"+any.id+"/cancel", nil); w.Code != 403 {
		t.Errorf("a bare POST where any host is answered: %d", w.Code)
	}
}

func TestCancelAndDrain(t *testing.T) {
	for verb, want := range map[string]string{"cancel": "CANCEL", "drain": "DRAIN"} {
		s := newSite(t, nil)
		w := s.do("POST", "/api/v1/jobs/"+s.id+"/"+verb, func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
		})
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", verb, w.Code, w.Body)
		}
	}
}

func TestCheckpoints(t *testing.T) {
	s := newSite(t, nil)
	post := func(path, body string) (int, string) {
		w := s.do("POST", path, func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json")
			r.Body = io.NopCloser(strings.NewReader(body))
		})
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/checkpoint", "", 200, `"kind": "checkpoint"`},
		{"/checkpoint", `{"to": "/place"}`, 200, `"repository": "/place"`},
		{"/savepoint", `{}`, 200, `"kind": "savepoint"`},
		{"/savepoint", `{"to": "broken"}`, 503, "checkpoint-repository"},
		{"/savepoint", `{"where": "/place"}`, 400, "invalid-request"},
		{"/stop", `{"to": "broken"}`, 503, "checkpoint-repository"},
		{"/stop", `[]`, 400, "invalid-request"},
		{"/stop", `{"to": "/place"}`, 200, `"state": "UPDATED"`},
		{"/stop", `{}`, 409, "job-over"},
		{"/checkpoint", `{}`, 409, "job-over"},
	} {
		if status, text := post("/api/v1/jobs/"+s.id+c.path, c.body); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, text)
		}
	}
	for body, want := range map[string]string{"": "invalid-request", `{"from": "/place"}`: "checkpoints-unsupported"} {
		if status, text := post("/api/v1/restore", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("restore %s: %d %s", body, status, text)
		}
	}
}

func TestThreads(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		path   string
		status int
		has    []string
		hasNot string
	}{
		{"/api/v1/jobs/" + s.id + "/threads", 200, []string{`"worker": "w-1"`, `"idle_seconds": 12.5`, `"error": "it does not answer"`}, ""},
		{"/api/v1/jobs/" + s.id + "/threads?worker=w-2", 200, []string{`"worker": "w-2"`, `"bundles": []`}, "w-1"},
		{"/api/v1/jobs/" + s.id + "/threads?worker=w-3", 404, []string{"worker-not-found"}, ""},
		{"/api/v1/jobs/nothing/threads", 404, []string{"job-not-found"}, ""},
		{"/jobs/" + s.id + "/threads", 200, []string{
			"in &lt;module&gt;", "all &lt;threads&gt;", `<td>Slow</td><td class="n">65.0</td><td class="n">12.5</td>`, "it does not answer", "No bundle.",
		}, "<module>"},
		{"/jobs/" + s.id + "/threads?worker=w-3", 404, []string{"worker-not-found"}, ""},
	} {
		w := s.do("GET", c.path, nil)
		text := w.Body.String()
		for _, part := range c.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s:\n%s", c.path, part, text)
			}
		}
		if w.Code != c.status || c.hasNot != "" && strings.Contains(text, c.hasNot) {
			t.Errorf("%s: %d %s", c.path, w.Code, text)
		}
	}
	if err := s.run.Cancel(context.Background()); err != nil {
		t.Fatal(err)
	}
	for s.json("/api/v1/jobs/" + s.id)["state"] != "CANCELLED" {
		time.Sleep(time.Millisecond)
	}
	if w := s.do("GET", "/api/v1/jobs/"+s.id+"/threads", nil); w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "job-over") {
		t.Errorf("over: %d %s", w.Code, w.Body)
	}
}

func TestSettings(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"a": 5, "b": "7", "c": null}`, 200, `{"a":"5","b":"7","c":"default"}`},
		{`{"a": 1e3, "b": 2.5}`, 200, `{"a":"1e3","b":"2.5"}`}, // the executor says what a number may be
		{`{"broken": 5}`, 409, "setting-fixed"},
		{`{"a": true}`, 400, "invalid-request"},
		{`{"a": {"b": 1}}`, 400, "invalid-request"},
		{`[5]`, 400, "invalid-request"},
	} {
		w := s.do("POST", "/api/v1/jobs/"+s.id+"/settings", func(r *http.Request) {
			r.Header.Set("Content-Type", "application/json")
			r.Body = io.NopCloser(strings.NewReader(c.body))
		})
		got := w.Body.String()
		if w.Code == http.StatusOK {
			var answer struct {
				Settings []jobserver.SettingDescription
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			values := map[string]string{}
			for _, d := range answer.Settings {
				values[d.Name] = d.Note
			}
			text, err := json.Marshal(values)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
		}
		if w.Code != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s: %d %s", c.body, w.Code, got)
		}
	}
	if err := s.run.Cancel(context.Background()); err != nil {
		t.Fatal(err)
	}
	for s.json("/api/v1/jobs/" + s.id)["state"] != "CANCELLED" {
		time.Sleep(time.Millisecond)
	}
	w := s.do("POST", "/api/v1/jobs/"+s.id+"/settings", func(r *http.Request) { r.Header.Set("X-Padstone", "1") })
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "job-over") {
		t.Errorf("over: %d %s", w.Code, w.Body)
	}
}

func TestMetrics(t *testing.T) {
	s := newSite(t, nil)
	w := s.do("GET", "/metrics", nil)
	text := w.Body.String()
	for _, want := range []string{
		`padstone_jobs{state="RUNNING"} 1`, `padstone_jobs{state="DONE"} 0`,
		`padstone_job_info{job="` + s.id + `",name="<b>\"pay\"</b>"} 1`,
		`padstone_stage_input_watermark_seconds{job="` + s.id + `",stage="Group (s1)"} 1.5`,
		`padstone_stage_backlog_elements{job="` + s.id + `",stage="Group (s1)"} 7`,
		`padstone_stage_dropped_late_total{job="` + s.id + `",stage="Group (s2)"} 0`,
		`padstone_stage_elements_in_total{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 11`,
		`padstone_source_lag_records{job="` + s.id + `",source="Kafka",split="p-0"} 15`,
		`padstone_user_counter{job="` + s.id + `",name="seen",namespace="ns",transform="Count \"all\""} 11`,
		`padstone_user_counter_attempted{job="` + s.id + `",name="seen",namespace="ns",transform="Count \"all\""} 13`,
		`padstone_checkpoint_completed_total{job="` + s.id + `"} 4`, `padstone_checkpoint_failed_total{job="` + s.id + `"} 2`,
		`padstone_checkpoint_uploaded_bytes_total{job="` + s.id + `"} 900`, `padstone_checkpoint_last_bytes{job="` + s.id + `"} 300`,
		`padstone_checkpoint_last_time_seconds{job="` + s.id + `"} 1.5`, `padstone_checkpoint_last_uploaded_bytes{job="` + s.id + `"} 100`,
		`padstone_checkpoint_last_duration_seconds{job="` + s.id + `"} 0.25`,
		`padstone_harness_processes_wanted{environment="py",job="` + s.id + `"} 3`,
		`padstone_harness_processes_ready{environment="py",job="` + s.id + `"} 2`,
		`padstone_harness_processes_max{environment="py",job="` + s.id + `"} 4`,
		`padstone_harness_backlog_seconds{environment="py",job="` + s.id + `"} 12.5`,
		`padstone_harness_busy_ratio{environment="py",job="` + s.id + `"} 0.75`,
		`padstone_harness_grown_total{environment="py",job="` + s.id + `"} 2`,
		`padstone_harness_recycled_total{environment="py",job="` + s.id + `"} 1`,
		`padstone_stage_bundle_part_seconds_total{group="runner",job="` + s.id + `",part="route",stage="Read <payments>` + "\uFFFD" + `"} 0.002`,
		`padstone_stage_bundle_duration_seconds_bucket{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `",le="0.001023"} 0`,
		`padstone_stage_bundle_duration_seconds_bucket{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `",le="0.004095"} 4`,
		`padstone_stage_bundle_duration_seconds_sum{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 0.006`,
		`padstone_stage_bundle_elements_sum{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 28`,
		`padstone_stage_wait_seconds_total{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `",wait="inbox"} 0.5`,
		`padstone_stage_bundle_last_elements{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 7`,
		`padstone_transform_sdk_seconds_total{job="` + s.id + `",method="process_bundle",stage="Read <payments>` + "\uFFFD" +
			`",transform="a <b>"} 0.03`,
		`padstone_stage_bundle_fixed_seconds{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 0.00325`,
		`padstone_stage_element_seconds{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 1.25e-05`,
		`padstone_stage_bundle_open_max_seconds{job="` + s.id + `",stage="Read <payments>` + "\uFFFD" + `"} 0.097`,
		"go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, `split="p-1"`) {
		t.Error("a lag without a known end")
	}
	if w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
	s.run.State(jobpb.JobState_CANCELLED)
}

func TestPages(t *testing.T) {
	s := newSite(t, nil)
	for path, wants := range map[string][]string{
		"/": {"&lt;b&gt;", s.id, "RUNNING"},
		"/jobs/" + s.id: {
			"4 taken, 900 bytes uploaded, 2 failed", "Time of bundles", "50\u00a0%", "harness harness: 0.003 s", "250.0", `<td class="n">12.5</td><td class="n">97</td>`,
			`<td>max_bundle_size</td><td class="n">0</td>`, `<td>latency_budget_millis</td><td class="n">auto</td>`,
			"Group", "held by a timer", "&lt;script&gt;alert(1)", "p-0", "the plan",
			"1–4", "75\u00a0%", "&lt;ages&gt; Stays so: 4 is", "Read/&lt;Map&gt;", "&lt;lambda&gt;", `data-post="/api/v1/jobs/` + s.id + `/cancel"`,
		},
	} {
		w := s.do("GET", path, nil)
		text := w.Body.String()
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d", path, w.Code)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s:\n%s", path, want, text)
			}
		}
		if strings.Contains(text, "<script>alert") || strings.Contains(text, "<b>") {
			t.Errorf("%s does not escape:\n%s", path, text)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s has no policy", path)
		}
	}
	for _, path := range []string{"/static/padstone.css", "/static/padstone.js"} {
		if w := s.do("GET", path, nil); w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := s.do("GET", "/nowhere", nil); w.Code != http.StatusNotFound {
		t.Errorf("/nowhere: %d", w.Code)
	}
}

func TestConfig(t *testing.T) {
	if _, err := httpapi.New(httpapi.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
