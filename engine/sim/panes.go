package sim

import (
	"encoding/json"
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

// panes is a grouping with a random trigger: how many panes there are is a matter of processing time. Nothing comes late, so that their
// sum is none.
type panes struct {
	grouping reference.Grouping
	history  reference.History
	sink     *enginetest.Sink
	source   *enginetest.Source
}

func newPanes(s *sim, rng *rand.Rand) *panes {
	p := &panes{grouping: reference.RandomGrouping(rng)}
	for p.grouping.Trigger.Finishes() || p.grouping.Fn.Kind == reference.Sessions {
		p.grouping = reference.RandomGrouping(rng)
	}
	src := &enginetest.Source{Unbounded: true, Ends: true, Split: "in"}
	var all reference.Event
	at := int64(1) // a watermark of 0 would leave it where it is
	for range 4 + rng.IntN(12) {
		var b enginetest.Batch
		for range rng.IntN(5) {
			at += rng.Int64N(4)
			e := reference.Element{Key: fmt.Sprint("k", rng.IntN(3)), Value: fmt.Sprint("v", len(all.Elements)), At: at}
			all.Elements = append(all.Elements, e)
			b.Elements = append(b.Elements, enginetest.Element{At: element.Time(at), Value: enginetest.Pair(e.Key, e.Value)})
		}
		b.Watermark = element.Time(at)
		src.Batches = append(src.Batches, b)
	}
	p.history = reference.History{all, {Watermark: reference.End}}
	p.source = src
	pipe := s.rig.Pipeline()
	in := pipe.WindowInto("windows", pipe.Read("in", src, enginetest.TextPair), enginetest.Strategy(p.grouping, false))
	p.sink = pipe.Write("out", pipe.Map("pane", pipe.GroupByKey("group", in), "bytes", describePane))
	s.spec.Pipeline = pipe.Proto
	return p
}

// describePane writes all of a pane into its value. It comes with the watermark either at the beginning or at the end of time.
func describePane(c *fakesdk.Context, e fakesdk.Element) error {
	key, values, err := enginetest.Values("bytes", e.Value)
	if err != nil {
		return err
	}
	p := reference.Pane{Key: string(fakesdk.Bytes(key)), Window: enginetest.WindowOf(e), At: e.Timestamp}
	for _, v := range values {
		p.Values = append(p.Values, string(fakesdk.Bytes(v)))
	}
	slices.Sort(p.Values)
	enginetest.PaneInfo(&p, e.Pane)
	if p.Timing != reference.Early {
		p.Event = 1
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	e.Value = enginetest.Text(string(text))
	return c.Emit("", e)
}

func (p *panes) String() string { return fmt.Sprintf("panes\n%s\n%s", p.grouping, p.history) }

func (p *panes) lost() {}

func (p *panes) check(r *result) []string {
	if r.rewound || r.state == jobpb.JobState_CANCELLED {
		return nil // which panes there are is decided anew; what is outside in which order is checked elsewhere
	}
	history := p.history
	if r.state == jobpb.JobState_DRAINED {
		n := 0
		for _, b := range p.source.Batches[:r.read["in"]] {
			n += len(b.Elements)
		}
		history = reference.History{{Elements: history[0].Elements[:n]}, history[1]}
	}
	all, err := panesOf(p.sink)
	if err != nil {
		return []string{err.Error()}
	}
	return p.grouping.Check(history, all, 0)
}

// panesOf reads what describePane has written.
func panesOf(sink *enginetest.Sink) (all []reference.Pane, err error) {
	for _, text := range sink.Texts() {
		var pane reference.Pane
		if err := json.NewDecoder(strings.NewReader(text)).Decode(&pane); err != nil { // the sink adds the window's end
			return nil, err
		}
		all = append(all, pane)
	}
	return all, nil
}

func (p *panes) emptied() map[string]rows.Table { return tables() }
