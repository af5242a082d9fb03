package inventory

import (
	"encoding/json"
	"fmt"
	"regexp"

	"padstone/engine/plan"
)

// comparison collects in words what two entries differ in.
type comparison struct {
	differences []string
	warn        func(text string)
}

func (c *comparison) add(format string, args ...any) {
	c.differences = append(c.differences, fmt.Sprintf(format, args...))
}

func (c *comparison) text(what, old, new string) {
	if old != new {
		c.add("%s: %s, in the new pipeline %s", what, orNone(old), orNone(new))
	}
}

func (c *comparison) flag(what string, old, new bool) {
	if old != new {
		c.add("%s: %t, in the new pipeline %t", what, old, new)
	}
}

// opaque is a digest in a structure of what an SDK has serialised in its own way.
var opaque = regexp.MustCompile(plan.OpaqueMark + "[0-9a-f]+")

// structure compares coders. Of two that differ only in what an SDK has serialised nobody but the SDK knows whether they are the same:
// Python pickles coders, and the bytes need not be the same twice.
func (c *comparison) structure(what string, old, new plan.Structure) {
	if old == new {
		return
	}
	known, knownNew := opaque.ReplaceAllString(string(old), ""), opaque.ReplaceAllString(string(new), "")
	if known != knownNew {
		c.text("coder of the "+what, known, knownNew)
		return
	}
	c.warn(fmt.Sprintf("the coders of the %s, %s, cannot be compared: their SDK has serialised them otherwise than before", what, known))
}

// windowing compares windowing strategies field by field.
func (c *comparison) windowing(old, new *plan.Windowing) {
	if old == nil || new == nil {
		c.text("windowing", kindOf(old), kindOf(new))
		return
	}
	for _, f := range []struct {
		what     string
		old, new any
	}{
		{"window function", old.Kind, new.Kind},
		{"size of windows in ms", old.SizeMs, new.SizeMs},
		{"period of windows in ms", old.PeriodMs, new.PeriodMs},
		{"offset of windows in ms", old.OffsetMs, new.OffsetMs},
		{"coding of windows", old.Coding, new.Coding},
		{"trigger", old.Trigger, new.Trigger},
		{"panes accumulate", old.Accumulating, new.Accumulating},
		{"timestamp combiner", old.OutputTime, new.OutputTime},
		{"allowed lateness in ms", old.LatenessMs, new.LatenessMs},
		{"empty last pane", old.EmptyOnClose, new.EmptyOnClose},
		{"empty on-time pane", old.EmptyOnTime, new.EmptyOnTime},
		{"on-time pane of every trigger", old.OnTimeAlways, new.OnTimeAlways},
	} {
		if a, b := printed(f.old), printed(f.new); a != b {
			c.add("%s: %s, in the new pipeline %s", f.what, a, b)
		}
	}
	if old.Kind == new.Kind && (old.Kind == plan.Custom || old.Kind == plan.MergingCustom) {
		c.warn("window functions of the user's own cannot be compared")
	}
}

func kindOf(w *plan.Windowing) string {
	if w == nil {
		return ""
	}
	return string(w.Kind)
}

func printed(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// cells compares the state cells that both have.
func (c *comparison) cells(old, new []Cell) {
	for _, o := range old {
		for _, n := range new {
			if n.Name != o.Name {
				continue
			}
			c.text(fmt.Sprintf("kind of state cell %q", o.Name), string(o.Kind), string(n.Kind))
			c.structure(fmt.Sprintf("state cell %q", o.Name), o.Element, n.Element)
			c.structure(fmt.Sprintf("keys of state cell %q", o.Name), o.MapKey, n.MapKey)
		}
	}
}

// timers compares the timer families that both have.
func (c *comparison) timers(old, new []Timer) {
	for _, o := range old {
		for _, n := range new {
			if n.Name == o.Name {
				c.text(fmt.Sprintf("clock of timer family %q", o.Name), string(o.Domain), string(n.Domain))
			}
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
