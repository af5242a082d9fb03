package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
)

// TestDurabilityOfAJob: a job's own choice wins over the server's, shows, and is checked.
func TestDurabilityOfAJob(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.Durability = store.Sync })
	for _, c := range []struct {
		option, want string
		marked       bool
		code         fault.Code
	}{
		{option: "", want: "sync"}, {option: "", want: "sync", marked: true}, {option: "frontier", want: "frontier"}, {option: "none", want: "none"},
		{option: "always", code: "invalid-option"}, {option: "none", marked: true, code: "durability-none"},
	} {
		p := r.Pipeline()
		out := p.Write("out", p.GroupByKey("group", p.Map("ones", p.Read("in", bounded(texts("a", "b", "a")), "bytes"), "kv(bytes,varint)", oneByOne)))
		out.Marked = c.marked
		j, err := r.Submit(p, enginetest.Options{"durability": c.option})
		if c.code != "" {
			if f := fault.Of(err); f == nil || f.Code != c.code || f.Kind != fault.Pipeline || f.Hint == "" {
				t.Errorf("%+v is refused with %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		j.End(jobpb.JobState_DONE)
		if d, err := j.Describe(r.Context()); err != nil || d.Durability != c.want {
			t.Errorf("%+v: %+v, %v", c, d, err)
		}
		if len(out.Texts()) != 2 {
			t.Errorf("%+v: %q", c, out.Texts())
		}
	}
}

// halfway starts a job without a log and lets it come half of its way.
func halfway(t *testing.T, unbounded bool) (*enginetest.Rig, *enginetest.Job, *storetest.Disk, *enginetest.Source, *enginetest.Sink) {
	t.Helper()
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	src := &enginetest.Source{Unbounded: unbounded, Ends: true}
	gate := make(chan struct{})
	for n := range 20 {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(fmt.Sprint("x", n))})
	}
	src.Batches[10].Gate = gate
	src.OnOpen = func(_ context.Context, n int) error {
		if n == 1 { // the second time it opens all is there
			close(gate)
		}
		return nil
	}
	out := p.Write("out", p.Read("in", src, "bytes"))
	j := r.Start(p, enginetest.Options{"durability": "none"})
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 10 }); err != nil {
		t.Fatal(err)
	}
	return r, j, disk, src, out
}

// TestNoLogSuspended: stopped in order, a job without a log goes on.
func TestNoLogSuspended(t *testing.T) {
	r, j, _, src, out := halfway(t, true)
	r.Restart()
	r.Recover(j).End(jobpb.JobState_DONE)
	if len(out.Distinct()) != 20 || src.Durable() != 20 {
		t.Errorf("%d batches, %q", src.Durable(), out.Distinct())
	}
}

// TestNoLogCrashed: after a crash a bounded job begins again and says so, an unbounded one is given up by name.
func TestNoLogCrashed(t *testing.T) {
	r, j, disk, src, out := halfway(t, false)
	r.Crash(j, disk.Crashed(100, rand.New(rand.NewPCG(1, 28))))
	src.Rewind(0)
	next := r.Recover(j)
	next.End(jobpb.JobState_DONE)
	if got := out.Texts(); len(got) != 30 || len(out.Distinct()) != 20 {
		t.Errorf("%q", got)
	}
	if m := strings.Join(next.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), "\n"); !strings.Contains(m, "from its beginning") {
		t.Errorf("messages %q", m)
	}

	r, j, disk, _, _ = halfway(t, true)
	r.Crash(j, disk.Crashed(100, rand.New(rand.NewPCG(1, 28))))
	_, err := r.Engine.Recover(r.Context(), j.Spec, j.Recorder)
	if f := fault.Of(err); f == nil || f.Code != "durability-none" || f.Hint == "" || !errors.Is(err, f) {
		t.Errorf("recovered with %v", err)
	}
}
