package enginetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest/reference"
	"padstone/fnapi/fakesdk"
)

// Model builds the pipeline of a reference.Pipeline: each step as a user would write it.
type Model struct {
	Steps reference.Pipeline
	rng   *rand.Rand // for what must not change results: how sources are cut, restrictions split
	// lateness of all windows. Where there is any, Buffer uses timers, else OnWindowExpiration.
	lateness int64
	custom   bool // sessions are a window function that the runner does not know, and are merged in harnesses
	Pipeline *Pipeline
	outs     []Collection
	Sinks    map[int]*Sink // by leaf
	Sources  []*Source
}

// TextPair is the coder of a key and a value of text.
const TextPair = "kv(bytes,bytes)"

// NewModel builds it.
func NewModel(r *Rig, steps reference.Pipeline, lateness int64, rng *rand.Rand) *Model {
	m := &Model{Steps: steps, rng: rng, lateness: lateness, custom: rng.IntN(3) == 0, Pipeline: r.Pipeline(), Sinks: map[int]*Sink{}}
	for i, s := range steps {
		m.outs = append(m.outs, m.step(i, s))
	}
	for _, i := range steps.Leaves() {
		m.Sinks[i] = &Sink{Marked: true}
		m.Pipeline.WriteTo(fmt.Sprint("write", i), m.Sinks[i], m.Pipeline.Map(fmt.Sprint("stamp", i), m.outs[i], "bytes", stamp))
	}
	return m
}

// windows returns the strategy of a window function: the default trigger, the earliest timestamp in the global window.
func (m *Model) windows(fn reference.WindowFn) Windows {
	switch fn.Kind {
	case reference.Fixed:
		return Fixed(fn.Size).Lateness(m.lateness)
	case reference.Sliding:
		return Sliding(fn.Size, fn.Period).Lateness(m.lateness)
	case reference.Sessions:
		return sessionWindows(fn, m.custom).Lateness(m.lateness)
	default:
		return Global().Earliest().Lateness(m.lateness)
	}
}

func sessionWindows(fn reference.WindowFn, custom bool) Windows {
	if custom {
		return Gaps(fn.Size)
	}
	return Sessions(fn.Size)
}

func (m *Model) step(i int, s reference.Step) Collection {
	name := m.Steps.Name(i)
	var ins []Collection
	for _, in := range s.Inputs {
		ins = append(ins, m.outs[in])
	}
	switch s.Op {
	case reference.Read:
		return m.Pipeline.WindowInto(name+"/windows", m.Pipeline.Read(name, m.source(s), TextPair), m.windows(s.Fn))
	case reference.WindowInto:
		return m.Pipeline.WindowInto(name, ins[0], m.windows(s.Fn))
	case reference.Group:
		return m.Pipeline.Map(name, m.Pipeline.GroupByKey(name+"/group", ins[0]), TextPair, digest(s))
	case reference.Sum:
		weights := m.Pipeline.Map(name, ins[0], "kv(bytes,varint)", weight)
		return m.Pipeline.Map(name+"/text", m.Pipeline.Sum(name+"/sum", weights), TextPair, sumText)
	case reference.Flatten:
		return m.Pipeline.Flatten(name, ins...)
	case reference.Reshuffle:
		return m.Pipeline.Reshuffle(name, ins[0])
	case reference.SideInput:
		return m.Pipeline.ParDo(name, ins[0], ParDo{
			Iterables: map[string]Collection{"side": ins[1]}, Fn: withSide(m.Steps[s.Inputs[1]].Fn),
		})
	case reference.Count:
		return m.Pipeline.ParDo(name, ins[0], ParDo{Bags: []string{"seen"}, Fn: numbered})
	case reference.Buffer:
		d := ParDo{
			Bags: []string{"values"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": pipepb.TimeDomain_EVENT_TIME},
			Fn: buffered(s, m.lateness > 0),
		}
		if m.lateness == 0 {
			d.Expires = "end"
		}
		return m.Pipeline.ParDo(name, ins[0], d)
	case reference.Range:
		return m.ranges(name, s, ins[0])
	default:
		return m.Pipeline.Map(name, ins[0], "", applied(s))
	}
}

// source cuts the elements into batches. An unbounded one has a watermark that none of them is behind.
func (m *Model) source(s reference.Step) *Source {
	src := &Source{Unbounded: m.rng.IntN(3) > 0, Ends: true, Split: fmt.Sprint("source ", len(m.Sources))}
	pause := time.Duration(m.rng.IntN(2)) * time.Millisecond
	src.OnPoll = func(context.Context, int) error { time.Sleep(pause); return nil } // for more than one bundle
	for rest := s.Elements; len(rest) > 0; {
		n := 1 + m.rng.IntN(len(rest))
		var b Batch
		for _, e := range rest[:n] {
			b.Elements = append(b.Elements, Element{At: element.Time(e.At), Value: Pair(e.Key, e.Value)})
		}
		rest = rest[n:]
		if src.Unbounded && len(rest) > 0 {
			b.Watermark = element.MaxTime
			for _, e := range rest {
				b.Watermark = min(b.Watermark, element.Time(e.At))
			}
		}
		src.Batches = append(src.Batches, b)
	}
	m.Sources = append(m.Sources, src)
	return src
}

// Restrictions is a splittable DoFn that yields "x:offset".
func Restrictions(r fakesdk.Ranges) func() fakesdk.DoFn {
	return func() fakesdk.DoFn { return fakesdk.DoFn{Ranges: &r} }
}

// Keyed makes KV(key, value) of key=value.
func Keyed(c *fakesdk.Context, e fakesdk.Element) error {
	key, value, _ := strings.Cut(string(fakesdk.Bytes(e.Value)), "=")
	e.Value = Pair(key, value)
	return c.Emit("", e)
}

// ranges is a splittable DoFn over "key=value".
func (m *Model) ranges(name string, s reference.Step, in Collection) Collection {
	flat := m.Pipeline.Map(name+"/flat", in, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Value = Text(Show(TextPair, e.Value))
		return c.Emit("", e)
	})
	split := m.Pipeline.ParDo(name, flat, ParDo{Splittable: true, Fn: Restrictions(fakesdk.Ranges{
		To: int64(s.N), Pieces: int64(1 + m.rng.IntN(s.N)), Checkpoint: int64(m.rng.IntN(3)), DelayMs: int64(m.rng.IntN(2)),
	})})
	return m.Pipeline.Map(name+"/pair", split, TextPair, Keyed)
}

// PairOf is the key and value of an element.
func PairOf(e fakesdk.Element) (key, value string) {
	key, value, _ = strings.Cut(Show(TextPair, e.Value), "=")
	return key, value
}

// Each calls fn with the element in each of its windows, and counts them.
func Each(c *fakesdk.Context, e fakesdk.Element, fn func(e fakesdk.Element) error) error {
	for _, one := range Explode(e) {
		c.Count("seen", 1)
		if err := fn(one); err != nil {
			return err
		}
	}
	return nil
}

// EmitPair emits the element with another key and value.
func EmitPair(c *fakesdk.Context, e fakesdk.Element, key, value string) error {
	e.Value = Pair(key, value)
	return c.Emit("", e)
}

// WindowOf is the only window of an element.
func WindowOf(e fakesdk.Element) reference.Window {
	w := e.Window()
	if len(w) == 0 {
		return reference.Global
	}
	return reference.Window{Start: WindowStart(w), End: WindowEnd(w)}
}

// stamp writes all of an element into its value.
func stamp(c *fakesdk.Context, e fakesdk.Element) error {
	return Each(c, e, func(e fakesdk.Element) error {
		key, value := PairOf(e)
		e.Value = Text(reference.Element{Key: key, Value: value, At: e.Timestamp, Window: WindowOf(e)}.String())
		return c.Emit("", e)
	})
}

// applied is a step that sees no windows: elements stay in all of theirs.
func applied(s reference.Step) func(c *fakesdk.Context, e fakesdk.Element) error {
	return func(c *fakesdk.Context, e fakesdk.Element) error {
		c.Count("seen", int64(len(Explode(e))))
		key, value := PairOf(e)
		for _, kv := range s.Apply(key, value) {
			if err := EmitPair(c, e, kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	}
}

func digest(s reference.Step) func(c *fakesdk.Context, e fakesdk.Element) error {
	return func(c *fakesdk.Context, e fakesdk.Element) error {
		key, values, err := Values("bytes", e.Value)
		if err != nil {
			return err
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, string(fakesdk.Bytes(v)))
		}
		return EmitPair(c, e, string(fakesdk.Bytes(key)), s.Combine(texts)[0])
	}
}

func weight(c *fakesdk.Context, e fakesdk.Element) error {
	c.Count("seen", int64(len(Explode(e))))
	key, value := PairOf(e)
	e.Value = KV(Text(key), Int(int64(reference.Weight(value))))
	return c.Emit("", e)
}

func sumText(c *fakesdk.Context, e fakesdk.Element) error {
	key, sum, _ := strings.Cut(Show("kv(bytes,varint)", e.Value), "=")
	return EmitPair(c, e, key, sum)
}

// RunOf takes a run of encoded strings apart.
func RunOf(data []byte) []string {
	var out []string
	for len(data) > 0 {
		n, size := binary.Uvarint(data)
		out = append(out, string(data[size:size+int(n)]))
		data = data[size+int(n):]
	}
	return out
}

func withSide(side reference.WindowFn) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			return Each(c, e, func(e fakesdk.Element) error {
				var window []byte
				if w := side.SideOf(WindowOf(e)); w != reference.Global {
					window = Window(w.Start, w.End-w.Start)
				}
				data, err := c.SideInput("side", window)
				if err != nil {
					return err
				}
				var values []string
				for i, text := range RunOf(data) {
					if i%2 == 1 { // key, value, key, value
						values = append(values, text)
					}
				}
				key, value := PairOf(e)
				return EmitPair(c, e, key, value+"+"+reference.Digest(values))
			})
		}}
	}
}

func numbered() fakesdk.DoFn {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		return Each(c, e, func(e fakesdk.Element) error {
			key, err := c.Key(e)
			if err != nil {
				return err
			}
			bag := c.Bag("seen", key, e.Window())
			seen, err := bag.Read()
			if err != nil {
				return err
			}
			if err := bag.Append(Text("x")); err != nil {
				return err
			}
			e.Timestamp = reference.CountedAt
			if w := WindowOf(e); w != reference.Global {
				e.Timestamp = w.Max()
			}
			return EmitPair(c, e, string(fakesdk.Bytes(key)), "n"+strconv.Itoa(1+len(RunOf(seen))))
		})
	}}
}

// buffered keeps values until the end of their window, by a timer or by OnWindowExpiration.
func buffered(s reference.Step, timer bool) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				return Each(c, e, func(e fakesdk.Element) error {
					key, err := c.Key(e)
					if err != nil {
						return err
					}
					if err := c.Bag("values", key, e.Window()).Append(e.Value[len(key):]); err != nil || !timer {
						return err
					}
					end := WindowOf(e).End
					return c.SetTimer("end", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: end, Hold: end - 1, Pane: e.Pane})
				})
			},
			OnTimer: func(c *fakesdk.Context, _ string, t fakesdk.Timer) error {
				bag := c.Bag("values", t.Key, t.Windows[4:])
				values, err := bag.Read()
				if err != nil {
					return err
				}
				if err := bag.Clear(); err != nil {
					return err
				}
				e := fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane}
				return EmitPair(c, e, string(fakesdk.Bytes(t.Key)), s.Combine(RunOf(values))[0])
			},
		}
	}
}
