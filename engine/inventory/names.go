package inventory

import (
	"cmp"
	"slices"
	"strings"

	"padstone/engine/plan"
)

// names maps the names of an old pipeline to those of a new one.
type names []renamed

type renamed struct{ old, new string }

// newNames sorts a mapping so that the innermost composite comes first.
func newNames(mapping map[string]string) names {
	var n names
	for old, new := range mapping {
		n = append(n, renamed{old, new})
	}
	slices.SortFunc(n, func(a, b renamed) int {
		return cmp.Or(cmp.Compare(len(b.old), len(a.old)), cmp.Compare(a.old, b.old))
	})
	return n
}

// covers reports whether a name is the renamed transform, one within it, or one of their outputs.
func (r renamed) covers(name string) bool {
	rest, ok := strings.CutPrefix(name, r.old)
	return ok && (rest == "" || rest[0] == '/' || rest[0] == '[')
}

// of returns the new name of a transform or collection.
func (n names) of(name string) string {
	for _, r := range n {
		if r.covers(name) {
			return r.new + name[len(r.old):]
		}
	}
	return name
}

func (n names) all(old []string) []string {
	out := make([]string, len(old))
	for i, name := range old {
		out[i] = n.of(name)
	}
	return out
}

// unused lists the old names that name nothing in an inventory.
func (n names) unused(inv *Inventory) (none []string) {
	for _, r := range n {
		step := func(s plan.Step) bool { return r.covers(s.Name) }
		if !slices.ContainsFunc(inv.Steps, step) {
			none = append(none, r.old)
		}
	}
	return none
}

// held is what lies under the entry's number; everything, if nobody has looked.
func (e *Entry) held() Held {
	if e.Held == nil {
		return Held{Keyed: true, Side: true}
	}
	return *e.Held
}

// keeps names what an entry keeps beside its inbox, "" for nothing.
func (e *Entry) keeps() string {
	switch plan.StageKind(e.Kind) {
	case plan.Source:
		return "source"
	case plan.Sink:
		return "sink"
	case plan.Group:
		return "grouping"
	case plan.TestStream:
		return "test stream"
	case plan.Harness:
		if e.Keyed {
			return "state"
		}
	}
	return ""
}

// what names what an entry holds at the time, "" for nothing.
func (e *Entry) what() string {
	held := e.held()
	switch plan.StageKind(e.Kind) {
	case plan.Impulse:
		if held.Done {
			return "root"
		}
	case plan.Source, plan.TestStream:
		if held.Positions > 0 || held.Done {
			return e.keeps()
		}
	case plan.Sink:
		if held.Outbox > 0 {
			return "sink"
		}
	case plan.Group, plan.Harness:
		if held.Keyed {
			return e.keeps()
		}
	}
	return ""
}
