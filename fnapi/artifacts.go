package fnapi

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Harnesses fetch staged files where they do everything else, so that one port must be reached from where they run, and only what their
// own environment lists. The server passes the calls on to the service that has the files.

// artifactConns are connections to artifact services, by address.
type artifactConns struct {
	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

// client returns a client of the service at the address.
func (a *artifactConns) client(address string) (jobpb.ArtifactRetrievalServiceClient, error) {
	if address == "" {
		return nil, status.Error(codes.NotFound, "the job has no artifacts")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, status.Error(codes.Unavailable, "the server is closed")
	}
	conn := a.conns[address]
	if conn == nil {
		const chunkMax = 64 << 20
		var err error
		conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(chunkMax)))
		if err != nil {
			return nil, status.Errorf(codes.Unavailable, "artifact service at %s: %v", address, err)
		}
		if a.conns == nil {
			a.conns = make(map[string]*grpc.ClientConn)
		}
		a.conns[address] = conn
	}
	return jobpb.NewArtifactRetrievalServiceClient(conn), nil
}

func (a *artifactConns) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, conn := range a.conns {
		conn.Close() // it only says that it is closed
	}
}

// ResolveArtifacts passes the question of a harness on. Spec: beam_artifact_api.proto ArtifactRetrievalService.
func (s *Server) ResolveArtifacts(ctx context.Context, req *jobpb.ResolveArtifactsRequest) (*jobpb.ResolveArtifactsResponse, error) {
	client, err := s.artifactClient(ctx, req.GetArtifacts()...)
	if err != nil {
		return nil, err
	}
	return client.ResolveArtifacts(ctx, req)
}

// GetArtifact passes an artifact on, message by message.
func (s *Server) GetArtifact(req *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer) error {
	client, err := s.artifactClient(stream.Context(), req.GetArtifact())
	if err != nil {
		return err
	}
	from, err := client.GetArtifact(stream.Context(), req)
	if err != nil {
		return err
	}
	for {
		chunk, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(chunk); err != nil {
			return err
		}
	}
}

// artifactClient returns the client for what a harness may fetch. The service resolves an artifact to itself: what was staged was resolved
// before.
func (s *Server) artifactClient(ctx context.Context, wanted ...*pipepb.ArtifactInformation) (jobpb.ArtifactRetrievalServiceClient, error) {
	w, err := s.admit(ctx)
	if err != nil {
		return nil, err
	}
	of := w.of.Load()
	for _, a := range wanted {
		listed := slices.ContainsFunc(of.Environment.GetDependencies(), func(d *pipepb.ArtifactInformation) bool {
			return d.GetTypeUrn() == a.GetTypeUrn() && string(d.GetTypePayload()) == string(a.GetTypePayload())
		})
		if !listed {
			return nil, status.Error(codes.PermissionDenied, "the worker's environment does not list this artifact")
		}
	}
	return s.artifacts.client(of.ArtifactEndpoint)
}
