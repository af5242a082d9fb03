package translate

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/internal/fault"
)

// triggerDepthMax bounds the nesting of triggers.
const triggerDepthMax = 16

// trigger translates a trigger tree; no trigger is the default one. Spec: beam_runner_api.proto Trigger.
func trigger(t *pipepb.Trigger, depth int) (*plan.Trigger, error) {
	if depth > triggerDepthMax {
		return nil, refuse(codeTrigger, "the trigger is nested deeper than %d levels", triggerDepthMax).WithHint("simplify the trigger")
	}
	switch k := t.GetTrigger().(type) {
	case nil, *pipepb.Trigger_Default_:
		return &plan.Trigger{Kind: plan.TriggerDefault}, nil
	case *pipepb.Trigger_Always_:
		return &plan.Trigger{Kind: plan.TriggerAlways}, nil
	case *pipepb.Trigger_Never_:
		return &plan.Trigger{Kind: plan.TriggerNever}, nil
	case *pipepb.Trigger_AfterSynchronizedProcessingTime_:
		return &plan.Trigger{Kind: plan.TriggerAfterSynchronized}, nil
	case *pipepb.Trigger_ElementCount_:
		n := k.ElementCount.GetElementCount()
		if n < 1 {
			return nil, refuse(codeTrigger, "AfterCount(%d)", n).WithHint("count at least one element")
		}
		return &plan.Trigger{Kind: plan.TriggerAfterCount, Count: int(n)}, nil
	case *pipepb.Trigger_AfterProcessingTime_:
		return afterProcessingTime(k.AfterProcessingTime)
	case *pipepb.Trigger_AfterEndOfWindow_:
		return afterEndOfWindow(k.AfterEndOfWindow, depth)
	case *pipepb.Trigger_AfterAll_:
		return composite(plan.TriggerAfterAll, depth, k.AfterAll.GetSubtriggers()...)
	case *pipepb.Trigger_AfterAny_:
		return composite(plan.TriggerAfterAny, depth, k.AfterAny.GetSubtriggers()...)
	case *pipepb.Trigger_AfterEach_:
		return composite(plan.TriggerAfterEach, depth, k.AfterEach.GetSubtriggers()...)
	case *pipepb.Trigger_OrFinally_:
		return composite(plan.TriggerOrFinally, depth, k.OrFinally.GetMain(), k.OrFinally.GetFinally())
	case *pipepb.Trigger_Repeat_:
		return composite(plan.TriggerRepeat, depth, k.Repeat.GetSubtrigger())
	default:
		return nil, badTrigger("unknown kind %T", k)
	}
}

// composite translates a trigger with children, each of which must be there.
func composite(kind plan.TriggerKind, depth int, children ...*pipepb.Trigger) (*plan.Trigger, error) {
	t := &plan.Trigger{Kind: kind}
	if len(children) == 0 {
		return nil, badTrigger("%s without subtriggers", kind)
	}
	for _, child := range children {
		if child == nil {
			return nil, badTrigger("%s lacks a subtrigger", kind)
		}
		c, err := trigger(child, depth+1)
		if err != nil {
			return nil, err
		}
		t.Children = append(t.Children, c)
	}
	return t, nil
}

func afterEndOfWindow(p *pipepb.Trigger_AfterEndOfWindow, depth int) (*plan.Trigger, error) {
	t := &plan.Trigger{Kind: plan.TriggerAfterEndOfWindow, Children: make([]*plan.Trigger, 2)}
	for i, child := range []*pipepb.Trigger{p.GetEarlyFirings(), p.GetLateFirings()} {
		if child == nil {
			continue
		}
		c, err := trigger(child, depth+1)
		if err != nil {
			return nil, err
		}
		t.Children[i] = c
	}
	return t, nil
}

func afterProcessingTime(p *pipepb.Trigger_AfterProcessingTime) (*plan.Trigger, error) {
	t := &plan.Trigger{Kind: plan.TriggerAfterProcessing}
	for _, transform := range p.GetTimestampTransforms() {
		switch k := transform.GetTimestampTransform().(type) {
		case *pipepb.TimestampTransform_Delay_:
			if k.Delay.GetDelayMillis() < 0 {
				return nil, badTrigger("a delay of %d ms", k.Delay.GetDelayMillis())
			}
			t.Delays = append(t.Delays, plan.TimeShift{DelayMs: k.Delay.GetDelayMillis()})
		case *pipepb.TimestampTransform_AlignTo_:
			if k.AlignTo.GetPeriod() <= 0 {
				return nil, badTrigger("an alignment to %d ms", k.AlignTo.GetPeriod())
			}
			t.Delays = append(t.Delays, plan.TimeShift{PeriodMs: k.AlignTo.GetPeriod(), OffsetMs: k.AlignTo.GetOffset()})
		default:
			return nil, badTrigger("a timestamp transform of unknown kind %T", k)
		}
	}
	return t, nil
}

func badTrigger(format string, args ...any) *fault.Error {
	return refuse(codeTrigger, "the trigger is malformed: "+format, args...).WithHint(hintSDK)
}

// liftable reports whether elements may be combined before they reach the trigger: not if it counts them.
func liftable(t *plan.Trigger) bool {
	if t == nil {
		return true
	}
	switch t.Kind {
	case plan.TriggerDefault, plan.TriggerAlways, plan.TriggerNever, plan.TriggerAfterProcessing, plan.TriggerAfterSynchronized:
		return true
	case plan.TriggerAfterCount:
		return t.Count == 1
	case plan.TriggerAfterEndOfWindow, plan.TriggerAfterAny, plan.TriggerRepeat:
		for _, child := range t.Children {
			if !liftable(child) {
				return false
			}
		}
		return true
	default:
		return false
	}
}
