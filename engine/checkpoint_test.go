package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"padstone/engine"
	"padstone/engine/checkpoint"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
	"padstone/jobserver"
)

func (l *ledger) sinks() []*enginetest.Sink { return []*enginetest.Sink{l.items, l.totals, l.groups} }

// TestLedgerRestored takes checkpoints at random moments, loses the machine, and goes on from one of them in another directory. What was
// written since may be written again, so that texts are compared as a set.
func TestLedgerRestored(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			place := t.TempDir()
			l := newLedger(newRig(t, nil), 30)
			l.job = l.rig.Start(l.pipeline(), nil)
			for range 3 {
				var ids []string
				for range 1 + rng.IntN(3) {
					time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond) // somewhere in the middle: that is the point
					ids = append(ids, l.job.Checkpoint(jobserver.CheckpointRequest{To: place}).ID)
				}
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
				l.rig.Restart()
				l.source.Rewind(0)
				from := jobserver.RestoreRequest{From: place, Job: l.job.Spec.ID, ID: ids[rng.IntN(len(ids))], AllowRewind: true}
				next, givenUp, err := l.rig.Restore(l.job, from)
				if err != nil || len(givenUp) != 3 { // no sink keeps a mark
					t.Fatalf("%v, given up %q", err, givenUp)
				}
				l.job = next
			}
			l.finish(t)
		})
	}
}

// TestLedgerStopped stops the job at random moments with a savepoint and goes on from it elsewhere. Every text is written once.
func TestLedgerStopped(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			place := t.TempDir()
			l := newLedger(newRig(t, func(c *engine.Config) { c.Checkpoints.Dir = place }), 30)
			p := l.pipeline()
			for _, s := range l.sinks() {
				s.Marked = true
			}
			l.job = l.rig.Start(p, nil)
			for range 4 {
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
				taken, err := l.job.Stop("")
				if err != nil || taken.Kind != "savepoint" {
					t.Fatalf("%+v, %v", taken, err)
				}
				l.job.End(jobpb.JobState_UPDATED)
				again := l.rig.Recover(l.job) // a server that starts again leaves it alone
				again.End(jobpb.JobState_UPDATED)
				next, givenUp, err := l.rig.Restore(l.job, jobserver.RestoreRequest{From: place, ID: taken.ID})
				if err != nil || len(givenUp) != 0 {
					t.Fatalf("%v, given up %q", err, givenUp)
				}
				l.job = next
			}
			l.finish(t)
			items, totals, groups := l.expect()
			for i, want := range [][]string{items, totals, groups} {
				if got := l.sinks()[i].Texts(); len(got) != len(want) {
					t.Errorf("sink %d has %d texts, not %d", i, len(got), len(want))
				}
			}
		})
	}
}

// counting is a job that passes on what it reads, batch by batch as gates open.
type counting struct {
	job   *enginetest.Job
	src   *enginetest.Source
	out   *enginetest.Sink
	gates []chan struct{}
}

func newCounting(r *enginetest.Rig, batches int, o enginetest.Options) *counting {
	c := &counting{src: &enginetest.Source{Unbounded: true}}
	for i := range batches {
		gate := make(chan struct{})
		c.gates = append(c.gates, gate)
		c.src.Batches = append(c.src.Batches, enginetest.Batch{Elements: texts(fmt.Sprint("a", i), fmt.Sprint("b", i)), Gate: gate})
	}
	p := r.Pipeline()
	c.out = p.Write("Write out", p.Map("pass", p.Read("in", c.src, "bytes"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
	c.out.Marked = true
	c.job = r.Start(p, o)
	return c
}

// open lets a batch in and waits until it was written.
func (c *counting) open(t *testing.T, r *enginetest.Rig, batch, want int) {
	t.Helper()
	close(c.gates[batch])
	if err := c.out.Await(r.Context(), func(texts []string) bool { return len(texts) >= want }); err != nil {
		t.Fatal(err)
	}
}

// TestRewind refuses a checkpoint that is older than what was written, and says what is written again when it is allowed.
func TestRewind(t *testing.T) {
	place := t.TempDir()
	r := newRig(t, nil)
	c := newCounting(r, 5, nil)
	c.open(t, r, 0, 2)
	taken := c.job.Checkpoint(jobserver.CheckpointRequest{To: place})
	c.open(t, r, 1, 4)
	c.open(t, r, 2, 6)
	r.Restart()
	c.src.Rewind(0)
	from := jobserver.RestoreRequest{From: place, ID: taken.ID}
	_, _, err := r.Restore(c.job, from)
	if f := fault.Of(err); f == nil || f.Code != "outbox-behind" || !strings.Contains(err.Error(), `"Write out" to memory`) ||
		!strings.Contains(err.Error(), "4 records") || !strings.Contains(err.Error(), "--allow-rewind") {
		t.Fatalf("%v", err)
	}
	from.AllowRewind = true
	next, givenUp, err := r.Restore(c.job, from)
	if err != nil || len(givenUp) != 1 || !strings.Contains(givenUp[0], "4 records") {
		t.Fatalf("%v, given up %q", err, givenUp)
	}
	c.job = next
	c.open(t, r, 3, 12)
	r.Restart() // what was allowed once need not be allowed again
	c.job = r.Recover(c.job)
	c.open(t, r, 4, 14)
	want(t, c.out, "a0", "b0", "a1", "b1", "a2", "b2", "a1", "b1", "a2", "b2", "a3", "b3", "a4", "b4")

	// A checkpoint of the restored job is newer than all others, and counts right what it does not know.
	later := c.job.Checkpoint(jobserver.CheckpointRequest{To: place})
	if later.Files < taken.Files || !strings.HasPrefix(later.ID, "2-") {
		t.Errorf("%+v after %+v", later, taken)
	}
	r.Restart()
	c.src.Rewind(0)
	_, _, err = r.Restore(c.job, jobserver.RestoreRequest{From: place, ID: taken.ID})
	if err == nil || !strings.Contains(err.Error(), "12 records") {
		t.Errorf("%v", err)
	}
	if next, givenUp, err = r.Restore(c.job, jobserver.RestoreRequest{From: place}); err != nil || len(givenUp) != 0 {
		t.Fatalf("the latest: %v, given up %q", err, givenUp)
	}
	if err := next.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	next.End(jobpb.JobState_CANCELLED)
}

// TestIncrementalCheckpoints takes two checkpoints of a job that has done little in between, into a bucket, and goes on from the last.
func TestIncrementalCheckpoints(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	place := "s3://backups/of/jobs?endpoint=" + server.URL
	r := enginetest.New(t, nil) // connections to the bucket stay open for a while
	c := newCounting(r, 2, nil)
	c.open(t, r, 0, 2)
	c.job.Checkpoint(jobserver.CheckpointRequest{To: place})
	r.Restart() // the log becomes tables
	c.job = r.Recover(c.job)
	a := c.job.Checkpoint(jobserver.CheckpointRequest{To: place})
	c.open(t, r, 1, 4)
	b := c.job.Checkpoint(jobserver.CheckpointRequest{To: place, Savepoint: true})
	if a.UploadedFiles == 0 || b.UploadedFiles == 0 || b.UploadedFiles >= b.Files || b.Commit <= a.Commit {
		t.Errorf("%+v, then %+v", a, b)
	}
	repo, err := checkpoint.Open(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	first, err := repo.Manifest(t.Context(), "", a.ID)
	if err != nil {
		t.Fatal(err)
	}
	second, err := repo.Manifest(t.Context(), "", b.ID)
	if err != nil {
		t.Fatal(err)
	}
	shared := func(f checkpoint.File) bool {
		return strings.HasSuffix(f.Path, ".sst") && slices.Contains(second.Files, f)
	}
	if !slices.ContainsFunc(first.Files, shared) {
		t.Errorf("no table is in both %v and %v", first.Files, second.Files)
	}
	if _, err := c.job.Stop(place); err != nil {
		t.Fatal(err)
	}
	next, givenUp, err := r.Restore(c.job, jobserver.RestoreRequest{From: place})
	if err != nil || len(givenUp) != 0 {
		t.Fatalf("%v, given up %q", err, givenUp)
	}
	if err := next.Drain(r.Context()); err != nil {
		t.Fatal(err)
	}
	next.End(jobpb.JobState_DRAINED)
	want(t, c.out, "a0", "b0", "a1", "b1")
}

// TestPeriodicCheckpoints keeps the last two of many, tells of them, and goes on when they fail.
func TestPeriodicCheckpoints(t *testing.T) {
	place := filepath.Join(t.TempDir(), "place")
	r := newRig(t, func(c *engine.Config) {
		c.Checkpoints = engine.Checkpoints{Dir: place, Interval: time.Hour, Keep: 2}
		c.Version = "v-test"
	})
	c := newCounting(r, 2, enginetest.Options{"checkpointing_interval": "5"})
	c.open(t, r, 0, 2)
	describe := func(cond func(d *jobserver.CheckpointDescription) bool) *jobserver.CheckpointDescription {
		t.Helper()
		for ctx := r.Context(); ctx.Err() == nil; time.Sleep(time.Millisecond) {
			d, err := c.job.Describe(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if cond(d.Checkpoints) {
				return d.Checkpoints
			}
		}
		t.Fatal("checkpoints do not come to what is awaited")
		return nil
	}
	d := describe(func(d *jobserver.CheckpointDescription) bool { return d.Completed >= 4 })
	if d.Repository != place || d.IntervalMillis != 5 || d.Last == nil || d.Last.Repository != place || d.UploadedBytes < d.Last.UploadedBytes {
		t.Errorf("%+v", d)
	}
	if err := os.Rename(place, place+".away"); err != nil {
		t.Fatal(err)
	}
	for ctx := r.Context(); os.WriteFile(place, nil, 0o600) != nil; { // the next checkpoint may have made the directory anew
		if err := os.RemoveAll(place); ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	d = describe(func(d *jobserver.CheckpointDescription) bool { return d.LastFailure != nil })
	if !strings.Contains(d.LastFailure.Message, place) {
		t.Errorf("%+v", d.LastFailure)
	}
	c.open(t, r, 1, 4)
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}
	before := d.Completed
	describe(func(d *jobserver.CheckpointDescription) bool { return d.Completed > before })
	if m := c.job.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(m) == 0 || !strings.Contains(m[0], "checkpoint-repository") {
		t.Errorf("warnings %q", m)
	}
	repo, err := checkpoint.Open(t.Context(), place+".away")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := repo.List(t.Context(), "")
	if err != nil || len(entries) < 2 || len(entries) > 3 { // one may have come since the others were pruned
		t.Fatalf("%v, %v", entries, err)
	}
	m, err := repo.Read(t.Context(), entries[1])
	if err != nil || m.Padstone != "v-test" || m.Name != "job" || len(m.Sinks) != 1 || m.Sinks[0].Name != "Write out" {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestStopFails has the savepoint of a stop fail: the job goes on as if nothing had been.
func TestStopFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	l := newLedger(r, 20)
	l.job = r.Start(l.pipeline(), nil)
	for range 3 {
		time.Sleep(15 * time.Millisecond)
		if _, err := l.job.Stop(file); fault.Of(err) == nil || fault.Of(err).Code != "checkpoint-repository" {
			t.Fatalf("%v", err)
		}
	}
	if _, err := l.job.Stop(""); fault.Of(err) == nil || fault.Of(err).Code != "checkpoint-url" {
		t.Fatalf("%v", err)
	}
	l.finish(t)
}

// TestStopWithBundlesInFlight stops a job whose bundle does not end and whose sink cannot write: the bundle runs again after the restore,
// and what it brings when it ends at last is not committed.
func TestStopWithBundlesInFlight(t *testing.T) {
	place := t.TempDir()
	r := newRig(t, func(c *engine.Config) { c.QuiesceFor = 20 * time.Millisecond })
	stuck, release := make(chan struct{}), make(chan struct{})
	src := &enginetest.Source{Unbounded: true}
	gate := make(chan struct{})
	src.Batches = []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}}
	blocks, away := atomic.Bool{}, atomic.Bool{}
	blocks.Store(true)
	away.Store(true)
	p := r.Pipeline()
	out := p.Write("out", p.Map("slow", p.Read("in", src, "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		if string(fakesdk.Bytes(e.Value)) == "b" && blocks.CompareAndSwap(true, false) {
			close(stuck)
			<-release
		}
		return c.Emit("", e)
	}))
	out.Marked = true
	out.OnPublish = func(int) error {
		if away.Load() {
			return fault.New(fault.Environment, "kafka-write", "%w", errors.New("the broker is away"))
		}
		return nil
	}
	j := r.Start(p, nil)
	j.AwaitOutput("slow", 1)
	close(gate)
	<-stuck
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	taken, err := j.Stop(place)
	if err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_UPDATED)
	want(t, out)
	away.Store(false)
	next, _, err := r.Restore(j, jobserver.RestoreRequest{From: place, ID: taken.ID})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) == 2 }); err != nil {
		t.Fatal(err)
	}
	want(t, out, "a", "b")
	if err := next.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	next.End(jobpb.JobState_CANCELLED)
}

// TestCancelledWhileStopping cancels a job that waits for a bundle before its savepoint.
func TestCancelledWhileStopping(t *testing.T) {
	r := newRig(t, nil)
	stuck, release := make(chan struct{}), make(chan struct{})
	p := r.Pipeline()
	p.Write("out", p.Map("slow", p.Read("in", &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a")}}},
		"bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		close(stuck)
		<-release
		return c.Emit("", e)
	}))
	j := r.Start(p, nil)
	<-stuck
	stopped := make(chan error, 1)
	go func() {
		_, err := j.Stop(t.TempDir())
		stopped <- err
	}()
	time.Sleep(20 * time.Millisecond)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-stopped; fault.Of(err) == nil || fault.Of(err).Code != "job-over" {
		t.Errorf("%v", err)
	}
	j.End(jobpb.JobState_CANCELLED)
	if _, err := j.Running.(jobserver.Checkpointing).Checkpoint(context.Background(), jobserver.CheckpointRequest{To: t.TempDir()}); err == nil {
		t.Error("a job that is over has a checkpoint")
	}
}

// TestCheckpointOptions refuses what Flink refuses.
func TestCheckpointOptions(t *testing.T) {
	r := newRig(t, nil)
	for _, o := range []enginetest.Options{{"checkpointing_interval": 0}, {"checkpointing_interval": "-7"}, {"checkpoint_timeout_millis": -2}} {
		p := r.Pipeline()
		p.Write("out", p.Read("in", bounded(texts("a")), "bytes"))
		if _, err := r.Submit(p, o); fault.Of(err) == nil || fault.Of(err).Code != "checkpoint-option" {
			t.Errorf("%v: %v", o, err)
		}
	}
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(texts("a")), "bytes"))
	j := r.Run(p, enginetest.Options{"checkpointing_interval": 60000})
	if m := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(m) != 1 || !strings.Contains(m[0], "--checkpoint-dir") {
		t.Errorf("warnings %q", m)
	}
}
