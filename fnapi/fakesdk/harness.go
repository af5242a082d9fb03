package fakesdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"padstone/fnapi"
)

// Config configures a Harness.
type Config struct {
	Endpoint string // of the server
	// Conn is a connection to the server, in the place of one to Endpoint. It is the harness's own, and closed with it if it can be.
	Conn     grpc.ClientConnInterface
	WorkerID fnapi.WorkerID
	DoFns    map[string]New // default Builtins
	// ShortIDs makes bundles report metrics by short id alone, as the Java SDK does.
	ShortIDs bool
	// EmbedElements makes bundles return their output inside the response, as the Java SDK does with little output.
	EmbedElements bool
	// Fault chooses how the nth bundle, from 0, goes wrong. nil: none does.
	Fault func(n int, req *fnpb.ProcessBundleRequest) Fault
	// Tamper returns what is sent in the place of a message of the control, data or state stream: it, nothing, or something else. It is
	// called by several goroutines. nil: everything is sent as it is.
	Tamper func(m proto.Message) []proto.Message
	// OnClaim is called after a splittable DoFn has emitted for an offset; it may block, to let a test split meanwhile.
	OnClaim func(offset int64)
	// OnLateSplit makes the harness answer split requests only after it has answered the bundle, as an SDK may whose threads race, and is
	// called when a split has been made. May be nil.
	OnLateSplit func()
	// Rounds makes the harness answer a split request as the Go SDK does when a fraction comes out a little below zero, up to once a
	// bundle: it gives up the restriction that it is at, unless that is the first, and goes on with it. It counts what its source has
	// read as that SDK does, too: whole elements.
	Rounds bool
}

// Harness is a connected fake SDK harness.
type Harness struct {
	cfg     Config
	conn    grpc.ClientConnInterface
	cancel  context.CancelFunc
	running sync.WaitGroup
	control fnpb.BeamFnControl_ControlClient
	sendMu  sync.Mutex // of control
	done    chan struct{}

	mu struct {
		sync.Mutex
		err       error
		started   int // bundles
		graphs    map[string]*graph
		bundles   map[string]*bundle
		streams   map[string]*dataStream
		state     *stateClient
		shortIDs  shortIDs
		finalizes map[string][]func() error // by instruction
		early     map[string]*queue         // data that has come before its instruction
		finished  map[string]bool           // all instructions that have ended: a test has few
	}
}

// Start connects a harness and serves until Close or until the server ends the control stream.
func Start(ctx context.Context, cfg Config) (*Harness, error) {
	if cfg.DoFns == nil {
		cfg.DoFns = Builtins()
	}
	conn, err := cfg.dial()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "worker_id", string(cfg.WorkerID)))
	h := &Harness{cfg: cfg, conn: conn, cancel: cancel, done: make(chan struct{})}
	h.mu.graphs = make(map[string]*graph)
	h.mu.bundles = make(map[string]*bundle)
	h.mu.streams = make(map[string]*dataStream)
	h.mu.finalizes = make(map[string][]func() error)
	h.mu.early = make(map[string]*queue)
	h.mu.finished = make(map[string]bool)
	if h.control, err = fnpb.NewBeamFnControlClient(conn).Control(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, hangUp(conn))
	}
	h.running.Go(func() {
		defer close(h.done)
		err := h.serve(ctx)
		h.mu.Lock()
		h.mu.err = err
		h.mu.Unlock()
		cancel() // a harness without control is of no use: its streams end, too
	})
	return h, nil
}

func (c Config) dial() (grpc.ClientConnInterface, error) {
	if c.Conn != nil {
		return c.Conn, nil
	}
	return grpc.NewClient(c.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
}

func hangUp(conn grpc.ClientConnInterface) error {
	if c, ok := conn.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Done is closed when the control stream has ended.
func (h *Harness) Done() <-chan struct{} { return h.done }

// Err returns why the control stream has ended: io.EOF when the server ended it.
func (h *Harness) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.err
}

// Close disconnects as a crash would: streams break. It waits for all goroutines.
func (h *Harness) Close() error {
	h.cancel()
	err := hangUp(h.conn)
	h.running.Wait()
	return err
}

// serve answers instructions.
func (h *Harness) serve(ctx context.Context) error {
	for {
		req, err := h.control.Recv()
		if err != nil {
			return err
		}
		id := req.GetInstructionId()
		switch r := req.GetRequest().(type) {
		case *fnpb.InstructionRequest_ProcessBundle:
			b := h.newBundle(id, r.ProcessBundle)
			h.running.Go(func() { b.serve(ctx) })
		case *fnpb.InstructionRequest_ProcessBundleProgress:
			h.respond(h.progress(id, r.ProcessBundleProgress))
		case *fnpb.InstructionRequest_ProcessBundleSplit:
			h.splitSoon(ctx, id, r.ProcessBundleSplit)
		case *fnpb.InstructionRequest_FinalizeBundle:
			h.respond(h.finalize(id, r.FinalizeBundle))
		case *fnpb.InstructionRequest_MonitoringInfos:
			h.respond(h.monitoringInfos(id, r.MonitoringInfos))
		default:
			return fmt.Errorf("instruction %T is not known", r)
		}
	}
}

// respond sends an answer; when the stream is gone, serve sees it, too.
func (h *Harness) respond(resp *fnpb.InstructionResponse) {
	h.sendMu.Lock()
	defer h.sendMu.Unlock()
	for _, m := range tampered(h.cfg.Tamper, resp) {
		_ = h.control.Send(m)
	}
}

// tampered returns what is to be sent in the place of m.
func tampered[M proto.Message](tamper func(proto.Message) []proto.Message, m M) []M {
	if tamper == nil {
		return []M{m}
	}
	var out []M
	for _, instead := range tamper(m) {
		if same, ok := instead.(M); ok {
			out = append(out, same)
		}
	}
	return out
}

func failure(id string, err error) *fnpb.InstructionResponse {
	return &fnpb.InstructionResponse{InstructionId: id, Error: err.Error()}
}

// graph returns the compiled descriptor, fetched once.
func (h *Harness) graph(ctx context.Context, id string) (*graph, error) {
	h.mu.Lock()
	g := h.mu.graphs[id]
	h.mu.Unlock()
	if g != nil {
		return g, nil
	}
	d, err := fnpb.NewBeamFnControlClient(h.conn).GetProcessBundleDescriptor(ctx,
		&fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: id})
	if err != nil {
		return nil, err
	}
	if g, err = compile(d, h.cfg.DoFns); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.graphs[id] = g
	return g, nil
}

func (h *Harness) bundle(id string) *bundle {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.bundles[id]
}

func (h *Harness) progress(id string, req *fnpb.ProcessBundleProgressRequest) *fnpb.InstructionResponse {
	p := &fnpb.ProcessBundleProgressResponse{}
	if b := h.bundle(req.GetInstructionId()); b != nil {
		p.MonitoringInfos, p.MonitoringData = b.metrics()
	}
	return &fnpb.InstructionResponse{
		InstructionId: id, Response: &fnpb.InstructionResponse_ProcessBundleProgress{ProcessBundleProgress: p},
	}
}

func (h *Harness) split(id string, req *fnpb.ProcessBundleSplitRequest) *fnpb.InstructionResponse {
	resp := &fnpb.ProcessBundleSplitResponse{}
	if b := h.bundle(req.GetInstructionId()); b != nil {
		b.mu.Lock()
		for transform, want := range req.GetDesiredSplits() {
			if b.running {
				resp = b.splitLocked(transform, want)
			}
		}
		b.mu.Unlock()
	}
	return &fnpb.InstructionResponse{InstructionId: id, Response: &fnpb.InstructionResponse_ProcessBundleSplit{ProcessBundleSplit: resp}}
}

// splitSoon splits now, and answers now or after the bundle.
func (h *Harness) splitSoon(ctx context.Context, id string, req *fnpb.ProcessBundleSplitRequest) {
	b := h.bundle(req.GetInstructionId())
	resp := h.split(id, req)
	if h.cfg.OnLateSplit == nil || b == nil || len(resp.GetProcessBundleSplit().GetChannelSplits()) == 0 {
		h.respond(resp)
		return
	}
	h.running.Go(func() {
		h.cfg.OnLateSplit()
		select {
		case <-b.answered:
			h.respond(resp)
		case <-ctx.Done():
		}
	})
}

func (h *Harness) finalize(id string, req *fnpb.FinalizeBundleRequest) *fnpb.InstructionResponse {
	h.mu.Lock()
	callbacks, ok := h.mu.finalizes[req.GetInstructionId()]
	delete(h.mu.finalizes, req.GetInstructionId())
	h.mu.Unlock()
	if !ok {
		return failure(id, errors.New("the bundle is not in a finalizable state"))
	}
	for _, f := range callbacks {
		if err := f(); err != nil {
			return failure(id, err)
		}
	}
	return &fnpb.InstructionResponse{
		InstructionId: id, Response: &fnpb.InstructionResponse_FinalizeBundle{FinalizeBundle: &fnpb.FinalizeBundleResponse{}},
	}
}
