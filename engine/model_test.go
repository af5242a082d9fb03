package engine_test

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
	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/fnapi/fakesdk"
)

// model builds the pipeline of a reference.Pipeline: each step as a user would write it.
type model struct {
	steps reference.Pipeline
	rng   *rand.Rand // for what must not change results: how sources are cut, restrictions split
	// lateness of all windows. Where there is any, Buffer uses timers, else OnWindowExpiration.
	lateness int64
	custom   bool // sessions are a window function that the runner does not know, and are merged in harnesses
	p        *enginetest.Pipeline
	outs     []enginetest.Collection
	sinks    map[int]*enginetest.Sink // by leaf
	sources  []*enginetest.Source
}

const textPair = "kv(bytes,bytes)"

func newModel(r *enginetest.Rig, steps reference.Pipeline, lateness int64, rng *rand.Rand) *model {
	m := &model{steps: steps, rng: rng, lateness: lateness, custom: rng.IntN(3) == 0, p: r.Pipeline(), sinks: map[int]*enginetest.Sink{}}
	for i, s := range steps {
		m.outs = append(m.outs, m.step(i, s))
	}
	for _, i := range steps.Leaves() {
		m.sinks[i] = &enginetest.Sink{Marked: true}
		m.p.WriteTo(fmt.Sprint("write", i), m.sinks[i], m.p.Map(fmt.Sprint("stamp", i), m.outs[i], "bytes", stamp))
	}
	return m
}

// windows returns the strategy of a window function: the default trigger, the earliest timestamp in the global window.
func (m *model) windows(fn reference.WindowFn) enginetest.Windows {
	switch fn.Kind {
	case reference.Fixed:
		return enginetest.Fixed(fn.Size).Lateness(m.lateness)
	case reference.Sliding:
		return enginetest.Sliding(fn.Size, fn.Period).Lateness(m.lateness)
	case reference.Sessions:
		return sessions(fn, m.custom).Lateness(m.lateness)
	default:
		return enginetest.Global().Earliest().Lateness(m.lateness)
	}
}

func sessions(fn reference.WindowFn, custom bool) enginetest.Windows {
	if custom {
		return enginetest.Gaps(fn.Size)
	}
	return enginetest.Sessions(fn.Size)
}

func (m *model) step(i int, s reference.Step) enginetest.Collection {
	name := m.steps.Name(i)
	var ins []enginetest.Collection
	for _, in := range s.Inputs {
		ins = append(ins, m.outs[in])
	}
	switch s.Op {
	case reference.Read:
		return m.p.WindowInto(name+"/windows", m.p.Read(name, m.source(s), textPair), m.windows(s.Fn))
	case reference.WindowInto:
		return m.p.WindowInto(name, ins[0], m.windows(s.Fn))
	case reference.Group:
		return m.p.Map(name, m.p.GroupByKey(name+"/group", ins[0]), textPair, digest(s))
	case reference.Sum:
		weights := m.p.Map(name, ins[0], "kv(bytes,varint)", weight)
		return m.p.Map(name+"/text", m.p.Sum(name+"/sum", weights), textPair, sumText)
	case reference.Flatten:
		return m.p.Flatten(name, ins...)
	case reference.Reshuffle:
		return m.p.Reshuffle(name, ins[0])
	case reference.SideInput:
		return m.p.ParDo(name, ins[0], enginetest.ParDo{
			Iterables: map[string]enginetest.Collection{"side": ins[1]}, Fn: withSide(m.steps[s.Inputs[1]].Fn),
		})
	case reference.Count:
		return m.p.ParDo(name, ins[0], enginetest.ParDo{Bags: []string{"seen"}, Fn: numbered})
	case reference.Buffer:
		d := enginetest.ParDo{Bags: []string{"values"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Fn: buffered(s, m.lateness > 0)}
		if m.lateness == 0 {
			d.Expires = "end"
		}
		return m.p.ParDo(name, ins[0], d)
	case reference.Range:
		return m.ranges(name, s, ins[0])
	default:
		return m.p.Map(name, ins[0], "", applied(s))
	}
}

// source cuts the elements into batches. An unbounded one has a watermark that none of them is behind.
func (m *model) source(s reference.Step) *enginetest.Source {
	src := &enginetest.Source{Unbounded: m.rng.IntN(3) > 0, Ends: true}
	pause := time.Duration(m.rng.IntN(2)) * time.Millisecond
	src.OnPoll = func(context.Context, int) error { time.Sleep(pause); return nil } // for more than one bundle
	for rest := s.Elements; len(rest) > 0; {
		n := 1 + m.rng.IntN(len(rest))
		var b enginetest.Batch
		for _, e := range rest[:n] {
			b.Elements = append(b.Elements, enginetest.Element{At: element.Time(e.At), Value: enginetest.Pair(e.Key, e.Value)})
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
	m.sources = append(m.sources, src)
	return src
}

// ranges is a splittable DoFn over "key=value".
func (m *model) ranges(name string, s reference.Step, in enginetest.Collection) enginetest.Collection {
	flat := m.p.Map(name+"/flat", in, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Value = enginetest.Text(enginetest.Show(textPair, e.Value))
		return c.Emit("", e)
	})
	split := m.p.ParDo(name, flat, enginetest.ParDo{Splittable: true, Fn: ranges(fakesdk.Ranges{
		To: int64(s.N), Pieces: int64(1 + m.rng.IntN(s.N)), Checkpoint: int64(m.rng.IntN(3)), DelayMs: int64(m.rng.IntN(2)),
	})})
	return m.p.Map(name+"/pair", split, textPair, keyed)
}

// pairOf is the key and value of an element.
func pairOf(e fakesdk.Element) (key, value string) {
	key, value, _ = strings.Cut(enginetest.Show(textPair, e.Value), "=")
	return key, value
}

// each calls fn with the element in each of its windows, and counts them.
func each(c *fakesdk.Context, e fakesdk.Element, fn func(e fakesdk.Element) error) error {
	for _, one := range enginetest.Explode(e) {
		c.Count("seen", 1)
		if err := fn(one); err != nil {
			return err
		}
	}
	return nil
}

func emitPair(c *fakesdk.Context, e fakesdk.Element, key, value string) error {
	e.Value = enginetest.Pair(key, value)
	return c.Emit("", e)
}

// windowOf is the only window of an element.
func windowOf(e fakesdk.Element) reference.Window {
	w := e.Window()
	if len(w) == 0 {
		return reference.Global
	}
	return reference.Window{Start: enginetest.WindowStart(w), End: enginetest.WindowEnd(w)}
}

// stamp writes all of an element into its value.
func stamp(c *fakesdk.Context, e fakesdk.Element) error {
	return each(c, e, func(e fakesdk.Element) error {
		key, value := pairOf(e)
		e.Value = enginetest.Text(reference.Element{Key: key, Value: value, At: e.Timestamp, Window: windowOf(e)}.String())
		return c.Emit("", e)
	})
}

// applied is a step that sees no windows: elements stay in all of theirs.
func applied(s reference.Step) func(c *fakesdk.Context, e fakesdk.Element) error {
	return func(c *fakesdk.Context, e fakesdk.Element) error {
		c.Count("seen", int64(len(enginetest.Explode(e))))
		key, value := pairOf(e)
		for _, kv := range s.Apply(key, value) {
			if err := emitPair(c, e, kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	}
}

func digest(s reference.Step) func(c *fakesdk.Context, e fakesdk.Element) error {
	return func(c *fakesdk.Context, e fakesdk.Element) error {
		key, values, err := enginetest.Values("bytes", e.Value)
		if err != nil {
			return err
		}
		var texts []string
		for _, v := range values {
			texts = append(texts, string(fakesdk.Bytes(v)))
		}
		return emitPair(c, e, string(fakesdk.Bytes(key)), s.Combine(texts)[0])
	}
}

func weight(c *fakesdk.Context, e fakesdk.Element) error {
	c.Count("seen", int64(len(enginetest.Explode(e))))
	key, value := pairOf(e)
	e.Value = enginetest.KV(enginetest.Text(key), enginetest.Int(int64(reference.Weight(value))))
	return c.Emit("", e)
}

func sumText(c *fakesdk.Context, e fakesdk.Element) error {
	key, sum, _ := strings.Cut(enginetest.Show("kv(bytes,varint)", e.Value), "=")
	return emitPair(c, e, key, sum)
}

// runOf takes a run of encoded strings apart.
func runOf(data []byte) []string {
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
			return each(c, e, func(e fakesdk.Element) error {
				var window []byte
				if w := side.SideOf(windowOf(e)); w != reference.Global {
					window = enginetest.Window(w.Start, w.End-w.Start)
				}
				data, err := c.SideInput("side", window)
				if err != nil {
					return err
				}
				var values []string
				for i, text := range runOf(data) {
					if i%2 == 1 { // key, value, key, value
						values = append(values, text)
					}
				}
				key, value := pairOf(e)
				return emitPair(c, e, key, value+"+"+reference.Digest(values))
			})
		}}
	}
}

func numbered() fakesdk.DoFn {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		return each(c, e, func(e fakesdk.Element) error {
			key, err := c.Key(e)
			if err != nil {
				return err
			}
			bag := c.Bag("seen", key, e.Window())
			seen, err := bag.Read()
			if err != nil {
				return err
			}
			if err := bag.Append(enginetest.Text("x")); err != nil {
				return err
			}
			e.Timestamp = reference.CountedAt
			if w := windowOf(e); w != reference.Global {
				e.Timestamp = w.Max()
			}
			return emitPair(c, e, string(fakesdk.Bytes(key)), "n"+strconv.Itoa(1+len(runOf(seen))))
		})
	}}
}

// buffered keeps values until the end of their window, by a timer or by OnWindowExpiration.
func buffered(s reference.Step, timer bool) func() fakesdk.DoFn {
	return func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				return each(c, e, func(e fakesdk.Element) error {
					key, err := c.Key(e)
					if err != nil {
						return err
					}
					if err := c.Bag("values", key, e.Window()).Append(e.Value[len(key):]); err != nil || !timer {
						return err
					}
					end := windowOf(e).End
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
				return emitPair(c, e, string(fakesdk.Bytes(t.Key)), s.Combine(runOf(values))[0])
			},
		}
	}
}
