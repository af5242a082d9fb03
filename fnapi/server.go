package fnapi

import (
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"padstone/internal/fault"
)

// Server serves the Fn API. Safe for concurrent use.
type Server struct {
	cfg        Config
	log        *zap.Logger
	listener   net.Listener
	endpoint   string // of harnesses on this machine
	advertised string // of harnesses elsewhere
	grpc       *grpc.Server
	streams    sync.WaitGroup // readers and writers of streams
	artifacts  artifactConns

	mu struct {
		sync.Mutex
		workers     map[WorkerID]*Worker
		descriptors map[DescriptorID]*fnpb.ProcessBundleDescriptor
		endpoints   map[string]string // of further listeners, by host
		closed      bool
	}

	fnpb.UnimplementedBeamFnControlServer
	fnpb.UnimplementedBeamFnDataServer
	fnpb.UnimplementedBeamFnStateServer
	fnpb.UnimplementedBeamFnLoggingServer
	fnpb.UnimplementedProvisionServiceServer
	fnpb.UnimplementedBeamFnWorkerStatusServer
	jobpb.UnimplementedArtifactRetrievalServiceServer
}

// New binds the port; harnesses are served once Run is called. Errors: a configuration that is not valid, an address in use.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fault.New(fault.Environment, codeListen, "configuration: %w", err)
	}
	cfg = cfg.withDefaults()
	lis, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fault.New(fault.Environment, codeListen, "listen for SDK harnesses: %w", err).
			WithHint("choose another address or stop what holds it")
	}
	s := &Server{
		cfg: cfg, log: cfg.Logger, listener: lis, grpc: newGRPC(cfg),
		endpoint: localEndpoint(lis.Addr()), advertised: cfg.advertisedEndpoint(lis.Addr()),
	}
	s.mu.workers = make(map[WorkerID]*Worker)
	s.mu.descriptors = make(map[DescriptorID]*fnpb.ProcessBundleDescriptor)
	s.mu.endpoints = make(map[string]string)
	fnpb.RegisterBeamFnControlServer(s.grpc, s)
	fnpb.RegisterBeamFnDataServer(s.grpc, s)
	fnpb.RegisterBeamFnStateServer(s.grpc, s)
	fnpb.RegisterBeamFnLoggingServer(s.grpc, s)
	fnpb.RegisterProvisionServiceServer(s.grpc, s)
	fnpb.RegisterBeamFnWorkerStatusServer(s.grpc, s)
	jobpb.RegisterArtifactRetrievalServiceServer(s.grpc, s)
	return s, nil
}

// newGRPC sets windows that bound what waits unread of a stream, and takes messages of any size: a single element may be that large. A
// message larger than its window passes without a stall: gRPC opens the window for one that is being read.
func newGRPC(cfg Config) *grpc.Server {
	const window = 4 << 20
	return grpc.NewServer(
		grpc.ForceServerCodecV2(newElementsCodec(cfg.Clock)),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.WaitForHandlers(true),
		grpc.StatsHandler(connections{}),
		// Python pings every 20 s, also on idle connections (channel_factory.py); gRPC's default policy would hang up on it.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		// A live harness is heard of at each ping. One that is not is the watchdog's (watchdog.go), which comes before gRPC's own limit.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: cfg.SilenceMax / 4, Timeout: 2 * cfg.SilenceMax}),
	)
}

// Run serves until ctx ends or Close is called; then it has stopped all workers and ended all streams.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	err := s.grpc.Serve(hearing{s.listener})
	s.Close()
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fault.New(fault.Environment, codeListen, "serve SDK harnesses: %w", err)
	}
	return nil
}

// Close stops all workers, ends all streams and waits for their goroutines. Idempotent; also right when Run was never called.
func (s *Server) Close() {
	s.mu.Lock()
	s.mu.closed = true
	workers := make([]*Worker, 0, len(s.mu.workers))
	for _, w := range s.mu.workers {
		workers = append(workers, w)
	}
	s.mu.Unlock()
	for _, w := range workers {
		w.Stop()
	}
	s.grpc.Stop()
	s.streams.Wait()
	s.artifacts.close()
	s.listener.Close() // Serve closes it, too; the error says no more than that
}

// AddDescriptor makes a descriptor known to all workers, who fetch it when they first meet its id. The caller has filled in the data
// and state endpoints and must not change it afterwards. An id is taken once.
func (s *Server) AddDescriptor(d *fnpb.ProcessBundleDescriptor) error {
	id := DescriptorID(d.GetId())
	if id == "" {
		return misuse("a descriptor without id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.descriptors[id]; ok {
		return misuse("descriptor %s exists already: harnesses cache descriptors by id", id)
	}
	s.mu.descriptors[id] = d
	return nil
}

// RemoveDescriptor forgets a descriptor, when its job has ended.
func (s *Server) RemoveDescriptor(id DescriptorID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.descriptors, id)
}

// descriptor returns a descriptor, or nil.
func (s *Server) descriptor(id DescriptorID) *fnpb.ProcessBundleDescriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.descriptors[id]
}

// Expect registers a worker id, so that a harness may connect under it.
func (s *Server) Expect(spec WorkerSpec) (*Worker, error) {
	if spec.ID == "" {
		return nil, misuse("a worker without id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, misuse("the server is closed")
	}
	if _, ok := s.mu.workers[spec.ID]; ok {
		return nil, misuse("worker %s is expected already", spec.ID)
	}
	if len(s.mu.workers) >= s.cfg.WorkersMax {
		return nil, fault.New(fault.Environment, codeWorkersMax, "%d workers are registered, which is the limit", s.cfg.WorkersMax).
			WithHint("raise the limit or run fewer jobs at a time")
	}
	w := newWorker(s, spec)
	s.mu.workers[spec.ID] = w
	return w, nil
}

// forget makes the worker's id unknown.
func (s *Server) forget(id WorkerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.workers, id)
}

// workerIDHeader says which worker calls. Spec: python worker_id_interceptor.py.
const workerIDHeader = "worker_id"

// admit returns the worker that a call belongs to. The status does not say whether an id once existed.
func (s *Server) admit(ctx context.Context) (*Worker, error) {
	ids := metadata.ValueFromIncomingContext(ctx, workerIDHeader)
	if len(ids) != 1 {
		return nil, status.Error(codes.PermissionDenied, "the call must carry one worker_id in its metadata")
	}
	s.mu.Lock()
	w, ok := s.mu.workers[WorkerID(ids[0])]
	s.mu.Unlock()
	if !ok {
		return nil, status.Error(codes.PermissionDenied,
			"this worker_id is not expected (a Python SDK before 2.65 may not send its own in LOOPBACK)")
	}
	return w, nil
}

// pump runs the two halves of a stream in goroutines of their own and returns when stop is closed or when either half returns. The
// gRPC runtime cancels the stream when its handler returns, and that ends the other half, even one that blocks on a peer which does
// not read. halt tells write, which also waits for things that are not the stream.
func (s *Server) pump(stop <-chan struct{}, read func() error, write func(halt <-chan struct{}) error) error {
	halt := make(chan struct{})
	defer close(halt)
	ended := make(chan error, 2)
	s.streams.Go(func() { ended <- read() })
	if write != nil {
		s.streams.Go(func() { ended <- write(halt) })
	}
	select {
	case <-stop:
		return nil
	case err := <-ended:
		return err
	}
}
