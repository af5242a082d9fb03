package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestClockJumps puts the clock of the machine back by an hour and forward by two: timers that harnesses have set by it fire when their
// delay has elapsed, or when the clock has passed them, and no job waits for an hour.
func TestClockJumps(t *testing.T) {
	var jump atomic.Int64
	started := time.Now()
	wall := func() element.Time {
		return element.Time(started.UnixMilli() + time.Since(started).Milliseconds() + jump.Load())
	}
	r := newRig(t, func(c *engine.Config) {
		c.Now, c.Elapsed = wall, func() time.Duration { return time.Since(started) }
	})
	p := r.Pipeline()
	gates := make([]chan struct{}, 4)
	src := &enginetest.Source{Unbounded: true, Ends: true}
	delays := map[string]int64{"back": 300, "after": 100, "forward": 3_600_000, "last": 10}
	for i, key := range []string{"back", "after", "forward", "last"} {
		gates[i] = make(chan struct{})
		src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs(fmt.Sprintf("%s=1@%d", key, i)), Gate: gates[i]})
	}
	set := make(chan string, 4)
	out := p.Write("out", p.ParDo("alarm", p.Read("in", src, "kv(bytes,bytes)"), enginetest.ParDo{
		Timers: map[string]pipepb.TimeDomain_Enum{"clock": processingTime},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{OnTimer: fired, Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				name := string(fakesdk.Bytes(key))
				at := int64(wall()) + delays[name]
				set <- name
				return c.SetTimer("clock", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: at, Hold: e.Timestamp, Pane: e.Pane})
			}}
		},
	}))
	fires := func(name string) {
		t.Helper()
		err := out.Await(r.Context(), func(texts []string) bool {
			return slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		})
		if err != nil {
			t.Fatalf("the timer %q does not fire: %q", name, out.Texts())
		}
	}
	j := r.Start(p, nil)
	close(gates[0])
	<-set
	jump.Add(-3_600_000) // about when the timer is committed, before it is due
	fires("back")
	close(gates[1]) // a harness that goes by a clock that is behind the job's
	<-set
	at := time.Now()
	fires("after")
	if waited := time.Since(at); waited < 50*time.Millisecond {
		t.Errorf("a timer of 100 ms has fired after %v", waited)
	}
	close(gates[2])
	<-set
	j.AwaitOutput("in", 3)
	jump.Add(3 * 3_600_000)
	close(gates[3])
	fires("forward")
	j.End(jobpb.JobState_DONE)
	if n := len(out.Texts()); n != 4 {
		t.Errorf("%d timers have fired: %q", n, out.Texts())
	}
}
