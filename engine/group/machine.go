package group

import (
	"fmt"

	"padstone/engine/coder"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/trigger"
	"padstone/engine/window"
	"padstone/internal/fault"
)

// Machine groups the elements of one stage. Immutable.
type Machine struct {
	windowing plan.Windowing
	trigger   *trigger.Program
	scanner   *coder.Scanner
	merging   bool
	custom    bool // merging, by a function of the user's
	byElement bool // the trigger is evaluated after each element
	compacts  bool // values are accumulators
	staleAt   thresholds
	// onTime says that an empty pane is due at the end of a window: the trigger fires there.
	onTime bool
}

// New returns the machine of a windowing strategy for elements whose values follow elem, which must be a kv. A windowing strategy
// that makes no sense is a fault of kind Pipeline: invalid-trigger, or invalid-windowing.
func New(w *plan.Windowing, elem *coder.Program) (*Machine, error) {
	if !elem.IsKV() {
		return nil, fmt.Errorf("group: elements of framing program %s have no key", elem)
	}
	switch {
	case w.Kind == plan.Global && w.Coding != plan.GlobalWindow,
		(w.Kind == plan.Custom || w.Kind == plan.MergingCustom) && w.Coding == plan.GlobalWindow,
		(w.Kind == plan.Fixed || w.Kind == plan.Sliding || w.Kind == plan.Sessions) && w.Coding != plan.IntervalWindow:
		return nil, fault.New(fault.Pipeline, "invalid-windowing", "windows of kind %s in coding %s", w.Kind, w.Coding)
	case w.LatenessMs < 0:
		return nil, fault.New(fault.Pipeline, "invalid-windowing", "an allowed lateness of %d ms", w.LatenessMs)
	}
	prog, err := trigger.Compile(w.Trigger)
	if err != nil {
		return nil, err
	}
	return &Machine{
		windowing: *w,
		trigger:   prog,
		scanner:   coder.NewScanner(elem, w.Coding),
		merging:   w.Kind == plan.Sessions || w.Kind == plan.MergingCustom,
		custom:    w.Kind == plan.MergingCustom,
		byElement: prog.ByElement(),
		onTime:    w.EmptyOnTime && prog.HasOnTime(),
	}, nil
}

// Compacting returns the machine for values that are accumulators, which can be merged: see Compact.
func (m *Machine) Compacting() *Machine {
	c := *m
	c.compacts, c.staleAt = true, usual
	return &c
}

// BatchEligible reports whether GroupAll may stand in for Process when the input is bounded: without late data, the trigger fires
// once, at the end of the window. Windows that the user's code merges are left to Process.
func (m *Machine) BatchEligible() bool { return m.trigger.OnlyEndOfWindow() && !m.custom }

// EndEligible reports whether GroupAll may stand in for Process if triggers are put off to the end of a bounded input (Collecting): there
// the only pane is the last one.
func (m *Machine) EndEligible() bool { return m.trigger.WaitsForEnd() && !m.custom }

// Env is what the machine sees of time during one call.
type Env struct {
	InputWatermark element.Time // of the stage: decides what is late and which windows have ended
	// OutputWatermark of the stage, at most InputWatermark. What lies before it can hold it no more.
	OutputWatermark element.Time
	Now             element.Time // processing time
	// Deferred puts triggers off to the end of a bounded input: see Collecting.
	Deferred bool
	// Merge merges windows by the user's function. Called by Process only, and only if windows are of kind plan.MergingCustom.
	Merge Merger
}

// Collecting is the environment of Process in batch, when triggers are evaluated once all elements are there: a trigger that counts
// then fires for what there is, however the elements came. Nothing is late. Ending is that of Timers once they are.
func Collecting() Env {
	return Env{InputWatermark: element.MinTime, OutputWatermark: element.MinTime, Now: element.MinTime, Deferred: true}
}

// Ending is the environment of Timers at the end of an input that was collected. A trigger is evaluated twice: as if all elements had
// just come, and at the end of time.
func Ending() Env {
	return Env{InputWatermark: element.MaxTime, OutputWatermark: element.MinTime, Now: element.MaxTime, Deferred: true}
}

// bounds are the instants of a window.
type bounds struct {
	max     element.Time // maximum timestamp
	collect element.Time // its state goes when the input watermark is later
}

func (m *Machine) bounds(maxTS element.Time) bounds {
	return bounds{max: maxTS, collect: window.CollectAt(maxTS, m.windowing.LatenessMs)}
}

// ended reports whether the watermark has passed the end of the window.
func (b bounds) ended(env Env) bool { return env.InputWatermark > b.max }

// expired reports whether the window is to be collected.
func (b bounds) expired(env Env) bool { return env.InputWatermark > b.collect }

func (b bounds) clock(env Env) trigger.Clock {
	return trigger.Clock{Now: env.Now, Watermark: env.InputWatermark, WindowMax: b.max}
}
