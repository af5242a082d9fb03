package enginetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/translate/urn"
)

// Pipeline is a pipeline under construction. Names are unique names; transform ids are "t-" and the name.
type Pipeline struct {
	Proto *pipepb.Pipeline
	// StateBacked makes harnesses declare that they read iterables by state requests: their DoFns must use Context.Grouped. Set it
	// before transforms are added.
	StateBacked bool
	// Parallel makes harnesses declare that they process bundles in parallel. Set it likewise.
	Parallel bool
	// Nameless keeps harnesses from saying that they are of the Python SDK, which has the runner assign windows. Set it likewise.
	Nameless bool
	rig      *Rig
}

// Collection is an output of a transform.
type Collection struct {
	id        string
	coder     string
	windows   Windows
	unbounded bool
}

// environmentDefault is the environment of transforms that name none.
const environmentDefault = "py"

// Pipeline returns an empty pipeline.
func (r *Rig) Pipeline() *Pipeline {
	p := &Pipeline{rig: r, Proto: &pipepb.Pipeline{Components: &pipepb.Components{
		Transforms: map[string]*pipepb.PTransform{}, Pcollections: map[string]*pipepb.PCollection{},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{}, Coders: map[string]*pipepb.Coder{},
		Environments: map[string]*pipepb.Environment{},
	}}}
	coders := p.Proto.GetComponents().GetCoders()
	coders["global"] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn.CoderGlobalWindow}}
	coders["interval"] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn.CoderIntervalWindow}}
	return p
}

// pythonSDK is the capability of an SDK that has the runner assign windows.
const pythonSDK = "beam:version:sdk_base:apache/beam_python3.11_sdk:2.77.0"

// environment adds an environment, whose harnesses understand all that fakesdk does.
func (p *Pipeline) environment(id string) string {
	if id == "" {
		id = environmentDefault
	}
	capabilities := []string{fnapi.CapabilityNamedDataStreams, urn.TruncateSized}
	if !p.Nameless {
		capabilities = append(capabilities, pythonSDK)
	}
	if p.Parallel {
		capabilities = append(capabilities, fnapi.CapabilityMultiCore)
	}
	if p.StateBacked {
		capabilities = append(capabilities, urn.CoderStateBackedIterable)
	}
	p.Proto.GetComponents().GetEnvironments()[id] = &pipepb.Environment{
		Urn: "beam:env:external:v1", Payload: []byte(id), Capabilities: capabilities,
	}
	return id
}

// collection adds a collection.
func (p *Pipeline) collection(id, coder string, w Windows, unbounded bool) Collection {
	c := p.Proto.GetComponents()
	c.GetWindowingStrategies()[w.id()] = w.strategy
	bounded := pipepb.IsBounded_BOUNDED
	if unbounded {
		bounded = pipepb.IsBounded_UNBOUNDED
	}
	c.GetPcollections()[id] = &pipepb.PCollection{
		UniqueName: id, CoderId: parseShape(coder).intern(c.GetCoders()), IsBounded: bounded, WindowingStrategyId: w.id(),
	}
	return Collection{id: id, coder: coder, windows: w, unbounded: unbounded}
}

// add adds a transform.
func (p *Pipeline) add(name, transformURN string, payload []byte, inputs map[string]Collection, outputs map[string]Collection, env string) {
	t := &pipepb.PTransform{
		UniqueName: name, Spec: &pipepb.FunctionSpec{Urn: transformURN, Payload: payload}, EnvironmentId: env,
		Inputs: map[string]string{}, Outputs: map[string]string{},
	}
	for tag, c := range inputs {
		t.Inputs[tag] = c.id
	}
	for tag, c := range outputs {
		t.Outputs[tag] = c.id
	}
	p.Proto.GetComponents().GetTransforms()["t-"+name] = t
	p.Proto.RootTransformIds = append(p.Proto.RootTransformIds, "t-"+name)
}

func in(c Collection) map[string]Collection { return map[string]Collection{"in": c} }

// Impulse is one element of no bytes.
func (p *Pipeline) Impulse(name string) Collection {
	out := p.collection(name+".out", "bytes", Global(), false)
	p.add(name, urn.Impulse, nil, nil, map[string]Collection{"out": out}, "")
	return out
}

// Read reads a native source whose elements are of the coder.
func (p *Pipeline) Read(name string, s *Source, coder string) Collection {
	out := p.collection(name+".out", coder, Global(), s.Unbounded)
	p.add(name, SourceURN, config(p.rig.Natives.source(name, s), coder, Global()), nil, map[string]Collection{"out": out}, "")
	return out
}

// Write writes to a native sink, under the transform's name.
func (p *Pipeline) Write(name string, c Collection) *Sink {
	s := &Sink{}
	p.WriteTo(name, s, c)
	return s
}

// WriteTo writes to the sink.
func (p *Pipeline) WriteTo(name string, s *Sink, c Collection) {
	p.add(name, SinkURN, config(p.rig.Natives.sink(name, s), c.coder, c.windows), in(c), nil, "")
}

// WriteNative writes to a native sink of another registry, with its own configuration.
func (p *Pipeline) WriteNative(name, urn string, config []byte, c Collection) {
	p.add(name, urn, config, in(c), nil, "")
}

// nativeConfig configures a native transform.
type nativeConfig struct{ Name, Coder, Windows string }

func config(name, coder string, w Windows) []byte {
	b, err := json.Marshal(nativeConfig{name, coder, string(w.coding())})
	if err != nil {
		panic(err)
	}
	return b
}

// ParDo is a ParDo. The zero value of everything but Fn is fine.
type ParDo struct {
	// Fn makes a DoFn for one bundle; it runs on the harness's goroutines.
	Fn func() fakesdk.DoFn
	// Out is the coder of the output "out"; default the input's. Outs are several outputs by tag instead, or none if empty.
	Out       string
	Outs      map[string]string
	Bags      []string
	Timers    map[string]pipepb.TimeDomain_Enum
	Expires   string // the timer family of OnWindowExpiration
	Iterables map[string]Collection
	Mapping   string // URN of the window mapping function of all side inputs; "" is the default
	Multimaps map[string]Collection
	Finalizes bool
	Stable    bool // requires stable input
	Sorted    bool // requires time-sorted input
	Env       string
	// Splittable makes it a splittable DoFn with Ranges' restrictions; Unbounded makes its output unbounded.
	Splittable, Unbounded bool
}

// ParDo adds a ParDo with one output.
func (p *Pipeline) ParDo(name string, main Collection, d ParDo) Collection {
	return p.ParDos(name, main, d)["out"]
}

// ParDos adds a ParDo and returns its outputs by tag.
func (p *Pipeline) ParDos(name string, main Collection, d ParDo) map[string]Collection {
	inputs, outputs := in(main), make(map[string]Collection)
	if d.Outs == nil {
		d.Outs = map[string]string{"out": d.Out}
	}
	for tag, coder := range d.Outs {
		if coder == "" {
			coder = main.coder
		}
		outputs[tag] = p.collection(name+"."+tag, coder, main.windows, main.unbounded || d.Unbounded)
	}
	fn := "enginetest:" + name
	p.rig.Harnesses.register(fn, func([]byte) (fakesdk.DoFn, error) { return d.Fn(), nil })
	pardo := &pipepb.ParDoPayload{
		DoFn: &pipepb.FunctionSpec{Urn: fn}, RequestsFinalization: d.Finalizes, RequiresStableInput: d.Stable,
		RequiresTimeSortedInput:           d.Sorted,
		OnWindowExpirationTimerFamilySpec: d.Expires,
		StateSpecs:                        map[string]*pipepb.StateSpec{}, TimerFamilySpecs: map[string]*pipepb.TimerFamilySpec{},
		SideInputs: map[string]*pipepb.SideInput{},
	}
	if d.Splittable {
		pardo.RestrictionCoderId = parseShape("bytes").intern(p.Proto.GetComponents().GetCoders())
	}
	p.userState(pardo, main, d)
	for access, sides := range map[string]map[string]Collection{urn.SideIterable: d.Iterables, urn.SideMultimap: d.Multimaps} {
		for tag, c := range sides {
			inputs[tag] = c
			pardo.SideInputs[tag] = &pipepb.SideInput{AccessPattern: &pipepb.FunctionSpec{Urn: access}}
			if d.Mapping != "" {
				pardo.SideInputs[tag].WindowMappingFn = &pipepb.FunctionSpec{Urn: d.Mapping}
			}
		}
	}
	p.add(name, urn.ParDo, marshal(pardo), inputs, outputs, p.environment(d.Env))
	return outputs
}

// userState adds state cells and timer families.
func (p *Pipeline) userState(pardo *pipepb.ParDoPayload, main Collection, d ParDo) {
	coders := p.Proto.GetComponents().GetCoders()
	for _, cell := range d.Bags {
		pardo.StateSpecs[cell] = &pipepb.StateSpec{Spec: &pipepb.StateSpec_BagSpec{
			BagSpec: &pipepb.BagStateSpec{ElementCoderId: parseShape("bytes").intern(coders)},
		}}
	}
	for family, domain := range d.Timers {
		key := parseShape(main.coder).parts[0].intern(coders)
		window := main.windows.strategy.GetWindowCoderId()
		id := fmt.Sprintf("timer(%s,%s)", key, window)
		coders[id] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn.CoderTimer}, ComponentCoderIds: []string{key, window}}
		pardo.TimerFamilySpecs[family] = &pipepb.TimerFamilySpec{TimeDomain: domain, TimerFamilyCoderId: id}
	}
}

// Map adds a ParDo that calls fn with each element.
func (p *Pipeline) Map(name string, c Collection, out string, fn func(c *fakesdk.Context, e fakesdk.Element) error) Collection {
	return p.ParDo(name, c, ParDo{Out: out, Fn: func() fakesdk.DoFn { return fakesdk.DoFn{Process: fn} }})
}

// GroupByKey groups a collection of KVs.
func (p *Pipeline) GroupByKey(name string, c Collection) Collection {
	kv := parseShape(c.coder)
	out := p.collection(name+".out", fmt.Sprintf("kv(%s,iter(%s))", kv.parts[0], kv.parts[1]), c.windows, c.unbounded)
	p.add(name, urn.GroupByKey, nil, in(c), map[string]Collection{"out": out}, "")
	return out
}

// WindowInto assigns windows.
func (p *Pipeline) WindowInto(name string, c Collection, w Windows) Collection {
	out := p.collection(name+".out", c.coder, w, c.unbounded)
	p.add(name, urn.AssignWindows, marshal(w.strategy), in(c), map[string]Collection{"out": out}, p.environment(""))
	return out
}

// Flatten joins collections of one coder and windowing.
func (p *Pipeline) Flatten(name string, cs ...Collection) Collection {
	inputs := make(map[string]Collection)
	unbounded := false
	for i, c := range cs {
		inputs[fmt.Sprint(i)] = c
		unbounded = unbounded || c.unbounded
	}
	out := p.collection(name+".out", cs[0].coder, cs[0].windows, unbounded)
	p.add(name, urn.Flatten, nil, inputs, map[string]Collection{"out": out}, "")
	return out
}

// Reshuffle is a Reshuffle that the runner executes.
func (p *Pipeline) Reshuffle(name string, c Collection) Collection {
	out := p.collection(name+".out", c.coder, c.windows, c.unbounded)
	p.add(name, urn.Reshuffle, nil, in(c), map[string]Collection{"out": out}, "")
	return out
}

// Sum adds the varints of each key: a CombinePerKey, which the compiler lifts, or compacts in accumulating windows.
func (p *Pipeline) Sum(name string, c Collection) Collection {
	coders := p.Proto.GetComponents().GetCoders()
	payload := marshal(&pipepb.CombinePayload{
		CombineFn: &pipepb.FunctionSpec{Urn: "enginetest:sum"}, AccumulatorCoderId: parseShape("varint").intern(coders),
	})
	out := p.collection(name+".out", c.coder, c.windows, c.unbounded)
	p.add(name, urn.CombinePerKey, payload, in(c), map[string]Collection{"out": out}, p.environment(""))
	return out
}

// combineFns are the steps of Sum. The precombine sums within a bundle.
func combineFns() map[string]fakesdk.New {
	identity := func([]byte) (fakesdk.DoFn, error) {
		return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }}, nil
	}
	return map[string]fakesdk.New{
		urn.CombinePrecombine:    precombine,
		urn.CombineMerge:         addGrouped,
		urn.CombineGroupedValues: addGrouped, // of varints, accumulators are no others than values
		urn.CombineConvert:       identity,
		urn.CombineExtract:       identity,
	}
}

func addGrouped([]byte) (fakesdk.DoFn, error) {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		key, values, err := Values("varint", e.Value)
		if err != nil {
			return err
		}
		c.Count("accumulators", int64(len(values)))
		e.Value = KV(key, Int(sum(values)))
		return c.Emit("", e)
	}}, nil
}

func precombine([]byte) (fakesdk.DoFn, error) {
	type total struct {
		first fakesdk.Element
		key   []byte
		sum   int64
	}
	totals := make(map[string]*total) // by windows and key
	return fakesdk.DoFn{
		Process: func(c *fakesdk.Context, e fakesdk.Element) error {
			key, err := c.Key(e)
			if err != nil {
				return err
			}
			id := string(e.Windows) + string(key)
			t := totals[id]
			if t == nil {
				t = &total{first: e, key: slices.Clone(key)}
				totals[id] = t
			}
			t.first.Timestamp = min(t.first.Timestamp, e.Timestamp)
			t.sum += sum([][]byte{e.Value[len(key):]})
			return nil
		},
		Finish: func(c *fakesdk.Context) error {
			for _, id := range slices.Sorted(maps.Keys(totals)) {
				t := totals[id]
				t.first.Value = KV(t.key, Int(t.sum))
				if err := c.Emit("", t.first); err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}
