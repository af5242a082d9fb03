package translate

// order sorts the nodes topologically, main and side inputs alike; among independent nodes pipeline order stands. Errors:
// dangling-pcollection for a collection that nothing produces, pipeline-cycle.
func (g *graph) order() error {
	o := orderer{visited: map[*node]visit{}}
	for _, n := range g.nodes {
		if err := o.place(n); err != nil {
			return err
		}
	}
	g.nodes = o.sorted
	return nil
}

type orderer struct {
	visited map[*node]visit
	sorted  []*node
}

func (o *orderer) place(n *node) error {
	switch o.visited[n] {
	case read:
		return nil
	case onPath:
		return refuse(codeCycle, "the transform depends on its own output").In(n.user).WithHint(hintSDK)
	}
	o.visited[n] = onPath
	for _, pc := range n.reads() {
		if pc.producer == nil {
			return refuse(codeDanglingPColl, "no transform produces collection %q", pc.id).In(n.user).WithHint(hintSDK)
		}
		if err := o.place(pc.producer); err != nil {
			return err
		}
	}
	o.visited[n] = read
	o.sorted = append(o.sorted, n)
	return nil
}

// reads lists the collections that the node reads, main inputs first.
func (n *node) reads() []*pcollection {
	var all []*pcollection
	for _, in := range n.main {
		all = append(all, in.pc)
	}
	for _, side := range n.sides {
		all = append(all, side.source())
	}
	return all
}
