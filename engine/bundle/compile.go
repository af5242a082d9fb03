package bundle

import (
	"fmt"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/coder"
	"padstone/engine/plan"
)

// Job is a plan made ready to run: framing programs compiled, edges resolved. Immutable after Compile.
type Job struct {
	Plan   *plan.Plan
	Stages []*Stage // by index in Plan.Stages
	edges  []*edge  // by index in Plan.Edges
}

// Stage is a stage made ready to run.
type Stage struct {
	Def   *plan.Stage
	Index int
	input *edge
	outlets
	states map[cellID]*cell
	timers []*timerFamily
	sides  map[sideID]*edge
	// expiry is the timer family that is fired once for every key and window that ends; -1 when there is none.
	expiry int
	// mappings are those of the side inputs whose windows the SDK maps, in the order of the plan.
	mappings []*windowMap
	merge    *windowMerge // of a Group stage whose windows the SDK merges
	// compact is set for a Group stage whose values are accumulators that the SDK merges.
	compact *accumulatorMerge
	// lifts are the lifted steps of combines, and unlifted is the descriptor in which they have no tables.
	lifts    []precombine
	unlifted []byte
	// straight are the outlets of bundles with that descriptor.
	straight outlets
	// recounted is the PCollection that the stage reads if its elements are counted elsewhere.
	recounted string
}

// outlets are where what a stage puts out goes.
type outlets struct {
	outputs []*output
	byWrite map[string]*output
}

// edge is a materialised PCollection on its way to a consumer.
type edge struct {
	def      *plan.Edge
	index    int
	consumer int
	scanner  *coder.Scanner
	value    *coder.Program // of the whole element
	// needWindow: the consumer waits for side inputs by window, so blocks must tell their latest window.
	needWindow bool
	// byWindow: windows of a side input become ready one after another, so that a block of many would wait for the last one.
	byWindow bool
	access   plan.SideAccess
	sideKey  *coder.Program // of a Side edge from a grouping: the key of a grouped value, where readers look up keys
	sized    bool           // elements are restrictions that end in their size
	bundled  bool           // a harness takes the elements
	shared   bool           // any process may take any of the elements
	sampled  bool           // a few of the elements tell how the others are to be taken
	assigned                // of one that a certain output goes to
}

// output is one data sink of a stage.
type output struct {
	write string
	pcoll string
	edges []*edge
}

type cellID struct{ transform, cell string }

// cell is a user state cell.
type cell struct {
	def     *plan.State
	element *coder.Program // nil when the elements cannot be framed; then they are not paged
	mapKey  *coder.Program // likewise
}

// timerFamily is a user timer family.
type timerFamily struct {
	def     *plan.TimerFamily
	name    string // in the rows
	program *coder.Program
}

type sideID struct{ transform, local string }

// Compile makes a plan ready to run. An error means that the translator is at fault.
func Compile(p *plan.Plan) (*Job, error) {
	j := &Job{Plan: p}
	byEdge := make(map[plan.EdgeID]*edge)
	index := make(map[plan.StageID]int)
	for i, s := range p.Stages {
		index[s.ID] = i
	}
	for i, def := range p.Edges {
		prog, err := coder.Compile(def.Element)
		if err != nil {
			return nil, fmt.Errorf("edge %q: %w", def.Name, err)
		}
		e := &edge{def: def, index: i, consumer: index[def.Consumer], value: prog, scanner: coder.NewScanner(prog, def.Window)}
		e.needWindow = len(p.Stages[e.consumer].SideInputs) > 0 && def.Kind != plan.Side
		e.bundled = def.Kind != plan.Side && p.Stages[e.consumer].Kind == plan.Harness
		e.shared = def.Kind == plan.FIFO && p.Stages[e.consumer].Kind == plan.Harness
		e.sampled = p.Stages[e.consumer].Unlifted != nil
		e.sized = p.Stages[e.consumer].Splittable != nil && def.Kind != plan.Side && hasSizes(def.Element)
		for _, si := range p.Stages[e.consumer].SideInputs {
			e.byWindow = e.byWindow || !p.Edge(si.Edge).Bounded && si.Windowing.Kind != plan.Global
		}
		byEdge[def.ID] = e
		j.edges = append(j.edges, e)
	}
	for i, def := range p.Stages {
		s, err := compileStage(def, i, byEdge)
		if err != nil {
			return nil, fmt.Errorf("stage %q: %w", def.Name, err)
		}
		j.Stages = append(j.Stages, s)
	}
	for _, s := range j.Stages { // of edges that their consumers have completed
		if err := s.compileOutlets(byEdge); err != nil {
			return nil, fmt.Errorf("stage %q: %w", s.Def.Name, err)
		}
	}
	return j, j.resolveCounts()
}

func compileStage(def *plan.Stage, index int, edges map[plan.EdgeID]*edge) (*Stage, error) {
	s := &Stage{
		Def: def, Index: index, input: edges[def.Input], expiry: -1, states: make(map[cellID]*cell), sides: make(map[sideID]*edge),
	}
	for _, si := range def.SideInputs {
		e := edges[si.Edge]
		if e.access = si.Access; e.def.Grouped && si.Access == plan.Multimap {
			_, values, _ := e.value.KV()
			e.sideKey, _, _ = values.Element().KV()
		}
		s.sides[sideID{si.Transform, si.Local}] = e
		if si.Map != nil {
			m, err := compileMapping(si.Map, e.def.Window, len(s.mappings))
			if err != nil {
				return nil, err
			}
			s.mappings = append(s.mappings, m)
		}
	}
	for i := range def.States {
		c := &cell{def: &def.States[i]}
		var err error
		if c.element, err = compileOptional(c.def.Element); err != nil {
			return nil, err
		}
		if c.mapKey, err = compileOptional(c.def.MapKey); err != nil {
			return nil, err
		}
		s.states[cellID{c.def.Transform, c.def.Cell}] = c
	}
	if def.Merge != nil {
		var err error
		if s.merge, err = compileMerge(def); err != nil {
			return nil, err
		}
	}
	if def.Compact != nil {
		s.compact = compileCompaction(def, s.input)
	}
	if def.Kind == plan.Harness {
		if err := s.compileLifts(); err != nil {
			return nil, err
		}
	}
	for i := range def.Timers {
		t := &timerFamily{def: &def.Timers[i]}
		t.name = userFamily + t.def.Family
		var err error
		if t.program, err = coder.Compile(t.def.Element); err != nil {
			return nil, err
		}
		if t.def.OnWindowExpiration {
			s.expiry = i
		}
		s.timers = append(s.timers, t)
	}
	return s, nil
}

// compileOptional compiles a framing program; the empty one, of what cannot be framed, gives nil.
func compileOptional(src string) (*coder.Program, error) {
	if src == "" {
		return nil, nil
	}
	return coder.Compile(src)
}

// feedsStateBacked says whether some consumer can read grouped values by state requests.
func (s *Stage) feedsStateBacked() bool {
	for _, o := range s.outputs {
		for _, e := range o.edges {
			if e.def.StateBacked {
				return true
			}
		}
	}
	return false
}

// family returns the user's timer family of the name in the rows, or nil.
func (s *Stage) family(name string) *timerFamily {
	for _, t := range s.timers {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Stateful says whether the stage keeps user state or timers.
func (s *Stage) Stateful() bool { return len(s.states) > 0 || len(s.timers) > 0 }

// role says what a descriptor of a stage is for. It ends the descriptor's id.
type role string

const (
	running    role = ""         // the stage's elements
	converting role = "/convert" // the same, but lifted combines have no tables
	draining   role = "/drain"   // the same, but restrictions are truncated
	merging    role = "/merge"   // windows of a grouping
	compacting role = "/compact" // accumulators of a grouping
	mapping    role = "/map"     // main windows to those of a side input, whose number follows
)

// descriptors returns the stage's descriptors by role, as the plan has them.
func (s *Stage) descriptors() map[role][]byte {
	all := make(map[role][]byte)
	if s.Def.Kind == plan.Harness {
		all[running] = s.Def.Descriptor
	}
	if s.unlifted != nil {
		all[converting] = s.unlifted
	}
	if s.Def.Splittable != nil && s.Def.Splittable.DrainDescriptor != nil {
		all[draining] = s.Def.Splittable.DrainDescriptor
	}
	if s.merge != nil {
		all[merging] = s.Def.Merge.Descriptor
	}
	for _, m := range s.mappings {
		all[m.role] = m.def.Descriptor
	}
	if s.compact != nil {
		all[compacting] = s.Def.Compact.Descriptor
	}
	return all
}

// descriptor returns one of the stage's bundle descriptors under the id, with every endpoint filled in.
func (s *Stage) descriptor(id string, raw []byte, data, state *pipepb.ApiServiceDescriptor) (*fnpb.ProcessBundleDescriptor, error) {
	d := &fnpb.ProcessBundleDescriptor{}
	if err := proto.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("descriptor of stage %q: %w", s.Def.Name, err)
	}
	d.Id = id
	d.StateApiServiceDescriptor = state
	d.TimerApiServiceDescriptor = data // equal to the data endpoint, or Python reads one channel after the other
	for _, t := range d.GetTransforms() {
		if urn := t.GetSpec().GetUrn(); urn != urnSource && urn != urnSink {
			continue
		}
		port := &fnpb.RemoteGrpcPort{}
		if err := proto.Unmarshal(t.GetSpec().GetPayload(), port); err != nil {
			return nil, fmt.Errorf("descriptor of stage %q, port %q: %w", s.Def.Name, t.GetUniqueName(), err)
		}
		port.ApiServiceDescriptor = data
		payload, err := proto.Marshal(port)
		if err != nil {
			return nil, err
		}
		t.Spec = &pipepb.FunctionSpec{Urn: t.GetSpec().GetUrn(), Payload: payload}
	}
	return d, nil
}

const (
	urnSource = "beam:runner:source:v1"
	urnSink   = "beam:runner:sink:v1"
)
