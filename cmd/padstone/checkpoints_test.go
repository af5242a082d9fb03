package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"padstone/engine/checkpoint"
)

// TestJobsCheckpoint asks for checkpoints and for the end with one.
func TestJobsCheckpoint(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		sent string
		says string
	}{
		{[]string{"checkpoint", "payments-1f"}, 0, "checkpoint 1 {}", "1-5-abc\nsavepoint in /place: 12 files, 34,567 bytes"},
		{[]string{"savepoint", "payments", "--to", "/other"}, 0, `savepoint 1 {"to":"/other"}`, "1-5-abc"},
		{[]string{"savepoint", "payments", "--json"}, 0, "savepoint 1 {}", `"id": "1-5-abc"`},
		{[]string{"stop", "payments", "--savepoint"}, 0, "stop 1 {}", "payments-1f UPDATED\n1-5-abc\n"},
		{[]string{"stop", "payments", "--savepoint", "/other"}, 0, `stop 1 {"to":"/other"}`, "UPDATED"},
		{[]string{"stop", "payments", "--savepoint=/other"}, 0, `stop 1 {"to":"/other"}`, "UPDATED"},
		{[]string{"stop", "payments"}, exitUsage, "", "--savepoint"},
		{[]string{"stop", "payments", "/one", "--savepoint=/other"}, exitUsage, "", "two places"},
	} {
		f := startAPI(t)
		code, out, stderr := jobsCommand(t, f, c.args...)
		var want []string
		if c.sent != "" {
			want = []string{strings.TrimSuffix(c.sent, " {}")}
		}
		if code != c.code || !strings.Contains(out+stderr, c.says) || !slices.Equal(f.requests, want) {
			t.Errorf("%q: exit code %d, sent %q\n%s%s", c.args, code, f.requests, out, stderr)
		}
	}
}

// inMemory is a file in memory.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// TestCheckpoints lists and removes what is in a directory, and asks a server to restore it.
func TestCheckpoints(t *testing.T) {
	place := t.TempDir()
	repo, err := checkpoint.Open(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, kind := range []checkpoint.Kind{checkpoint.Checkpoint, checkpoint.Savepoint, checkpoint.Checkpoint} {
		text := strings.Repeat("x", 1000+i)
		m, err := repo.Write(t.Context(), checkpoint.Contents{
			Kind: kind, Job: "payments-1f", Name: "payments", CreatedAt: time.Now(), Lineage: checkpoint.Lineage{ID: "ABCDEF", Incarnation: 1},
			Files: []checkpoint.Local{{Path: "store/LOG", Size: int64(len(text)), Open: func() (checkpoint.Reader, error) {
				return inMemory{bytes.NewReader([]byte(text))}, nil
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	f := startAPI(t)
	restored := ""
	f.Config.Handler.(*http.ServeMux).HandleFunc("POST /api/v1/restore", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		restored = string(body)
		_, _ = w.Write([]byte(`{"job": {"id": "payments-1f", "state": "RUNNING"}, "checkpoint": {"id": "1-3-abcdef", "kind": "checkpoint"}, ` +
			`"given_up": ["\"Write\" to topic \"t\": 7 records"]}`))
	})
	run := func(want int, args ...string) string {
		t.Helper()
		term, out, stderr := testTerminal(map[string]string{"PADSTONE_SERVER": f.URL})
		if code := execute(context.Background(), term, append([]string{"checkpoints"}, args...)); code != want {
			t.Errorf("%q: exit code %d\n%s%s", args, code, out, stderr)
		}
		return out.String() + stderr.String()
	}
	text := run(0, "list", place)
	for _, want := range []string{ids[0] + "  checkpoint", ids[1] + "  savepoint", "1,002", "payments"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if text := run(0, "list", place, "--job", "payments-1f", "--json"); !strings.Contains(text, `"bytes": 1001`) {
		t.Errorf("%s", text)
	}
	run(exitUsage, "remove", place)
	run(exitUsage, "remove", place, "--job", "payments-1f")
	run(exitFailed, "remove", place, "--job", "payments-1f", "1-9-zzzzzz")
	if text := run(0, "remove", place, "--job", "payments-1f", ids[1]); !strings.Contains(text, "1 checkpoints, 1 files, 1,001 bytes removed") {
		t.Errorf("%s", text)
	}
	run(0, "remove", place, "--job", "payments-1f", "--all")
	if text := run(0, "list", place); strings.Contains(text, "payments") {
		t.Errorf("%s", text)
	}
	text = run(0, "restore", "s3://b/p", "--job", "payments-1f", "--id", "1-3-abcdef", "--allow-rewind",
		"--environment_type", "EXTERNAL", "--environment_config", "pool:1")
	if want := `{"from":"s3://b/p","job":"payments-1f","id":"1-3-abcdef","allow_rewind":true,"environment_type":"EXTERNAL",` +
		`"environment_config":"pool:1"}`; restored != want || !strings.Contains(text, `given up: "Write" to topic "t": 7 records`) {
		t.Errorf("sent %s, printed %s", restored, text)
	}
}
