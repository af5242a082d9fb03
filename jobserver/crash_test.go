package jobserver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/jobserver"
	"padstone/jobserver/jobtest"
)

// TestCrashDuringEvents cuts a finished job's log at every tenth byte, as a crash would, and opens the registry: the job is listed, is
// taken up if its end is lost, and ends.
func TestCrashDuringEvents(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "hello")
		r.State(done)
	}}, nil)
	id := w.submit("x")
	w.states(id)
	w.stop()
	path := filepath.Join(w.dir, "jobs", id, "events.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut >= 0; cut -= 10 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		exec := &jobtest.Executor{}
		w = start(t, w.dir, exec, func(c *jobserver.Config) { c.Recover = exec.Start })
		if err := w.server.Recover(w.ctx()); err != nil {
			t.Fatal(err)
		}
		states := w.states(id)
		if states[0] != stopped || states[len(states)-1] != done {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), states)
		}
		if recovered := len(exec.Runs()) == 1; recovered == (cut == len(whole)) {
			t.Errorf("cut at %d of %d: %d recovered", cut, len(whole), len(exec.Runs()))
		}
		w.stop()
	}
}

// TestCrashDuringCreateAndRemove leaves what a crash in the middle of either leaves.
func TestCrashDuringCreateAndRemove(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{}, nil)
	id := w.submit("x")
	w.states(id)
	w.stop()
	jobs := filepath.Join(w.dir, "jobs")
	for _, name := range []string{".new-a", ".old-b", "no-record", "bad-record", "stolen-record"} {
		if err := os.MkdirAll(filepath.Join(jobs, name, "engine"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	record, err := os.ReadFile(filepath.Join(jobs, id, "job.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bad-record": "{", "stolen-record": string(record)} {
		if err := os.WriteFile(filepath.Join(jobs, name, "job.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w = start(t, w.dir, &jobtest.Executor{}, nil)
	if got := w.server.Jobs(); len(got) != 1 || got[0].ID != id {
		t.Errorf("jobs %+v", got)
	}
	entries, err := os.ReadDir(jobs)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s was not cleaned", entry.Name())
		}
	}
	if len(entries) != 4 {
		t.Errorf("damaged jobs must be left for a person to look at: %v", entries)
	}
}

// TestMessagesAreBounded floods a job and follows it with a stream that is slower.
func TestMessagesAreBounded(t *testing.T) {
	w := start(t, t.TempDir(), &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		r.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, "the first error")
		for range 3000 {
			r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, strings.Repeat("x", 100))
		}
		r.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "\xff"+strings.Repeat("y", 1<<20))
		r.State(done)
	}}, func(c *jobserver.Config) { c.MessagesMax, c.MessageBytesMax = 100, 1<<20 })
	id := w.submit("x")
	w.states(id)
	story := w.story(id)
	text := strings.Join(story, "\n")
	if len(story) > 110 || !strings.Contains(text, "the first error") || !strings.Contains(text, "earlier messages were dropped") ||
		story[len(story)-1] != "DONE" || !strings.Contains(story[len(story)-2], "bytes in all") {
		t.Errorf("%d lines: %.300s", len(story), text)
	}
	info, err := os.Stat(filepath.Join(w.dir, "jobs", id, "events.log"))
	if err != nil || info.Size() > 4<<20 {
		t.Errorf("log %v, %v", info.Size(), err)
	}
	messages, err := w.server.Messages(id, 0)
	if err != nil || len(messages) > 102 || messages[0].Text != "the first error" {
		t.Errorf("%d messages, %v", len(messages), err)
	}
}
