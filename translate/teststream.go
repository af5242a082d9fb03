package translate

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/translate/urn"
)

// goCustomCoder is the Go SDK's coder of user types. Its encoding, alone among coders, has a length prefix before one is asked for.
// Spec: go/pkg/beam/core/runtime/graphx/coder.go, length_prefix of a custom coder.
const goCustomCoder = "beam:go:coder:custom:v1"

// testStream reads a TestStream. A pipeline has one at most: it is the clock of the whole job. Errors: invalid-payload,
// invalid-transform-shape, unsupported-test-stream.
func (w *walker) testStream(id string, t *pipepb.PTransform) error {
	if w.replay != nil {
		return refuse(codeTestStream, "%q is a TestStream already, and a pipeline can have only one", w.replay.user).
			WithHint("use one TestStream with several outputs, in Python add_elements(…, tag=…)")
	}
	n, err := w.leaf(testStreamNode, id, t)
	if err != nil {
		return err
	}
	if err := w.mains(n, nil); err != nil {
		return err
	}
	if err := n.shape(0, -1); err != nil {
		return err
	}
	if len(n.outputs) == 0 {
		return refuse(codeShape, "TestStream has no outputs").WithHint(hintSDK)
	}
	var payload pipepb.TestStreamPayload
	if err := proto.Unmarshal(t.GetSpec().GetPayload(), &payload); err != nil {
		return refuse(codePayload, "the TestStream payload does not parse: %w", err).WithHint(hintSDK)
	}
	coder := payload.GetCoderId()
	if coder == "" {
		coder = n.outputs[0].pc.coder
	}
	c, err := w.coders.get(coder)
	if err != nil {
		return err
	}
	if n.events, err = w.coders.intern(coder+".event", urn.CoderLengthPrefix, nil, coder); err != nil {
		return err
	}
	if n.script, err = script(n, &payload, c.GetSpec().GetUrn() == goCustomCoder); err != nil {
		return err
	}
	w.replay = n
	return w.add(n)
}

// script translates the payload of a TestStream.
func script(n *node, payload *pipepb.TestStreamPayload, prefixed bool) (*plan.Script, error) {
	s := &plan.Script{Endpoint: payload.GetEndpoint().GetUrl(), Prefixed: prefixed}
	for _, out := range n.outputs {
		s.Tags = append(s.Tags, out.tag)
	}
	if s.Endpoint != "" && len(payload.GetEvents()) > 0 {
		return nil, refuse(codePayload, "TestStream has events of its own and a service to ask for them").WithHint(hintSDK)
	}
	watermarks := make([]element.Time, len(s.Tags))
	for i := range watermarks {
		watermarks[i] = element.MinTime
	}
	for i, event := range payload.GetEvents() {
		ev, err := ScriptEvent(s, event)
		if err == nil && ev.Kind == plan.AdvanceWatermark {
			if ev.To < watermarks[ev.Output] {
				err = fmt.Errorf("the watermark goes back from %v to %v", watermarks[ev.Output], ev.To)
			}
			watermarks[ev.Output] = ev.To
		}
		if err != nil {
			return nil, refuse(codePayload, "event %d: %w", i, err).WithHint("correct the events of the TestStream")
		}
		s.Events = append(s.Events, ev)
	}
	return s, nil
}

// ScriptEvent translates one event of a TestStream for the outputs of s. An event without a tag is the main output's, which must be
// the only one. Errors are plain: the caller knows whose events they are. Spec: beam_runner_api.proto TestStreamPayload.Event.
func ScriptEvent(s *plan.Script, event *pipepb.TestStreamPayload_Event) (plan.ScriptEvent, error) {
	var err error
	switch k := event.GetEvent().(type) {
	case *pipepb.TestStreamPayload_Event_ElementEvent:
		ev := plan.ScriptEvent{Kind: plan.AddElements}
		for _, e := range k.ElementEvent.GetElements() {
			ev.Elements = append(ev.Elements, scriptElement(s, e))
		}
		ev.Output, err = scriptOutput(s, k.ElementEvent.GetTag())
		return ev, err
	case *pipepb.TestStreamPayload_Event_WatermarkEvent:
		ev := plan.ScriptEvent{Kind: plan.AdvanceWatermark, To: eventTime(k.WatermarkEvent.GetNewWatermark())}
		ev.Output, err = scriptOutput(s, k.WatermarkEvent.GetTag())
		return ev, err
	case *pipepb.TestStreamPayload_Event_ProcessingTimeEvent:
		ev := plan.ScriptEvent{Kind: plan.AdvanceProcessingTime, ByMs: k.ProcessingTimeEvent.GetAdvanceDuration()}
		if ev.ByMs < 0 {
			err = fmt.Errorf("processing time goes back by %d ms", -ev.ByMs)
		}
		return ev, err
	default:
		return plan.ScriptEvent{}, fmt.Errorf("an event of the unknown kind %T", k)
	}
}

func scriptOutput(s *plan.Script, tag string) (int, error) {
	if tag == "" && len(s.Tags) == 1 {
		return 0, nil
	}
	if i := slices.Index(s.Tags, tag); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("there is no output %q", tag)
}

// scriptElement puts a length before an element. The SDK encoded it in no context, so it reads it back as it wrote it, whatever the
// coder: the runner need not know where the element's parts end.
func scriptElement(s *plan.Script, e *pipepb.TestStreamPayload_TimestampedElement) plan.ScriptElement {
	value := e.GetEncodedElement()
	if !s.Prefixed {
		value = append(binary.AppendUvarint(nil, uint64(len(value))), value...)
	}
	return plan.ScriptElement{At: eventTime(e.GetTimestamp()), Value: value}
}

func eventTime(millis int64) element.Time {
	return min(max(element.Time(millis), element.MinTime), element.MaxTime)
}

// placeTestStream makes the stage of a TestStream, which puts out elements as the events have them, and for each output a step that
// makes them elements of the collection: a Flatten of one input, which SDKs execute as the identity. The coder of the events need
// not be that of the collection; Python gives a collection a key-value coder, because a consumer needs one, after the events have
// been encoded without.
func (f *fuser) placeTestStream(n *node) error {
	users := n.outputs
	n.outputs = nil
	for i, out := range users {
		events := f.made(n.id+"/Events/"+strconv.Itoa(i), n.name+"/Events/"+out.tag, n.events, out.pc)
		events.windows, events.producer = out.pc.windows, n
		n.outputs = append(n.outputs, output{out.tag, events})
	}
	f.start(n, plan.TestStream)
	for i, out := range users {
		if !f.isRead(out.pc) {
			continue
		}
		env := n.env
		if env == "" {
			env = f.consumerEnv(out.pc)
		}
		if env == "" {
			env = f.anyEnv()
		}
		if env == "" {
			return refuse(codeTestStream, "no SDK is there to decode the elements of output %q", out.tag).
				WithHint("apply a ParDo to the output")
		}
		step := *n
		step.kind, step.env, step.urn, step.script = sdkNode, env, urn.Flatten, nil
		suffix := "/Decode/" + strconv.Itoa(i)
		step.id, step.name = f.free(n.id+suffix, n.name+suffix)
		step.main = []input{{"in", n.outputs[i].pc}}
		step.outputs = []output{out}
		out.pc.producer = &step
		f.placeInHarness(&step)
	}
	return nil
}

// isRead reports whether a node reads the collection.
func (f *fuser) isRead(pc *pcollection) bool {
	return slices.ContainsFunc(f.nodes, func(n *node) bool { return slices.Contains(n.reads(), pc) })
}

// anyEnv returns the environment of the first node in a harness, or "".
func (f *fuser) anyEnv() plan.EnvID {
	for _, n := range f.nodes {
		if n.kind == sdkNode {
			return n.env
		}
	}
	return ""
}

// checkReplay refuses what cannot be together with a TestStream. Errors: unsupported-test-stream.
func (g *graph) checkReplay() error {
	if g.replay == nil {
		return nil
	}
	for _, n := range g.nodes {
		if n.kind == sourceNode {
			return refuse(codeTestStream, "TestStream beside a native source, which never comes to rest: %q", n.user).In(g.replay.user).
				WithHint("take the source out of the pipeline, or read from it in a test without TestStream")
		}
	}
	return nil
}
