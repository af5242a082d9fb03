package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// inFlight has the elements that wait for a stage go on to whoever reads their collection now. They go to those transforms alone that
// they waited for: where the new plan has these in a stage with others, which have had the elements, or where it has no place for them to
// wait because reader and producer have become one, the collection is cut.
func (m *matcher) inFlight(old *Entry) {
	n := old.held().Elements
	if n == 0 {
		return
	}
	collection, readers := m.names.of(old.Collection), m.names.all(old.Readers)
	var targets []*Entry
	covered := make(map[string]bool)
	for _, e := range m.inv.Entries {
		if e.Kind == SideInput || e.Collection != collection {
			continue
		}
		mine := false
		for _, r := range e.Readers {
			if slices.Contains(readers, r) {
				mine, covered[r] = true, true
			}
		}
		if mine {
			targets = append(targets, e)
		}
	}
	label := old.Collection + " -> " + strings.Join(old.Readers, ", ")
	for _, e := range targets {
		for _, r := range e.Readers {
			if !slices.Contains(readers, r) && slices.Contains(m.oldReads[r], collection) && m.cutAt(collection) {
				return
			}
		}
	}
	for _, r := range readers {
		if covered[r] {
			continue
		}
		reads, there := m.newReads[r]
		switch {
		case slices.Contains(reads, collection) && m.cutAt(collection):
			return
		case there:
			m.drop(old, "in flight", label, fmt.Sprintf("%s for %q, which reads %s now", count(n, "element"), r, strings.Join(reads, ", ")))
		default:
			m.drop(old, "in flight", label, fmt.Sprintf("%s for %q, which the new pipeline does not have", count(n, "element"), r))
		}
	}
	m.land(old, targets, label, n)
}

// cutAt asks for a cut; false when there is one already, which did not help.
func (m *matcher) cutAt(collection string) bool {
	if slices.Contains(m.inv.Cut, collection) {
		return false
	}
	m.cut[collection] = true
	return true
}

// land puts what waits into the inboxes of the targets.
func (m *matcher) land(old *Entry, targets []*Entry, label string, n int64) {
	stays := false
	for _, e := range targets {
		c := &comparison{warn: func(text string) { m.report.warn("in flight, %s: %s", label, text) }}
		c.structure("elements", old.Element, e.Element)
		c.text("framing of elements", old.Program, e.Program)
		c.text("windows", string(old.Coding), string(e.Coding))
		c.flag("is partitioned by key", old.Keyed, e.Keyed)
		if old.Windowing != nil && e.Windowing != nil {
			c.windowing(old.Windowing, e.Windowing)
		}
		if old.StateBacked && !e.StateBacked {
			c.add("values may be referred to, which the new reader cannot follow")
		}
		if len(c.differences) > 0 {
			m.report.refuse("in flight", label, c.differences...)
			continue
		}
		m.filled[e] = true
		if m.pairs[old] == e {
			stays = true
			m.report.carry("in flight", label, label, count(n, "element"))
			continue
		}
		m.report.move("in flight", label, count(n, "element")+" to "+e.Name)
		m.moves.Inbox = append(m.moves.Inbox, Copy{old.Number, e.Number})
	}
	if !stays && m.pairs[old] != nil {
		m.moves.ClearInbox = append(m.moves.ClearInbox, old.Number)
	}
}
