package enginetest

import (
	"encoding/binary"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/enginetest/reference"
)

// TriggerProto writes a trigger tree as SDKs do.
func TriggerProto(t *reference.Trigger) *pipepb.Trigger {
	if t == nil {
		return nil
	}
	var sub []*pipepb.Trigger
	for _, c := range t.Children {
		sub = append(sub, TriggerProto(c))
	}
	switch t.Kind {
	case reference.Default:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}}
	case reference.Always:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_Always_{Always: &pipepb.Trigger_Always{}}}
	case reference.Never:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_Never_{Never: &pipepb.Trigger_Never{}}}
	case reference.AfterCount:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_ElementCount_{ElementCount: &pipepb.Trigger_ElementCount{ElementCount: int32(t.N)}}}
	case reference.AfterProcessingTime:
		delay := &pipepb.TimestampTransform{TimestampTransform: &pipepb.TimestampTransform_Delay_{
			Delay: &pipepb.TimestampTransform_Delay{DelayMillis: t.N}}}
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterProcessingTime_{AfterProcessingTime: &pipepb.Trigger_AfterProcessingTime{
			TimestampTransforms: []*pipepb.TimestampTransform{delay}}}}
	case reference.AfterSynchronized:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterSynchronizedProcessingTime_{
			AfterSynchronizedProcessingTime: &pipepb.Trigger_AfterSynchronizedProcessingTime{}}}
	case reference.AfterAll:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterAll_{AfterAll: &pipepb.Trigger_AfterAll{Subtriggers: sub}}}
	case reference.AfterAny:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterAny_{AfterAny: &pipepb.Trigger_AfterAny{Subtriggers: sub}}}
	case reference.AfterEach:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterEach_{AfterEach: &pipepb.Trigger_AfterEach{Subtriggers: sub}}}
	case reference.OrFinally:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_OrFinally_{OrFinally: &pipepb.Trigger_OrFinally{Main: sub[0], Finally: sub[1]}}}
	case reference.Repeat:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_Repeat_{Repeat: &pipepb.Trigger_Repeat{Subtrigger: sub[0]}}}
	default:
		return &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterEndOfWindow_{
			AfterEndOfWindow: &pipepb.Trigger_AfterEndOfWindow{EarlyFirings: sub[0], LateFirings: sub[1]}}}
	}
}

// Strategy is the windowing of a grouping; custom is about its sessions.
func Strategy(g reference.Grouping, custom bool) Windows {
	w := Global()
	switch g.Fn.Kind {
	case reference.Fixed:
		w = Fixed(g.Fn.Size)
	case reference.Sliding:
		w = Sliding(g.Fn.Size, g.Fn.Period)
	case reference.Sessions:
		w = sessionWindows(g.Fn, custom)
	}
	return w.Lateness(g.Lateness).With(func(s *pipepb.WindowingStrategy) {
		s.Trigger = TriggerProto(g.Trigger)
		if g.Accumulating {
			s.AccumulationMode = pipepb.AccumulationMode_ACCUMULATING
		}
		s.OutputTime = []pipepb.OutputTime_Enum{
			pipepb.OutputTime_END_OF_WINDOW, pipepb.OutputTime_EARLIEST_IN_PANE, pipepb.OutputTime_LATEST_IN_PANE}[g.Stamp]
		if g.EmptyOnTime {
			s.OnTimeBehavior = pipepb.OnTimeBehavior_FIRE_ALWAYS
		}
		if g.EmptyOnClose {
			s.ClosingBehavior = pipepb.ClosingBehavior_EMIT_ALWAYS
		}
	})
}

// PaneInfo decodes a pane. Spec: beam_runner_api.proto StandardCoders.WINDOWED_VALUE.
func PaneInfo(p *reference.Pane, b []byte) {
	p.First, p.Last, p.Timing = b[0]&1 != 0, b[0]&2 != 0, reference.Timing(b[0]>>2&3)
	switch b[0] >> 4 {
	case 1: // one number for both
		index, _ := binary.Uvarint(b[1:])
		p.Index, p.NonSpeculative = int64(index), int64(index)
	case 2:
		index, n := binary.Uvarint(b[1:])
		nonSpeculative, _ := binary.Uvarint(b[1+n:])
		p.Index, p.NonSpeculative = int64(index), int64(nonSpeculative)
	}
	if p.Timing == reference.Early {
		p.NonSpeculative = -1
	}
}
