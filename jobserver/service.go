package jobserver

import (
	"context"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
	"padstone/jobserver/artifact"
	"padstone/jobserver/internal/rpc"
)

// jobService is the gRPC face of Server. Spec: beam_job_api.proto JobService.
type jobService struct {
	jobpb.UnimplementedJobServiceServer
	server *Server
}

// Prepare refuses a bad pipeline with INVALID_ARGUMENT: code, the user's transform name and a hint in the text.
func (g *jobService) Prepare(ctx context.Context, request *jobpb.PrepareJobRequest) (*jobpb.PrepareJobResponse, error) {
	p, err := g.server.prepare(ctx, request)
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.PrepareJobResponse{
		PreparationId:           p.id,
		StagingSessionToken:     string(p.token),
		ArtifactStagingEndpoint: &pipepb.ApiServiceDescriptor{Url: g.stagingEndpoint(ctx)},
	}, nil
}

func (g *jobService) stagingEndpoint(ctx context.Context) string {
	called := metadata.ValueFromIncomingContext(ctx, ":authority")
	if g.server.cfg.StagingEndpoint == nil || len(called) != 1 {
		return g.server.cfg.ArtifactEndpoint
	}
	return g.server.cfg.StagingEndpoint(called[0])
}

// Run ignores the request's retrieval token: Go's client sends its staging token in it, the others nothing.
func (g *jobService) Run(ctx context.Context, request *jobpb.RunJobRequest) (*jobpb.RunJobResponse, error) {
	id, err := g.server.runPrepared(ctx, request.GetPreparationId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.RunJobResponse{JobId: id}, nil
}

func (g *jobService) GetJobs(context.Context, *jobpb.GetJobsRequest) (*jobpb.GetJobsResponse, error) {
	response := &jobpb.GetJobsResponse{}
	for _, info := range g.server.Jobs() {
		options, err := g.server.registry.options(info.ID)
		if err != nil {
			// One job's damaged options must not hide the others; the field is required, so it is empty.
			g.server.cfg.Log.Warn("a job's options do not read back", zap.String("job", info.ID), zap.Error(err))
			options = &structpb.Struct{}
		}
		response.JobInfo = append(response.JobInfo, &jobpb.JobInfo{
			JobId: info.ID, JobName: info.Name, PipelineOptions: options, State: info.State,
		})
	}
	return response, nil
}

func (g *jobService) GetState(_ context.Context, request *jobpb.GetJobStateRequest) (*jobpb.JobStateEvent, error) {
	j, err := g.server.find(request.GetJobId())
	if err != nil {
		return nil, statusOf(err)
	}
	return j.state(), nil
}

func (g *jobService) GetPipeline(
	_ context.Context, request *jobpb.GetJobPipelineRequest,
) (*jobpb.GetJobPipelineResponse, error) {
	if _, err := g.server.find(request.GetJobId()); err != nil {
		return nil, statusOf(err)
	}
	pipeline, err := g.server.registry.pipeline(request.GetJobId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.GetJobPipelineResponse{Pipeline: pipeline}, nil
}

// GetStateStream sends every state from the first to the terminal one, then ends.
func (g *jobService) GetStateStream(request *jobpb.GetJobStateRequest, stream jobpb.JobService_GetStateStreamServer) error {
	return statusOf(g.server.follow(stream.Context(), request.GetJobId(), func(e event) error {
		if e.state == nil {
			return nil
		}
		return stream.Send(e.state)
	}))
}

// GetMessageStream sends states and messages in the order in which they happened; the terminal state is the last.
func (g *jobService) GetMessageStream(request *jobpb.JobMessagesRequest, stream jobpb.JobService_GetMessageStreamServer) error {
	return statusOf(g.server.follow(stream.Context(), request.GetJobId(), func(e event) error {
		return stream.Send(e.response())
	}))
}

func (g *jobService) GetJobMetrics(
	ctx context.Context, request *jobpb.GetJobMetricsRequest,
) (*jobpb.GetJobMetricsResponse, error) {
	metrics, err := g.server.Metrics(ctx, request.GetJobId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.GetJobMetricsResponse{Metrics: metrics}, nil
}

func (g *jobService) Cancel(ctx context.Context, request *jobpb.CancelJobRequest) (*jobpb.CancelJobResponse, error) {
	state, err := g.server.Cancel(ctx, request.GetJobId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.CancelJobResponse{State: state}, nil
}

func (g *jobService) Drain(ctx context.Context, request *jobpb.DrainJobRequest) (*jobpb.DrainJobResponse, error) {
	state, err := g.server.Drain(ctx, request.GetJobId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &jobpb.DrainJobResponse{State: state}, nil
}

// DescribePipelineOptions lists the executor's options; Python's client declares them as its own flags.
func (g *jobService) DescribePipelineOptions(
	context.Context, *jobpb.DescribePipelineOptionsRequest,
) (*jobpb.DescribePipelineOptionsResponse, error) {
	return &jobpb.DescribePipelineOptionsResponse{Options: slices.Concat(g.server.cfg.Options, overrideOptions())}, nil
}

func statusOf(err error) error {
	return rpc.Error(err, func(code fault.Code) (codes.Code, bool) {
		switch code {
		case "job-not-found", "preparation-not-found":
			return codes.NotFound, true
		case "job-cancelling":
			return codes.FailedPrecondition, true
		}
		// The server is there; what the job needs besides is not. UNAVAILABLE would be taken for the server's own absence.
		if strings.HasPrefix(string(code), "harness-") || strings.HasPrefix(string(code), "docker-") {
			return codes.FailedPrecondition, true
		}
		return artifact.Code(code)
	})
}
