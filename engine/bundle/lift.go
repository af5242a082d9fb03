package bundle

import (
	"fmt"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padstone/engine/metrics"
)

// A lifted combine merges the values of each key in a table within the producer's bundle. Where keys hardly repeat, the table costs the
// harness more than it saves, and the same step under another URN makes an accumulator of each element without one. The coders of both
// are the same, and so are the results: what is downstream merges accumulators. So a stage that has such steps has two descriptors.
//
// Where the runner can assign the windows of what is not merged, the table has to save the harness the windows as well, and does so only
// where accumulators are large: such a stage begins without it.
// Spec: beam_runner_api.proto StandardPTransforms.CombineComponents.
const (
	urnPrecombine = "beam:transform:combine_per_key_precombine:v1"
	urnConvert    = "beam:transform:combine_per_key_convert_to_accumulators:v1"
	urnElements   = "beam:metric:element_count:v1"
)

// precombine is a lifted step of a descriptor: the PCollections before and behind it.
type precombine struct{ in, out string }

// compileLifts finds the lifted steps of a stage, and makes the descriptor without their tables.
func (s *Stage) compileLifts() error {
	d := &fnpb.ProcessBundleDescriptor{}
	if err := proto.Unmarshal(s.Def.Descriptor, d); err != nil {
		return fmt.Errorf("descriptor: %w", err)
	}
	for _, t := range d.GetTransforms() {
		if t.GetSpec().GetUrn() != urnPrecombine || len(t.GetInputs()) != 1 || len(t.GetOutputs()) != 1 {
			continue
		}
		var p precombine
		for _, id := range t.GetInputs() {
			p.in = id
		}
		for _, id := range t.GetOutputs() {
			p.out = id
		}
		s.lifts = append(s.lifts, p)
		t.Spec = &pipepb.FunctionSpec{Urn: urnConvert, Payload: t.GetSpec().GetPayload()}
	}
	if len(s.lifts) == 0 {
		return nil
	}
	if s.unlifted = s.Def.Unlifted; s.unlifted != nil {
		return nil
	}
	var err error
	s.unlifted, err = proto.MarshalOptions{Deterministic: true}.Marshal(d)
	return err
}

// When a stage's precombines are left out.
const (
	liftRatioMax    = 0.8    // they put out more than that of what goes in
	liftElementsMin = 10_000 // elements that tell
	liftPatienceMin = 16     // bundles without them before it is tried again; doubles each time
	liftPatienceMax = 1024
	// straightBytesMax is how long the accumulators of single elements are on average at most, with their keys and windows, that a stage
	// does without tables whose windows the runner assigns then.
	straightBytesMax    = 512
	straightElementsMin = 1000 // elements that tell
)

// lifts is what has been seen of the stages with lifted combines. The zero value lifts all. It is not kept over a restart: either choice
// gives the same results.
type lifts struct {
	mu     sync.Mutex
	stages map[int]*liftState
}

type liftState struct {
	off      bool
	left     int // bundles to go until the precombines are tried again
	patience int
	counts   map[precombine][2]int64 // elements in and out since the last decision
	// Of a stage whose windows the runner assigns without the tables: what has come of single elements since the last decision, and whether
	// that was long.
	unmerged unmerged
	long     bool
}

func (l *lifts) state(st *Stage) *liftState {
	if l.stages == nil {
		l.stages = make(map[int]*liftState)
	}
	s := l.stages[st.Index]
	if s == nil {
		s = &liftState{patience: liftPatienceMin, counts: make(map[precombine][2]int64)}
		l.stages[st.Index] = s
	}
	return s
}

// lifted says whether the stage's next bundle is to have its precombines.
func (l *lifts) lifted(st *Stage) bool {
	if len(st.lifts) == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(st)
	if st.Def.Unlifted != nil && !s.long {
		return false
	}
	if !s.off {
		return true
	}
	s.left--
	return s.left < 0
}

// observe takes the metrics of a bundle that had its precombines. changed says that the choice for the stage is another one now, and
// off that it is to leave them out.
func (l *lifts) observe(st *Stage, infos []*pipepb.MonitoringInfo) (changed, off bool) {
	if len(st.lifts) == 0 {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(st)
	seen, reduces := int64(0), false
	for _, p := range st.lifts {
		in, _ := metrics.ElementCount(infos, p.in)
		out, _ := metrics.ElementCount(infos, p.out)
		c := s.counts[p]
		c[0], c[1] = c[0]+in, c[1]+out
		s.counts[p] = c
		seen = max(seen, c[0])
		reduces = reduces || float64(c[1]) <= liftRatioMax*float64(c[0]) && c[0] > 0
	}
	if seen < liftElementsMin {
		return false, s.off
	}
	clear(s.counts)
	was := s.off
	if s.off = !reduces; s.off {
		s.left = s.patience
		s.patience = min(2*s.patience, liftPatienceMax)
	} else {
		s.patience = liftPatienceMin
	}
	return was != s.off, s.off
}

// observeUnmerged takes what a bundle without precombines has put out, of a stage whose windows the runner assigns then. changed says that
// the next bundles are to have them, or no longer, and long that they are.
func (l *lifts) observeUnmerged(st *Stage, u unmerged) (changed, long bool) {
	if st.Def.Unlifted == nil {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.state(st)
	s.unmerged.count, s.unmerged.bytes = s.unmerged.count+u.count, s.unmerged.bytes+u.bytes
	if s.unmerged.count < straightElementsMin {
		return false, s.long
	}
	was := s.long
	s.long = s.unmerged.bytes > straightBytesMax*s.unmerged.count
	s.unmerged = unmerged{}
	return was != s.long, s.long
}

// observeLifts notes how much the lifted combines of a bundle have reduced, or could have.
func (r *Runner) observeLifts(st *Stage, as role, res *Result) {
	changed, lifted := false, true
	switch as {
	case running:
		var off bool
		changed, off = r.lifts.observe(st, res.Infos)
		lifted = !off
	case converting:
		changed, lifted = r.lifts.observeUnmerged(st, res.unmerged)
	}
	if changed && r.Log != nil {
		r.Log.Info("lifted combine", zap.String("stage", st.Def.Name), zap.Bool("lifted", lifted))
	}
}
