package fnapi

import (
	"context"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// RunnerCapabilities are the optional parts of the Fn API that this package has. Spec: beam_runner_api.proto StandardRunnerProtocols.
// The third also needs the state handlers to answer multimap_keys_values_side_input.
func RunnerCapabilities() []string {
	return []string{
		"beam:protocol:monitoring_info_short_ids:v1",
		"beam:protocol:control_response_elements_embedding:v1",
		"beam:protocol:multimap_keys_values_side_input:v1",
	}
}

// GetProvisionInfo tells a harness what to run with. Spec: beam_provision_api.proto.
func (s *Server) GetProvisionInfo(ctx context.Context, _ *fnpb.GetProvisionInfoRequest) (*fnpb.GetProvisionInfoResponse, error) {
	w, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	w.provisioned.Store(true)
	return &fnpb.GetProvisionInfoResponse{Info: w.ProvisionInfo()}, nil
}

// Provisioned says whether the worker's harness has asked for its provisioning, as Beam's boot programs do. A worker that runs as a
// thread of the submitting program does not.
func (w *Worker) Provisioned() bool { return w.provisioned.Load() }

// ProvisionInfo returns what GetProvisionInfo tells the worker's harness.
func (w *Worker) ProvisionInfo() *fnpb.ProvisionInfo {
	here, of := &pipepb.ApiServiceDescriptor{Url: w.spec.Endpoint}, w.of.Load()
	info := &fnpb.ProvisionInfo{
		PipelineOptions:    of.Options,
		RetrievalToken:     of.RetrievalToken,
		StatusEndpoint:     here,
		LoggingEndpoint:    here,
		ControlEndpoint:    here,
		Dependencies:       of.Environment.GetDependencies(),
		RunnerCapabilities: RunnerCapabilities(),
		Metadata:           map[string]string{"job_id": of.JobID, "job_name": of.JobName},
	}
	if of.ArtifactEndpoint != "" {
		info.ArtifactEndpoint = here // Server.ResolveArtifacts
	}
	return info
}
