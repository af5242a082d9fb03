package enginetest

import (
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
	"padstone/engine/enginetest/reference"
	"padstone/translate/urn"
)

// Event is an event of a TestStream.
type Event = pipepb.TestStreamPayload_Event

// Elements is an event that adds elements of coder bytes to an output, at a time in milliseconds.
func Elements(tag string, at int64, words ...string) *Event {
	add := &pipepb.TestStreamPayload_Event_AddElements{Tag: tag}
	for _, w := range words {
		add.Elements = append(add.Elements, &pipepb.TestStreamPayload_TimestampedElement{EncodedElement: []byte(w), Timestamp: at})
	}
	return &Event{Event: &pipepb.TestStreamPayload_Event_ElementEvent{ElementEvent: add}}
}

// Watermark is an event that advances the watermark of an output.
func Watermark(tag string, to int64) *Event {
	return &Event{Event: &pipepb.TestStreamPayload_Event_WatermarkEvent{
		WatermarkEvent: &pipepb.TestStreamPayload_Event_AdvanceWatermark{Tag: tag, NewWatermark: to},
	}}
}

// Clock is an event that advances processing time by milliseconds.
func Clock(by int64) *Event {
	return &Event{Event: &pipepb.TestStreamPayload_Event_ProcessingTimeEvent{
		ProcessingTimeEvent: &pipepb.TestStreamPayload_Event_AdvanceProcessingTime{AdvanceDuration: by},
	}}
}

// TestStream replays events; its outputs, of coder bytes, are those with the tags.
func (p *Pipeline) TestStream(name string, tags []string, events ...*Event) map[string]Collection {
	return p.testStream(name, tags, &pipepb.TestStreamPayload{Events: events})
}

// TestStreamFrom replays the events of the TestStreamService at the address.
func (p *Pipeline) TestStreamFrom(name, address string, tags []string) map[string]Collection {
	return p.testStream(name, tags, &pipepb.TestStreamPayload{Endpoint: &pipepb.ApiServiceDescriptor{Url: address}})
}

func (p *Pipeline) testStream(name string, tags []string, payload *pipepb.TestStreamPayload) map[string]Collection {
	payload.CoderId = parseShape("bytes").intern(p.Proto.GetComponents().GetCoders())
	outputs := make(map[string]Collection)
	for _, tag := range tags {
		outputs[tag] = p.collection(name+"."+tag, "bytes", Global(), true)
	}
	p.add(name, urn.TestStream, marshal(payload), nil, outputs, p.environment(""))
	return outputs
}

// Script writes a history as a TestStream of the outputs "main", with key=value, and "tick", of which an element with the event's number
// comes before each event.
func Script(h reference.History) []*Event {
	var events []*Event
	for i, e := range h {
		events = append(events, Elements("tick", 0, strconv.Itoa(i)))
		add := &pipepb.TestStreamPayload_Event_AddElements{Tag: "main"}
		for _, el := range e.Elements {
			add.Elements = append(add.Elements, &pipepb.TestStreamPayload_TimestampedElement{
				EncodedElement: []byte(el.Key + "=" + el.Value), Timestamp: el.At,
			})
		}
		if len(add.Elements) > 0 {
			events = append(events, &Event{Event: &pipepb.TestStreamPayload_Event_ElementEvent{ElementEvent: add}})
		}
		if e.Watermark != 0 {
			events = append(events, Watermark("main", min(e.Watermark, int64(element.MaxTime))))
		}
		if e.Clock > 0 {
			events = append(events, Clock(e.Clock))
		}
	}
	return events
}
