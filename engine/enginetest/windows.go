package enginetest

import (
	"encoding/binary"
	"fmt"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"padstone/engine/plan"
	"padstone/fnapi/fakesdk"
	"padstone/translate/urn"
)

// Windows is a windowing strategy.
type Windows struct {
	strategy *pipepb.WindowingStrategy
}

// Global is the global window with the default trigger.
func Global() Windows {
	return windows(urn.GlobalWindows, &pipepb.GlobalWindowsPayload{}, "global", pipepb.MergeStatus_NON_MERGING)
}

// Fixed is fixed windows of a size in milliseconds.
func Fixed(ms int64) Windows {
	size := durationpb.New(time.Duration(ms) * time.Millisecond)
	return windows(urn.FixedWindows, &pipepb.FixedWindowsPayload{Size: size}, "interval", pipepb.MergeStatus_NON_MERGING)
}

// Sessions is session windows with a gap in milliseconds.
func Sessions(ms int64) Windows {
	gap := durationpb.New(time.Duration(ms) * time.Millisecond)
	return windows(urn.SessionWindows, &pipepb.SessionWindowsPayload{GapSize: gap}, "interval", pipepb.MergeStatus_NEEDS_MERGE)
}

func windows(fn string, payload proto.Message, coder string, merge pipepb.MergeStatus_Enum) Windows {
	return Windows{&pipepb.WindowingStrategy{
		WindowFn: &pipepb.FunctionSpec{Urn: fn, Payload: marshal(payload)}, MergeStatus: merge, WindowCoderId: coder,
		Trigger:          &pipepb.Trigger{Trigger: &pipepb.Trigger_Default_{Default: &pipepb.Trigger_Default{}}},
		AccumulationMode: pipepb.AccumulationMode_DISCARDING, OutputTime: pipepb.OutputTime_END_OF_WINDOW,
		ClosingBehavior: pipepb.ClosingBehavior_EMIT_IF_NONEMPTY, OnTimeBehavior: pipepb.OnTimeBehavior_FIRE_IF_NONEMPTY,
	}}
}

// Lateness returns the strategy with an allowed lateness in milliseconds.
func (w Windows) Lateness(ms int64) Windows {
	s := proto.CloneOf(w.strategy)
	s.AllowedLateness = ms
	return Windows{s}
}

// EveryElement returns the strategy with a trigger that fires with each element, discarding.
func (w Windows) EveryElement() Windows {
	s := proto.CloneOf(w.strategy)
	s.Trigger = &pipepb.Trigger{Trigger: &pipepb.Trigger_Always_{Always: &pipepb.Trigger_Always{}}}
	return Windows{s}
}

// Early returns the strategy with a trigger that fires before the end of a window with each n elements, at its end, empty or not,
// and never again, discarding.
func (w Windows) Early(n int32) Windows {
	count := &pipepb.Trigger{Trigger: &pipepb.Trigger_ElementCount_{ElementCount: &pipepb.Trigger_ElementCount{ElementCount: n}}}
	s := proto.CloneOf(w.strategy)
	s.Trigger = &pipepb.Trigger{Trigger: &pipepb.Trigger_AfterEndOfWindow_{
		AfterEndOfWindow: &pipepb.Trigger_AfterEndOfWindow{EarlyFirings: count},
	}}
	s.OnTimeBehavior = pipepb.OnTimeBehavior_FIRE_ALWAYS
	return Windows{s}
}

// id names the strategy by its content.
func (w Windows) id() string { return fmt.Sprintf("windows-%x", marshal(w.strategy)) }

func (w Windows) coding() plan.WindowCoding {
	if w.strategy.GetWindowCoderId() == "global" {
		return plan.GlobalWindow
	}
	return plan.IntervalWindow
}

// assign is the DoFn of WindowInto: its payload is the windowing strategy, as the Python SDK has it.
func assign(payload []byte) (fakesdk.DoFn, error) {
	var s pipepb.WindowingStrategy
	if err := proto.Unmarshal(payload, &s); err != nil {
		return fakesdk.DoFn{}, err
	}
	var fixed pipepb.FixedWindowsPayload
	var sessions pipepb.SessionWindowsPayload
	spec := s.GetWindowFn()
	var err error
	switch spec.GetUrn() {
	case urn.FixedWindows:
		err = proto.Unmarshal(spec.GetPayload(), &fixed)
	case urn.SessionWindows:
		err = proto.Unmarshal(spec.GetPayload(), &sessions)
	}
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Windows = []byte{0, 0, 0, 1}
		switch spec.GetUrn() {
		case urn.FixedWindows:
			e.Windows = append(e.Windows, Window(e.Timestamp, fixed.GetSize().AsDuration().Milliseconds())...)
		case urn.SessionWindows:
			gap := sessions.GetGapSize().AsDuration().Milliseconds()
			e.Windows = append(e.Windows, span(e.Timestamp+gap, gap)...)
		}
		return c.Emit("", e)
	}}, err
}

// Window returns the encoded fixed window of the size that holds the time, both in milliseconds.
func Window(at, size int64) []byte {
	start := at - ((at%size)+size)%size
	return span(start+size, size)
}

// span encodes an interval window. Spec: beam_runner_api.proto StandardCoders.INTERVAL_WINDOW.
func span(end, size int64) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64(nil, uint64(end)^(1<<63)), uint64(size))
}

// WindowEnd returns the end of an encoded interval window, in milliseconds.
func WindowEnd(w []byte) int64 { return int64(binary.BigEndian.Uint64(w) ^ (1 << 63)) }

// marshal panics on what does not marshal: a test has made it.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}
