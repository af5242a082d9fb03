package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
	"padstone/fnapi/fakesdk"
)

// generator is an unbounded splittable DoFn that gives the rest of its restriction back again and again, to be called some time later, with
// the watermark that it has estimated. Windows close behind it. Each offset comes out once, and is in its window: a rest that is lost, or
// runs twice, or does not hold the watermark, shows.
type generator struct {
	ranges fakesdk.Ranges
	seeds  []string // elements that are generated from
	source *enginetest.Source
	size   int64 // of windows
	all    *enginetest.Sink
	groups *enginetest.Sink
}

func newGenerator(s *sim, rng *rand.Rand) *generator {
	g := &generator{size: 10 + rng.Int64N(40), ranges: fakesdk.Ranges{
		To: 4 + rng.Int64N(28), Checkpoint: 1 + rng.Int64N(6), StampMs: 1 + rng.Int64N(9), DelayMs: rng.Int64N(20), Pieces: 1 + rng.Int64N(3),
		Unbounded: true,
	}}
	g.source = &enginetest.Source{Unbounded: rng.IntN(2) == 0, Ends: true, Split: "in"}
	for range 1 + rng.IntN(3) {
		seed := fmt.Sprint("s", len(g.seeds))
		g.seeds = append(g.seeds, seed)
		g.source.Batches = append(g.source.Batches, enginetest.Batch{
			Elements: []enginetest.Element{{At: 0, Value: enginetest.Text(seed)}}, Watermark: element.MinTime,
		})
	}
	p := s.rig.Pipeline()
	made := p.ParDo("generate", p.Read("in", g.source, "bytes"), enginetest.ParDo{
		Splittable: true, Unbounded: true, Fn: enginetest.Restrictions(g.ranges),
	})
	g.all = p.Write("all", p.Map("seen", made, "", func(c *fakesdk.Context, e fakesdk.Element) error {
		c.Count("seen", 1)
		return c.Emit("", e)
	}))
	keyed := p.Map("key", made, enginetest.TextPair, func(c *fakesdk.Context, e fakesdk.Element) error {
		text := string(fakesdk.Bytes(e.Value))
		seed, _, _ := strings.Cut(text, ":")
		return enginetest.EmitPair(c, e, seed, text)
	})
	g.groups = p.Write("groups", p.GroupByKey("group", p.WindowInto("windows", keyed, enginetest.Fixed(g.size))))
	s.spec.Pipeline = p.Proto
	return g
}

func (g *generator) String() string {
	return fmt.Sprintf("generator of %d, %+v", len(g.seeds), g.ranges)
}

func (g *generator) lost() {}

func (g *generator) emptied() map[string]rows.Table { return tables() }

// grouped is how a window of offsets comes out of the grouping.
func (g *generator) grouped(texts []string) []string {
	type cell struct {
		seed string
		end  int64
	}
	cells := map[cell][]string{}
	for _, text := range texts {
		seed, offset, _ := strings.Cut(text, ":")
		var n int64
		fmt.Sscan(offset, &n)
		w := reference.WindowFn{Kind: reference.Fixed, Size: g.size}.Assign(n * g.ranges.StampMs)[0]
		cells[cell{seed, w.End}] = append(cells[cell{seed, w.End}], text)
	}
	var out []string
	for c, texts := range cells {
		slices.Sort(texts)
		out = append(out, fmt.Sprintf("%s=[%s]@%d", c.seed, strings.Join(texts, " "), c.end))
	}
	return slices.Sorted(slices.Values(out))
}

func (g *generator) check(r *result) (wrong []string) {
	var want []string
	for _, seed := range g.seeds {
		for n := range g.ranges.To {
			want = append(want, fmt.Sprint(seed, ":", n))
		}
	}
	slices.Sort(want)
	all := slices.Sorted(slices.Values(g.all.Texts()))
	groups := slices.Sorted(slices.Values(g.groups.Texts()))
	if r.state != jobpb.JobState_DONE { // a part: restrictions were cut where they were
		cut := slices.Compact(slices.Clone(all))
		if len(cut) != len(all) && !r.rewound {
			wrong = append(wrong, fmt.Sprintf("%d offsets came out, %d of them again", len(all), len(all)-len(cut)))
		}
		if _, extra := enginetest.Difference(want, cut); len(extra) > 0 {
			wrong = append(wrong, "what nobody has made: "+strings.Join(extra, " "))
		}
		want = cut
	} else if text := r.compare(want, all); text != "" {
		wrong = append(wrong, "offsets: "+text)
	}
	if r.state == jobpb.JobState_CANCELLED {
		return wrong
	}
	if r.rewound && r.state == jobpb.JobState_DRAINED {
		return wrong // the second run may have been cut elsewhere
	}
	if text := r.compare(g.grouped(want), groups); text != "" {
		wrong = append(wrong, "windows: "+text)
	}
	if n := r.counter("seen", "seen"); n != int64(len(want)) {
		wrong = append(wrong, fmt.Sprintf("%d offsets were counted, not %d", n, len(want)))
	}
	return wrong
}
