package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeAPI is the HTTP API with two jobs, in the shape of docs/http-api.md.
type fakeAPI struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	// states are what the payments job reports from one question to the next; the last one stays.
	states []string
}

const paymentsJob = `{
  "id": "payments-1f", "name": "payments", "state": "STATE", "terminal": TERMINAL, "created_at": "2026-01-02T03:04:05Z",
  "history": [{"state": "STARTING", "at": "2026-01-02T03:04:05Z"}, {"state": "STATE", "at": "2026-01-02T03:04:06Z"}],
  "last_error": "LASTERROR",
  "description": {
    "plan": "the plan",
    "settings": [{"name": "max_bundle_size", "value": 5000, "unit": "elements", "from": "set", "changeable": true},
      {"name": "latency_budget_millis", "value": null, "unit": "milliseconds", "from": "default", "changeable": true},
      {"name": "sdk_worker_parallelism", "value": 0, "unit": "processes", "from": "option", "changeable": false, "note": "4: cores"}],
    "stages": [
      {"id": "s1", "name": "ReadFromKafka", "kind": "source", "transforms": ["ReadFromKafka"], "elements_out": 1234567,
       "output_watermark_millis": 1767323046000, "backlog_elements": 12, "bundles_committed": 7, "bundles_in_flight": 1,
       "profile": {"bundles": 7, "seconds": 1.25, "last_elements": 1200, "millis": {"p50": 3.21, "p99": 44.4}, "elements": {"p50": 1000},
         "parts": [{"group": "runner", "part": "route", "seconds": 0.25}, {"group": "harness", "part": "harness", "seconds": 0.995},
           {"group": "store", "part": "load", "seconds": 0.002}, {"group": "store", "part": "commit", "seconds": 0.003}],
         "inbox": {"count": 4, "seconds": 0.01, "max_millis": 9}, "sdk": [{"transform": "Parse", "process_bundle_millis": 900}]},
       "cost": {"bundles": 7, "fixed_millis": 3.2, "element_micros": 13.7, "quantum_millis": 96, "bundles_max": 3}},
      {"id": "s2", "name": "CombinePerKey(sum)", "kind": "group", "transforms": ["CombinePerKey(sum)/Group", "CombinePerKey(sum)/Merge"],
       "elements_in": 1234000, "output_watermark_millis": -9223372036854775, "dropped_late": 3, "waiting": "for ReadFromKafka"}
    ],
    "sources": [{"stage": "s1", "name": "ReadFromKafka", "splits": [
      {"split": "payments-0", "position": 17, "end": -1, "committed": 15, "watermark": "2026-01-02T03:04:06.000Z", "idle": true}]}],
    "checkpoints": {"repository": "s3://b/p", "interval_millis": 180000, "completed": 4, "failed": 1, "uploaded_bytes": 54321,
      "last": {"id": "1-4-abc", "kind": "checkpoint", "created_at": "2026-01-02T03:04:05Z", "bytes": 98765, "uploaded_bytes": 321},
      "last_failure": {"at": "2026-01-02T03:04:05Z", "message": "checkpoint-repository: no room"}},
    "environments": [{"id": "go", "runs": "EXTERNAL pool:50000", "replaces": "DOCKER apache/beam_go_sdk:2"}],
    "pools": [{"environment": "go", "wanted": 3, "ready": 2, "starting": 1, "ending": 0, "min": 1, "max": 4, "sized": true,
      "backlog_seconds": 12.5, "busy": 0.75, "cores": 1.25, "grown": 2, "shrunk": 1, "recycled": 1, "reason": "what waits would take 12 s",
      "changed_at": "2026-01-02T03:04:05Z", "holding": "3 is the most"}],
    "workers": [{"id": "w-1", "environment": "go", "bundles": 2, "generation": 1, "worker_pool": "10.0.0.7:50000", "memory_bytes": 300000000}]
  }
}`

func startAPI(t *testing.T, states ...string) *fakeAPI {
	t.Helper()
	f := &fakeAPI{states: states}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/server", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"pid": 1}`)) })
	mux.HandleFunc("GET /api/v1/jobs", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"jobs": [` + f.payments() + `, {"id": "counts-2e", "name": "counts", "state": "DONE", "terminal": true}]}`))
	})
	mux.HandleFunc("GET /api/v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") != "payments-1f" {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error": {"code": "job-not-found", "message": "no such job", "hint": "look"}}`))
			return
		}
		_, _ = w.Write([]byte(f.payments()))
	})
	mux.HandleFunc("GET /api/v1/jobs/payments-1f/messages", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"messages": [{"seq": 1, "time": "2026-01-02T03:04:05Z", "importance": "warning", "text": "slow"}], "next": 1}`))
	})
	mux.HandleFunc("GET /api/v1/jobs/payments-1f/transforms", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"display_data": [{"key": "streaming", "value": true}], "transforms": [{"name": "Read", "depth": 0},
			{"name": "Read/Map", "depth": 1, "display_data": [{"label": "Transform Function", "key": "fn", "value": "<lambda>"}]}]}`))
	})
	mux.HandleFunc("GET /api/v1/jobs/payments-1f/threads", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(strings.ReplaceAll(`{"workers": [{"worker": "w-1", "status": "THE REST", "bundles": [
			{"name": "Slow", "seconds": 65, "idle_seconds": 12.5, "thread": "Thread-1", "stack": "outer\ninner"},
			{"name": "Next", "seconds": 1, "open": true}]}, {"worker": "w-2", "error": "asked QUERY"}]}`, "QUERY", r.URL.RawQuery)))
	})
	mux.HandleFunc("POST /api/v1/jobs/payments-1f/{verb}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		body, _ := io.ReadAll(r.Body)
		f.requests = append(f.requests, strings.TrimSpace(r.PathValue("verb")+" "+r.Header.Get("X-Padstone")+" "+strings.TrimPrefix(string(body), "{}")))
		f.mu.Unlock()
		switch taken := `{"id": "1-5-abc", "kind": "savepoint", "repository": "/place", "files": 12, "bytes": 34567, "uploaded_files": 1}`; r.PathValue("verb") {
		case "checkpoint", "savepoint":
			_, _ = w.Write([]byte(taken))
		case "settings":
			_, _ = w.Write([]byte(`{"settings": [{"name": "max_bundle_size", "value": 5000, "unit": "elements", "from": "set"}]}`))
		case "stop":
			_, _ = w.Write([]byte(`{"state": "UPDATED", "savepoint": ` + taken + `}`))
		}
		if r.PathValue("verb") == "drain" && len(f.states) == 0 {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"error": {"code": "job-cancelling", "message": "the job is being cancelled"}}`))
		}
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// payments is the job as it is now; each call goes one state further.
func (f *fakeAPI) payments() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, lastError := "RUNNING", ""
	if len(f.states) > 0 {
		state = f.states[0]
		if len(f.states) > 1 {
			f.states = f.states[1:]
		}
	}
	terminal := "false"
	if slices.Contains([]string{"DONE", "DRAINED", "CANCELLED", "FAILED"}, state) {
		terminal = "true"
	}
	if state == "FAILED" {
		lastError = `boom\nTraceback`
	}
	return strings.NewReplacer("STATE", state, "TERMINAL", terminal, "LASTERROR", lastError).Replace(paymentsJob)
}

// jobsCommand runs `padstone jobs …` against f.
func jobsCommand(t *testing.T, f *fakeAPI, args ...string) (code int, out, stderr string) {
	t.Helper()
	term, o, e := testTerminal(map[string]string{"PADSTONE_SERVER": f.URL, "PADSTONE_DATA_DIR": t.TempDir()})
	code = execute(context.Background(), term, append([]string{"jobs"}, args...))
	return code, o.String(), e.String()
}

func TestJobs(t *testing.T) {
	cases := []struct {
		name   string
		states []string
		args   []string
		code   int
		says   []string
	}{
		{"list", nil, []string{"list"}, 0, []string{"payments-1f  payments  RUNNING", "counts-2e"}},
		{"list as JSON", nil, []string{"list", "--json"}, 0, []string{`"id": "payments-1f"`}},
		{"describe", nil, []string{"describe", "payments-1f"}, 0, []string{
			"state    RUNNING", "ReadFromKafka       source  0          1,234,567  12       2026-01-02T03:04:06.000Z",
			"7+1", "CombinePerKey(sum) waits: for ReadFromKafka", "CombinePerKey(sum)/Merge", "every 3m0s to s3://b/p; 4 taken, 54,321 bytes uploaded, 1 failed",
			"max_bundle_size         5000   elements      set", "latency_budget_millis   auto   milliseconds  default",
			"sdk_worker_parallelism  0      processes     option   4: cores",
			"checkpoint 1-4-abc", "98,765 bytes, 321 of them uploaded", "checkpoint-repository: no room", "payments-0  17        15         ?", "w-1",
			"POOL  READY  STARTING  ENDING  BOUNDS  BUSY  CORES  BACKLOG  CHANGES",
			"go    2      1         0       1-4     75 %  1.2    12.5 s   +2 -1",
			"go has had 3 since ", ": what waits would take 12 s", "go stays at 3: 3 is the most",
			"go has replaced 1 of its processes for their memory", "286MiB",
			"go           EXTERNAL pool:50000  DOCKER apache/beam_go_sdk:2", "STARTED BY", "10.0.0.7:50000",
		}},
		{"describe the profile", nil, []string{"describe", "payments-1f"}, 0, []string{
			"BUNDLES OF     SECONDS  MS P50  P99  ELEMENTS P50  LAST   RUNNER  HARNESS  STORE  INBOX MS  DURABLE MS  FIXED MS  US/ELEMENT  OPEN MS",
			"ReadFromKafka  1.2      3.2     44   1,000         1,200  20 %    80 %     <1 %   2.5       -           3.2       14          96",
		}},
		{"describe all parts", nil, []string{"describe", "payments-1f", "--profile"}, 0, []string{
			"ReadFromKafka  runner: route  0.250    20 %   36", "harness        0.995    80 %   142", "before: inbox  0.010           2.5 for 4 waits, 9.0 at most",
			"SDK: Parse     0.900           in all: start 0, process 900, finish 0",
		}},
		{"describe with the plan", nil, []string{"describe", "payments-1f", "--plan"}, 0, []string{"\nthe plan\n"}},
		{"describe a failed job", []string{"FAILED"}, []string{"describe", "payments-1f"}, 0, []string{"error    boom: Traceback"}},
		{"describe as JSON", nil, []string{"describe", "payments-1f", "--json"}, 0, []string{`"elements_out": 1234567`}},
		{"by prefix", nil, []string{"describe", "pay"}, 0, []string{"payments-1f"}},
		{"by name", nil, []string{"messages", "payments"}, 0, []string{"2026-01-02T03:04:05Z warning slow"}},
		{"messages as JSON", nil, []string{"messages", "payments-1f", "--json"}, 0, []string{`"seq": 1`}},
		{"transforms", nil, []string{"transforms", "payments"}, 0,
			[]string{"streaming: true\nRead\n  Read/Map\n      Transform Function: <lambda>\n"}},
		{"transforms as JSON", nil, []string{"transforms", "payments", "--json"}, 0, []string{`"depth": 1`}},
		{"threads", nil, []string{"threads", "payments"}, 0, []string{
			"worker   w-1\nbundle   of Slow for 1m5s, last got on 12.5s ago\n         Thread-1\n           outer\n           inner\n",
			"bundle   of Next for 1s, open: it may wait for more", "worker   w-2\nno dump  asked \nbundles  none\n",
		}},
		{"threads of a worker, all", nil, []string{"threads", "payments", "--all", "--worker", "w 2"}, 0, []string{"THE REST", "asked worker=w+2"}},
		{"threads as JSON", nil, []string{"threads", "payments", "--json"}, 0, []string{`"idle_seconds": 12.5`}},
		{"unknown", nil, []string{"describe", "nothing"}, exitFailed, []string{`no job "nothing"`, "padstone jobs list"}},
		{"cancel", []string{"RUNNING", "CANCELLING"}, []string{"cancel", "payments-1f"}, 0, []string{"payments-1f CANCELLING"}},
		{"cancel and wait", []string{"RUNNING", "CANCELLING", "CANCELLED"}, []string{"cancel", "payments-1f", "--wait"}, 0,
			[]string{"payments-1f CANCELLED"}},
		{"cancel a failing job", []string{"RUNNING", "FAILED"}, []string{"cancel", "payments-1f", "--wait"}, exitFailed, []string{"FAILED"}},
		{"drain and wait", []string{"RUNNING", "DRAINING", "DRAINED"}, []string{"drain", "payments-1f", "--wait", "--json"}, 0,
			[]string{`"state": "DRAINED"`}},
		{"drain, somebody cancels", []string{"DRAINING", "CANCELLED"}, []string{"drain", "payments-1f", "--wait"}, exitCancelled, nil},
		{"drain takes too long", []string{"DRAINING"}, []string{"drain", "payments-1f", "--wait", "--timeout", "2s"}, exitFailed,
			[]string{"wait-timeout", "DRAINING after 2s"}},
		{"drain refused", nil, []string{"drain", "payments-1f"}, exitFailed,
			[]string{"server-refused", "409 Conflict", "job-cancelling: the job is being cancelled"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := startAPI(t, c.states...)
			code, out, stderr := jobsCommand(t, f, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, part := range c.says {
				if !strings.Contains(out+stderr, part) {
					t.Errorf("does not say %q", part)
				}
			}
			if slices.Contains(c.args, "--json") && !json.Valid([]byte(out)) {
				t.Error("not JSON")
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if verb := c.args[0]; (verb == "cancel" || verb == "drain") && !slices.Equal(f.requests, []string{verb + " 1"}) {
				t.Errorf("requests %q", f.requests)
			}
			if t.Failed() {
				t.Log(out + stderr)
			}
		})
	}
}

func TestJobsSet(t *testing.T) {
	for _, c := range []struct {
		args    []string
		code    int
		says    string
		request string
	}{
		{[]string{"payments", "max_bundle_size=5000", "latency_budget_millis=default"}, 0, "max_bundle_size  5000   elements  set",
			`settings 1 {"latency_budget_millis":"default","max_bundle_size":"5000"}`},
		{[]string{"payments", "--json", "max_bundle_size=1"}, 0, `"value": 5000`, `settings 1 {"max_bundle_size":"1"}`},
		{[]string{"payments"}, exitUsage, "arg", ""},
		{[]string{"payments", "max_bundle_size"}, exitUsage, "NAME=VALUE", ""},
		{[]string{"payments", "max_bundle_size="}, exitUsage, "NAME=VALUE", ""},
		{[]string{"payments", "max_bundle_size=1", "max_bundle_size=2"}, exitUsage, "twice", ""},
		{[]string{"nothing", "max_bundle_size=1"}, exitFailed, `no job "nothing"`, ""},
	} {
		f := startAPI(t)
		code, out, stderr := jobsCommand(t, f, append([]string{"set"}, c.args...)...)
		f.mu.Lock()
		if got := strings.Join(f.requests, "; "); code != c.code || !strings.Contains(out+stderr, c.says) || got != c.request {
			t.Errorf("%q: code %d, %s%s, requests %q", c.args, code, out, stderr, got)
		}
		f.mu.Unlock()
	}
}

// TestFind checks which of several jobs a text means.
func TestFind(t *testing.T) {
	job := func(id, name string, terminal bool) string {
		return fmt.Sprintf(`{"id": %q, "name": %q, "terminal": %t}`, id, name, terminal)
	}
	list := []string{
		job("a-1", "a", true), job("a-2", "a", false), job("a-3", "a", true), // one goes on
		job("b-1", "b", false), job("b-2", "b", false), // two do
		job("c-1", "c", true), job("c-2", "c", true), // none does
	}
	for i := range 7 {
		list = append(list, job(fmt.Sprintf("d-%d", i), "e", true))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, "/api/v1/jobs/")
		for _, j := range list {
			if strings.HasPrefix(j, fmt.Sprintf(`{"id": %q,`, id)) {
				_, _ = io.WriteString(w, j)
				return
			}
		}
		if r.URL.Path == "/api/v1/jobs" {
			_, _ = io.WriteString(w, `{"jobs": [`+strings.Join(list, ",")+`]}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error": {"code": "job-not-found", "message": "no such job"}}`)
	}))
	t.Cleanup(server.Close)
	api, err := newClient(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a":   "a-2",
		"a-3": "a-3",
		"a-":  `"a-" may be any of a-1, a-2, a-3`,
		"b":   `"b" may be any of b-1, b-2`,
		"c":   `"c" may be any of c-1, c-2`,
		"d":   `"d" may be any of d-0, d-1, d-2, d-3, d-4 and 2 more`,
		"x":   `the server knows no job "x"`,
	} {
		found, err := find(t.Context(), api, text)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && found.ID != want {
			t.Errorf("%q: got %v, %v, want %s", text, found, err, want)
		}
	}
}

func TestJobsAmbiguousAndAbsent(t *testing.T) {
	f := startAPI(t)
	if code, _, stderr := jobsCommand(t, f, "describe", ""); code != exitUsage {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	term, _, stderr := testTerminal(map[string]string{"PADSTONE_SERVER": "localhost:1"})
	if code := execute(context.Background(), term, []string{"jobs", "list"}); code != exitUnavailable {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	term, _, stderr = testTerminal(map[string]string{"PADSTONE_SERVER": "ftp://x"})
	if code := execute(context.Background(), term, []string{"jobs", "list"}); code != exitUsage {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestProgress(t *testing.T) {
	f := startAPI(t)
	api, err := newClient(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	job, err := api.job(context.Background(), "payments-1f")
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1767323046000).Add(90 * time.Second)
	mark, counts := progressOf(job.Description, now)
	if want := "watermark start, CombinePerKey(sum) waits: for ReadFromKafka"; mark != want {
		t.Errorf("%q, want %q", mark, want)
	}
	if want := "ReadFromKafka 1,234,567 → CombinePerKey(sum) 1,234,000"; counts != want {
		t.Errorf("%q, want %q", counts, want)
	}
	job.Description.Stages = job.Description.Stages[:1]
	if mark, _ := progressOf(job.Description, now); mark != "watermark 2026-01-02T03:04:06.000Z (lag 1m30s)" {
		t.Errorf("%q", mark)
	}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		span time.Duration
		want string
	}{
		{1234 * time.Millisecond, "1.2s"}, {61 * time.Second, "1m1s"}, {3*time.Hour + 5*time.Minute + time.Second, "3h5m"},
		{72 * time.Hour, "3d"},
	} {
		if got := roundSpan(c.span); got != c.want {
			t.Errorf("%v: %q, want %q", c.span, got, c.want)
		}
	}
	for _, c := range []struct {
		n    int64
		want string
	}{{0, "0"}, {999, "999"}, {1000, "1,000"}, {-1234567, "-1,234,567"}} {
		if got := thousands(c.n); got != c.want {
			t.Errorf("%d: %q, want %q", c.n, got, c.want)
		}
	}
}
