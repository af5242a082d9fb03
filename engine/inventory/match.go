package inventory

import (
	"fmt"
	"maps"
	"slices"

	"padstone/engine/plan"
)

// Moves is what must be done to the rows of a store so that they are those of the new inventory. Most of them stay where they are.
type Moves struct {
	// Inbox copies waiting blocks, Side the rows of side inputs, from one number to others.
	Inbox, Side []Copy
	// ClearInbox drops the waiting blocks of numbers, Drop all rows of them.
	ClearInbox, Drop []uint32
	// Cells and Timers drop a state cell or a timer family of a number.
	Cells, Timers []Part
}

// Copy copies the rows of a number.
type Copy struct{ From, To uint32 }

// Part is a named part of what lies under a number.
type Part struct {
	Number uint32
	Name   string
}

// Options of a match.
type Options struct {
	// Names maps transform names of the old pipeline to those of the new one; that of a composite covers what is in it.
	Names map[string]string
	// AllowNonRestored has what the new pipeline has no place for be dropped.
	AllowNonRestored bool
}

// Match looks up what an earlier pipeline has left in a store among what a new one keeps, by the names of transforms, and gives the
// entries of the new inventory their numbers. The earlier inventory says what it holds. Collections that must be cut, because elements
// wait in a place that the new plan does not have, are in the answer: then the new pipeline is to be compiled with them and matched
// again.
func Match(earlier, inv *Inventory, o Options) (*Report, *Moves, []string) {
	m := &matcher{
		earlier: earlier, inv: inv, names: newNames(o.Names), allow: o.AllowNonRestored, report: &Report{}, moves: &Moves{},
		byID: make(map[string]*Entry), pairs: make(map[*Entry]*Entry), oldReads: make(map[string][]string), newReads: make(map[string][]string),
		filled: make(map[*Entry]bool), cut: make(map[string]bool),
	}
	for _, e := range inv.Entries {
		e.Number = 0
		m.byID[e.ID()] = e
	}
	for _, s := range earlier.Steps {
		for _, from := range s.Reads {
			m.oldReads[m.names.of(s.Name)] = append(m.oldReads[m.names.of(s.Name)], m.names.of(from))
		}
	}
	for _, s := range inv.Steps {
		m.newReads[s.Name] = append(m.newReads[s.Name], s.Reads...)
	}
	m.match()
	return m.report, m.moves, slices.Sorted(maps.Keys(m.cut))
}

// matcher is one match. Old entries speak of transforms by their old names; everything here asks names for the new ones.
type matcher struct {
	earlier, inv       *Inventory
	names              names
	allow              bool
	report             *Report
	moves              *Moves
	byID               map[string]*Entry   // new entries
	pairs              map[*Entry]*Entry   // old entry → the new one of the same identity
	oldReads, newReads map[string][]string // new name of a transform → collections that it reads
	filled             map[*Entry]bool     // new entries that something was carried over to
	cut                map[string]bool
}

func (m *matcher) match() {
	m.inv.Next = max(m.inv.Next, m.earlier.Next)
	if m.inv.KeyGroups != m.earlier.KeyGroups {
		m.report.refuse("job", "", fmt.Sprintf("%d key groups, the new pipeline has %d", m.earlier.KeyGroups, m.inv.KeyGroups))
	}
	for _, old := range m.earlier.Entries {
		renamed := *old
		renamed.Name, renamed.Collection = m.names.of(old.Name), m.names.of(old.Collection)
		if e := m.byID[renamed.ID()]; e != nil && e.Number != 0 {
			m.report.refuse(e.keeps(), old.Name, fmt.Sprintf("two transforms of the savepoint would become %q", e.Name))
		} else if e != nil && (e.Keyed || !old.Keyed || !old.held().Keyed) { // else it has state no more
			m.pairs[old] = e
			e.takeUp(old)
		}
	}
	m.inv.NumberNew()
	for _, old := range m.earlier.Entries {
		if old.Kind == SideInput {
			continue
		}
		m.stage(old)
		m.inFlight(old)
	}
	m.sides()
	m.fresh()
	for _, name := range m.names.unused(m.earlier) {
		m.report.warn("the mapping of %q names no transform of the savepoint that keeps anything", name)
	}
	m.dropRest()
}

// stage carries over what a stage keeps beside its inbox, and says so.
func (m *matcher) stage(old *Entry) {
	held, e := old.held(), m.pairs[old]
	what := old.what()
	switch {
	case what == "" || m.report.has(what, old.Name):
		return
	case e == nil:
		why := "the new pipeline has no such transform"
		if _, there := m.newReads[m.names.of(old.Name)]; there {
			why = "the transform keeps nothing any more"
		}
		m.drop(old, what, old.Name, why)
		return
	}
	if differences := m.compare(old, e, held); len(differences) > 0 {
		m.report.refuse(what, old.Name, differences...)
		return
	}
	m.report.carry(what, old.Name, e.Name, m.details(old, held))
	m.filled[e] = true
	m.parts(old, e, held)
}

// compare lists in words why what the old entry keeps is of no use to the new one.
func (m *matcher) compare(old, e *Entry, held Held) []string {
	c := &comparison{warn: func(text string) { m.report.warn("%q: %s", old.Name, text) }}
	if held.Keyed {
		c.structure("key", old.Key, e.Key)
		c.text("framing of keys", old.KeyProgram, e.KeyProgram)
		if old.Kind == Kind(plan.Group) || old.TimeSorted {
			c.structure("elements", old.Element, e.Element)
			c.text("framing of elements", old.Program, e.Program)
		}
		c.flag("values are accumulators of a combine", old.Accumulators, e.Accumulators)
		c.flag("input is sorted by time", old.TimeSorted, e.TimeSorted)
		c.windowing(old.Windowing, e.Windowing)
		c.cells(old.Cells, e.Cells)
		c.timers(old.Timers, e.Timers)
	}
	if held.Outbox > 0 {
		c.structure("elements", old.Element, e.Element)
		c.text("framing of elements", old.Program, e.Program)
	}
	if old.Kind == Kind(plan.TestStream) && !slices.Equal(old.Tags, e.Tags) {
		c.add("outputs %v, in the new pipeline %v", old.Tags, e.Tags)
	}
	return c.differences
}

// parts drops the state cells and timer families that the new transform has no longer, and names those that it has in addition.
func (m *matcher) parts(old, e *Entry, held Held) {
	if !held.Keyed {
		return
	}
	for _, c := range old.Cells {
		if !slices.ContainsFunc(e.Cells, func(n Cell) bool { return n.Name == c.Name }) {
			m.dropPart("state cell", old, c.Name, &m.moves.Cells)
		}
	}
	for _, t := range old.Timers {
		if !slices.ContainsFunc(e.Timers, func(n Timer) bool { return n.Name == t.Name }) {
			m.dropPart("timer family", old, t.Name, &m.moves.Timers)
		}
	}
	for _, c := range e.Cells {
		if !slices.ContainsFunc(old.Cells, func(o Cell) bool { return o.Name == c.Name }) {
			m.report.fresh("state cell", e.Name+" / "+c.Name, "")
		}
	}
}

func (m *matcher) dropPart(what string, old *Entry, name string, parts *[]Part) {
	*parts = append(*parts, Part{old.Number, name})
	m.report.drop(what, old.Name+" / "+name, "the transform has it no longer", m.allow)
}

func (m *matcher) drop(old *Entry, what, name, why string) {
	m.report.drop(what, name, why, m.allow)
}

// details says how much is carried over.
func (m *matcher) details(old *Entry, held Held) string {
	switch {
	case held.Outbox > 0:
		return count(held.Outbox, "element") + " still to be written"
	case old.Kind == Kind(plan.Source) && held.Positions > 0:
		return count(int64(held.Positions), "split")
	case held.Done:
		return "all has been read: nothing is read anew"
	}
	return ""
}

// sides carries over the rows of side inputs. They are those of a collection, whoever reads it.
func (m *matcher) sides() {
	used := make(map[string]bool)
	for _, e := range m.inv.Entries {
		if e.Kind == SideInput {
			m.side(e, used)
		}
	}
	for _, old := range m.earlier.Entries {
		if old.Kind == SideInput && old.held().Side && !used[m.sideKey(old)] {
			m.drop(old, "side input", old.Collection+" for "+old.Name, "the new pipeline has no such side input")
		}
	}
}

func (m *matcher) sideKey(old *Entry) string {
	return m.names.of(old.Collection) + "\x00" + string(old.Access)
}

func (m *matcher) side(e *Entry, used map[string]bool) {
	var best *Entry
	for _, old := range m.earlier.Entries {
		if old.Kind != SideInput || !old.held().Side || m.names.of(old.Collection) != e.Collection || old.Access != e.Access {
			continue
		}
		if best == nil || m.pairs[old] == e {
			best = old
		}
	}
	name := e.Collection + " for " + e.Name
	if best == nil {
		why := ""
		if m.known(e.Collection) {
			why = "what its collection has had until now is not in the savepoint"
		}
		m.report.fresh("side input", name, why)
		return
	}
	used[m.sideKey(best)] = true
	c := &comparison{warn: func(text string) { m.report.warn("side input %s: %s", name, text) }}
	c.structure("elements", best.Element, e.Element)
	c.text("framing of elements", best.Program, e.Program)
	c.windowing(best.Windowing, e.Windowing)
	c.text("panes", string(best.Panes), string(e.Panes))
	c.flag("is grouped by the runner", best.Grouped, e.Grouped)
	if len(c.differences) > 0 {
		m.report.refuse("side input", best.Collection+" for "+best.Name, c.differences...)
		return
	}
	m.filled[e] = true
	if m.pairs[best] == e {
		m.report.carry("side input", best.Collection+" for "+best.Name, name, "")
		return
	}
	m.report.move("side input", name, "from "+best.Name)
	m.moves.Side = append(m.moves.Side, Copy{best.Number, e.Number})
}

// known reports whether the old pipeline had the collection.
func (m *matcher) known(collection string) bool {
	for _, reads := range m.oldReads {
		if slices.Contains(reads, collection) {
			return true
		}
	}
	return slices.ContainsFunc(m.earlier.Entries, func(e *Entry) bool { return m.names.of(e.Name) == collection })
}

// fresh names what the new pipeline begins without anything.
func (m *matcher) fresh() {
	taken := make(map[*Entry]bool)
	for _, e := range m.pairs {
		taken[e] = true
	}
	for _, e := range m.inv.Entries {
		switch what := e.keeps(); {
		case what == "" || m.filled[e] || e.Kind == SideInput || m.report.has(what, e.Name):
		case taken[e]: // it held nothing before either
		default:
			m.report.fresh(what, e.Name, "")
		}
	}
}

// dropRest drops the rows of everything that no entry of the new inventory has the number of.
func (m *matcher) dropRest() {
	for _, old := range m.earlier.Entries {
		if m.pairs[old] == nil {
			m.moves.Drop = append(m.moves.Drop, old.Number)
		}
	}
}
