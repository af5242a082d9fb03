package plan

import (
	"fmt"
	"strings"

	"padstone/engine/element"
)

// Script is what a TestStream stage replays. Spec: beam_runner_api.proto TestStreamPayload.
type Script struct {
	Tags   []string // of the stage's outputs, in their order
	Events []ScriptEvent
	// Endpoint is the address of a TestStreamService that is asked for the events; "" when they are in Events.
	Endpoint string
	// Prefixed says that the service's elements have a length prefix already.
	Prefixed bool
}

// ScriptEventKind is a kind of event.
type ScriptEventKind string

// The kinds of events.
const (
	AddElements           ScriptEventKind = "add_elements"
	AdvanceWatermark      ScriptEventKind = "advance_watermark"
	AdvanceProcessingTime ScriptEventKind = "advance_processing_time"
)

// ScriptEvent is one event.
type ScriptEvent struct {
	Kind     ScriptEventKind
	Output   int             // AddElements, AdvanceWatermark: index of the output
	Elements []ScriptElement // AddElements
	To       element.Time    // AdvanceWatermark
	ByMs     int64           // AdvanceProcessingTime
}

// ScriptElement is an element, length-prefixed as the framing program of the output's edges says.
type ScriptElement struct {
	At    element.Time
	Value []byte
}

// String prints where the events come from and where they go.
func (s *Script) String() string {
	events := fmt.Sprintf("%d events", len(s.Events))
	if s.Endpoint != "" {
		events = "events of " + s.Endpoint
	}
	return events + " to " + strings.Join(s.Tags, ", ")
}
