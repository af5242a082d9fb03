package store

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"padstone/engine/rows"
	"padstone/internal/fault"
)

// Numbering says under which numbers the rows of a plan's stages and edges lie: by index in the plan, the number in the keys. Everybody
// but the store speaks of stages and edges by index. A number is given once and stays with what it was given to when the plan changes,
// so that a stage that is put in or taken out moves no rows. The zero value has every index stand for itself, as stores alone do.
type Numbering struct{ Stages, Edges []uint32 }

// metaInventory is the entry that says what the numbers stand for, see package inventory.
const metaInventory = "inventory"

// Number sets the numbering, before the first commit, and keeps the inventory behind it, which every later commit comes after. Rows
// under a number that it does not have are fault.Corruption.
func (s *Store) Number(n Numbering, inventory []byte) error {
	s.numbers = n
	for number := range s.holds {
		if _, err := s.stageOf(number); err != nil {
			return err
		}
	}
	old, err := s.Inventory()
	if err != nil || string(old) == string(inventory) {
		return err
	}
	key := append(rows.Prefix(rows.Meta, 0, 0), metaInventory...)
	return writeFailed(s, s.db.Set(key, inventory, pebble.NoSync))
}

// writeFailed stops the store after a write that has failed.
func writeFailed(s *Store, err error) error {
	if err == nil {
		return nil
	}
	s.fail(err)
	return fault.New(fault.Environment, "store-write", "cannot write the job's store: %w", err)
}

// Inventory returns what Number kept, or nil.
func (s *Store) Inventory() ([]byte, error) {
	return s.get(append(rows.Prefix(rows.Meta, 0, 0), metaInventory...))
}

// stage returns the number of a stage.
func (n *Numbering) stage(index uint32) uint32 {
	if n.Stages == nil {
		return index
	}
	return n.Stages[index]
}

// edge returns the number of an edge.
func (n *Numbering) edge(index uint32) uint32 {
	if n.Edges == nil {
		return index
	}
	return n.Edges[index]
}

// sideKey is Side | consumer edge | suffix.
func (s *Store) sideKey(edge uint32, suffix []byte) []byte {
	return append(rows.Prefix(rows.Side, s.numbers.edge(edge), 0), suffix...)
}

// stageOf returns the stage whose rows lie under a number.
func (s *Store) stageOf(number uint32) (uint32, error) {
	return indexOf(s.numbers.Stages, number, "stage")
}

// edgeOf returns the edge whose rows lie under a number.
func (s *Store) edgeOf(number uint32) (uint32, error) {
	return indexOf(s.numbers.Edges, number, "edge")
}

func indexOf(numbers []uint32, number uint32, what string) (uint32, error) {
	if numbers == nil {
		return number, nil
	}
	i := slices.Index(numbers, number)
	if i < 0 {
		return 0, fault.New(fault.Corruption, "store-corrupt", "the job's store has rows of number %d, which is no %s of the pipeline",
			number, what)
	}
	return uint32(i), nil
}
