package engine_test

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// TestHarnessesStartBesideStore recovers a job whose store opens only once its harnesses are being started, and one whose store does not
// open: then none are left.
func TestHarnessesStartBesideStore(t *testing.T) {
	disk := storetest.NewDisk()
	var armed, late atomic.Bool
	starting := make(chan struct{})
	disk.Watch = func(storetest.Op) error {
		if armed.Load() {
			select {
			case <-starting:
			case <-time.After(time.Minute):
				late.Store(true)
			}
		}
		return nil
	}
	r := newRig(t, func(c *engine.Config) { c.FS = disk })
	p := r.Pipeline()
	gate := make(chan struct{})
	src := &enginetest.Source{Batches: []enginetest.Batch{{Elements: texts("a")}, {Elements: texts("b"), Gate: gate}}}
	out := p.Write("out", p.Map("pass", p.Read("in", src, "bytes"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
	out.Marked = true // it may have been told of "a" already, and nothing is to be there twice
	j := r.Start(p, nil)
	j.AwaitOutput("in", 1)
	r.Suspend()
	var once sync.Once
	r.Harnesses.OnStart = func(context.Context) error { once.Do(func() { close(starting) }); return nil }
	r.Restart()
	armed.Store(true)
	j = r.Recover(j)
	armed.Store(false)
	if late.Load() {
		t.Error("no harness starts before the store is open")
	}
	r.Suspend()
	r.Restart()
	disk.FailAfter(0, syscall.ENOSPC)
	j = r.Recover(j)
	if n := r.Harnesses.Open(); n != 0 {
		t.Errorf("%d pools of harnesses run while the store does not open", n)
	}
	disk.Heal()
	close(gate)
	j.End(jobpb.JobState_DONE)
	want(t, out, "a", "b")
}
