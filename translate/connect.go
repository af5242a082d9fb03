package translate

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// idBytes is the length of the hashes in stage and edge ids.
const idBytes = 6

// identify gives every stage its id and its name. The id hangs on names alone, so that it survives a new submission.
func (g *graph) identify() error {
	taken := map[plan.StageID]*stage{}
	for _, s := range g.stages {
		names := make([]string, 0, len(s.nodes)+1)
		for _, n := range s.nodes {
			names = append(names, n.name)
		}
		slices.Sort(names)
		if s.input != nil {
			names = append(names, s.input.label())
		}
		s.id = plan.StageID(hash(names...))
		if other := taken[s.id]; other != nil {
			return fault.New(fault.Internal, "stage-id-collision", "stages of %q and %q have the same id",
				other.nodes[0].name, s.nodes[0].name)
		}
		taken[s.id] = s
		s.plan = &plan.Stage{ID: s.id, Name: stageName(s.nodes), Root: s.nodes[0].name, Kind: s.kind, Env: s.env}
		for _, n := range slices.Concat(s.nodes, s.passed) {
			s.plan.Transforms = append(s.plan.Transforms, plan.Transform{
				ID: n.id, Name: n.user, URN: n.urn, Assigned: s.left[n] || slices.Contains(s.passed, n),
			})
			s.plan.Finalizes = s.plan.Finalizes || n.finalizes
			s.plan.StableInput = s.plan.StableInput || n.stable
			s.plan.TimeSorted = s.plan.TimeSorted || n.sorted
		}
	}
	return nil
}

// hash returns a short hash of a list of strings.
func hash(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:idBytes])
}

// stageNamesMax is how many names the name of a stage without a common prefix lists.
const stageNamesMax = 3

// stageName returns the longest common composite prefix of the user's names, or a list of the outermost names.
func stageName(nodes []*node) string {
	prefix := strings.Split(nodes[0].user, "/")
	var outermost []string
	for _, n := range nodes {
		parts := strings.Split(n.user, "/")
		i := 0
		for i < len(prefix) && i < len(parts) && prefix[i] == parts[i] {
			i++
		}
		prefix = prefix[:i]
		if !slices.Contains(outermost, parts[0]) {
			outermost = append(outermost, parts[0])
		}
	}
	switch {
	case len(prefix) > 0:
		return strings.Join(prefix, "/")
	case len(outermost) > stageNamesMax:
		return strings.Join(outermost[:stageNamesMax], ", ") + ", …"
	default:
		return strings.Join(outermost, ", ")
	}
}

// write is a data sink of a harness stage.
type write struct {
	id     string // transform id
	local  *pcollection
	coder  string // wire coder of the elements
	window string // wire coder of the windows
	// nth is the number of earlier data sinks of the same collection that go to one and the same edge: a collection flattened with
	// itself is written twice.
	nth   int
	edges []plan.EdgeID
	// assigned and unlifted are those of plan.Output, and windowUnlifted is the wire coder of the windows in bundles without tables.
	assigned, unlifted map[plan.EdgeID]*plan.Assignment
	windowUnlifted     string
}

// connect makes the edges of every stage and the outputs that feed them.
func (g *graph) connect() error {
	stageOf := map[*node]*stage{}
	for _, s := range g.stages {
		for _, n := range s.nodes {
			stageOf[n] = s
		}
		if s.kind != plan.Harness && s.kind != plan.Sink {
			for _, out := range s.nodes[0].outputs {
				s.plan.Outputs = append(s.plan.Outputs, plan.Output{Local: out.pc.id, PCollection: out.pc.id})
			}
		}
	}
	c := &connector{graph: g, stageOf: stageOf, taken: map[plan.EdgeID]bool{}}
	for _, s := range g.stages {
		if err := c.inputs(s); err != nil {
			return err
		}
	}
	for _, s := range g.stages {
		c.outputs(s)
	}
	return nil
}

type connector struct {
	*graph
	stageOf map[*node]*stage
	taken   map[plan.EdgeID]bool
}

// inputs makes the edges that a stage reads: one for its main input, one for each collection and access pattern of side inputs.
func (c *connector) inputs(s *stage) error {
	if s.input != nil {
		kind := plan.FIFO
		if s.kind == plan.Group || s.nodes[0].keyed {
			kind = plan.Keyed
		}
		e, err := c.edge(s, s.input, kind, "")
		if err != nil {
			return in(err, s.nodes[0].user)
		}
		s.plan.Input, s.stateBacked = e.ID, e.StateBacked
		if kind == plan.Keyed {
			root := s.nodes[0]
			if s.plan.KeyCoder, err = c.keyProgram(root); err == nil && root.process {
				e.Element, err = c.keyedProgram(root)
			}
			if err != nil {
				return in(err, root.user)
			}
		}
	}
	type shared struct {
		pc     *pcollection
		access plan.SideAccess
	}
	edges := map[shared]plan.EdgeID{}
	for _, n := range s.nodes {
		for _, side := range n.sides {
			key := shared{side.pc, side.access}
			if _, ok := edges[key]; !ok {
				e, err := c.edge(s, side.source(), plan.Side, side.access)
				if err != nil {
					return in(err, n.user)
				}
				e.Panes, e.Grouped = side.panes, side.view != nil
				edges[key] = e.ID
			}
			expires, keep := expiry(s, &side)
			s.plan.SideInputs = append(s.plan.SideInputs, plan.SideInput{
				Transform: n.id, Local: side.tag, Edge: edges[key], Access: side.access, Windowing: side.pc.windows, Early: side.early,
				Expires: expires, KeepMs: keep,
			})
		}
	}
	return nil
}

// expiry reports whether a stage stops to read the windows of a side input while the job runs, and how long behind its watermark.
func expiry(s *stage, side *sideInput) (expires bool, keepMs int64) {
	w := side.pc.windows
	if w.Kind != plan.Fixed && w.Kind != plan.Sliding || side.mappedBySDK() || s.input.bounded() && side.pc.bounded() {
		return false, 0
	}
	return true, max(w.LatenessMs, s.input.windows.LatenessMs)
}

// programUnit frames a key of no bytes: that of a grouping before a side input, whose elements become KV<unit, V> as they are.
const programUnit = "unit"

// keyProgram returns the framing program of the key of a keyed node or a grouping.
func (g *graph) keyProgram(n *node) (string, error) {
	if n.view {
		return programUnit, nil
	}
	key, err := g.keyOf(n)
	if err != nil {
		return "", err
	}
	w, err := g.coders.wire(key)
	return w.program, err
}

// edge makes an edge and has the producers write to it.
func (c *connector) edge(s *stage, pc *pcollection, kind plan.EdgeKind, access plan.SideAccess) (*plan.Edge, error) {
	element, err := c.coders.wire(pc.coder)
	if err != nil {
		return nil, err
	}
	window, _, err := c.coders.window(c.components.GetWindowingStrategies()[pc.proto.GetWindowingStrategyId()].GetWindowCoderId())
	if err != nil {
		return nil, err
	}
	structure, err := c.coders.text(pc.coder)
	if err != nil {
		return nil, err
	}
	e := &plan.Edge{
		ID:          plan.EdgeID(hash("edge", string(s.id), pc.label(), string(kind), string(access))),
		Kind:        kind,
		PCollection: pc.id,
		Collection:  pc.durableName(),
		Readers:     s.readers(pc, kind, access),
		Access:      access,
		Consumer:    s.id,
		Element:     element.program,
		Structure:   structure,
		Window:      pc.windows.Coding,
		Bounded:     pc.bounded(),
	}
	switch {
	case pc.viewed != nil:
		e.Element = "kv(" + programUnit + ",iter(" + element.program + "))"
	case s.nodes[0].view:
		e.Element = "kv(" + programUnit + "," + element.program + ")"
	}
	if c.taken[e.ID] {
		return nil, fault.New(fault.Internal, "edge-id-collision", "two edges to stage %q have the same id", s.plan.Name)
	}
	c.taken[e.ID] = true
	e.Name = strings.Join(c.produce(e, pc, element.id, window), " + ") + " -> " + s.plan.Name
	e.StateBacked = kind != plan.Side && c.readsStateBacked(s, pc)
	e.Spread = kind == plan.FIFO && s.kind == plan.Harness && c.spreads(pc)
	s.edges = append(s.edges, e)
	return e, nil
}

// produce has the producers of a collection write to an edge, and returns the names of their stages.
func (c *connector) produce(e *plan.Edge, pc *pcollection, coder, window string) []string {
	nth := map[*pcollection]int{}
	var names []string
	for _, from := range pc.from() {
		q := c.stageOf[from.producer]
		if !slices.Contains(e.Producers, q.id) {
			e.Producers = append(e.Producers, q.id)
			names = append(names, q.plan.Name)
		}
		a := from.assigned
		if a == nil {
			a = &assignment{local: from, window: window}
		}
		switch {
		case q.kind != plan.Harness:
			i := slices.IndexFunc(q.plan.Outputs, func(o plan.Output) bool { return o.Local == a.local.id })
			out := &q.plan.Outputs[i]
			out.Edges, out.Assigned = append(out.Edges, e.ID), a.on(e.ID, out.Assigned)
		case a.unlifted:
			out := q.write(a.local, coder, window, nth[a.local], e.ID)
			out.unlifted, out.windowUnlifted = a.on(e.ID, out.unlifted), a.window
		default:
			out := q.write(a.local, coder, a.window, nth[a.local], e.ID)
			out.assigned = a.on(e.ID, out.assigned)
		}
		nth[a.local]++
	}
	return names
}

// readers lists the transforms of a stage that read a collection as main input, or as side input with the access pattern.
func (s *stage) readers(pc *pcollection, kind plan.EdgeKind, access plan.SideAccess) []string {
	var names []string
	for _, n := range s.nodes {
		main := slices.ContainsFunc(n.main, func(in input) bool { return in.pc == pc })
		side := slices.ContainsFunc(n.sides, func(in sideInput) bool { return in.source() == pc && in.access == access })
		if kind == plan.Side && side || kind != plan.Side && main {
			names = append(names, n.name)
		}
	}
	slices.Sort(names)
	return names
}

// readsStateBacked reports whether a stage reads a collection that a grouping puts out, in part at least, and whose iterables its SDK
// can read by state requests. A consumer in the runner cannot, nor one whose input the runner sorts: they copy what they read, and a
// token is good for as long as its block waits.
func (c *connector) readsStateBacked(s *stage, pc *pcollection) bool {
	return s.kind == plan.Harness && !s.nodes[0].sorted && c.envs.capable(s.env, urn.CoderStateBackedIterable) &&
		slices.ContainsFunc(pc.from(), func(from *pcollection) bool { return c.stageOf[from.producer].kind == plan.Group })
}

// write adds an edge to a data sink of the stage, made for it if need be.
func (s *stage) write(pc *pcollection, coder, window string, nth int, edge plan.EdgeID) *write {
	for _, w := range s.writes {
		if w.local == pc && w.coder == coder && w.window == window && w.nth == nth {
			w.edges = append(w.edges, edge)
			return w
		}
	}
	w := &write{local: pc, coder: coder, window: window, nth: nth, edges: []plan.EdgeID{edge}}
	s.writes = append(s.writes, w)
	return w
}

// outputs names the data sinks of a harness stage, and the data source.
func (c *connector) outputs(s *stage) {
	if s.kind != plan.Harness {
		return
	}
	local := map[string]bool{}
	taken := func(id string) bool { return local[id] || c.components.GetTransforms()[id] != nil || c.ids[id] }
	s.plan.InputRead = unused(s.input.id+".read", taken)
	local[s.plan.InputRead] = true
	// By collection; the order in which consumers asked for the sinks of one collection follows from the plan and stands.
	slices.SortStableFunc(s.writes, func(a, b *write) int { return cmp.Compare(a.local.id, b.local.id) })
	for _, w := range s.writes {
		w.id = unused(w.local.id+".write", taken)
		local[w.id] = true
		s.plan.Outputs = append(s.plan.Outputs, plan.Output{
			Write: w.id, Local: w.local.id, PCollection: w.local.id, Edges: w.edges, Assigned: w.assigned, AssignedUnlifted: w.unlifted,
		})
	}
}
