package expansion

import (
	"context"
	"fmt"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"padstone/connector"
	"padstone/internal/fault"
)

// The transforms that are expanded. Spec: KafkaIO.java Read.External and Write.External.
const (
	urnRead         = "beam:transform:org.apache.beam:kafka_read_without_metadata:v1"
	urnReadMetadata = "beam:transform:org.apache.beam:kafka_read_with_metadata:v1"
	urnWrite        = "beam:transform:org.apache.beam:kafka_write:v1"
	urnWriteHeaders = "beam:transform:org.apache.beam:kafka_write_with_headers:v1"
)

const (
	codeTransform   fault.Code = "unsupported-external-transform"
	codeFailed      fault.Code = "expansion-failed"
	codeUnreachable fault.Code = "expansion-service-unreachable"
	codeArtifact    fault.Code = "expansion-artifact-unknown"
	codeRequest     fault.Code = "expansion-request"
	codeOption      fault.Code = "kafka-option"
	codeCoder       fault.Code = "kafka-input-coder"
)

// Service implements the expansion service.
type Service struct {
	jobpb.UnimplementedExpansionServiceServer
	connectors connector.Registry
	forward    *Forwarder
	log        *zap.Logger
}

// New returns a service that checks configurations with the sources and sinks of connectors, and passes on what is not ours. The
// forwarder, which may be nil, stays the caller's to close.
func New(connectors connector.Registry, forward *Forwarder, log *zap.Logger) *Service {
	return &Service{connectors: connectors, forward: forward, log: log.Named("expansion")}
}

// Register adds the service to a server, with the artifacts of what it expands: SDKs ask for them at the same address.
func (s *Service) Register(server grpc.ServiceRegistrar) {
	jobpb.RegisterExpansionServiceServer(server, s)
	jobpb.RegisterArtifactRetrievalServiceServer(server, &retrieval{forward: s.forward})
}

// DiscoverSchemaTransform implements ExpansionServiceServer: what the other services offer; there are no schema transforms of ours.
func (s *Service) DiscoverSchemaTransform(
	ctx context.Context, req *jobpb.DiscoverSchemaTransformRequest,
) (*jobpb.DiscoverSchemaTransformResponse, error) {
	return s.forward.discover(ctx, req), nil
}

// Expand implements ExpansionServiceServer. Spec: beam_expansion_api.proto ExpansionRequest.
func (s *Service) Expand(ctx context.Context, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	resp, err := s.expand(ctx, req)
	if err != nil {
		s.log.Info("transform refused", zap.String("transform", req.GetTransform().GetUniqueName()), zap.Error(err))
		// A client whose deadline has passed is told so by the call's status. With an answer in its place, the two would race.
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return &jobpb.ExpansionResponse{Error: err.Error()}, nil
	}
	return resp, nil
}

func (s *Service) expand(ctx context.Context, req *jobpb.ExpansionRequest) (resp *jobpb.ExpansionResponse, err error) {
	if req.GetTransform() == nil {
		return nil, fault.New(fault.Pipeline, codeRequest, "the request has no transform")
	}
	switch urn := req.GetTransform().GetSpec().GetUrn(); urn {
	case urnRead, urnReadMetadata, urnWrite, urnWriteHeaders:
		if s.forward.takes(urn) {
			resp, err = s.forward.expand(ctx, req)
			break
		}
		resp, err = s.expandNative(urn, req)
	default:
		resp, err = s.forward.expand(ctx, req)
	}
	if f := fault.Of(err); f != nil {
		return nil, f.In(req.GetTransform().GetUniqueName())
	}
	return resp, err
}

// expandNative expands a transform that Padstone runs itself.
func (s *Service) expandNative(urn string, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	x := newExpansion(req)
	var err error
	switch urn {
	case urnRead, urnReadMetadata:
		err = s.read(x, urn == urnReadMetadata, req.GetOutputCoderRequests())
	default:
		err = s.write(x, urn == urnWriteHeaders)
	}
	if err != nil {
		return nil, err
	}
	return &jobpb.ExpansionResponse{Components: x.components, Transform: x.transform, Requirements: req.GetRequirements()}, nil
}

// expansion builds one response. Components start as those of the request; what is added carries the request's namespace.
type expansion struct {
	namespace  string
	components *pipepb.Components
	transform  *pipepb.PTransform
}

func newExpansion(req *jobpb.ExpansionRequest) *expansion {
	c := &pipepb.Components{}
	if req.GetComponents() != nil {
		c = proto.CloneOf(req.GetComponents())
	}
	if c.Coders == nil {
		c.Coders = map[string]*pipepb.Coder{}
	}
	if c.Pcollections == nil {
		c.Pcollections = map[string]*pipepb.PCollection{}
	}
	if c.WindowingStrategies == nil {
		c.WindowingStrategies = map[string]*pipepb.WindowingStrategy{}
	}
	return &expansion{namespace: req.GetNamespace(), components: c, transform: proto.CloneOf(req.GetTransform())}
}

// id returns an id that no other expansion of the pipeline has.
func (x *expansion) id(name string) string { return x.namespace + "_" + name }

// coder adds a coder under a namespaced name and returns its id.
func (x *expansion) coder(name, urn string, payload []byte, parts ...string) string {
	id := x.id(name)
	x.components.Coders[id] = &pipepb.Coder{
		Spec: &pipepb.FunctionSpec{Urn: urn, Payload: payload}, ComponentCoderIds: parts,
	}
	return id
}

// settle replaces the transform's specification: the native URN, its configuration, and no environment.
func (x *expansion) settle(urn connector.URN, config []byte) {
	x.transform.Spec = &pipepb.FunctionSpec{Urn: string(urn), Payload: config}
	x.transform.Subtransforms = nil
	x.transform.EnvironmentId = ""
}

// settleWithin makes the transform a composite without outputs, with the native transform as its only step. The step has an output
// that nobody reads: the Python SDK drops leaves without outputs when it optimizes a batch pipeline, and the write would be lost.
// Spec: python translations.py leaf_transform_stages.
func (x *expansion) settleWithin(urn connector.URN, config []byte, step string) {
	inner, nothing := x.id("step"), x.id("nothing")
	x.components.Pcollections[nothing] = &pipepb.PCollection{
		UniqueName: nothing, CoderId: x.coder("coder_bytes", "beam:coder:bytes:v1", nil),
		WindowingStrategyId: x.globalWindowing(), IsBounded: pipepb.IsBounded_BOUNDED,
	}
	if x.components.Transforms == nil {
		x.components.Transforms = map[string]*pipepb.PTransform{}
	}
	x.components.Transforms[inner] = &pipepb.PTransform{
		UniqueName: x.transform.GetUniqueName() + "/" + step,
		Spec:       &pipepb.FunctionSpec{Urn: string(urn), Payload: config},
		Inputs:     x.transform.GetInputs(),
		Outputs:    map[string]string{"nothing": nothing},
	}
	x.transform.Spec = nil
	x.transform.Outputs = nil
	x.transform.Subtransforms = []string{inner}
	x.transform.EnvironmentId = ""
}

// input returns the one input PCollection.
func (x *expansion) input() (*pipepb.PCollection, error) {
	if len(x.transform.GetInputs()) != 1 {
		return nil, fault.New(fault.Pipeline, codeRequest, "a Kafka write takes one input, not %d", len(x.transform.GetInputs()))
	}
	for tag, id := range x.transform.GetInputs() {
		if pc := x.components.GetPcollections()[id]; pc != nil {
			return pc, nil
		}
		return nil, fault.New(fault.Pipeline, codeRequest, "input %q is PCollection %q, which the request does not have", tag, id)
	}
	return nil, fmt.Errorf("unreachable: one input, none seen")
}
