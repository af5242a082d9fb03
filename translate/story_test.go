package translate_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"padstone/engine/plan"
	"padstone/translate"
	"padstone/translate/urn"
)

// TestStories compiles pipelines that are written down in testdata/stories. The command is compile, with the arguments no-fusion,
// no-lifting and no-assignment for these options, and cut=COLLECTION; its input has a line for each transform, in pipeline order, and for
// what is not the default:
//
//	impulse NAME -> OUT           pardo NAME IN … -> OUT…      gbk | reshuffle | combine | window NAME IN -> OUT
//	flatten NAME IN… -> OUT       read | write NAME …          URN NAME IN… -> OUT…
//	teststream NAME -> OUT…       (tags out0, out1, …)
//	coder COLLECTION EXPR         windows COLLECTION STRATEGY  unbounded COLLECTION
//	environment NAME URN CAPABILITY…                           require URN       root NAME… (instead of all transforms)
//
// Words of a transform line besides its inputs: env=E, config=TEXT; of a window into=STRATEGY, which becomes its output's; of a ParDo also
// side=COLLECTION:PATTERN, state=CELL:KIND, timer=FAMILY:DOMAIN, sdf=CODER, stable, sorted, finalizes, expires=FAMILY; of a TestStream
// elements=TAG:TEXT,…, watermark=TAG:MS, clock=MS, service=ADDRESS, events=CODER. Coders are kv(bytes,bytes), behind impulse bytes; a
// name that begins with my_ is the user's own coder, go_custom that of the Go SDK. The default environment is py; strategies are
// listed in storyWindows.
func TestStories(t *testing.T) {
	datadriven.Walk(t, filepath.Join("testdata", "stories"), func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			p := newStory(d.Input).pipeline
			before := proto.CloneOf(p)
			o := storyOptions
			o.NoFusion, o.NoLifting, o.Spread = d.HasArg("no-fusion"), d.HasArg("no-lifting"), d.HasArg("spread")
			o.NoAssignment = d.HasArg("no-assignment")
			for _, arg := range d.CmdArgs {
				if arg.Key == "cut" {
					o.Cut = arg.Vals
				}
			}
			compiled, err := translate.Compile(p, o)
			if !proto.Equal(before, p) {
				t.Errorf("%s: Compile changed the pipeline", d.Pos)
			}
			if err != nil {
				return plain(err.Error()) + "\n"
			}
			checkPlan(t, p, compiled)
			if again, err := translate.Compile(permuted(p, 1), o); err != nil || encode(t, again) != encode(t, compiled) {
				t.Errorf("%s: another plan comes out the second time: %v", d.Pos, err)
			}
			return summary(compiled)
		})
	})
}

// plain undoes what package proto does to its error texts: some builds have a non-breaking space in them, so that nobody relies on
// the words.
func plain(text string) string { return strings.ReplaceAll(text, "\u00a0", " ") }

var storyOptions = translate.Options{
	KeyGroups: 16,
	Natives:   func(u string) bool { return u == kafkaRead || u == kafkaWrite || strings.HasPrefix(u, "opaque") },
	Opaque:    func(u string) bool { return strings.HasPrefix(u, "opaque") },
	ValidateNative: func(_ string, config []byte) error {
		if string(config) == "bad" {
			return fmt.Errorf("no topic")
		}
		return nil
	},
	EnvironmentSupported: func(env *pipepb.Environment) error {
		if env.GetUrn() == "beam:env:mainframe:v1" {
			return fmt.Errorf("no mainframe here")
		}
		return nil
	},
}

// summary prints a stage a line: kind, environment, steps; then its edges.
func summary(p *plan.Plan) string {
	var b strings.Builder
	name := func(id plan.StageID) string {
		var steps []string
		for _, step := range p.Stage(id).Transforms {
			steps = append(steps, step.ID)
		}
		return strings.Join(steps, "+")
	}
	edge := func(role string, id plan.EdgeID) {
		e := p.Edge(id)
		var producers []string
		for _, q := range e.Producers {
			producers = append(producers, name(q))
		}
		backed := ""
		if e.StateBacked {
			backed = " state-backed"
		}
		if e.Spread {
			backed = " spread"
		}
		fmt.Fprintf(&b, "  %s %s %s %s %s%s <- %s\n", role, e.PCollection, e.Kind, e.Element, e.Window, backed, strings.Join(producers, ", "))
	}
	for _, s := range p.Stages {
		fmt.Fprintf(&b, "%s %s", s.Kind, name(s.ID))
		if s.Env != "" {
			fmt.Fprintf(&b, " in %s", s.Env)
		}
		if s.StableInput {
			b.WriteString(" stable")
		}
		if s.TimeSorted {
			b.WriteString(" time-sorted")
		}
		if s.Finalizes {
			b.WriteString(" finalizes")
		}
		if s.Compact != nil {
			b.WriteString(" compacts")
		}
		b.WriteByte('\n')
		if s.Input != "" {
			edge("in", s.Input)
		}
		if s.Script != nil {
			script(&b, s.Script)
		}
		for _, side := range s.SideInputs {
			read := ""
			if side.Early {
				read = ", from the first pane on"
			}
			if panes := p.Edge(side.Edge).Panes; panes != plan.AllPanes {
				read += ", newest of each " + string(panes)
			}
			if side.Map != nil {
				read += ", mapped by the SDK"
			}
			if side.Expires {
				read += fmt.Sprintf(", kept for %d ms", side.KeepMs)
			}
			edge(fmt.Sprintf("side of %s, %s%s:", side.Transform, side.Access, read), side.Edge)
		}
		for _, st := range s.States {
			fmt.Fprintf(&b, "  state %s %s [%s] [%s]\n", st.Cell, st.Kind, st.MapKey, st.Element)
		}
		for _, timer := range s.Timers {
			fmt.Fprintf(&b, "  timer %s %s %s %v\n", timer.Family, timer.Domain, timer.Element, timer.OnWindowExpiration)
		}
		if s.Splittable != nil {
			fmt.Fprintf(&b, "  splits %s bounded=%v truncates=%q\n", s.Splittable.Transform, s.Splittable.Bounded, s.Splittable.Truncate)
		}
		for _, out := range s.Outputs {
			var consumers []string
			for _, id := range out.Edges {
				consumers = append(consumers, name(p.Edge(id).Consumer))
			}
			fmt.Fprintf(&b, "  out %s -> %s\n", out.Local, strings.Join(consumers, ", "))
			for i, id := range out.Edges {
				if a := out.Assigned[id]; a != nil {
					fmt.Fprintf(&b, "    as %s in %s windows to %s\n", a.PCollection, a.Windowing.Kind, consumers[i])
				}
				if a := out.AssignedUnlifted[id]; a != nil {
					fmt.Fprintf(&b, "    unless lifted as %s in %s windows to %s\n", a.PCollection, a.Windowing.Kind, consumers[i])
				}
			}
		}
	}
	return b.String()
}

// script prints the script of a TestStream.
func script(b *strings.Builder, s *plan.Script) {
	fmt.Fprintf(b, "  %s\n", s)
	for _, ev := range s.Events {
		switch ev.Kind {
		case plan.AddElements:
			fmt.Fprintf(b, "    to %s:", s.Tags[ev.Output])
			for _, e := range ev.Elements {
				fmt.Fprintf(b, " %q at %d", e.Value, e.At)
			}
			b.WriteByte('\n')
		case plan.AdvanceWatermark:
			fmt.Fprintf(b, "    watermark of %s to %v\n", s.Tags[ev.Output], ev.To)
		case plan.AdvanceProcessingTime:
			fmt.Fprintf(b, "    clock by %d ms\n", ev.ByMs)
		}
	}
}

// story builds a pipeline from its lines.
type story struct {
	pipeline *pipepb.Pipeline
	c        *pipepb.Components
	roots    []string
	replay   pipepb.TestStreamPayload // of the TestStream in hand
}

func newStory(text string) *story {
	s := &story{c: &pipepb.Components{
		Transforms:          map[string]*pipepb.PTransform{},
		Pcollections:        map[string]*pipepb.PCollection{},
		Coders:              map[string]*pipepb.Coder{},
		WindowingStrategies: map[string]*pipepb.WindowingStrategy{},
		Environments:        map[string]*pipepb.Environment{"py": {Urn: "beam:env:process:v1"}},
	}}
	s.pipeline = &pipepb.Pipeline{Components: s.c}
	for _, line := range strings.Split(text, "\n") {
		if words := strings.Fields(line); len(words) > 0 {
			s.line(words)
		}
	}
	if s.pipeline.RootTransformIds == nil {
		s.pipeline.RootTransformIds = s.roots
	}
	return s
}

func (s *story) line(words []string) {
	switch words[0] {
	case "coder":
		s.collection(words[1]).CoderId = s.coder(words[2])
	case "windows":
		s.collection(words[1]).WindowingStrategyId = s.windows(words[2])
	case "unbounded":
		s.collection(words[1]).IsBounded = pipepb.IsBounded_UNBOUNDED
	case "environment":
		s.c.Environments[words[1]] = &pipepb.Environment{Urn: words[2], Capabilities: words[3:]}
	case "anyof":
		var any pipepb.AnyOfEnvironmentPayload
		for _, u := range words[2:] {
			any.Environments = append(any.Environments, &pipepb.Environment{Urn: u})
		}
		s.c.Environments[words[1]] = &pipepb.Environment{Urn: urn.EnvAnyOf, Payload: bytesOf(&any)}
	case "require":
		s.pipeline.Requirements = append(s.pipeline.Requirements, words[1])
	case "root":
		s.pipeline.RootTransformIds = words[1:]
	case "within":
		s.c.Transforms[words[1]].Subtransforms = words[2:]
	default:
		s.transform(words)
	}
}

func (s *story) collection(id string) *pipepb.PCollection {
	if s.c.Pcollections[id] == nil {
		s.c.Pcollections[id] = &pipepb.PCollection{
			UniqueName: id, CoderId: s.coder("kv(bytes,bytes)"), WindowingStrategyId: s.windows("global"),
			IsBounded: pipepb.IsBounded_BOUNDED,
		}
	}
	return s.c.Pcollections[id]
}

// coder adds the coder that the expression describes; its id is the expression.
func (s *story) coder(expr string) string {
	name, args, composite := strings.Cut(strings.TrimSuffix(expr, ")"), "(")
	c := &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: "beam:coder:" + name + ":v1"}}
	if strings.HasPrefix(name, "my_") {
		c.Spec.Urn = "my:coder"
		c.Spec.Payload = []byte(name)
	}
	if name == "go_custom" {
		c.Spec.Urn = "beam:go:coder:custom:v1"
	}
	if composite {
		for _, arg := range split(args) {
			c.ComponentCoderIds = append(c.ComponentCoderIds, s.coder(arg))
		}
	}
	s.c.Coders[expr] = c
	return expr
}

// split splits at the commas outside parentheses.
func split(args string) []string {
	var parts []string
	depth, from := 0, 0
	for i, r := range args {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts = append(parts, args[from:i])
			from = i + 1
		}
	}
	return append(parts, args[from:])
}

// storyWindows lists the strategies that a story may name.
func storyWindows() map[string]*pipepb.WindowingStrategy {
	minute := durationpb.New(time.Minute)
	fn := func(u string, m proto.Message) *pipepb.FunctionSpec {
		return &pipepb.FunctionSpec{Urn: u, Payload: bytesOf(m)}
	}
	mine := func(name string) *pipepb.FunctionSpec { return &pipepb.FunctionSpec{Urn: "my:" + name} }
	fixed := fn(urn.FixedWindows, &pipepb.FixedWindowsPayload{Size: minute})
	sliding := fn(urn.SlidingWindows, &pipepb.SlidingWindowsPayload{Size: minute, Period: durationpb.New(20 * time.Second)})
	crowded := fn(urn.SlidingWindows, &pipepb.SlidingWindowsPayload{Size: minute, Period: durationpb.New(time.Millisecond)})
	count := &pipepb.Trigger{Trigger: &pipepb.Trigger_Repeat_{Repeat: &pipepb.Trigger_Repeat{Subtrigger: &pipepb.Trigger{
		Trigger: &pipepb.Trigger_ElementCount_{ElementCount: &pipepb.Trigger_ElementCount{ElementCount: 3}}}}}}
	gap := fn(urn.SessionWindows, &pipepb.SessionWindowsPayload{GapSize: minute})
	end := &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterEndOfWindow_{AfterEndOfWindow: &pipepb.Trigger_AfterEndOfWindow{EarlyFirings: count}}}
	accumulating := pipepb.AccumulationMode_ACCUMULATING
	empty := &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterAny_{AfterAny: &pipepb.Trigger_AfterAny{}}}
	return map[string]*pipepb.WindowingStrategy{
		"global":    {WindowFn: &pipepb.FunctionSpec{Urn: urn.GlobalWindows}, WindowCoderId: "global_window"},
		"fixed":     {WindowFn: fixed, WindowCoderId: "interval_window"},
		"sliding":   {WindowFn: sliding, WindowCoderId: "interval_window"},
		"crowded":   {WindowFn: crowded, WindowCoderId: "interval_window"},
		"counting":  {WindowFn: fixed, WindowCoderId: "interval_window", Trigger: count},
		"refreshed": {WindowFn: &pipepb.FunctionSpec{Urn: urn.GlobalWindows}, WindowCoderId: "global_window", Trigger: count},
		"growing": {
			WindowFn: &pipepb.FunctionSpec{Urn: urn.GlobalWindows}, WindowCoderId: "global_window", Trigger: count, AccumulationMode: accumulating,
		},
		"early":      {WindowFn: fixed, WindowCoderId: "interval_window", Trigger: end, AllowedLateness: 5000},
		"revised":    {WindowFn: fixed, WindowCoderId: "interval_window", Trigger: end, AccumulationMode: accumulating},
		"triggerbad": {WindowFn: fixed, WindowCoderId: "interval_window", Trigger: empty},
		"sessions":   {WindowFn: gap, WindowCoderId: "interval_window", MergeStatus: pipepb.MergeStatus_NEEDS_MERGE},
		"merged":     {WindowFn: gap, WindowCoderId: "interval_window", MergeStatus: pipepb.MergeStatus_ALREADY_MERGED},
		"days":       {WindowFn: mine("days"), WindowCoderId: "my_day"},
		"identity":   {WindowFn: mine("identity"), WindowCoderId: "global_window"},
		"visits": {
			WindowFn: mine("visits"), WindowCoderId: "my_day", MergeStatus: pipepb.MergeStatus_NEEDS_MERGE, EnvironmentId: "merger",
		},
		"accumulating": {
			WindowFn: fixed, WindowCoderId: "interval_window", AccumulationMode: pipepb.AccumulationMode_ACCUMULATING, Trigger: count,
		},
		"revisits": {
			WindowFn: mine("visits"), WindowCoderId: "my_day", MergeStatus: pipepb.MergeStatus_NEEDS_MERGE, EnvironmentId: "merger",
			AccumulationMode: pipepb.AccumulationMode_ACCUMULATING, Trigger: count,
		},
		"homeless":   {WindowFn: mine("visits"), WindowCoderId: "my_day", MergeStatus: pipepb.MergeStatus_NEEDS_MERGE},
		"whole":      {WindowFn: mine("visits"), WindowCoderId: "global_window", MergeStatus: pipepb.MergeStatus_NEEDS_MERGE},
		"retracting": {WindowFn: fixed, WindowCoderId: "interval_window", AccumulationMode: pipepb.AccumulationMode_RETRACTING},
		"empty":      {WindowFn: fn(urn.FixedWindows, &pipepb.FixedWindowsPayload{}), WindowCoderId: "interval_window"},
		"miscoded":   {WindowFn: fixed, WindowCoderId: "global_window"},
	}
}

func (s *story) windows(name string) string {
	if w := storyWindows()[name]; w != nil {
		s.coder(w.GetWindowCoderId())
		s.c.WindowingStrategies[name] = w
	}
	return name
}

func (s *story) transform(words []string) {
	kind, name := words[0], words[1]
	t := &pipepb.PTransform{UniqueName: name, Spec: &pipepb.FunctionSpec{}, Inputs: map[string]string{}, Outputs: map[string]string{}}
	payload := &pipepb.ParDoPayload{DoFn: &pipepb.FunctionSpec{Urn: "my:dofn"}}
	env := "py"
	out := false
	for _, word := range words[2:] {
		key, value, option := strings.Cut(word, "=")
		switch {
		case word == "->":
			out = true
		case key == "env":
			env = value
		case key == "config":
			t.Spec.Payload = []byte(value)
		case key == "into":
			t.Spec.Payload = bytesOf(&pipepb.WindowIntoPayload{WindowFn: storyWindows()[value].GetWindowFn()})
			defer func() { s.collection(t.GetOutputs()["out0"]).WindowingStrategyId = s.windows(value) }()
		case option || word == "stable" || word == "sorted" || word == "finalizes":
			s.option(t, payload, key, value)
		case out:
			if kind == "impulse" && s.c.Pcollections[word] == nil {
				s.collection(word).CoderId = s.coder("bytes")
			}
			s.collection(word)
			t.Outputs[fmt.Sprintf("out%d", len(t.Outputs))] = word
		default:
			t.Inputs[fmt.Sprintf("in%d", len(t.Inputs))] = word
		}
	}
	s.spec(t, kind, payload)
	if kind != "impulse" && kind != "gbk" && kind != "read" && kind != "write" && env != "none" {
		t.EnvironmentId = env
	}
	s.c.Transforms[name] = t
	s.roots = append(s.roots, name)
}

// spec fills in URN and payload.
func (s *story) spec(t *pipepb.PTransform, kind string, payload *pipepb.ParDoPayload) {
	urns := map[string]string{
		"impulse": urn.Impulse, "gbk": urn.GroupByKey, "flatten": urn.Flatten, "reshuffle": urn.Reshuffle, "window": urn.AssignWindows,
		"pardo": urn.ParDo, "teststream": urn.TestStream, "combine": urn.CombinePerKey, "read": kafkaRead,
		"write": kafkaWrite, "composite": "",
	}
	t.Spec.Urn = kind
	if u, ok := urns[kind]; ok {
		t.Spec.Urn = u
	}
	switch kind {
	case "pardo":
		t.Spec.Payload = bytesOf(payload)
	case "teststream":
		t.Spec.Payload = append(t.Spec.Payload, bytesOf(&s.replay)...)
		s.replay.Reset()
	case "combine":
		t.Spec.Payload = bytesOf(&pipepb.CombinePayload{
			CombineFn: &pipepb.FunctionSpec{Urn: "my:combine"}, AccumulatorCoderId: s.coder("my_accumulator"),
		})
	}
}

func (s *story) option(t *pipepb.PTransform, p *pipepb.ParDoPayload, key, value string) {
	name, kind, _ := strings.Cut(value, ":")
	switch key {
	case "side":
		tag := fmt.Sprintf("side%d", len(p.GetSideInputs()))
		t.Inputs[tag] = name
		if p.SideInputs == nil {
			p.SideInputs = map[string]*pipepb.SideInput{}
		}
		p.SideInputs[tag] = &pipepb.SideInput{
			AccessPattern:   &pipepb.FunctionSpec{Urn: "beam:side_input:" + kind + ":v1"},
			WindowMappingFn: &pipepb.FunctionSpec{Urn: urn.WindowMappingPython},
		}
	case "state":
		if p.StateSpecs == nil {
			p.StateSpecs = map[string]*pipepb.StateSpec{}
		}
		p.StateSpecs[name] = s.state(kind)
	case "timer":
		if p.TimerFamilySpecs == nil {
			p.TimerFamilySpecs = map[string]*pipepb.TimerFamilySpec{}
		}
		domain := map[string]pipepb.TimeDomain_Enum{
			"event": pipepb.TimeDomain_EVENT_TIME, "processing": pipepb.TimeDomain_PROCESSING_TIME,
		}
		p.TimerFamilySpecs[name] = &pipepb.TimerFamilySpec{TimeDomain: domain[kind]}
	case "expires":
		p.OnWindowExpirationTimerFamilySpec = value
	case "sdf":
		p.RestrictionCoderId = s.coder(value)
	case "stable":
		p.RequiresStableInput = true
	case "sorted":
		p.RequiresTimeSortedInput = true
	case "finalizes":
		p.RequestsFinalization = true
	default:
		s.event(key, name, kind)
	}
}

// event adds an event of a TestStream, or says where they come from.
func (s *story) event(key, tag, value string) {
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(err) // a test's own text
		}
		return n
	}
	var ev pipepb.TestStreamPayload_Event
	switch key {
	case "events":
		s.replay.CoderId = s.coder(tag)
		return
	case "service":
		s.replay.Endpoint = &pipepb.ApiServiceDescriptor{Url: tag}
		return
	case "clock":
		ev.Event = &pipepb.TestStreamPayload_Event_ProcessingTimeEvent{
			ProcessingTimeEvent: &pipepb.TestStreamPayload_Event_AdvanceProcessingTime{AdvanceDuration: number(tag)}}
	case "watermark":
		ev.Event = &pipepb.TestStreamPayload_Event_WatermarkEvent{
			WatermarkEvent: &pipepb.TestStreamPayload_Event_AdvanceWatermark{Tag: tag, NewWatermark: number(value)}}
	case "elements":
		var elements []*pipepb.TestStreamPayload_TimestampedElement
		for i, text := range strings.Split(value, ",") {
			elements = append(elements, &pipepb.TestStreamPayload_TimestampedElement{EncodedElement: []byte(text), Timestamp: int64(i)})
		}
		ev.Event = &pipepb.TestStreamPayload_Event_ElementEvent{
			ElementEvent: &pipepb.TestStreamPayload_Event_AddElements{Tag: tag, Elements: elements}}
	}
	s.replay.Events = append(s.replay.Events, &ev)
}

// state returns a state cell; kind is a kind and a coder, for example bag(varint).
func (s *story) state(kind string) *pipepb.StateSpec {
	name, args, _ := strings.Cut(strings.TrimSuffix(kind, ")"), "(")
	var coders []string
	for _, arg := range split(args) {
		coders = append(coders, s.coder(arg))
	}
	switch name {
	case "bag":
		return &pipepb.StateSpec{Spec: &pipepb.StateSpec_BagSpec{BagSpec: &pipepb.BagStateSpec{ElementCoderId: coders[0]}}}
	case "set":
		return &pipepb.StateSpec{
			Spec:     &pipepb.StateSpec_SetSpec{SetSpec: &pipepb.SetStateSpec{ElementCoderId: coders[0]}},
			Protocol: &pipepb.FunctionSpec{Urn: urn.StateMultimap},
		}
	case "map":
		m := &pipepb.MapStateSpec{KeyCoderId: coders[0], ValueCoderId: coders[1]}
		return &pipepb.StateSpec{Spec: &pipepb.StateSpec_MapSpec{MapSpec: m}}
	}
	return &pipepb.StateSpec{}
}

func bytesOf(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err) // a test's own message
	}
	return b
}
