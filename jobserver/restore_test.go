package jobserver_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
	"padstone/jobserver"
	"padstone/jobserver/jobtest"
)

// copier restores copies of a job that runs on another server.
type copier struct {
	t     *testing.T
	spec  jobserver.Spec
	spoil func(dir string) // changes what was fetched; may be nil
	ready func(spec jobserver.Spec) ([]string, error)
}

func (c *copier) Fetch(_ context.Context, _ jobserver.RestoreRequest, dir string) (*jobserver.Checkpoint, error) {
	files, err := c.spec.Files()
	if err != nil {
		c.t.Error(err)
	}
	for _, f := range files {
		to := filepath.Join(dir, strings.TrimPrefix(f.Path, "job/"))
		data, err := os.ReadFile(f.Name)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600)); err != nil {
			c.t.Error(err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "artifacts"), 0o700), os.MkdirAll(filepath.Join(dir, "engine"), 0o700)); err != nil {
		c.t.Error(err)
	}
	if c.spoil != nil {
		c.spoil(dir)
	}
	return &jobserver.Checkpoint{ID: "1-7-abc", Kind: "savepoint", Repository: "/place", Job: c.spec.ID}, nil
}

func (c *copier) Ready(_ context.Context, spec jobserver.Spec, _ bool) ([]string, error) {
	if c.ready == nil {
		return nil, nil
	}
	return c.ready(spec)
}

// untilCancelled runs until it is cancelled or stopped.
func untilCancelled(r *jobtest.Run) {
	r.State(running)
	select {
	case <-r.Cancelled:
		r.State(cancelled)
	case <-r.Stopped:
		r.State(jobpb.JobState_UPDATED)
	}
}

// original is a job with an artifact on a server of its own, and what restores copies of it.
func original(t *testing.T) *copier {
	t.Helper()
	exec := &jobtest.Executor{Script: untilCancelled}
	w := start(t, t.TempDir(), exec, nil)
	w.submitWithArtifact("staged")
	run := exec.Runs()[0]
	t.Cleanup(func() { _ = run.Cancel(context.Background()) })
	return &copier{t: t, spec: run.Spec}
}

// elsewhere is a server that restores what c copies.
func elsewhere(t *testing.T, dir string, c *copier) *world {
	t.Helper()
	exec := &jobtest.Executor{Script: untilCancelled}
	w := start(t, dir, exec, func(cfg *jobserver.Config) { cfg.Recover, cfg.Restorer = exec.Start, c })
	t.Cleanup(func() {
		for _, r := range exec.Runs() {
			_ = r.Cancel(context.Background())
		}
	})
	return w
}

// left lists the files below a directory.
func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRestore takes a job up on another server, over a restart of that one, and again once the job is over there.
func TestRestore(t *testing.T) {
	c := original(t)
	c.ready = func(spec jobserver.Spec) ([]string, error) {
		if filepath.Base(spec.Dir) == spec.ID || spec.ID != c.spec.ID {
			t.Errorf("%s is made ready in %s, before it is known that it can be", spec.ID, spec.Dir)
		}
		return []string{"three records"}, nil
	}
	w := elsewhere(t, t.TempDir(), c)
	restored, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place"})
	if err != nil {
		t.Fatal(err)
	}
	if restored.Job.ID != c.spec.ID || len(restored.GivenUp) != 1 || restored.Checkpoint.ID != "1-7-abc" {
		t.Errorf("%+v", restored)
	}
	messages, err := w.server.Messages(c.spec.ID, 0)
	if err != nil || len(messages) != 2 || !strings.Contains(messages[0].Text, "restored from savepoint 1-7-abc in /place") ||
		!strings.Contains(messages[1].Text, "three records") {
		t.Errorf("%+v, %v", messages, err)
	}
	if _, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place"}); fault.Of(err).Code != "job-exists" {
		t.Errorf("restored twice: %v", err)
	}
	if _, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place", Job: c.spec.ID}); fault.Of(err).Code != "job-exists" {
		t.Errorf("restored twice: %v", err)
	}
	w.stop()
	if n := len(left(t, filepath.Join(w.dir, "artifacts"))); n != 1 {
		t.Errorf("%d artifacts", n)
	}

	w = elsewhere(t, w.dir, c)
	if err := w.server.Recover(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if run := w.exec.Runs()[0]; !proto.Equal(run.Spec.Pipeline, c.spec.Pipeline) || !proto.Equal(run.Spec.Options, c.spec.Options) {
		t.Errorf("%+v is not %+v", run.Spec, c.spec)
	}
	taken, err := w.server.Stop(w.ctx(), c.spec.ID, "/other")
	if err != nil || taken.Kind != "savepoint" {
		t.Fatalf("%+v, %v", taken, err)
	}
	if states := w.states(c.spec.ID); states[len(states)-1] != jobpb.JobState_UPDATED || slices.Contains(states, failed) {
		t.Errorf("states %v", states)
	}
	if _, err := w.server.Checkpoint(w.ctx(), c.spec.ID, jobserver.CheckpointRequest{}); fault.Of(err).Code != "job-over" {
		t.Errorf("of a job that is over: %v", err)
	}
	if _, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place"}); err != nil {
		t.Fatal(err)
	}
	if info, err := w.server.Job(c.spec.ID); err != nil || jobserver.IsTerminal(info.State) || len(w.server.Jobs()) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if n := len(left(t, filepath.Join(w.dir, "artifacts"))); n != 1 {
		t.Errorf("%d artifacts", n)
	}
}

// TestRestoreRefused leaves nothing behind when a job cannot be taken up.
func TestRestoreRefused(t *testing.T) {
	c := original(t)
	w := elsewhere(t, t.TempDir(), c)
	behind := fault.New(fault.Corruption, "outbox-behind", "it is older")
	artifact := func(dir string) string { return left(t, filepath.Join(dir, "artifacts"))[0] }
	for want, refuse := range map[fault.Code]func(){
		"outbox-behind": func() { c.ready = func(jobserver.Spec) ([]string, error) { return nil, behind } },
		"registry-corrupt": func() {
			c.spoil = func(dir string) {
				if err := errors.Join(os.Chmod(artifact(dir), 0o600), os.WriteFile(artifact(dir), []byte("other"), 0o600)); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		c.ready, c.spoil = nil, nil
		refuse()
		if _, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place"}); fault.Of(err) == nil || fault.Of(err).Code != want {
			t.Errorf("%v, want %s", err, want)
		}
		if names := append(left(t, filepath.Join(w.dir, "jobs")), left(t, filepath.Join(w.dir, "artifacts"))...); len(names) != 0 {
			t.Errorf("%s: %q are left", want, names)
		}
		if len(w.server.Jobs()) != 0 {
			t.Errorf("%s: %v", want, w.server.Jobs())
		}
	}
	c.ready, c.spoil = nil, func(dir string) {
		path := filepath.Join(dir, "job.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		data = []byte(strings.ReplaceAll(string(data), c.spec.ID, "../"+c.spec.ID))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Error(err)
		}
	}
	c.spec.ID = "../" + c.spec.ID
	if _, err := w.server.Restore(w.ctx(), jobserver.RestoreRequest{From: "/place"}); fault.Of(err) == nil || fault.Of(err).Code != "registry-corrupt" {
		t.Errorf("an id that leads elsewhere: %v", err)
	}
}

// TestRestoreElsewhere replaces the pipeline's environment.
func TestRestoreElsewhere(t *testing.T) {
	external := func(p *pipepb.Pipeline) string {
		var e pipepb.ExternalPayload
		for _, env := range p.GetComponents().GetEnvironments() {
			if env.GetUrn() != "beam:env:external:v1" || proto.Unmarshal(env.GetPayload(), &e) != nil || len(env.GetDependencies()) != 1 {
				t.Errorf("%v", env)
			}
		}
		return e.GetEndpoint().GetUrl()
	}
	for _, ok := range []string{"pool:50000", `{"url": "pool:50000"}`} {
		c := original(t)
		w := elsewhere(t, t.TempDir(), c)
		got := ""
		c.ready = func(spec jobserver.Spec) ([]string, error) { got = external(spec.Pipeline); return nil, nil }
		r := jobserver.RestoreRequest{From: "/place", EnvironmentType: "external", EnvironmentConfig: ok}
		if _, err := w.server.Restore(w.ctx(), r); err != nil {
			t.Fatal(err)
		}
		run := w.exec.Runs()[0]
		if got != "pool:50000" || external(run.Spec.Pipeline) != got {
			t.Errorf("made ready with %q, run with %q", got, external(run.Spec.Pipeline))
		}
		if run.Spec.Options.GetFields()["beam:option:environment_type:v1"].GetStringValue() != "EXTERNAL" {
			t.Errorf("options %v", run.Spec.Options)
		}
	}
	c := original(t)
	w := elsewhere(t, t.TempDir(), c)
	for _, bad := range [][2]string{{"LOOPBACK", ""}, {"MAINFRAME", "image"}, {"", "pool:50000"}, {"PROCESS", "{"}, {"EXTERNAL", "{"}} {
		r := jobserver.RestoreRequest{From: "/place", EnvironmentType: bad[0], EnvironmentConfig: bad[1]}
		if _, err := w.server.Restore(w.ctx(), r); fault.Of(err) == nil || fault.Of(err).Code != "environment-override" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
