package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// keeper is a stateful step that keeps values in bags, some of which are longer than a page of state, until a timer by the clock of the
// machine lets them out, or at the latest one at the end of their window. Each value comes out once, however often that clock jumps: what
// it was kept with, and the timer that lets it out, are nowhere more than once.
type keeper struct {
	sim    *sim
	source *enginetest.Source
	fat    bool     // values are long
	values []string // in the order of the source
	size   int64    // of windows
	sink   *enginetest.Sink
}

func newKeeper(s *sim, rng *rand.Rand) *keeper {
	k := &keeper{sim: s, size: 10 + rng.Int64N(30), fat: rng.IntN(4) == 0}
	k.source = &enginetest.Source{Unbounded: true, Ends: true, Split: "in"}
	at := int64(1)
	for range 3 + rng.IntN(10) {
		var b enginetest.Batch
		for range rng.IntN(4) {
			at += rng.Int64N(8)
			length := rng.IntN(20)
			if k.fat {
				length = rng.IntN(600 << 10)
			}
			v := fmt.Sprint("v", len(k.values), ",", length)
			k.values = append(k.values, v)
			b.Elements = append(b.Elements, enginetest.Element{At: element.Time(at), Value: enginetest.Pair(fmt.Sprint("k", rng.IntN(3)), fill(v))})
		}
		b.Watermark = element.Time(at)
		k.source.Batches = append(k.source.Batches, b)
	}
	delay := []int64{5, 50, 500, 30_000}[rng.IntN(4)]
	p := s.rig.Pipeline()
	in := p.WindowInto("windows", p.Read("in", k.source, enginetest.TextPair), enginetest.Fixed(k.size))
	k.sink = p.Write("out", p.ParDo("keep", in, enginetest.ParDo{
		Out: "bytes", Bags: []string{"values"}, Fn: func() fakesdk.DoFn { return k.fn(delay) },
		Timers: map[string]pipepb.TimeDomain_Enum{"end": pipepb.TimeDomain_EVENT_TIME, "clock": pipepb.TimeDomain_PROCESSING_TIME},
	}))
	s.spec.Pipeline = p.Proto
	return k
}

// fill makes a value as long as it says.
func fill(v string) string {
	_, length, _ := strings.Cut(v, ",")
	n, _ := strconv.Atoi(length) // newKeeper's own writing
	return v + "," + strings.Repeat(v[:2], n/2)
}

// name undoes fill, and says whether the value is whole.
func name(filled string) string {
	parts := strings.SplitN(filled, ",", 3)
	if v := strings.Join(parts[:min(len(parts), 2)], ","); fill(v) == filled {
		return v
	}
	return fmt.Sprintf("%.20q… of %d bytes", filled, len(filled))
}

func (k *keeper) fn(delay int64) fakesdk.DoFn {
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			c.Count("seen", 1)
			t, err := enginetest.Keep(c, e)
			if err != nil {
				return err
			}
			if err := c.SetTimer("end", t); err != nil {
				return err
			}
			t.Fire = time.Now().UnixMilli() + delay
			return c.SetTimer("clock", t)
		},
		OnTimer: func(c *fakesdk.Context, family string, t fakesdk.Timer) error {
			if now := k.sim.latest(); family == "clock" && t.Fire > now && !k.sim.atEnd.Load() && !k.sim.draining() {
				return fmt.Errorf("the timer for %d fires at %d", t.Fire, now)
			}
			return enginetest.LetOut(c, t, func(e fakesdk.Element, values []string) error {
				c.Count("let out", int64(len(values)))
				for _, v := range values {
					e.Value = enginetest.Text(name(v))
					if err := c.Emit("", e); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

func (k *keeper) String() string {
	return fmt.Sprintf("keeper of %d, long ones: %t, windows of %d", len(k.values), k.fat, k.size)
}

func (k *keeper) lost() {}

func (k *keeper) emptied() map[string]rows.Table { return tables() }

func (k *keeper) check(r *result) (wrong []string) {
	n := len(k.values)
	if r.state == jobpb.JobState_DRAINED {
		n = 0
		for _, b := range k.source.Batches[:r.read["in"]] {
			n += len(b.Elements)
		}
	}
	var got []string
	for _, text := range k.sink.Texts() {
		v, _, _ := strings.Cut(text, "@")
		got = append(got, v)
	}
	slices.Sort(got)
	if text := r.compare(slices.Sorted(slices.Values(k.values[:n])), got); text != "" {
		wrong = append(wrong, text)
	}
	if r.state == jobpb.JobState_CANCELLED {
		return wrong
	}
	for _, counter := range []string{"seen", "let out"} {
		if seen := r.counter("keep", counter); seen != int64(n) {
			wrong = append(wrong, fmt.Sprintf("%d values were counted as %q, not %d", seen, counter, n))
		}
	}
	return wrong
}
