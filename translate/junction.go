package translate

import (
	"strconv"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// placeFlatten runs a Flatten in a harness when one stage computes all its inputs, else it makes its output a junction.
func (f *fuser) placeFlatten(n *node) error {
	s, err := f.commonProducer(n)
	if err != nil {
		return err
	}
	if s == nil {
		return f.makeJunction(n)
	}
	inHarness := *n
	inHarness.kind, inHarness.env = sdkNode, s.env
	n.outputs[0].pc.producer = &inHarness
	f.join(s, &inHarness)
	return nil
}

// commonProducer returns the harness stage that computes all inputs of a Flatten, if its SDK knows the output's coder.
func (f *fuser) commonProducer(n *node) (*stage, error) {
	var common *stage
	for _, in := range n.main {
		if in.pc.junction || f.options.NoFusion || f.isCut(in.pc) {
			return nil, nil
		}
		s := f.stageOf[in.pc.producer]
		if s.kind != plan.Harness || common != nil && s != common || f.depth[in.pc.producer] >= depthMax {
			return nil, nil
		}
		common = s
		same, err := f.sameWire(in.pc, n.outputs[0].pc)
		if err != nil {
			return nil, err
		}
		if !same && n.env != "" && n.env != s.env {
			return nil, nil
		}
	}
	return common, nil
}

// makeJunction makes the output of a Flatten or Reshuffle a junction over its inputs: the stages that compute them will write to
// the edges of its consumers, with the output's coder. Where a producer cannot, a transcoding step goes between.
func (f *fuser) makeJunction(n *node) error {
	out := n.outputs[0].pc
	seen := map[*pcollection]bool{}
	for i, in := range n.main {
		for _, pc := range in.pc.from() {
			ok, err := f.canWrite(pc, out, n.env)
			if err != nil {
				return err
			}
			// A runner-side stage has one output and writes it to an edge once.
			if twice := seen[pc] && f.stageOf[pc.producer].kind != plan.Harness; !ok || twice {
				if pc, err = f.transcode(n, strconv.Itoa(i), pc); err != nil {
					return err
				}
			}
			seen[pc] = true
			out.sources = append(out.sources, pc)
		}
	}
	out.junction = true
	return nil
}

// canWrite reports whether the stage that computes from can write it with the coder of to. Environment env, where there is one, is
// known to know both coders.
func (f *fuser) canWrite(from, to *pcollection, env plan.EnvID) (bool, error) {
	same, err := f.sameWire(from, to)
	if same || err != nil {
		return same, err
	}
	s := f.stageOf[from.producer]
	return s.kind == plan.Harness && (env == "" || env == s.env), nil
}

// sameWire reports whether two collections are written alike.
func (f *fuser) sameWire(a, b *pcollection) (bool, error) {
	wa, err := f.coders.wire(a.coder)
	if err != nil {
		return false, err
	}
	wb, err := f.coders.wire(b.coder)
	if err != nil {
		return false, err
	}
	return f.coders.same(wa.id, wb.id)
}

// transcode puts a step between a collection and a junction: a Flatten of one input, which SDKs execute as the identity, in an
// environment that knows both coders. Errors: flatten-coder-mismatch when there is none.
func (f *fuser) transcode(n *node, suffix string, from *pcollection) (*pcollection, error) {
	env := n.env
	if env == "" {
		env = f.consumerEnv(n.outputs[0].pc)
	}
	if env == "" {
		return nil, refuse(codeFlattenCoders, "collection %q and the output have different coders, and no SDK is there to convert",
			from.label()).WithHint("give all inputs the output's type")
	}
	step := *n
	step.kind, step.env, step.urn = sdkNode, env, urn.Flatten
	step.id, step.name = n.id+"/Transcode/"+suffix, n.name+"/Transcode/"+suffix
	to := f.made(step.id+".out", step.name+".out", n.outputs[0].pc.coder, n.outputs[0].pc)
	to.windows = n.outputs[0].pc.windows
	step.main = []input{{"in", from}}
	step.outputs = []output{{"out", to}}
	step.id, step.name = f.free(step.id, step.name)
	to.producer = &step
	f.placeInHarness(&step)
	return to, nil
}

// free returns an id and a name for a step that no node has, and takes them.
func (f *fuser) free(id, name string) (freeID, freeName string) {
	id = unused(id, func(id string) bool { return f.ids[id] })
	name = unused(name, func(name string) bool { return f.names[name] })
	f.ids[id], f.names[name] = true, true
	return id, name
}

// consumerEnv returns the environment of the first node that reads the collection in a harness, or "".
func (f *fuser) consumerEnv(pc *pcollection) plan.EnvID {
	for _, n := range f.nodes {
		for _, read := range n.reads() {
			if n.kind == sdkNode && read == pc {
				return n.env
			}
		}
	}
	return ""
}
