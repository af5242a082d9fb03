package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// TestSettingsRefused: what cannot be meant is refused by name before a job is accepted, in whatever form SDKs send it.
func TestSettingsRefused(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(texts("a")), "bytes"))
	for _, c := range []struct {
		name string
		good []any
		bad  []any
	}{
		{"max_bundle_size", []any{1, "1", "1000000", 5.0, nil}, []any{0, -1, "-5", "many", "", 1.5, "1.5", true, []any{1}, "99999999999999999999", 1e300}},
		{"max_bundle_time_mills", []any{1, "86400000"}, []any{0, "-1", 86_400_001, "1s"}},
		{"latency_budget_millis", []any{1, "200"}, []any{0, "-1", 86_400_001}},
		{"sdk_worker_parallelism", []any{0, "0", "1", 1024}, []any{-1, "-2", 1025, "all"}},
		{"parallelism", []any{-1, "-1", 1, "32768"}, []any{0, "0", -2, 32769}},
		{"num_workers", []any{1, "3", nil}, []any{0, "0", -1, "few", 1025}},
		{"max_num_workers", []any{1, "3"}, []any{0, -1, "1025"}},
		{"autoscaling_algorithm", []any{"NONE", "THROUGHPUT_BASED", "none", nil}, []any{"", "BASIC", 1, "1", 2, true}},
		{"harness_memory_limit", []any{"2GiB", "512 MiB", "16777216", 16777216}, []any{"2GB", "0", "1MiB", 1, "-1", "much", 1.5}},
	} {
		for _, v := range c.good {
			if err := r.Check(p, enginetest.Options{c.name: v}); err != nil {
				t.Errorf("%s=%v: %v", c.name, v, err)
			}
		}
		for _, v := range c.bad {
			f := fault.Of(r.Check(p, enginetest.Options{c.name: v}))
			if f == nil || f.Code != "invalid-option" || f.Kind != fault.Pipeline || f.Hint == "" || !strings.Contains(f.Error(), "--"+c.name) {
				t.Errorf("%s=%v: %v", c.name, v, f)
			}
		}
	}
}

// TestSettingsListed: SDKs pass on what is listed.
func TestSettingsListed(t *testing.T) {
	listed := make(map[string]jobpb.PipelineOptionType_Enum)
	for _, o := range engine.Options() {
		listed[o.GetName()] = o.GetType()
	}
	for _, name := range []string{"max_bundle_size", "max_bundle_time_mills", "latency_budget_millis", "sdk_worker_parallelism", "parallelism",
		"num_workers", "max_num_workers"} {
		if listed[name] != jobpb.PipelineOptionType_INTEGER {
			t.Errorf("%s is listed as %v", name, listed[name])
		}
	}
	for _, name := range []string{"autoscaling_algorithm", "harness_memory_limit"} {
		if listed[name] != jobpb.PipelineOptionType_STRING {
			t.Errorf("%s is listed as %v", name, listed[name])
		}
	}
}

// chosenOf writes settings as name=value(from), without those that are nobody's choice.
func chosenOf(settings []jobserver.SettingDescription) string {
	var out []string
	for _, s := range settings {
		if s.From == "default" {
			continue
		}
		out = append(out, fmt.Sprintf("%s=%d(%s)", s.Name, *s.Value, s.From))
	}
	return strings.Join(out, " ")
}

func describedSettings(t *testing.T, r *enginetest.Rig, j *enginetest.Job) string {
	t.Helper()
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	return chosenOf(d.Settings)
}

func set(r *enginetest.Rig, j *enginetest.Job, values map[string]string) (string, error) {
	now, err := j.Running.(jobserver.Adjustable).Set(r.Context(), values)
	return chosenOf(now), err
}

// TestSettingsLayers: the server's value counts where a job does not choose, the job's own before it, and what is set by hand before that.
func TestSettingsLayers(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.Settings = map[string]int64{"max_bundle_size": 70, "parallelism": 5} })
	c := newCounting(r, 1, enginetest.Options{"max_bundle_size": "50", "latency_budget_millis": "30", "parallelism": "-1"})
	c.job.AwaitIdle()
	const submitted = "max_bundle_size=50(option) latency_budget_millis=30(option) parallelism=5(server)"
	if got := describedSettings(t, r, c.job); got != submitted {
		t.Errorf("submitted: %s", got)
	}
	got, err := set(r, c.job, map[string]string{"max_bundle_size": "9", "max_bundle_time_mills": "20"})
	if want := "max_bundle_size=9(set) max_bundle_time_mills=20(set) latency_budget_millis=30(option) parallelism=5(server)"; err != nil || got != want {
		t.Errorf("set: %s, %v", got, err)
	}
	if got, err = set(r, c.job, map[string]string{"max_bundle_size": "default", "max_bundle_time_mills": "default"}); err != nil || got != submitted {
		t.Errorf("taken back: %s, %v", got, err)
	}
	messages := strings.Join(c.job.Messages(jobpb.JobMessage_JOB_MESSAGE_BASIC), "\n")
	for _, want := range []string{
		"max_bundle_size set to 9, was 50", "max_bundle_time_mills set to 20, was 100",
		"max_bundle_size taken back to 50 (option), was 9", "max_bundle_time_mills taken back to 100 (default), was 20",
	} {
		if !strings.Contains(messages, want) {
			t.Errorf("no message %q in\n%s", want, messages)
		}
	}
	if err := c.job.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	c.job.End(jobpb.JobState_CANCELLED)
}

// TestSettingsSetWhileHarnessesStart: what starts them has settings of its own, which the race detector holds it to.
func TestSettingsSetWhileHarnessesStart(t *testing.T) {
	r := newRig(t, nil)
	release := make(chan struct{})
	r.Harnesses.OnStart = func(context.Context) error { <-release; return nil }
	c := newCounting(r, 1, nil)
	if got, err := set(r, c.job, map[string]string{"max_bundle_size": "9"}); err != nil || got != "max_bundle_size=9(set)" {
		t.Errorf("set: %s, %v", got, err)
	}
	close(release)
	c.open(t, r, 0, 2)
	if err := c.job.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	c.job.End(jobpb.JobState_CANCELLED)
}

// TestSettingsChangeRefused: a change is made whole or not at all, of a job that runs, and of what can change.
func TestSettingsChangeRefused(t *testing.T) {
	r := newRig(t, nil)
	c := newCounting(r, 1, nil)
	c.job.AwaitIdle()
	for _, x := range []struct {
		values map[string]string
		code   fault.Code
		says   string
	}{
		{map[string]string{"max_bundles": "9"}, "invalid-setting", "max_bundle_size"},
		{map[string]string{}, "invalid-setting", "max_bundle_size"},
		{map[string]string{"max_bundle_size": "9", "latency_budget_millis": "-9"}, "invalid-setting", "latency_budget_millis"},
		{map[string]string{"max_bundle_size": "few"}, "invalid-setting", `"few"`},
		{map[string]string{"max_bundle_size": ""}, "invalid-setting", "whole number"},
		{map[string]string{"max_bundle_size": "9", "num_workers": "2"}, "setting-fixed", "num_workers"},
		{map[string]string{"num_workers": "2"}, "setting-fixed", "sdk_worker_parallelism"},
		{map[string]string{"autoscaling_algorithm": "SOME"}, "invalid-setting", "THROUGHPUT_BASED"},
		{map[string]string{"harness_memory_limit": "2GB"}, "invalid-setting", "MiB"},
	} {
		_, err := set(r, c.job, x.values)
		if f := fault.Of(err); f == nil || f.Code != x.code || f.Kind != fault.Pipeline || f.Hint == "" || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%v: %v", x.values, err)
		}
	}
	if got := describedSettings(t, r, c.job); got != "" {
		t.Errorf("changed: %s", got)
	}
	if err := c.job.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	c.job.End(jobpb.JobState_CANCELLED)
	if _, err := set(r, c.job, map[string]string{"max_bundle_size": "9"}); fault.Of(err) == nil || fault.Of(err).Code != "job-over" {
		t.Errorf("when it was over: %v", err)
	}
}

// TestSettingsEffect: a change counts for bundles from then on, in this life of the server and in the next, also after a crash.
func TestSettingsEffect(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS, c.BundlesPerProcess = disk, 1 })
	src := &enginetest.Source{Unbounded: true}
	later := make(chan struct{})
	for n := range 60 {
		src.Batches = append(src.Batches, enginetest.Batch{Elements: texts(fmt.Sprint("x", n))})
	}
	more := make(chan struct{})
	src.Batches[1].Gate, src.Batches[30].Gate = more, later
	begun, held := make(chan struct{}, 60), make(chan struct{})
	p := r.Pipeline()
	out := p.Write("out", p.Map("hold", p.Read("in", src, "bytes"), "", func(c *fakesdk.Context, e fakesdk.Element) error {
		begun <- struct{}{}
		<-held
		return c.Emit("", e)
	}))
	j := r.Start(p, nil)
	<-begun // a bundle has the place
	close(more)
	j.AwaitOutput("in", 30)
	if _, err := set(r, j, map[string]string{"max_bundle_size": "5"}); err != nil {
		t.Fatal(err)
	}
	close(held)
	awaitTexts(t, r, out, 30)
	if n := stage(t, r, j, "hold").BundlesCommitted; n < 6 {
		t.Errorf("%d bundles", n)
	}
	r.Crash(j, disk.Crashed(0, rand.New(rand.NewPCG(1, 31))))
	src.Rewind(0)
	j = r.Recover(j)
	if got := describedSettings(t, r, j); got != "max_bundle_size=5(set)" {
		t.Errorf("after the crash: %s", got)
	}
	close(later)
	awaitTexts(t, r, out, 60)
	if s := stage(t, r, j, "hold"); s.BundlesCommitted < s.ElementsIn/5 {
		t.Errorf("%d bundles of %d elements", s.BundlesCommitted, s.ElementsIn)
	}
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_CANCELLED)
}

// TestSettingsRestored: a job that is restored has what was set by hand when the checkpoint was taken. A new job that starts from it comes
// with options of its own.
func TestSettingsRestored(t *testing.T) {
	r := newRig(t, nil)
	c := newCounting(r, 2, nil)
	c.open(t, r, 0, 2)
	if _, err := set(r, c.job, map[string]string{"max_bundle_size": "5"}); err != nil {
		t.Fatal(err)
	}
	place := t.TempDir()
	taken := c.job.Checkpoint(jobserver.CheckpointRequest{To: place})
	if _, err := set(r, c.job, map[string]string{"max_bundle_size": "7"}); err != nil {
		t.Fatal(err)
	}
	r.Restart()
	next, _, err := r.Restore(c.job, jobserver.RestoreRequest{From: place, ID: taken.ID})
	if err != nil {
		t.Fatal(err)
	}
	if got := describedSettings(t, r, next); got != "max_bundle_size=5(set)" {
		t.Errorf("restored: %s", got)
	}
	r.Suspend()
	r.Restart()
	p := r.Pipeline()
	p.Write("Write out", p.Map("pass", p.Read("in", c.src, "bytes"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })).Marked = true
	fresh, err := r.StartFrom(next, p, enginetest.Options{"latency_budget_millis": 40})
	if err != nil {
		t.Fatal(err)
	}
	if got := describedSettings(t, r, fresh); got != "latency_budget_millis=40(option)" {
		t.Errorf("another job: %s", got)
	}
	if err := fresh.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	fresh.End(jobpb.JobState_CANCELLED)
}

// TestWorkers: how many harness processes there are when a job begins.
func TestWorkers(t *testing.T) {
	const throughputBased = 2
	for _, c := range []struct {
		options enginetest.Options
		limit   int // processes that the pool can have
		workers int
		bounds  string
		note    string
		warned  bool
	}{
		{nil, 9, 1, "1", "", false},
		{enginetest.Options{"sdk_worker_parallelism": "3"}, 9, 3, "3", "", false},
		{enginetest.Options{"sdk_worker_parallelism": "0"}, 9, 4, "1-4", "4: sized from 1 to 4", false},
		{enginetest.Options{"sdk_worker_parallelism": "0", "autoscaling_algorithm": "NONE"}, 9, 4, "4", "4: as many as there are cores", false},
		{enginetest.Options{"sdk_worker_parallelism": "0", "parallelism": 2}, 9, 2, "1-2", "2: sized from 1 to 2", false},
		{enginetest.Options{"sdk_worker_parallelism": "0", "parallelism": 2, "autoscaling_algorithm": "NONE"}, 9, 2, "2",
			"2: parallelism bounds it", false},
		{enginetest.Options{"sdk_worker_parallelism": "3"}, 1, 1, "1", "1: its worker pool, as with LOOPBACK, has all workers in one process", true},
		{enginetest.Options{"sdk_worker_parallelism": "0"}, 1, 1, "1", "1: its worker pool, as with LOOPBACK, has all workers in one process", false},
		{enginetest.Options{"sdk_worker_parallelism": "1", "max_num_workers": 3}, 9, 1, "1-3", "1: sized from 1 to 3", false},
		{enginetest.Options{"sdk_worker_parallelism": "2", "max_num_workers": 9, "num_workers": "3"}, 9, 3, "2-9", "3: sized from 2 to 9", false},
		{enginetest.Options{"sdk_worker_parallelism": "5", "max_num_workers": 3}, 9, 3, "3", "3", false},
		{enginetest.Options{"autoscaling_algorithm": "THROUGHPUT_BASED"}, 9, 1, "1-4", "1: sized from 1 to 4", false},
		{enginetest.Options{"autoscaling_algorithm": "NONE", "max_num_workers": 3}, 9, 1, "1", "", false},
		{enginetest.Options{"num_workers": 3}, 9, 3, "3", "3: num_workers says so", false},
	} {
		r := newRig(t, func(c *engine.Config) { c.Cores = 4 })
		r.Harnesses.ProcessesMax = c.limit
		p := r.Pipeline()
		p.Write("out", p.Map("pass", p.Read("in", bounded(texts("a")), "bytes"), "",
			func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
		j := r.Run(p, c.options)
		d, err := j.Describe(r.Context())
		if err != nil {
			t.Fatal(err)
		}
		note, algorithm := "", int64(0)
		for _, s := range d.Settings {
			switch s.Name {
			case "sdk_worker_parallelism":
				note = s.Note
			case "autoscaling_algorithm":
				algorithm = *s.Value
			}
		}
		bounds := fmt.Sprint(d.Pools[0].Min)
		if d.Pools[0].Sized {
			bounds += fmt.Sprint("-", d.Pools[0].Max)
		}
		warned := strings.Contains(strings.Join(j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), "\n"), "sdk_worker_parallelism is 3 (option)")
		if len(d.Workers) != c.workers || note != c.note || warned != c.warned || bounds != c.bounds {
			t.Errorf("%v: %d workers of %s, %q, warned %t", c.options, len(d.Workers), bounds, note, warned)
		}
		if d.Pools[0].Sized != (algorithm == throughputBased) && c.limit > 1 && c.bounds != "3" {
			t.Errorf("%v: the algorithm is %d", c.options, algorithm)
		}
	}
}

// stage is the stage of a job that has the transform.
func stage(t *testing.T, r *enginetest.Rig, j *enginetest.Job, transform string) jobserver.StageDescription {
	t.Helper()
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range d.Stages {
		for _, name := range s.Transforms {
			if name == transform {
				return s
			}
		}
	}
	t.Fatalf("no stage has %q", transform)
	return jobserver.StageDescription{}
}

// awaitTexts waits until a sink has so many texts, not counting what an interrupted job has published again.
func awaitTexts(t *testing.T, r *enginetest.Rig, out *enginetest.Sink, n int) {
	t.Helper()
	if err := out.Await(r.Context(), func(texts []string) bool { return len(distinct(texts)) >= n }); err != nil {
		t.Fatal(err)
	}
}
