package translate

import (
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// windowTable translates the windowing strategies of a pipeline.
type windowTable struct {
	src    map[string]*pipepb.WindowingStrategy
	envs   map[string]*pipepb.Environment
	coders *coderTable
	done   map[string]*plan.Windowing
}

// of returns the strategy with the id. Its errors name no transform.
func (t *windowTable) of(id string) (*plan.Windowing, error) {
	if w := t.done[id]; w != nil {
		return w, nil
	}
	ws := t.src[id]
	if ws == nil {
		return nil, refuse(codeDanglingWindowing, "windowing strategy %q is not in the pipeline", id).WithHint(hintSDK)
	}
	w, err := windowFn(ws)
	if err != nil {
		return nil, err
	}
	if _, w.Coding, err = t.coders.window(ws.GetWindowCoderId()); err != nil {
		return nil, err
	}
	if err := fitCoding(w); err != nil {
		return nil, err
	}
	if w.Kind == plan.Custom && w.Coding == plan.GlobalWindow {
		// Whatever the function is, the global window is the only one that it can assign; in PAssert of the Java SDK, for example.
		w.Kind = plan.Global
	}
	if w.Trigger, err = trigger(ws.GetTrigger(), 0); err != nil {
		return nil, err
	}
	if ws.GetAccumulationMode() == pipepb.AccumulationMode_RETRACTING {
		return nil, refuse(codeRetractions, "the accumulation mode is RETRACTING").
			WithHint("use discarding or accumulating fired panes")
	}
	w.Accumulating = ws.GetAccumulationMode() == pipepb.AccumulationMode_ACCUMULATING
	w.LatenessMs = ws.GetAllowedLateness()
	w.EmptyOnClose = ws.GetClosingBehavior() == pipepb.ClosingBehavior_EMIT_ALWAYS && !t.isPython(ws.GetEnvironmentId())
	w.EmptyOnTime = ws.GetOnTimeBehavior() == pipepb.OnTimeBehavior_FIRE_ALWAYS
	w.OnTimeAlways = w.EmptyOnTime && !t.isPython(ws.GetEnvironmentId())
	switch ws.GetOutputTime() {
	case pipepb.OutputTime_EARLIEST_IN_PANE:
		w.OutputTime = plan.Earliest
	case pipepb.OutputTime_LATEST_IN_PANE:
		w.OutputTime = plan.Latest
	default:
		w.OutputTime = plan.EndOfWindow
	}
	t.done[id] = w
	return w, nil
}

// isPython reports whether an environment is of the Python SDK. Its users cannot choose a closing behaviour: it asks for EMIT_ALWAYS
// whatever they do, and its own runners emit no empty pane when a window closes. Taken at its word, a sum would be followed by a sum
// of nothing for every key. Nor has it an empty on-time pane where a trigger does not fire at the end of a window.
// Spec: python transforms/core.py Windowing.to_runner_api, transforms/trigger.py TriggerFn.has_ontime_pane.
func (t *windowTable) isPython(env string) bool {
	return slices.Contains(t.envs[env].GetCapabilities(), urn.PackedCombinePython)
}

// windowFn translates the window function. One that the runner does not know is the SDK's to assign, and to merge.
func windowFn(ws *pipepb.WindowingStrategy) (*plan.Windowing, error) {
	if ws.GetMergeStatus() == pipepb.MergeStatus_ALREADY_MERGED {
		// The windows in the elements are what an earlier grouping merged; they stand, whatever function made them.
		return &plan.Windowing{Kind: plan.Custom}, nil
	}
	fn := ws.GetWindowFn()
	switch fn.GetUrn() {
	case urn.GlobalWindows:
		return &plan.Windowing{Kind: plan.Global}, nil
	case urn.FixedWindows:
		return fixedWindows(fn)
	case urn.SlidingWindows:
		return slidingWindows(fn)
	case urn.SessionWindows:
		return sessionWindows(fn)
	}
	if ws.GetMergeStatus() == pipepb.MergeStatus_NEEDS_MERGE {
		return &plan.Windowing{Kind: plan.MergingCustom}, nil
	}
	return &plan.Windowing{Kind: plan.Custom}, nil
}

func fixedWindows(fn *pipepb.FunctionSpec) (*plan.Windowing, error) {
	var p pipepb.FixedWindowsPayload
	if err := proto.Unmarshal(fn.GetPayload(), &p); err != nil {
		return nil, malformedWindowFn(fn, err)
	}
	size, err := sizeMs(fn, p.GetSize())
	if err != nil {
		return nil, err
	}
	offset, err := offsetMs(fn, p.GetOffset())
	return &plan.Windowing{Kind: plan.Fixed, SizeMs: size, OffsetMs: offset}, err
}

func slidingWindows(fn *pipepb.FunctionSpec) (*plan.Windowing, error) {
	var p pipepb.SlidingWindowsPayload
	if err := proto.Unmarshal(fn.GetPayload(), &p); err != nil {
		return nil, malformedWindowFn(fn, err)
	}
	size, err := sizeMs(fn, p.GetSize())
	if err != nil {
		return nil, err
	}
	period, err := sizeMs(fn, p.GetPeriod())
	if err != nil {
		return nil, err
	}
	offset, err := offsetMs(fn, p.GetOffset())
	return &plan.Windowing{Kind: plan.Sliding, SizeMs: size, PeriodMs: period, OffsetMs: offset}, err
}

func sessionWindows(fn *pipepb.FunctionSpec) (*plan.Windowing, error) {
	var p pipepb.SessionWindowsPayload
	if err := proto.Unmarshal(fn.GetPayload(), &p); err != nil {
		return nil, malformedWindowFn(fn, err)
	}
	gap, err := sizeMs(fn, p.GetGapSize())
	return &plan.Windowing{Kind: plan.Sessions, SizeMs: gap}, err
}

// sizeMs returns a size, period or gap in milliseconds. Errors: invalid-window-fn when it is not positive or not whole.
func sizeMs(fn *pipepb.FunctionSpec, d *durationpb.Duration) (int64, error) {
	ms, err := millis(fn, d.GetSeconds(), d.GetNanos())
	if err == nil && ms <= 0 {
		err = refuse(codeWindowFn, "%s: the size %d ms is not positive", fn.GetUrn(), ms).WithHint("give the window a positive size")
	}
	return ms, err
}

// offsetMs returns an offset, a timestamp in the protos, in milliseconds.
func offsetMs(fn *pipepb.FunctionSpec, at *timestamppb.Timestamp) (int64, error) {
	return millis(fn, at.GetSeconds(), at.GetNanos())
}

func millis(fn *pipepb.FunctionSpec, seconds int64, nanos int32) (int64, error) {
	const secondsMax = 1 << 40 // beyond any timestamp of the Beam model, and far from overflow
	if seconds > secondsMax || seconds < -secondsMax || nanos%1e6 != 0 {
		return 0, refuse(codeWindowFn, "%s: %d.%09d s is out of range or not a whole number of milliseconds",
			fn.GetUrn(), seconds, nanos).WithHint("round it to milliseconds")
	}
	return seconds*1000 + int64(nanos/1e6), nil
}

func malformedWindowFn(fn *pipepb.FunctionSpec, err error) *fault.Error {
	return refuse(codeWindowFn, "%s: the payload does not parse: %w", fn.GetUrn(), err).WithHint(hintSDK)
}

// fitCoding checks that windows of the function can be encoded with the strategy's window coder.
func fitCoding(w *plan.Windowing) error {
	switch {
	case w.Kind == plan.Custom, w.Kind == plan.MergingCustom && w.Coding != plan.GlobalWindow:
		return nil
	case w.Kind == plan.Global && w.Coding == plan.GlobalWindow, w.Kind != plan.Global && w.Coding == plan.IntervalWindow:
		return nil
	}
	return refuse(codeWindowFn, "%s windows with a %s window coder", w.Kind, w.Coding).WithHint(hintSDK)
}
