package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// bell is a stateful step whose elements set and clear its timers, in two families. It notes what fires.
type bell struct {
	run    reference.TimerRun
	seen   *observer
	mu     sync.Mutex
	fired  []reference.Firing
	repeat map[string]int64 // of timers that set themselves again, by key, window and tag
}

func (b *bell) families() map[string]pipepb.TimeDomain_Enum {
	return map[string]pipepb.TimeDomain_Enum{"event": eventTime, "clock": processingTime}
}

func loopID(t fakesdk.Timer) string { return string(t.Key) + string(t.Windows) + t.Tag }

func (b *bell) fn() fakesdk.DoFn { return fakesdk.DoFn{Process: b.process, OnTimer: b.ring} }

func (b *bell) process(c *fakesdk.Context, e fakesdk.Element) error {
	return each(c, e, func(e fakesdk.Element) error {
		key, err := c.Key(e)
		if err != nil {
			return err
		}
		_, value := pairOf(e)
		op := b.run.Ops[value]
		t := fakesdk.Timer{Key: key, Tag: op.Tag, Windows: e.Windows, Clear: op.Clear, Fire: op.At, Hold: e.Timestamp, Pane: e.Pane}
		if op.Processing {
			return c.SetTimer("clock", t)
		}
		b.mu.Lock()
		b.repeat[loopID(t)] = op.Again
		b.mu.Unlock()
		return c.SetTimer("event", t)
	})
}

func (b *bell) ring(c *fakesdk.Context, family string, t fakesdk.Timer) error {
	f := reference.Firing{
		Key: string(fakesdk.Bytes(t.Key)), Window: windowOf(fakesdk.Element{Windows: t.Windows}), Tag: t.Tag, Processing: family == "clock",
		At: t.Fire,
	}
	b.seen.note(func() { f.Event = b.seen.event })
	c.OnFinalize(func() error { // a bundle whose timers come out of order counts for nothing and runs again
		b.mu.Lock()
		defer b.mu.Unlock()
		b.fired = append(b.fired, f)
		return nil
	})
	b.mu.Lock()
	again := b.repeat[loopID(t)]
	b.mu.Unlock()
	if f.Processing || again == 0 {
		return nil
	}
	t.Fire, t.Hold = t.Fire+again, t.Fire+again
	return c.SetTimer(family, t)
}

// TestReferenceTimers has the elements of random histories set and clear timers: exactly those fire that the reference says, after the
// event, and at the time, that it says.
func TestReferenceTimers(t *testing.T) {
	for _, seed := range seeds(24) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			run := reference.RandomTimers(rand.New(rand.NewPCG(seed, 8)))
			r := newRig(t, enginetest.KeepStores)
			b := &bell{run: run, seen: &observer{}, repeat: map[string]int64{}}
			p := r.Pipeline()
			outs := p.TestStream("events", []string{"main", "tick"}, enginetest.Script(run.History)...)
			p.ParDos("tick", outs["tick"], enginetest.ParDo{
				Outs: map[string]string{}, Fn: func() fakesdk.DoFn { return fakesdk.DoFn{Process: b.seen.tick} },
			})
			windows := enginetest.Strategy(reference.Grouping{Fn: run.Fn, Trigger: &reference.Trigger{}, Lateness: run.Lateness}, false)
			in := p.WindowInto("windows", p.Map("key", outs["main"], textPair, keyed), windows)
			p.ParDos("bell", in, enginetest.ParDo{Outs: map[string]string{}, Timers: b.families(), Finalizes: true, Fn: b.fn})
			j := r.Run(p, nil)
			for name, table := range map[string]rows.Table{"timer": rows.TimerID, "timer order": rows.TimerTS, "hold": rows.Hold} {
				if n := r.Rows(j, table); n != 0 {
					t.Errorf("%d %s rows are left", n, name)
				}
			}
			missing, extra := difference(firings(run.Firings()), firings(b.fired))
			if len(missing)+len(extra) > 0 {
				t.Errorf("missing:\n%s\ntoo many:\n%s\n%s", strings.Join(missing, "\n"), strings.Join(extra, "\n"), run)
			}
		})
	}
}

func firings(all []reference.Firing) []string {
	texts := make([]string, len(all))
	for i, f := range all {
		texts[i] = f.String()
	}
	slices.Sort(texts)
	return texts
}
