package triggertest

import (
	"fmt"
	"strconv"
	"strings"

	"padstone/engine/plan"
)

// Parse reads a trigger tree. It does not check what trigger.Compile checks.
func Parse(text string) (*plan.Trigger, error) {
	t, rest, err := parse(strings.ReplaceAll(text, " ", ""))
	if err == nil && rest != "" {
		err = fmt.Errorf("%q is left over", rest)
	}
	if err != nil {
		return nil, fmt.Errorf("trigger %q: %w", text, err)
	}
	return t, nil
}

var kinds = map[string]plan.TriggerKind{
	"default": plan.TriggerDefault, "always": plan.TriggerAlways, "never": plan.TriggerNever, "count": plan.TriggerAfterCount,
	"delay": plan.TriggerAfterProcessing, "synchronized": plan.TriggerAfterSynchronized, "all": plan.TriggerAfterAll,
	"any": plan.TriggerAfterAny, "each": plan.TriggerAfterEach, "until": plan.TriggerOrFinally, "repeat": plan.TriggerRepeat,
	"end": plan.TriggerAfterEndOfWindow,
}

func parse(text string) (t *plan.Trigger, rest string, err error) {
	i := strings.IndexAny(text+",", "(),")
	name, rest := text[:i], text[i:]
	if name == "-" {
		return nil, rest, nil
	}
	kind, ok := kinds[name]
	if !ok {
		return nil, "", fmt.Errorf("unknown trigger %q", name)
	}
	t = &plan.Trigger{Kind: kind}
	args, ok := strings.CutPrefix(rest, "(")
	if !ok {
		return t, rest, nil
	}
	if kind == plan.TriggerAfterCount || kind == plan.TriggerAfterProcessing {
		list, rest, _ := strings.Cut(args, ")")
		return t, rest, numbers(t, list)
	}
	for {
		child, rest, err := parse(args)
		if err != nil {
			return nil, "", err
		}
		t.Children = append(t.Children, child)
		if rest, ok := strings.CutPrefix(rest, ")"); ok {
			return t, rest, nil
		}
		if args, ok = strings.CutPrefix(rest, ","); !ok {
			return nil, "", fmt.Errorf("want , or ) at %q", rest)
		}
	}
}

// numbers reads the arguments of a count or a delay.
func numbers(t *plan.Trigger, list string) error {
	var values []int64
	for _, s := range strings.Split(list, ",") {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return err
		}
		values = append(values, v)
	}
	if t.Kind == plan.TriggerAfterCount {
		t.Count = int(values[0])
		return nil
	}
	t.Delays = []plan.TimeShift{{DelayMs: values[0]}}
	if len(values) > 1 {
		t.Delays = append(t.Delays, plan.TimeShift{PeriodMs: values[1]})
	}
	return nil
}
