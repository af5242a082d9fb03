package engine

import (
	"slices"
	"strconv"

	"padstone/engine/inventory"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/fault"
)

// number gives the stages and edges of the plan their numbers in the store: those that an earlier run gave them, or new ones.
func (j *job) number() (err error) {
	j.numbers, err = number(j.store, j.plan)
	return err
}

// number numbers the stages and edges of a plan in a store.
func number(st *store.Store, p *plan.Plan) (n store.Numbering, err error) {
	data, err := st.Inventory()
	if err != nil {
		return n, err
	}
	var earlier *inventory.Inventory
	if data != nil {
		if earlier, err = inventory.Parse(data); err != nil {
			return n, err
		}
	}
	inv := inventory.Of(p)
	inv.Adopt(earlier)
	if data, err = inv.Marshal(); err != nil {
		return n, fault.New(fault.Internal, "bad-plan", "the inventory of the plan: %w", err)
	}
	n.Stages, n.Edges = inv.Numbers(p)
	return n, st.Number(n, data)
}

// metaOf names a metadata entry of a stage, by its number.
func (j *job) metaOf(prefix string, stage int) string { return metaOf(j.numbers, prefix, stage) }

func metaOf(n store.Numbering, prefix string, stage int) string {
	return prefix + strconv.FormatUint(uint64(n.Stages[stage]), 10)
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
