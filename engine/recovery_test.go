package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/rows"
	"padstone/engine/store/storetest"
	"padstone/engine/watermark"
	"padstone/fnapi/fakesdk"
)

// ledger is a job whose result does not depend on how it is cut into bundles: orders of a few customers in windows of 100 ms, each
// split into three items by a splittable DoFn, looked up in a side input, then summed by state and timer, and grouped.
type ledger struct {
	rig       *enginetest.Rig
	source    *enginetest.Source
	customers *enginetest.Source
	items     *enginetest.Sink
	totals    *enginetest.Sink
	groups    *enginetest.Sink
	job       *enginetest.Job
	batches   int
	fails     func(text string) error // may have user code fail; nil: it never does
}

const ledgerKeys, ledgerPerBatch, ledgerStepMs = 5, 4, 40

func newLedger(r *enginetest.Rig, batches int) *ledger {
	l := &ledger{
		rig: r, source: &enginetest.Source{Unbounded: true}, batches: batches,
		customers: bounded(pairs("k0=zero@0", "k1=one@0", "k2=two@0", "k3=three@0", "k4=four@0")),
		items:     &enginetest.Sink{}, totals: &enginetest.Sink{}, groups: &enginetest.Sink{},
	}
	for b := range batches {
		var elements []enginetest.Element
		for i := range ledgerPerBatch {
			n := b*ledgerPerBatch + i
			elements = append(elements, pairs(fmt.Sprintf("k%d=n%d@%d", n%ledgerKeys, n, b*ledgerStepMs+i))...)
		}
		l.source.Batches = append(l.source.Batches, enginetest.Batch{
			Elements: elements, Watermark: element.Time((b+1)*ledgerStepMs - 10),
		})
	}
	l.source.Batches = append(l.source.Batches, enginetest.Batch{Watermark: 1_000_000})                 // all windows close
	l.source.OnPoll = func(context.Context, int) error { time.Sleep(3 * time.Millisecond); return nil } // or one bundle would take all
	return l
}

// pipeline builds the job.
func (l *ledger) pipeline() *enginetest.Pipeline { return l.edition(&edition{}) }

// flaky makes a DoFn fail, after it has done its work, where the ledger says so.
func (l *ledger) flaky(fn func() fakesdk.DoFn) func() fakesdk.DoFn {
	if l.fails == nil {
		return fn
	}
	return func() fakesdk.DoFn {
		d := fn()
		process, onTimer := d.Process, d.OnTimer
		d.Process = func(c *fakesdk.Context, e fakesdk.Element) error {
			return errors.Join(process(c, e), l.fails(string(e.Value)))
		}
		d.OnTimer = func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
			return errors.Join(onTimer(c, family, t), l.fails(fmt.Sprintf("%s %d", t.Key, t.Fire)))
		}
		return d
	}
}

// named turns "k1=n7:2" into KV(name of k1, "n7:2").
func named() fakesdk.DoFn {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		key, item, _ := strings.Cut(string(fakesdk.Bytes(e.Value)), "=")
		name, err := c.MultimapSide("names", e.Window(), enginetest.Text(key))
		if err != nil {
			return err
		}
		e.Value = enginetest.KV(name, enginetest.Text(item))
		return c.Emit("", e)
	}}
}

// totals keeps items in a bag and emits, at the window's end, how many there are and how many distinct ones.
func totals() fakesdk.DoFn {
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			key, err := c.Key(e)
			if err != nil {
				return err
			}
			if err := c.Bag("items", key, e.Window()).Append(e.Value[len(key):]); err != nil {
				return err
			}
			end := enginetest.WindowEnd(e.Window()) - 1
			return c.SetTimer("end", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: end, Hold: end, Pane: e.Pane})
		},
		OnTimer: func(c *fakesdk.Context, _ string, t fakesdk.Timer) error {
			data, err := c.Bag("items", t.Key, t.Windows[4:]).Read()
			if err != nil {
				return err
			}
			var all []string
			for len(data) > 0 {
				size := 1 + int(data[0]) // items are short
				all = append(all, string(fakesdk.Bytes(data[:size])))
				data = data[size:]
			}
			slices.Sort(all)
			text := fmt.Sprint(len(all), " ", len(slices.Compact(all)))
			return c.Emit("", fakesdk.Element{
				Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane, Value: enginetest.KV(t.Key, enginetest.Text(text)),
			})
		},
	}
}

// expect computes what the sinks must hold.
func (l *ledger) expect() (items, totals, groups []string) {
	names := []string{"zero", "one", "two", "three", "four"}
	byWindow := make(map[string][]string) // "name@end" → items
	for n := range l.batches * ledgerPerBatch {
		ts := n/ledgerPerBatch*ledgerStepMs + n%ledgerPerBatch
		for i := range 3 {
			item := fmt.Sprintf("n%d:%d", n, i)
			items = append(items, names[n%ledgerKeys]+"="+item)
			cell := fmt.Sprintf("%s@%d", names[n%ledgerKeys], ts/100*100+100)
			byWindow[cell] = append(byWindow[cell], item)
		}
	}
	for cell, list := range byWindow {
		name, end, _ := strings.Cut(cell, "@")
		slices.Sort(list)
		totals = append(totals, fmt.Sprintf("%s=%d %d@%s", name, len(list), len(list), end))
		groups = append(groups, fmt.Sprintf("%s=%v@%s", name, list, end))
	}
	slices.Sort(items)
	slices.Sort(totals)
	slices.Sort(groups)
	return items, totals, groups
}

// finish waits for the whole result, checks it and that nothing is left behind in the store, and drains the job.
func (l *ledger) finish(t *testing.T) {
	t.Helper()
	items, totals, groups := l.expect()
	for i, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
		wanted := [][]string{items, totals, groups}[i]
		err := s.Await(l.rig.Context(), func(texts []string) bool { return len(distinct(texts)) >= len(wanted) })
		if err != nil {
			d, _ := l.job.Describe(t.Context())
			t.Fatalf("sink %d has %d of %d; messages %q; %+v", i, len(s.Distinct()), len(wanted), l.job.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR), d)
		}
		if got := s.Distinct(); !slices.Equal(got, wanted) {
			t.Fatalf("sink %d: %d texts, not the %d wanted:\n%q\n%q", i, len(got), len(wanted), got, wanted)
		}
	}
	for _, name := range []string{"orders", "split", "totals", "group", "write items", "write totals", "write groups"} {
		l.job.AwaitWatermark(name, 1_000_000)
	}
	l.job.AwaitIdle()
	checkNothingLeft(t, l.rig, l.job)
	l.job = l.rig.Recover(l.job)
	if err := l.job.Drain(l.rig.Context()); err != nil {
		t.Fatal(err)
	}
	l.job.End(jobpb.JobState_DRAINED)
	for i, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
		if n := len(s.Distinct()); n != len([][]string{items, totals, groups}[i]) {
			t.Errorf("sink %d has %d texts after the drain", i, n)
		}
	}
}

func distinct(texts []string) []string {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return slices.Compact(texts)
}

// checkNothingLeft suspends the job and looks into its store: no block waits, nothing holds a watermark, and closed windows have left
// no state, timer, group or trigger behind.
func checkNothingLeft(t *testing.T, r *enginetest.Rig, j *enginetest.Job) {
	t.Helper()
	r.Restart()
	s := r.OpenStore(j)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if n, err := s.CountRows(rows.Inbox); err != nil || n != 0 {
		t.Errorf("%d blocks wait, %v", n, err)
	}
	err := s.Holds(func(stage uint32, holds []watermark.Count) {
		t.Errorf("stage %d holds %v", stage, holds)
	})
	if err != nil {
		t.Error(err)
	}
	for name, table := range map[string]rows.Table{
		"states": rows.State, "timers": rows.TimerID, "timer times": rows.TimerTS, "groups": rows.Group, "triggers": rows.Trigger,
		"holds": rows.Hold, "outbox blocks": rows.Outbox, "sorted elements": rows.Sorted,
	} {
		if n, err := s.CountRows(table); err != nil || n != 0 {
			t.Errorf("%d %s are left, %v", n, name, err)
		}
	}
}

// TestLedger runs without interruption: the reference.
func TestLedger(t *testing.T) {
	l := newLedger(newRig(t, nil), 20)
	l.job = l.rig.Start(l.pipeline(), nil)
	l.finish(t)
}

// TestLedgerSuspended suspends and recovers the job at random moments.
func TestLedgerSuspended(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			l := newLedger(newRig(t, nil), 40)
			l.job = l.rig.Start(l.pipeline(), nil)
			for range 6 {
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // somewhere in the middle: that is the point
				l.rig.Restart()
				l.job = l.rig.Recover(l.job)
			}
			l.finish(t)
		})
	}
}

// TestLedgerFlaky has user code fail and harnesses go at random, and suspends and recovers the job in the middle of it.
func TestLedgerFlaky(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			l := newLedger(newRig(t, nil), 16)
			var mu sync.Mutex
			failed := make(map[string]bool)
			l.fails = func(text string) error {
				mu.Lock()
				defer mu.Unlock()
				if failed[text] || rng.IntN(25) > 0 {
					return nil
				}
				failed[text] = true // a second time might be one too often
				return fmt.Errorf("no luck with %q", text)
			}
			l.rig.Harnesses.Fault = func(int, *fnpb.ProcessBundleRequest) fakesdk.Fault {
				mu.Lock()
				defer mu.Unlock()
				if rng.IntN(40) > 0 {
					return fakesdk.NoFault
				}
				return fakesdk.DropConnection
			}
			l.job = l.rig.Start(l.pipeline(), nil)
			for range 2 {
				mu.Lock()
				wait := time.Duration(rng.IntN(200)) * time.Millisecond
				mu.Unlock()
				time.Sleep(wait) // somewhere in the middle: that is the point
				l.rig.Restart()
				l.job = l.rig.Recover(l.job)
			}
			l.finish(t)
			if len(failed) == 0 {
				t.Error("nothing has failed")
			}
		})
	}
}

// TestLedgerCrashed takes pictures of the disk at random publications, with what was not synced lost in part or whole, and goes on
// from them. Sinks go back to what they had at that moment: whatever they had must have been durable. A sink may be told again what
// the job did not yet know to be published, so that texts are compared as a set.
func TestLedgerCrashed(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			fs := storetest.NewDisk()
			r := newRig(t, nil)
			r.Config.FS = fs
			r.Restart()
			l := newLedger(r, 30)
			p := l.pipeline()
			c := &crasher{ledger: l, rng: rng, fs: fs, taken: make(chan picture, 1)}
			for _, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
				s.OnPublish = func(int) error { c.published(); return nil }
			}
			c.arm()
			l.job = r.Start(p, nil)
			for crashes := 0; crashes < 5; crashes++ {
				var at picture
				select {
				case at = <-c.taken:
				case <-time.After(2 * time.Second): // everything was published before it came to this
					t.Logf("%d crashes", crashes)
					crashes = 5
					continue
				}
				r.Crash(l.job, at.fs)
				for i, s := range []*enginetest.Sink{l.items, l.totals, l.groups} {
					s.Reset(at.texts[i])
				}
				l.source.Rewind(at.durable)
				c.fs = at.fs
				c.arm()
				l.job = r.Recover(l.job)
			}
			c.disarm()
			l.finish(t)
		})
	}
}

// picture is disk and outside at one moment.
type picture struct {
	fs      *storetest.Disk
	texts   [3][]string
	durable int
}

// crasher takes a picture at a random publication.
type crasher struct {
	ledger *ledger
	rng    *rand.Rand
	fs     *storetest.Disk
	taken  chan picture
	mu     sync.Mutex
	left   int // publications until the picture; 0: none is wanted
}

func (c *crasher) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 1 + c.rng.IntN(3)
}

func (c *crasher) disarm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
}

func (c *crasher) published() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return
	}
	if c.left--; c.left > 0 {
		return
	}
	l := c.ledger
	at := picture{durable: l.source.Durable()}
	l.items.Freeze(func(items []string) {
		l.totals.Freeze(func(totals []string) {
			l.groups.Freeze(func(groups []string) {
				at.texts = [3][]string{items, totals, groups}
				percent := []int{0, 50, 100}[c.rng.IntN(3)]
				at.fs = c.fs.Crashed(percent, c.rng)
			})
		})
	})
	c.taken <- at
}
