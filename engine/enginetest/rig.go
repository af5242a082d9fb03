package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/fnapi"
	"padstone/jobserver"
)

// Patience is how long a Rig waits for anything before it fails the test, unless it is told otherwise. It is for hangs: machines that test
// are busy, and one that takes twenty times as long still passes.
const Patience = 4 * time.Minute

// Rig is a server, an engine and what they run on.
type Rig struct {
	T testing.TB
	// Patience is how long Context lasts. A test that moves much data sets more, so that a slow machine is none that hangs.
	Patience  time.Duration
	Natives   *Natives
	Harnesses *Harnesses
	// Engine is the running engine.
	Engine *engine.Engine
	// Config is what engines are made of: change it before Suspend and Recover, or before the first Start.
	Config engine.Config
	dir    string
	jobs   int
}

// New returns a rig that the test's cleanup closes. change, which may be nil, changes the engine's configuration.
func New(t testing.TB, change func(c *engine.Config)) *Rig {
	t.Helper()
	return newRig(t, true, change)
}

// NewOffline returns a rig whose server serves no network: Harnesses.Dial is to be set.
func NewOffline(t testing.TB, change func(c *engine.Config)) *Rig {
	t.Helper()
	return newRig(t, false, change)
}

func newRig(t testing.TB, serve bool, change func(c *engine.Config)) *Rig {
	t.Helper()
	r := &Rig{T: t, Patience: Patience, Natives: newNatives(), dir: t.TempDir()}
	began := time.Now()
	server, err := fnapi.New(fnapi.Config{Clock: func() time.Duration {
		if r.Config.Stopwatch != nil {
			return r.Config.Stopwatch()
		}
		return time.Since(began)
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.Harnesses = newHarnesses(server)
	r.Config = engine.Config{
		Logger: zap.NewNop(), Harnesses: r.Harnesses, Natives: r.Natives, KeyGroups: 8, StopTimeout: Patience,
	}
	if change != nil {
		change(&r.Config)
	}
	served := make(chan error, 1)
	if serve { // from here on its clock may be asked
		go func() { served <- server.Run(context.Background()) }()
	} else {
		served <- nil
	}
	r.Engine = engine.New(r.Config)
	t.Cleanup(func() {
		r.Suspend()
		server.Close()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
		if n := r.Harnesses.Open(); n != 0 {
			t.Errorf("%d pools of harnesses were not closed", n)
		}
	})
	return r
}

// Context ends when patience does.
func (r *Rig) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), r.Patience)
	r.T.Cleanup(cancel)
	return ctx
}

// Suspend closes the engine as a server does that stops: running jobs are suspended.
func (r *Rig) Suspend() {
	r.T.Helper()
	if err := r.Engine.Close(r.Context()); err != nil {
		r.T.Errorf("closing the engine: %v", err)
	}
}

// Restart closes the engine and makes another.
func (r *Rig) Restart() {
	r.T.Helper()
	r.Suspend()
	r.Engine = engine.New(r.Config)
}

// Job is a job with what it reported.
type Job struct {
	jobserver.Running
	*Recorder
	Spec jobserver.Spec
	rig  *Rig
}

// Options of a submission, by the option's name.
type Options map[string]any

// Submit starts a job.
func (r *Rig) Submit(p *Pipeline, o Options) (*Job, error) {
	spec, err := r.spec(p, o)
	if err != nil {
		return nil, err
	}
	r.jobs++
	j := &Job{Recorder: &Recorder{}, rig: r, Spec: spec}
	j.Running, err = r.Engine.Start(r.Context(), j.Spec, j.Recorder)
	return j, err
}

// spec is that of the next job.
func (r *Rig) spec(p *Pipeline, o Options) (jobserver.Spec, error) {
	fields := make(map[string]any)
	for name, v := range o {
		fields["beam:option:"+name+":v1"] = v
	}
	options, err := structpb.NewStruct(fields)
	id := fmt.Sprintf("job-%d", r.jobs+1)
	return jobserver.Spec{ID: id, Name: "job", Pipeline: p.Proto, Options: options, Dir: filepath.Join(r.dir, id)}, err
}

// Start starts a job that must be accepted.
func (r *Rig) Start(p *Pipeline, o Options) *Job {
	r.T.Helper()
	j, err := r.Submit(p, o)
	if err != nil {
		r.T.Fatalf("Start: %v", err)
	}
	return j
}

// Crash closes the engine and makes another on the file system, which is a picture of the old one's taken earlier: to the job it is
// as if the machine had crashed then. The test puts sinks and sources back to what they were.
func (r *Rig) Crash(j *Job, fs store.FS) {
	r.T.Helper()
	r.Suspend()
	if err := os.RemoveAll(filepath.Join(j.Spec.Dir, "engine")); err != nil {
		r.T.Fatal(err)
	}
	r.Config.FS = fs
	r.Engine = engine.New(r.Config)
}

// Recover takes the job up from its store: call it after Restart or Crash.
func (r *Rig) Recover(j *Job) *Job {
	r.T.Helper()
	next := &Job{Recorder: &Recorder{}, rig: r, Spec: j.Spec}
	var err error
	if next.Running, err = r.Engine.Recover(r.Context(), next.Spec, next.Recorder); err != nil {
		r.T.Fatalf("Recover: %v", err)
	}
	return next
}

// End waits for the job's end, which must be in the state.
func (j *Job) End(want jobpb.JobState_Enum) {
	j.rig.T.Helper()
	if err := j.Wait(j.rig.Context()); err != nil {
		d, _ := j.Describe(j.rig.Context())
		j.rig.T.Fatalf("%v; states %v, messages %v, %+v", err, j.States(), j.mu.messages, d)
	}
	if j.Last() != want {
		j.rig.T.Fatalf("states %v, not %v at the end; messages %q", j.States(), want, j.mu.messages)
	}
}

// AwaitWatermark waits until the input watermark of the stage with the transform has reached t.
func (j *Job) AwaitWatermark(transform string, t int64) {
	j.rig.T.Helper()
	j.await(transform, func(s jobserver.StageDescription) bool { return s.InputWatermarkMillis >= t })
}

// AwaitOutput waits until the stage with the transform has put out n elements.
func (j *Job) AwaitOutput(transform string, n int64) {
	j.rig.T.Helper()
	j.await(transform, func(s jobserver.StageDescription) bool { return s.ElementsOut >= n })
}

// AwaitInput waits until the stage with the transform has taken n elements.
func (j *Job) AwaitInput(transform string, n int64) {
	j.rig.T.Helper()
	j.await(transform, func(s jobserver.StageDescription) bool { return s.ElementsIn >= n })
}

// AwaitIdle waits until, at one moment, no element waits, no timer is due, and no bundle but those of sources is in flight or is to run
// again. Timers that are due wait for a harness when a job has been recovered, or for a bundle that has their place.
func (j *Job) AwaitIdle() {
	j.rig.T.Helper()
	busy := func(s jobserver.StageDescription) bool {
		return s.BacklogElements > 0 || s.BundlesInFlight > 0 && s.Kind != string(plan.Source) ||
			strings.Contains(s.Waiting, "again") || strings.HasPrefix(s.Waiting, "timers that are due")
	}
	ctx := j.rig.Context()
	for ctx.Err() == nil {
		d, err := j.Describe(ctx)
		if err == nil && !slices.ContainsFunc(d.Stages, busy) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	j.rig.T.Fatal("the job does not come to rest")
}

// await waits for a stage. There is no event to wait for, so it asks.
func (j *Job) await(transform string, cond func(s jobserver.StageDescription) bool) {
	j.rig.T.Helper()
	ctx := j.rig.Context()
	for ctx.Err() == nil {
		d, err := j.Describe(ctx)
		if err != nil {
			break
		}
		for _, s := range d.Stages {
			if slices.Contains(s.Transforms, transform) && cond(s) {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	j.rig.T.Fatalf("%q does not come to what is awaited", transform)
}

// Run runs a job to its end, which must be DONE.
func (r *Rig) Run(p *Pipeline, o Options) *Job {
	r.T.Helper()
	j := r.Start(p, o)
	j.End(jobpb.JobState_DONE)
	return j
}

// Counter returns the committed sum of a user counter of the transform with the name; 0 when there is none.
func (j *Job) Counter(transform, name string) int64 {
	j.rig.T.Helper()
	m, err := j.Metrics(j.rig.Context())
	if err != nil {
		j.rig.T.Fatal(err)
	}
	return Sum(m.GetCommitted(), transform, name)
}

// Sum returns the sum of a user counter of the transform with the name; 0 when there is none.
func Sum(infos []*pipepb.MonitoringInfo, transform, name string) int64 {
	total := int64(0)
	for _, info := range infos {
		if info.GetLabels()["PTRANSFORM"] == transform && info.GetLabels()["NAME"] == name {
			total += sum([][]byte{info.GetPayload()})
		}
	}
	return total
}

// StoreDir is where the job's store is while the job is not terminal.
func (j *Job) StoreDir() string { return filepath.Join(j.Spec.Dir, "engine", "store") }

// OpenStore opens the store of a job that is suspended; the caller closes it.
func (r *Rig) OpenStore(j *Job) *store.Store {
	r.T.Helper()
	s, err := store.Open(store.Config{Dir: j.StoreDir(), FS: r.Config.FS, Logger: zap.NewNop()})
	if err != nil {
		r.T.Fatal(err)
	}
	return s
}

// Check asks whether a job would be accepted.
func (r *Rig) Check(p *Pipeline, o Options) error {
	spec, err := r.spec(p, o)
	if err != nil {
		return err
	}
	return r.Engine.Check(r.Context(), spec)
}

// Leave puts a file into the engine's directory of the next job.
func (r *Rig) Leave(name, text string) {
	r.T.Helper()
	path := filepath.Join(r.dir, fmt.Sprintf("job-%d", r.jobs+1), "engine", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		r.T.Fatal(err)
	}
}

// StartFrom starts a new job on a copy of the store of another one, which is suspended: as from a savepoint.
func (r *Rig) StartFrom(from *Job, p *Pipeline, o Options) (*Job, error) {
	r.T.Helper()
	next := filepath.Join(r.dir, fmt.Sprintf("job-%d", r.jobs+1), "engine", "store")
	if err := errors.Join(os.RemoveAll(next), os.MkdirAll(filepath.Dir(next), 0o700), os.CopyFS(next, os.DirFS(from.StoreDir()))); err != nil {
		r.T.Fatal(err)
	}
	return r.Submit(p, o)
}
