package enginetest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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

// Sliding is windows of a size that begin every period, both in milliseconds.
func Sliding(size, period int64) Windows {
	payload := &pipepb.SlidingWindowsPayload{
		Size: durationpb.New(time.Duration(size) * time.Millisecond), Period: durationpb.New(time.Duration(period) * time.Millisecond),
	}
	return windows(urn.SlidingWindows, payload, "interval", pipepb.MergeStatus_NON_MERGING)
}

// Sessions is session windows with a gap in milliseconds.
func Sessions(ms int64) Windows {
	gap := durationpb.New(time.Duration(ms) * time.Millisecond)
	return windows(urn.SessionWindows, &pipepb.SessionWindowsPayload{GapSize: gap}, "interval", pipepb.MergeStatus_NEEDS_MERGE)
}

// gapsURN is a window function that the runner does not know: its payload is that of Sessions.
const gapsURN = "enginetest:window_fn:gaps:v1"

// Gaps is like Sessions, but merges in the harness.
func Gaps(ms int64) Windows {
	gap := durationpb.New(time.Duration(ms) * time.Millisecond)
	w := windows(gapsURN, &pipepb.SessionWindowsPayload{GapSize: gap}, "interval", pipepb.MergeStatus_NEEDS_MERGE)
	w.strategy.EnvironmentId = environmentDefault
	return w
}

// mergeGaps is the DoFn that merges windows of Gaps: those that overlap. "Poison" is a window that begins at time 666666.
// Spec: beam_runner_api.proto StandardPTransforms.MERGE_WINDOWS.
func mergeGaps([]byte) (fakesdk.DoFn, error) {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		nonce, windows, err := Values("window", e.Value)
		if err != nil {
			return err
		}
		c.Count("windows", int64(len(windows)))
		slices.SortFunc(windows, func(a, b []byte) int { return cmp.Compare(windowStart(a), windowStart(b)) })
		unmerged, merged := [][]byte{}, [][]byte{}
		for len(windows) > 0 {
			start, end, n := windowStart(windows[0]), WindowEnd(windows[0]), 1
			if start == 666666 {
				return errors.New("no window begins at 666666")
			}
			for n < len(windows) && windowStart(windows[n]) < end {
				end = max(end, WindowEnd(windows[n]))
				n++
			}
			if n == 1 {
				unmerged = append(unmerged, windows[0])
			} else {
				merged = append(merged, KV(span(end, end-start), Iter(windows[:n]...)))
			}
			windows = windows[n:]
		}
		e.Value = KV(nonce, KV(Iter(unmerged...), Iter(merged...)))
		return c.Emit("", e)
	}}, nil
}

// MapBefore is a mapping to the interval window before one of the same size. "Poison" is a window that begins at time 666666.
const MapBefore = "enginetest:window_mapping_fn:before:v1"

// mapBefore is the DoFn that maps windows by MapBefore. Spec: beam_runner_api.proto StandardPTransforms.MAP_WINDOWS.
func mapBefore([]byte) (fakesdk.DoFn, error) {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		nonce, err := c.Key(e)
		if err != nil {
			return err
		}
		c.Count("mapped", 1)
		w := e.Value[len(nonce):]
		if windowStart(w) == 666_666 {
			return errors.New("there is nothing before the poison")
		}
		e.Value = KV(nonce, WindowBefore(w))
		return c.Emit("", e)
	}}, nil
}

// WindowBefore returns the interval window before one, of the same size.
func WindowBefore(w []byte) []byte {
	start := windowStart(w)
	return span(start, WindowEnd(w)-start)
}

func windowStart(w []byte) int64 {
	size, _ := binary.Uvarint(w[8:])
	return WindowEnd(w) - int64(size)
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

// Earliest returns the strategy with panes at their earliest timestamp.
func (w Windows) Earliest() Windows {
	return w.With(func(s *pipepb.WindowingStrategy) { s.OutputTime = pipepb.OutputTime_EARLIEST_IN_PANE })
}

// With returns the strategy with a change.
func (w Windows) With(change func(s *pipepb.WindowingStrategy)) Windows {
	s := proto.CloneOf(w.strategy)
	change(s)
	return Windows{s}
}

// EveryElement returns the strategy with a trigger that fires with each element, discarding.
func (w Windows) EveryElement() Windows {
	s := proto.CloneOf(w.strategy)
	s.Trigger = &pipepb.Trigger{Trigger: &pipepb.Trigger_Always_{Always: &pipepb.Trigger_Always{}}}
	return Windows{s}
}

// Counting returns the strategy with a trigger that fires with each n elements of a key and window, discarding.
func (w Windows) Counting(n int32) Windows {
	w = w.Accumulating(n)
	w.strategy.AccumulationMode = pipepb.AccumulationMode_DISCARDING
	return w
}

// Accumulating returns the strategy with a trigger that fires with each n elements of a key and window, accumulating.
func (w Windows) Accumulating(n int32) Windows {
	s := proto.CloneOf(w.strategy)
	count := &pipepb.Trigger{Trigger: &pipepb.Trigger_ElementCount_{ElementCount: &pipepb.Trigger_ElementCount{ElementCount: n}}}
	s.Trigger = &pipepb.Trigger{Trigger: &pipepb.Trigger_Repeat_{Repeat: &pipepb.Trigger_Repeat{Subtrigger: count}}}
	s.AccumulationMode = pipepb.AccumulationMode_ACCUMULATING
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

// assign is the DoFn of WindowInto: its payload is the windowing strategy, as the Python SDK has it. It has no offsets.
func assign(payload []byte) (fakesdk.DoFn, error) {
	var s pipepb.WindowingStrategy
	if err := proto.Unmarshal(payload, &s); err != nil {
		return fakesdk.DoFn{}, err
	}
	var fixed pipepb.FixedWindowsPayload
	var sliding pipepb.SlidingWindowsPayload
	var sessions pipepb.SessionWindowsPayload
	spec := s.GetWindowFn()
	var err error
	switch spec.GetUrn() {
	case urn.FixedWindows:
		err = proto.Unmarshal(spec.GetPayload(), &fixed)
	case urn.SlidingWindows:
		err = proto.Unmarshal(spec.GetPayload(), &sliding)
	case urn.SessionWindows, gapsURN:
		err = proto.Unmarshal(spec.GetPayload(), &sessions)
	}
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		for _, one := range Explode(e) { // each window anew, as SDKs do
			one.Windows = []byte{0, 0, 0, 1}
			switch spec.GetUrn() {
			case urn.FixedWindows:
				one.Windows = append(one.Windows, Window(e.Timestamp, fixed.GetSize().AsDuration().Milliseconds())...)
			case urn.SlidingWindows:
				one.Windows = appendSliding(nil, e.Timestamp, sliding.GetSize().AsDuration().Milliseconds(),
					sliding.GetPeriod().AsDuration().Milliseconds())
			case urn.SessionWindows, gapsURN:
				gap := sessions.GetGapSize().AsDuration().Milliseconds()
				one.Windows = append(one.Windows, span(e.Timestamp+gap, gap)...)
			}
			if err := c.Emit("", one); err != nil {
				return err
			}
		}
		return nil
	}}, err
}

// appendSliding appends the number of sliding windows that hold the time, and the windows.
func appendSliding(dst []byte, at, size, period int64) []byte {
	var encoded []byte
	n := uint32(0)
	for start := at - ((at%period)+period)%period; start > at-size; start -= period {
		encoded = append(encoded, span(start+size, size)...)
		n++
	}
	return append(binary.BigEndian.AppendUint32(dst, n), encoded...)
}

// Explode returns the element once for each of its windows.
func Explode(e fakesdk.Element) []fakesdk.Element {
	n := binary.BigEndian.Uint32(e.Windows)
	out := make([]fakesdk.Element, 0, n)
	for rest := e.Windows[4:]; len(out) < int(n); {
		size := 0 // of the global window
		if len(rest) > 0 {
			_, varint := binary.Uvarint(rest[8:])
			size = 8 + varint
		}
		one := e
		one.Windows = append([]byte{0, 0, 0, 1}, rest[:size]...)
		out, rest = append(out, one), rest[size:]
	}
	return out
}

// WindowStart returns the start of an encoded interval window, in milliseconds.
func WindowStart(w []byte) int64 { return windowStart(w) }

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
