package enginetest

import (
	"context"
	"errors"
	"maps"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine"
	"padstone/engine/bundle"
	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/jobserver"
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
	p := &pool{harnesses: h, fns: fns, changed: spec.OnChange, env: string(spec.EnvID)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for range h.processes(spec.Processes) {
		if err := p.add(ctx, spec); err != nil {
			p.Close(ctx)
			return nil, err
		}
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
	if p != nil { // else none has been started yet
		p.workers[process].Disconnect("the test breaks it")
	}
}

// pool is the harnesses of one environment of one job.
type pool struct {
	harnesses *Harnesses
	fns       map[string]fakesdk.New
	env       string
	changed   func()
	ctx       context.Context // of the supervisors
	cancel    context.CancelFunc
	workers   []*fnapi.Worker
	running   sync.WaitGroup
	closing   sync.Once
	mu        sync.Mutex
	err       error
}

// add starts one process and its supervisor.
func (p *pool) add(ctx context.Context, spec engine.HarnessSpec) error {
	w, err := p.harnesses.server.Expect(fnapi.WorkerSpec{
		ID: fnapi.NewWorkerID(spec.Job.Name), Environment: spec.Environment, JobID: spec.Job.ID, JobName: spec.Job.Name,
	})
	if err != nil {
		return err
	}
	process := len(p.workers)
	p.workers = append(p.workers, w)
	sdk, err := p.connect(ctx, w, process)
	if err != nil {
		return err
	}
	p.running.Go(func() { p.supervise(w, sdk, process) })
	return nil
}

func (p *pool) connect(ctx context.Context, w *fnapi.Worker, process int) (*fakesdk.Harness, error) {
	h := p.harnesses
	var conn grpc.ClientConnInterface
	if h.Dial != nil {
		conn = h.Dial(h.server, p.env, process)
	}
	sdk, err := fakesdk.Start(p.ctx, fakesdk.Config{
		Endpoint: h.server.Endpoint(), Conn: conn,
		WorkerID: w.ID(), DoFns: p.fns, EmbedElements: h.Embed, ShortIDs: h.ShortIDs, OnClaim: h.OnClaim,
		Tamper: h.Tamper, OnLateSplit: h.OnLateSplit, Rounds: h.Rounds,
		Fault: func(_ int, req *fnpb.ProcessBundleRequest) fakesdk.Fault {
			h.mu.Lock()
			n := h.mu.bundles
			h.mu.bundles++
			h.mu.Unlock()
			if h.Fault == nil {
				return fakesdk.NoFault
			}
			return h.Fault(n, req)
		},
	})
	if err != nil {
		return nil, err
	}
	if err := w.Ready(ctx); err != nil {
		return nil, errors.Join(err, sdk.Close())
	}
	return sdk, nil
}

// supervise replaces the harness whenever it breaks.
func (p *pool) supervise(w *fnapi.Worker, sdk *fakesdk.Harness, process int) {
	for {
		select {
		case <-p.ctx.Done():
			w.Stop()
			_ = sdk.Close() // the connection is broken on purpose
			return
		case <-sdk.Done():
			_ = sdk.Close()
		}
		p.changed()
		next, err := p.connect(p.ctx, w, process)
		if err != nil {
			if p.ctx.Err() == nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
				p.changed()
			}
			w.Stop()
			return
		}
		sdk = next
		p.changed()
	}
}

// Workers implements bundle.Pool.
func (p *pool) Workers() []*fnapi.Worker { return p.workers }

// LastLogs implements bundle.Pool.
func (p *pool) LastLogs() []string { return nil }

// Loss implements bundle.Pool.
func (p *pool) Loss(context.Context, fnapi.WorkerID, int) string { return "" }

// Progressed implements bundle.Pool.
func (p *pool) Progressed() {}

// Err implements bundle.Pool.
func (p *pool) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Describe implements engine.HarnessPool.
func (p *pool) Describe() []jobserver.WorkerDescription {
	out := make([]jobserver.WorkerDescription, len(p.workers))
	for i, w := range p.workers {
		out[i] = jobserver.WorkerDescription{ID: string(w.ID()), Environment: p.env, Bundles: w.Bundles(), Generation: w.Generation()}
	}
	return out
}

// Close implements engine.HarnessPool.
func (p *pool) Close(context.Context) {
	p.closing.Do(func() {
		p.cancel()
		p.running.Wait()
		p.harnesses.mu.Lock()
		p.harnesses.mu.open--
		p.harnesses.mu.Unlock()
	})
}
