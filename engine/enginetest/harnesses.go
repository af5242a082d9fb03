package enginetest

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine"
	"padstone/engine/bundle"
	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/translate/urn"
)

// Harnesses implements engine.Harnesses with fake harnesses in this process. A harness that breaks is replaced by a new generation
// under the same worker id, as a supervisor would. Set the fields before a job starts.
type Harnesses struct {
	// Fault chooses how a bundle goes wrong; n counts the bundles of all harnesses of the rig from 0. May be nil.
	Fault func(n int, req *fnpb.ProcessBundleRequest) fakesdk.Fault
	// Embed makes harnesses return their output within the response, ShortIDs report metrics by short id, as Java does.
	Embed, ShortIDs bool
	// OnStart is called before harnesses start and may fail the start or wait until ctx ends. May be nil.
	OnStart func(ctx context.Context) error
	// OnCheck says whether harnesses of an environment could be started. May be nil.
	OnCheck func(env *pipepb.Environment) error
	// OnGrow is called before a harness starts that is to be one more, and may fail that or wait until ctx ends. May be nil.
	OnGrow func(ctx context.Context) error
	// OnBack is called before a harness starts in the place of one that broke, where nobody is until it returns. May be nil.
	OnBack func(ctx context.Context)
	// Tamper changes what harnesses send, see fakesdk.Config. May be nil.
	Tamper func(m proto.Message) []proto.Message
	// OnClaim is called with each offset that a splittable DoFn claims. May be nil.
	OnClaim func(offset int64)
	// Dial makes the connection of a harness process to the server, in the place of one over the network. May be nil.
	Dial func(server *fnapi.Server, env string, process int) grpc.ClientConnInterface
	// OnLateSplit makes harnesses answer split requests after the bundle, and is called when a split has been made. May be nil.
	OnLateSplit func()
	// Rounds makes harnesses give up the restriction that they are at, and go on with it, as the Go SDK does at times.
	Rounds bool
	// ProcessesMax is how many processes a pool can have, as the one of LOOPBACK can have one only. 0: as many as it is asked for.
	ProcessesMax int
	// WorkerPools is how many worker pools start the harnesses; it may change.
	WorkerPools atomic.Int64

	server *fnapi.Server
	mu     struct {
		sync.Mutex
		fns     map[string]fakesdk.New
		bundles int
		started int // pools
		open    int
		last    *pool // the one that was started last
	}
}

func newHarnesses(s *fnapi.Server) *Harnesses {
	h := &Harnesses{server: s}
	h.mu.fns = fakesdk.Builtins()
	maps.Copy(h.mu.fns, combineFns())
	h.mu.fns[urn.AssignWindows] = assign
	h.mu.fns[urn.MergeWindows] = mergeGaps
	h.mu.fns[urn.MapWindows] = mapBefore
	return h
}

func (h *Harnesses) register(fn string, f fakesdk.New) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.fns[fn] = f
}

// Open is the number of pools that are not closed.
func (h *Harnesses) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.open
}

// Bundles is the number of bundles that all harnesses have begun.
func (h *Harnesses) Bundles() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.bundles
}

// Supported implements engine.Harnesses.
func (h *Harnesses) Supported(*pipepb.Environment) error { return nil }

// Check implements engine.Harnesses.
func (h *Harnesses) Check(_ context.Context, env *pipepb.Environment, _ *structpb.Struct) error {
	if h.OnCheck != nil {
		return h.OnCheck(env)
	}
	return nil
}

// Fleet implements engine.Harnesses.
func (h *Harnesses) Fleet(job *bundle.Job, prefix string) (*bundle.Fleet, error) {
	return bundle.NewFleet(h.server, job, prefix)
}

// Start implements engine.Harnesses.
func (h *Harnesses) Start(ctx context.Context, spec engine.HarnessSpec) (engine.HarnessPool, error) {
	if h.OnStart != nil {
		if err := h.OnStart(ctx); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	fns := maps.Clone(h.mu.fns)
	h.mu.open++
	h.mu.Unlock()
	p := &pool{harnesses: h, spec: spec, fns: fns, changed: spec.OnChange, env: string(spec.EnvID)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wanted = spec.Processes
	if pools := int(h.WorkerPools.Load()); pools > 1 {
		p.wanted = spec.ProcessesOf(pools)
	}
	p.wanted = h.processes(p.wanted)
	for range p.wanted {
		m, err := p.start(ctx)
		if err != nil {
			p.Close(ctx)
			return nil, err
		}
		p.places = append(p.places, m)
	}
	h.mu.Lock()
	h.mu.last = p
	h.mu.Unlock()
	return p, nil
}

func (h *Harnesses) processes(asked int) int {
	if h.ProcessesMax > 0 {
		return min(asked, h.ProcessesMax)
	}
	return asked
}

// Break ends a process of the pool that was started last, as a crash does. Another one comes in its place.
func (h *Harnesses) Break(process int) {
	h.mu.Lock()
	p := h.mu.last
	h.mu.Unlock()
	if p == nil { // none has been started yet
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if process < len(p.places) {
		p.places[process].worker.Disconnect("the test breaks it")
	}
}

// Replace has another process follow one of the pool that was started last, which ends when its bundles have.
func (h *Harnesses) Replace(process int) error {
	h.mu.Lock()
	p := h.mu.last
	h.mu.Unlock()
	m, err := p.start(p.ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	old := p.places[process]
	p.places[process], old.retired = m, true
	old.endIfDone()
	p.mu.Unlock()
	p.changed()
	return nil
}
