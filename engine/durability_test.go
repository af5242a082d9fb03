package engine_test

import (
	"context"
	"sync/atomic"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// TestNothingLeavesBeforeItIsDurable keeps the log from being synced: the job goes on, but nobody outside sees anything of it.
func TestNothingLeavesBeforeItIsDurable(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var final atomic.Int64
	var release func()
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.BlockLog()
		}
		return nil
	}
	pass := p.ParDo("pass", p.Read("in", src, "bytes"), enginetest.ParDo{Finalizes: true, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			c.Count("seen", 1)
			c.OnFinalize(func() error { final.Add(1); return nil })
			return c.Emit("", e)
		}}
	}})
	out := p.Write("out", pass)
	j := r.Start(p, nil)
	j.AwaitOutput("out", 2) // the last stage has committed everything
	m, err := j.Metrics(r.Context())
	if err != nil || enginetest.Sum(m.GetCommitted(), "pass", "seen") != 0 || enginetest.Sum(m.GetAttempted(), "pass", "seen") != 2 {
		t.Errorf("the metrics are %v, %v", m, err)
	}
	if len(out.Texts()) != 0 || final.Load() != 0 || src.Durable() != 0 || j.Last() != jobpb.JobState_RUNNING {
		t.Errorf("published %q, finalised %d, %d batches acknowledged, states %v", out.Texts(), final.Load(), src.Durable(), j.States())
	}
	release()
	j.End(jobpb.JobState_DONE)
	want(t, out, "a", "b")
	if n := j.Counter("pass", "seen"); n != 2 {
		t.Errorf("%d are counted", n)
	}
	if final.Load() != 2 || src.Durable() != 1 {
		t.Errorf("finalised %d, %d batches acknowledged", final.Load(), src.Durable())
	}
}

// TestStableInput does not run a bundle that requires stable input before its input is durable.
func TestStableInput(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var seen atomic.Int64
	var release func()
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.BlockLog()
		}
		return nil
	}
	in := p.Read("in", src, "bytes")
	other := p.Map("other", in, "", splitWords)
	p.Write("other out", other)
	out := p.Write("out", p.ParDo("pay", in, enginetest.ParDo{Stable: true, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			seen.Add(1)
			return c.Emit("", e)
		}}
	}}))
	j := r.Start(p, nil)
	j.AwaitOutput("other out", 2) // what comes after the same commit has run
	if seen.Load() != 0 {
		t.Errorf("%d elements were processed before they were durable", seen.Load())
	}
	release()
	j.End(jobpb.JobState_DONE)
	want(t, out, "a", "b")
}

// TestCancelWhileDiskHangs does not wait for the disk to publish or finalise, only to close.
func TestCancelWhileDiskHangs(t *testing.T) {
	disk := storetest.NewDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var release func()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.BlockLog()
		}
		return nil
	}
	out := p.Write("out", p.Read("in", src, "bytes"))
	j := r.Start(p, nil)
	j.AwaitOutput("out", 2)
	if err := j.Cancel(r.Context()); err != nil {
		t.Fatal(err)
	}
	release()
	j.End(jobpb.JobState_CANCELLED)
	if len(out.Texts()) != 0 {
		t.Errorf("published %q", out.Texts())
	}
}
