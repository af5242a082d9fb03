package engine_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/rows"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// numbers are n elements KV(a, 1), all at a time.
func numbers(n int, at element.Time) []enginetest.Element {
	elements := make([]enginetest.Element, n)
	for i := range elements {
		elements[i] = enginetest.Element{At: at, Value: enginetest.KV(enginetest.Text("a"), enginetest.Int(1))}
	}
	return elements
}

// TestCompaction sums up an accumulating window over hundreds of firings, while harnesses are lost now and then and the server crashes
// and is restarted: every pane is right, late elements are counted one by one, and neither what the window keeps nor what it puts out grows.
func TestCompaction(t *testing.T) {
	for name, windows := range map[string]enginetest.Windows{
		"fixed": enginetest.Fixed(1000), "sessions": enginetest.Sessions(500), "merged in the harness": enginetest.Gaps(500),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			disk := storetest.NewDisk()
			r.Config.FS = disk
			r.Restart()
			bundles := atomic.Int64{}
			r.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
				if bundles.Add(1)%200 == 90 {
					return fakesdk.DropConnection
				}
				return fakesdk.NoFault
			}
			const each, rounds, late = 10, 60, 7
			src := &enginetest.Source{Unbounded: true}
			gates := make([]chan struct{}, rounds+1)
			for i := range gates {
				gates[i] = make(chan struct{})
				src.Batches = append(src.Batches, enginetest.Batch{Elements: numbers(each, 100), Gate: gates[i]})
			}
			src.Batches[rounds] = enginetest.Batch{Elements: numbers(1, 9000), Watermark: 8000, Gate: gates[rounds]}
			lateGate := make(chan struct{})
			src.Batches = append(src.Batches, enginetest.Batch{Elements: numbers(late, 100), Gate: lateGate})
			p := r.Pipeline()
			in := p.WindowInto("windows", p.Read("in", src, "kv(bytes,varint)"), windows.Accumulating(2).Lateness(1000))
			out := p.Write("out", p.Sum("sum", in))
			j := r.Start(p, nil)
			for i := range rounds {
				close(gates[i])
				panes := (i + 1) * each / 2
				if err := out.Await(r.Context(), func(texts []string) bool { return len(distinct(texts)) == panes }); err != nil {
					t.Fatalf("round %d: %v: %q", i, err, out.Distinct())
				}
				switch i {
				case rounds / 4:
					var published []string
					var crashed *storetest.Disk
					durable := src.Durable()
					out.Freeze(func(texts []string) {
						published, crashed = texts, disk.Crashed(50, rand.New(rand.NewPCG(1, 1)))
					})
					r.Crash(j, crashed)
					out.Reset(published)
					src.Rewind(durable)
					j = r.Recover(j)
				case rounds / 2:
					r.Restart()
					if size := groupBytes(t, r, j); size > 40 {
						t.Errorf("the window keeps %d bytes after %d panes", size, panes)
					}
					j = r.Recover(j)
				}
			}
			close(gates[rounds])
			j.AwaitWatermark("out", 8000)
			close(lateGate)
			j.AwaitOutput("in", (rounds-rounds/2-1)*each+1+late) // since the restart
			j.AwaitIdle()
			if err := j.Drain(r.Context()); err != nil {
				t.Fatal(err)
			}
			j.End(jobpb.JobState_DRAINED)
			checkSums(t, out.Distinct(), each*rounds)
			if n := j.Counter("sum", "dropped_due_to_lateness"); n != late {
				t.Errorf("%d elements were dropped, not %d", n, late)
			}
			if n := j.Counter("sum", "accumulators"); n > 20*rounds*each/2 {
				t.Errorf("%d accumulators were put out in %d panes", n, rounds*each/2)
			}
		})
	}
}

// checkSums looks for the sum after every second element.
func checkSums(t *testing.T, texts []string, most int) {
	t.Helper()
	seen := make(map[int]bool)
	for _, text := range texts {
		var n int
		_, number, _ := strings.Cut(text, "=")
		if _, err := fmt.Sscan(strings.NewReplacer("@", " ").Replace(number), &n); err != nil {
			t.Fatal(err)
		}
		seen[n] = true
	}
	for n := 2; n <= most; n += 2 {
		if !seen[n] {
			t.Errorf("no pane has the sum %d", n)
		}
	}
}

// groupBytes is the size of the values that a suspended job's groupings keep.
func groupBytes(t *testing.T, r *enginetest.Rig, j *enginetest.Job) (size int) {
	t.Helper()
	s := r.OpenStore(j)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for stage := range uint32(8) {
		b := s.Begin(stage)
		for g := range uint16(r.Config.KeyGroups) {
			err := b.Group(g).Scan(rows.Group, nil, nil, func(_, v []byte) bool { size += len(v); return true })
			if err != nil {
				t.Error(err)
			}
		}
		b.Discard()
	}
	return size
}
