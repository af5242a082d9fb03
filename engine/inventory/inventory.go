package inventory

import (
	"encoding/json"
	"fmt"
	"strings"

	"padstone/engine/plan"
	"padstone/internal/fault"
)

// formatVersion is the version of the encoding.
const formatVersion = 1

// Kind says what an entry is of: a stage by its kind, or a side input.
type Kind string

// SideInput is the kind of the rows of a side input.
const SideInput Kind = "side_input"

// Inventory is what a store holds.
type Inventory struct {
	Format    int      `json:"format"`
	Job       string   `json:"job"` // whose store it is
	KeyGroups int      `json:"key_groups"`
	Next      uint32   `json:"next"` // the next number; numbers are never given twice
	Entries   []*Entry `json:"entries"`
	// Steps lists what every transform reads, also of those that keep nothing.
	Steps []plan.Step `json:"steps"`
	// Cut lists the collections that each reader reads from an edge of its own, see translate.Options.
	Cut []string `json:"cut,omitempty"`
}

// Entry is a stage, with what waits in its inbox, or a side input of one.
type Entry struct {
	Number uint32 `json:"number"`
	Kind   Kind   `json:"kind"`
	// Name is the unique name of the transform that the rows belong to: the first one of its stage.
	Name string `json:"name"`

	// Collection names the PCollection that comes in, by its producer, and Readers are the transforms of the stage that read it. Of a
	// source Element is what goes out.
	Collection  string            `json:"collection,omitempty"`
	Readers     []string          `json:"readers,omitempty"`
	Access      plan.SideAccess   `json:"access,omitempty"` // of a side input
	Keyed       bool              `json:"keyed,omitempty"`
	Element     plan.Structure    `json:"element,omitempty"`
	Program     string            `json:"program,omitempty"` // that frames an element
	Coding      plan.WindowCoding `json:"window,omitempty"`
	StateBacked bool              `json:"state_backed,omitempty"`
	Panes       plan.SidePanes    `json:"panes,omitempty"`
	Grouped     bool              `json:"grouped,omitempty"`

	// Of what is kept by key.
	Key          plan.Structure  `json:"key,omitempty"`
	KeyProgram   string          `json:"key_program,omitempty"` // that frames a key
	Accumulators bool            `json:"accumulators,omitempty"`
	Windowing    *plan.Windowing `json:"windowing,omitempty"` // of a side input, too
	TimeSorted   bool            `json:"time_sorted,omitempty"`
	Cells        []Cell          `json:"cells,omitempty"`
	Timers       []Timer         `json:"timers,omitempty"`

	Tags   []string `json:"tags,omitempty"`   // of a TestStream
	Native string   `json:"native,omitempty"` // URN of a source or sink
	Writer *Writer  `json:"writer,omitempty"` // of a sink

	// Held is what there was at the time of a savepoint. It is not kept in the store itself, which can be asked.
	Held *Held `json:"held,omitempty"`
}

// Cell is a cell of user state.
type Cell struct {
	Name    string         `json:"name"`
	Kind    plan.StateKind `json:"kind"`
	Element plan.Structure `json:"element,omitempty"`
	MapKey  plan.Structure `json:"map_key,omitempty"`
}

// Timer is a family of user timers.
type Timer struct {
	Name   string          `json:"name"`
	Domain plan.TimeDomain `json:"domain"`
}

// Writer is who writes a sink's records to the outside. It is that of the job that the sink was first part of: whoever goes on with a
// sink takes the place of the one before.
type Writer struct {
	Job   string `json:"job"`
	Stage string `json:"stage"`
}

// Held is what lies under a number.
type Held struct {
	Elements  int64 `json:"elements,omitempty"`  // in the inbox
	Outbox    int64 `json:"outbox,omitempty"`    // elements that wait to be written
	Positions int   `json:"positions,omitempty"` // of a source
	Keyed     bool  `json:"keyed,omitempty"`     // state, timers, groups
	Side      bool  `json:"side,omitempty"`      // elements of a side input
	Done      bool  `json:"done,omitempty"`      // a root has put out all that it has
}

// ID is the identity of an entry: two entries of one inventory never have the same.
func (e *Entry) ID() string {
	if e.Kind == SideInput {
		return strings.Join([]string{string(e.Kind), e.Name, e.Collection, string(e.Access)}, "\x00")
	}
	return string(e.Kind) + "\x00" + e.Name
}

// Of returns the inventory of a plan of the job, in which every number is still 0. Cut is what the plan was compiled with.
func Of(p *plan.Plan, job string, cut []string) *Inventory {
	inv := &Inventory{Format: formatVersion, Job: job, KeyGroups: p.KeyGroups, Next: 1, Cut: cut}
	for _, s := range p.Stages {
		inv.Entries = append(inv.Entries, stageEntry(p, s, job))
		inv.Steps = append(inv.Steps, s.Steps...)
	}
	for _, e := range p.Edges {
		if e.Kind == plan.Side {
			inv.Entries = append(inv.Entries, sideEntry(p, e))
		}
	}
	inv.distinguish()
	return inv
}

func stageEntry(p *plan.Plan, s *plan.Stage, job string) *Entry {
	e := &Entry{
		Kind: Kind(s.Kind), Name: s.Root, Key: s.KeyStructure, KeyProgram: s.KeyCoder, Accumulators: s.Accumulators,
		Windowing: s.Windowing, TimeSorted: s.TimeSorted,
	}
	if in := p.Edge(s.Input); in != nil {
		e.incoming(in)
	}
	for _, c := range s.States {
		e.Cells = append(e.Cells, Cell{Name: c.Cell, Kind: c.Kind, Element: c.Structure, MapKey: c.MapKeyStructure})
	}
	for _, t := range s.Timers {
		e.Timers = append(e.Timers, Timer{Name: t.Family, Domain: t.Domain})
	}
	if s.Native != nil {
		e.Native = s.Native.URN
	}
	if s.Script != nil {
		e.Tags = s.Script.Tags
	}
	if s.Kind == plan.Sink {
		e.Writer = &Writer{Job: job, Stage: string(s.ID)}
	}
	return e
}

func sideEntry(p *plan.Plan, edge *plan.Edge) *Entry {
	consumer := p.Stage(edge.Consumer)
	e := &Entry{Kind: SideInput, Name: consumer.Root, Access: edge.Access, Panes: edge.Panes, Grouped: edge.Grouped}
	e.incoming(edge)
	for _, s := range consumer.SideInputs {
		if s.Edge == edge.ID {
			e.Windowing = s.Windowing
		}
	}
	return e
}

func (e *Entry) incoming(edge *plan.Edge) {
	e.Collection, e.Readers, e.Keyed = edge.Collection, edge.Readers, edge.Kind == plan.Keyed
	e.Element, e.Program, e.Coding, e.StateBacked = edge.Structure, edge.Element, edge.Window, edge.StateBacked
}

// distinguish tells apart what names alone do not: a transform "a[b]" from the output b of a transform "a".
func (inv *Inventory) distinguish() {
	taken := make(map[string]bool)
	for _, e := range inv.Entries {
		for taken[e.ID()] {
			e.Collection += "'"
		}
		taken[e.ID()] = true
	}
}

// Parse reads what Marshal wrote.
func Parse(data []byte) (*Inventory, error) {
	inv := &Inventory{}
	err := json.Unmarshal(data, inv)
	if err == nil && inv.Format != formatVersion {
		err = fmt.Errorf("it has format %d, this binary reads %d", inv.Format, formatVersion)
	}
	if err != nil {
		return nil, fault.New(fault.Corruption, "store-corrupt", "the inventory of the job's store: %w", err)
	}
	return inv, nil
}

// Marshal returns the stored form. It is JSON so that people can read it; equal inventories give equal bytes.
func (inv *Inventory) Marshal() ([]byte, error) { return json.Marshal(inv) }

// Numbers returns the numbers of the stages and edges of the plan that the inventory is Of, by index. The edge that is the main input of
// a stage has the stage's.
func (inv *Inventory) Numbers(p *plan.Plan) (stages, edges []uint32) {
	byStage, sides := make(map[plan.StageID]uint32), inv.Entries[len(p.Stages):]
	for i, s := range p.Stages {
		stages = append(stages, inv.Entries[i].Number)
		byStage[s.ID] = inv.Entries[i].Number
	}
	for _, e := range p.Edges {
		if e.Kind != plan.Side {
			edges = append(edges, byStage[e.Consumer])
			continue
		}
		edges = append(edges, sides[0].Number)
		sides = sides[1:]
	}
	return stages, edges
}

// Adopt gives the entries the numbers that those of the same identity have in an earlier inventory, nil for a new store, and new numbers
// to the others. Sinks keep their writers.
func (inv *Inventory) Adopt(earlier *Inventory) {
	known := make(map[string]*Entry)
	if earlier != nil {
		inv.Next = earlier.Next
		for _, e := range earlier.Entries {
			known[e.ID()] = e
		}
	}
	for _, e := range inv.Entries {
		if old := known[e.ID()]; old != nil {
			e.takeUp(old)
		}
	}
	inv.NumberNew()
}

// takeUp has the entry go on with what an earlier one holds.
func (e *Entry) takeUp(old *Entry) {
	e.Number = old.Number
	if old.Writer != nil {
		e.Writer = old.Writer
	}
}

// NumberNew gives numbers to the entries that have none.
func (inv *Inventory) NumberNew() {
	for _, e := range inv.Entries {
		if e.Number == 0 {
			e.Number = inv.Next
			inv.Next++
		}
	}
}
