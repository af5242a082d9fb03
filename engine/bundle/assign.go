package bundle

import (
	"fmt"
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/coder"
	"padstone/engine/metrics"
	"padstone/engine/plan"
	"padstone/engine/window"
	"padstone/internal/buffers"
)

// assigned says how elements of an output come into the windows of an edge, if the runner assigns them.
type assigned struct {
	assigner *window.Assigner // nil: they are in their windows
	before   *coder.Scanner   // of the elements without them
	// counted is the collection that elements are counted under when they come this way; "" where somebody else counts them.
	counted string
	tables  bool // in other bundles elements are merged in tables instead
}

// incoming takes elements apart as an output has them.
func (e *edge) incoming() *coder.Scanner {
	if e.assigner != nil {
		return e.before
	}
	return e.scanner
}

// compileOutlets resolves the outputs of a stage.
func (s *Stage) compileOutlets(edges map[plan.EdgeID]*edge) (err error) {
	if s.outlets, err = newOutlets(s.Def, edges, false); err != nil {
		return err
	}
	s.straight, err = newOutlets(s.Def, edges, true)
	return err
}

// newOutlets resolves the outputs of a stage, for bundles without lifted combines if unlifted is set.
func newOutlets(def *plan.Stage, edges map[plan.EdgeID]*edge, unlifted bool) (outlets, error) {
	all := outlets{byWrite: make(map[string]*output)}
	counted := make(map[string]bool)
	for _, o := range def.Outputs {
		out := &output{write: o.Write, pcoll: o.PCollection}
		for _, id := range o.Edges {
			e, a := edges[id], o.Assigned[id]
			if unlifted && a == nil {
				a = o.AssignedUnlifted[id]
			}
			if a != nil {
				var err error
				if e, err = e.assigning(a); err != nil {
					return outlets{}, err
				}
				e.tables = o.AssignedUnlifted[id] != nil
				if counted[a.PCollection] {
					e.counted = ""
				}
				counted[a.PCollection] = counted[a.PCollection] || e.counted != ""
			}
			out.edges = append(out.edges, e)
		}
		all.outputs = append(all.outputs, out)
		all.byWrite[o.Write] = out
	}
	return all, nil
}

// assigning is the edge for an output whose windows the runner assigns. A harness that reads the edge counts what it reads.
func (e *edge) assigning(a *plan.Assignment) (*edge, error) {
	c := *e
	c.before = coder.NewScanner(e.value, a.From)
	if !e.bundled {
		c.counted = a.PCollection
	}
	var err error
	if c.assigner, err = window.NewAssigner(a.Windowing, c.before); err != nil {
		return nil, fmt.Errorf("edge %q: %w", e.def.Name, err)
	}
	return &c, nil
}

// assignBytes bounds what is assigned at a time: elements may be in many windows.
const assignBytes = 4 << 20

// assign sends a message to a consumer that wants its elements in windows.
func (r *router) assign(e *edge, data []byte) (int, error) {
	const headers = 8 // a fixed window takes more than the global one by nine bytes or so
	lent := buffers.Get(min(len(data)+len(data)/headers+(1<<10), assignBytes))
	kept, total, whole := r.kept, 0, false
	for rest := data; len(rest) > 0; {
		out, left, n, err := e.assigner.Append(lent.Bytes()[:0], rest)
		if err == nil && len(left) > 0 && !whole { // nothing is taken before all of it is framed
			whole = true
			_, _, _, err = e.before.Stat(left)
		}
		if err != nil {
			lent.Release()
			return 0, err
		}
		r.kept = false
		if len(out) > 0 {
			_, err = r.sendOn(e, out, nil)
		}
		if rest, total = left, total+n; err != nil {
			return 0, err
		}
		if r.tallied(e, n, len(out)); r.kept && len(rest) > 0 {
			lent = buffers.Get(min(len(rest)+len(rest)/headers+(1<<10), assignBytes))
		}
	}
	if !r.kept {
		lent.Release()
	}
	r.kept = kept
	return total, nil
}

// tallied counts elements that have been assigned their windows.
func (r *router) tallied(e *edge, count, bytes int) {
	if e.counted != "" {
		if r.counted == nil {
			r.counted = make(map[string]int64)
		}
		r.counted[e.counted] += int64(count)
	}
	if e.tables {
		r.unmerged.count, r.unmerged.bytes = r.unmerged.count+int64(count), r.unmerged.bytes+int64(bytes)
	}
}

// infos are the metrics of what no harness counts.
func (r *router) infos() (all []*pipepb.MonitoringInfo) {
	for _, id := range slices.Sorted(maps.Keys(r.counted)) {
		all = append(all, metrics.Elements(id, r.counted[id]))
	}
	return all
}
