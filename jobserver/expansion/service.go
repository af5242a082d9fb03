package expansion

import (
	"context"
	"fmt"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
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
	codeTransform fault.Code = "unsupported-external-transform"
	codeRequest   fault.Code = "expansion-request"
	codeOption    fault.Code = "kafka-option"
	codeCoder     fault.Code = "kafka-input-coder"
)

// Service implements the expansion service.
type Service struct {
	jobpb.UnimplementedExpansionServiceServer
	connectors connector.Registry
	log        *zap.Logger
}

// New returns a service that checks configurations with the sources and sinks of connectors.
func New(connectors connector.Registry, log *zap.Logger) *Service {
	return &Service{connectors: connectors, log: log.Named("expansion")}
}

// Register adds the service to a server.
func (s *Service) Register(server grpc.ServiceRegistrar) {
	jobpb.RegisterExpansionServiceServer(server, s)
}

// DiscoverSchemaTransform implements ExpansionServiceServer: there are no schema transforms.
func (s *Service) DiscoverSchemaTransform(
	context.Context, *jobpb.DiscoverSchemaTransformRequest,
) (*jobpb.DiscoverSchemaTransformResponse, error) {
	return &jobpb.DiscoverSchemaTransformResponse{}, nil
}

// Expand implements ExpansionServiceServer. Spec: beam_expansion_api.proto ExpansionRequest.
func (s *Service) Expand(_ context.Context, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	resp, err := s.expand(req)
	if err != nil {
		s.log.Info("transform refused", zap.String("transform", req.GetTransform().GetUniqueName()), zap.Error(err))
		return &jobpb.ExpansionResponse{Error: err.Error()}, nil
	}
	return resp, nil
}

func (s *Service) expand(req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	if req.GetTransform() == nil {
		return nil, fault.New(fault.Pipeline, codeRequest, "the request has no transform")
	}
	x := newExpansion(req)
	var err error
	switch urn := x.transform.GetSpec().GetUrn(); urn {
	case urnRead, urnReadMetadata:
		err = s.read(x, urn == urnReadMetadata, req.GetOutputCoderRequests())
	case urnWrite, urnWriteHeaders:
		err = s.write(x, urn == urnWriteHeaders)
	default:
		err = fault.New(fault.Pipeline, codeTransform, "external transform %q is not run by Padstone itself", urn).
			WithHint("start the expansion service that has it, for example Beam's Java one, and name it in the transform's expansion_service")
	}
	if err != nil {
		if f := fault.Of(err); f != nil {
			return nil, f.In(x.transform.GetUniqueName())
		}
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
