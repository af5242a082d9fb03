package inventory_test

import (
	"slices"
	"testing"

	"padstone/engine/inventory"
	"padstone/engine/plan"
)

// chain is a plan of stages with the roots, each the input of the next, and a side input of the last one from the first.
func chain(roots ...string) *plan.Plan {
	p := &plan.Plan{KeyGroups: 8}
	for i, root := range roots {
		s := &plan.Stage{ID: plan.StageID(root), Root: root, Kind: plan.Harness}
		if i > 0 {
			s.Input = plan.EdgeID("to " + root)
			p.Edges = append(p.Edges, &plan.Edge{ID: s.Input, Kind: plan.FIFO, Collection: roots[i-1], Consumer: s.ID, Readers: []string{root}})
		}
		p.Stages = append(p.Stages, s)
	}
	last := roots[len(roots)-1]
	p.Edges = append(p.Edges, &plan.Edge{
		ID: "side", Kind: plan.Side, Collection: roots[0], Consumer: plan.StageID(last), Readers: []string{last}, Access: plan.Iterable,
	})
	return p
}

// TestAdopt has names keep their numbers in a plan with another order, and numbers be given once.
func TestAdopt(t *testing.T) {
	adopt := func(p *plan.Plan, earlier *inventory.Inventory) *inventory.Inventory {
		inv := inventory.Of(p, "job", nil)
		inv.Adopt(earlier)
		data, err := inv.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if inv, err = inventory.Parse(data); err != nil {
			t.Fatal(err)
		}
		return inv
	}
	check := func(p *plan.Plan, inv *inventory.Inventory, stages, edges []uint32) {
		t.Helper()
		s, e := inv.Numbers(p)
		if !slices.Equal(s, stages) || !slices.Equal(e, edges) {
			t.Errorf("stages %v, edges %v; want %v, %v", s, e, stages, edges)
		}
	}
	first, second, third := chain("read", "map", "write"), chain("read", "new", "write"), chain("read", "map", "write")
	a := adopt(first, nil)
	check(first, a, []uint32{1, 2, 3}, []uint32{2, 3, 4})
	b := adopt(second, a)
	check(second, b, []uint32{1, 5, 3}, []uint32{5, 3, 4})
	c := adopt(third, b)
	check(third, c, []uint32{1, 6, 3}, []uint32{6, 3, 4})
}
