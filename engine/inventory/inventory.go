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
	KeyGroups int      `json:"key_groups"`
	Next      uint32   `json:"next"` // the next number; numbers are never given twice
	Entries   []*Entry `json:"entries"`
}

// Entry is a stage, with what waits in its inbox, or a side input of one.
type Entry struct {
	Number uint32 `json:"number"`
	Kind   Kind   `json:"kind"`
	// Name is the unique name of the transform that the rows belong to: the first one of its stage.
	Name string `json:"name"`
	// Collection names the PCollection that comes in, by its producer, and Readers are the transforms of the stage that read it.
	Collection string          `json:"collection,omitempty"`
	Readers    []string        `json:"readers,omitempty"`
	Access     plan.SideAccess `json:"access,omitempty"` // of a side input
}

// ID is the identity of an entry: two entries of one inventory never have the same.
func (e *Entry) ID() string {
	if e.Kind == SideInput {
		return strings.Join([]string{string(e.Kind), e.Name, e.Collection, string(e.Access)}, "\x00")
	}
	return string(e.Kind) + "\x00" + e.Name
}

// Of returns the inventory of a plan, in which every number is still 0.
func Of(p *plan.Plan) *Inventory {
	inv := &Inventory{Format: formatVersion, KeyGroups: p.KeyGroups, Next: 1}
	for _, s := range p.Stages {
		e := &Entry{Kind: Kind(s.Kind), Name: s.Root}
		if in := p.Edge(s.Input); in != nil {
			e.Collection, e.Readers = in.Collection, in.Readers
		}
		inv.Entries = append(inv.Entries, e)
	}
	for _, e := range p.Edges {
		if e.Kind == plan.Side {
			inv.Entries = append(inv.Entries, &Entry{
				Kind: SideInput, Name: p.Stage(e.Consumer).Root, Collection: e.Collection, Readers: e.Readers, Access: e.Access,
			})
		}
	}
	inv.distinguish()
	return inv
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
// to the others.
func (inv *Inventory) Adopt(earlier *Inventory) {
	known := make(map[string]uint32)
	if earlier != nil {
		inv.Next = earlier.Next
		for _, e := range earlier.Entries {
			known[e.ID()] = e.Number
		}
	}
	for _, e := range inv.Entries {
		if e.Number = known[e.ID()]; e.Number == 0 {
			e.Number = inv.Next
			inv.Next++
		}
	}
}
