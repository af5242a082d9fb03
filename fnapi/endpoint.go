package fnapi

import (
	"context"
	"net"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
)

// A harness may see this machine under another name than others do: from a container with a network of its own localhost is the
// container. So each worker has the endpoint that it was told, and whatever names an endpoint names that one to it.

// Endpoint returns "host:port" for harnesses on this machine: it is every service's endpoint.
func (s *Server) Endpoint() string { return s.endpoint }

// AdvertisedEndpoint returns "host:port" for harnesses elsewhere.
func (s *Server) AdvertisedEndpoint() string { return s.advertised }

// Advertises says whether the host that harnesses elsewhere dial was chosen by the configuration.
func (s *Server) Advertises() bool { return s.cfg.AdvertisedHost != "" }

// ListenOn serves on any port of another of this machine's addresses, too, and returns the endpoint of harnesses that reach it there. A
// host is listened on once. early says that the address may become this machine's later, where the system can wait for that (Linux). Run
// must have been called.
func (s *Server) ListenOn(host string, early bool) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return "", misuse("the server is closed")
	}
	if endpoint, ok := s.mu.endpoints[host]; ok {
		return endpoint, nil
	}
	var config net.ListenConfig
	if early {
		config.Control = bindEarly
	}
	lis, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fault.New(fault.Environment, codeListen, "listen for SDK harnesses: %w", err).
			WithHint("the address must be one of this machine's")
	}
	endpoint := lis.Addr().String()
	s.mu.endpoints[host] = endpoint
	s.streams.Go(func() {
		if err := s.grpc.Serve(hearing{lis}); err != nil {
			s.log.Debug("listener ended", zap.String("endpoint", endpoint), zap.Error(err))
		}
	})
	s.log.Info("listening for SDK harnesses", zap.String("endpoint", endpoint))
	return endpoint, nil
}

// DataEndpoint is the descriptor for remote gRPC ports and for timer_api_service_descriptor: these two must be equal, else the Python
// SDK reads data and timers one after the other. Spec: python bundle_processor.py BundleProcessor.process_bundle.
func (s *Server) DataEndpoint() *pipepb.ApiServiceDescriptor {
	return &pipepb.ApiServiceDescriptor{Url: s.endpoint}
}

// StateEndpoint is the descriptor for state_api_service_descriptor.
func (s *Server) StateEndpoint() *pipepb.ApiServiceDescriptor {
	return &pipepb.ApiServiceDescriptor{Url: s.endpoint}
}

// Endpoint returns what the worker's harness dials to reach the server.
func (w *Worker) Endpoint() string { return w.spec.Endpoint }

// seenFrom returns the descriptor as the worker must see it: with the endpoint that the worker reaches the server by.
func (s *Server) seenFrom(w *Worker, d *fnpb.ProcessBundleDescriptor) (*fnpb.ProcessBundleDescriptor, error) {
	if w == nil || w.spec.Endpoint == s.endpoint {
		return d, nil
	}
	here := &pipepb.ApiServiceDescriptor{Url: w.spec.Endpoint}
	d = proto.CloneOf(d)
	for _, service := range []**pipepb.ApiServiceDescriptor{&d.StateApiServiceDescriptor, &d.TimerApiServiceDescriptor} {
		if *service != nil {
			*service = here
		}
	}
	for _, t := range d.GetTransforms() {
		if urn := t.GetSpec().GetUrn(); urn != urnSource && urn != urnSink {
			continue
		}
		port := &fnpb.RemoteGrpcPort{}
		if err := proto.Unmarshal(t.GetSpec().GetPayload(), port); err != nil {
			return nil, err
		}
		port.ApiServiceDescriptor = here
		payload, err := proto.Marshal(port)
		if err != nil {
			return nil, err
		}
		t.Spec.Payload = payload
	}
	return d, nil
}

// The transforms of a descriptor that name an endpoint. Spec: beam_fn_api.proto RemoteGrpcPort.
const (
	urnSource = "beam:runner:source:v1"
	urnSink   = "beam:runner:sink:v1"
)

// owner returns the worker of a call that says nothing of it: the one whose control stream is on the same connection, or nil.
func (s *Server) owner(ctx context.Context) *Worker {
	if c := connectionOf(ctx); c != nil {
		return c.worker.Load()
	}
	return nil
}
