package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/internal/fault"
)

// hung starts a streaming job whose disk answers nothing until release is called. It ends when rest is closed, too.
func hung(t *testing.T) (r *enginetest.Rig, j *enginetest.Job, out *enginetest.Sink, release func(), rest chan struct{}) {
	t.Helper()
	disk := storetest.NewDisk()
	r = newRig(t, func(c *engine.Config) { c.FS, c.StalledAfter = disk, 50*time.Millisecond })
	p := r.Pipeline()
	gate, rest := make(chan struct{}), make(chan struct{})
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{
		{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}, {Elements: texts("c"), Gate: rest},
	}}
	out = p.Write("out", p.Read("in", src, "bytes"))
	out.Marked = true
	j = r.Start(p, nil)
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 1 }); err != nil {
		t.Fatal(err)
	}
	release = disk.Stall()
	t.Cleanup(release)
	close(gate)
	return r, j, out, release, rest
}

func saysStalled(why string) bool { return strings.HasPrefix(why, "disk-stalled: ") }

// TestDiskThatHangs has the disk of a job answer nothing for a while: the job says so, with what it waits for, although its driver waits,
// too, and goes on as if nothing had been.
func TestDiskThatHangs(t *testing.T) {
	r, j, out, release, rest := hung(t)
	why := awaitWaiting(t, r, j, saysStalled)
	if !strings.Contains(why, ".log") || !strings.Contains(why, "has taken") {
		t.Errorf("it says %q, not which operation it waits for", why)
	}
	d, err := j.Describe(r.Context())
	if err != nil || d.DiskStalledMillis < 50 || len(d.Stages) == 0 {
		t.Errorf("described as %+v, %v", d, err)
	}
	told := func(part string) bool {
		return slices.ContainsFunc(j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), func(m string) bool { return strings.Contains(m, part) })
	}
	await(t, func() bool { return told("disk-stalled: ") })
	release()
	await(t, func() bool { return told("answers again") })
	close(rest)
	j.End(jobpb.JobState_DONE)
	want(t, out, "a", "b", "c")
	if len(out.Texts()) != 3 {
		t.Errorf("the sink has %q", out.Texts())
	}
}

// TestCancelOnDiskThatHangs: who asks is told that the disk does not answer, and the job is cancelled when it does.
func TestCancelOnDiskThatHangs(t *testing.T) {
	r, j, _, release, _ := hung(t)
	awaitWaiting(t, r, j, saysStalled)
	err := j.Cancel(r.Context())
	if f := fault.Of(err); f == nil || f.Code != "disk-stalled" || f.Hint == "" {
		t.Errorf("cancel is answered by %v", err)
	}
	release()
	j.End(jobpb.JobState_CANCELLED)
}
