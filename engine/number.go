package engine

import (
	"slices"
	"strconv"

	"padstone/engine/inventory"
	"padstone/internal/fault"
)

// number gives the stages and edges of the plan their numbers in the store: those that an earlier run gave them, or new ones.
func (j *job) number() error {
	data, err := j.store.Inventory()
	if err != nil {
		return err
	}
	var earlier *inventory.Inventory
	if data != nil {
		if earlier, err = inventory.Parse(data); err != nil {
			return err
		}
	}
	inv := inventory.Of(j.plan)
	inv.Adopt(earlier)
	if data, err = inv.Marshal(); err != nil {
		return fault.New(fault.Internal, "bad-plan", "the inventory of the plan: %w", err)
	}
	j.numbers.Stages, j.numbers.Edges = inv.Numbers(j.plan)
	return j.store.Number(j.numbers, data)
}

// metaOf names a metadata entry of a stage, by its number.
func (j *job) metaOf(prefix string, stage int) string {
	return prefix + strconv.FormatUint(uint64(j.numbers.Stages[stage]), 10)
}

// stageNumbered returns the stage with the number that a metadata entry names; ok is false when there is none.
func (j *job) stageNumbered(text string) (stage int, ok bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, false
	}
	i := slices.Index(j.numbers.Stages, uint32(n))
	return i, i >= 0
}
