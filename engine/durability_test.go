package engine_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// slowDisk is a disk in memory whose log can be kept from being synced.
type slowDisk struct {
	vfs.FS
	mu     sync.Mutex
	synced chan struct{} // closed while syncs pass
}

func newSlowDisk() *slowDisk {
	d := &slowDisk{FS: vfs.NewMem(), synced: make(chan struct{})}
	close(d.synced)
	return d
}

func (d *slowDisk) block() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	gate := make(chan struct{})
	d.synced = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (d *slowDisk) wait() {
	d.mu.Lock()
	gate := d.synced
	d.mu.Unlock()
	<-gate
}

func (d *slowDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	return d.wrap(name, f), err
}

func (d *slowDisk) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(old, name, category)
	return d.wrap(name, f), err
}

func (d *slowDisk) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") {
		return f
	}
	return slowFile{f, d}
}

type slowFile struct {
	vfs.File
	disk *slowDisk
}

func (f slowFile) Sync() error     { f.disk.wait(); return f.File.Sync() }
func (f slowFile) SyncData() error { f.disk.wait(); return f.File.SyncData() }
func (f slowFile) SyncTo(n int64) (bool, error) {
	f.disk.wait()
	return f.File.SyncTo(n)
}

// TestNothingLeavesBeforeItIsDurable keeps the log from being synced: the job goes on, but nobody outside sees anything of it.
func TestNothingLeavesBeforeItIsDurable(t *testing.T) {
	disk := newSlowDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var final atomic.Int64
	var release func()
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.block()
		}
		return nil
	}
	pass := p.ParDo("pass", p.Read("in", src, "bytes"), enginetest.ParDo{Finalizes: true, Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			c.OnFinalize(func() error { final.Add(1); return nil })
			return c.Emit("", e)
		}}
	}})
	out := p.Write("out", pass)
	j := r.Start(p, nil)
	j.AwaitOutput("out", 2) // the last stage has committed everything
	if len(out.Texts()) != 0 || final.Load() != 0 || src.Durable() != 0 || j.Last() != jobpb.JobState_RUNNING {
		t.Errorf("published %q, finalised %d, %d batches acknowledged, states %v", out.Texts(), final.Load(), src.Durable(), j.States())
	}
	release()
	j.End(jobpb.JobState_DONE)
	want(t, out, "a", "b")
	if final.Load() != 2 || src.Durable() != 1 {
		t.Errorf("finalised %d, %d batches acknowledged", final.Load(), src.Durable())
	}
}

// TestStableInput does not run a bundle that requires stable input before its input is durable.
func TestStableInput(t *testing.T) {
	disk := newSlowDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var seen atomic.Int64
	var release func()
	src := &enginetest.Source{Unbounded: true, Ends: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.block()
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
	disk := newSlowDisk()
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	var release func()
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}}
	src.OnPoll = func(_ context.Context, n int) error {
		if n == 0 {
			release = disk.block()
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
