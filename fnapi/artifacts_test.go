package fnapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/fnapi"
)

// chunkBytes is more than gRPC clients take by default.
const chunkBytes = 5 << 20

// artifactService answers every artifact with its type payload, often.
type artifactService struct {
	jobpb.UnimplementedArtifactRetrievalServiceServer
}

func (artifactService) ResolveArtifacts(
	_ context.Context, req *jobpb.ResolveArtifactsRequest,
) (*jobpb.ResolveArtifactsResponse, error) {
	return &jobpb.ResolveArtifactsResponse{Replacements: req.GetArtifacts()}, nil
}

func (artifactService) GetArtifact(req *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer) error {
	if len(req.GetArtifact().GetTypePayload()) == 0 {
		return status.Error(codes.NotFound, "it is not there")
	}
	for range 3 {
		data := bytes.Repeat(req.GetArtifact().GetTypePayload(), chunkBytes)
		if err := stream.Send(&jobpb.GetArtifactResponse{Data: data}); err != nil {
			return err
		}
	}
	return nil
}

func serveArtifacts(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	jobpb.RegisterArtifactRetrievalServiceServer(g, artifactService{})
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		<-ended
	})
	return lis.Addr().String()
}

// TestArtifactsOfAWorker: a harness fetches what its environment lists where it does everything else, and nothing else.
func TestArtifactsOfAWorker(t *testing.T) {
	r := newRig(t)
	const urn = "beam:artifact:type:file:v1"
	own := &pipepb.ArtifactInformation{TypeUrn: urn, TypePayload: []byte("x")}
	gone := &pipepb.ArtifactInformation{TypeUrn: urn}
	w, err := r.server.Expect(fnapi.WorkerSpec{
		ID: fnapi.NewWorkerID("w"), ArtifactEndpoint: serveArtifacts(t),
		Environment: &pipepb.Environment{Dependencies: []*pipepb.ArtifactInformation{own, gone}},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := jobpb.NewArtifactRetrievalServiceClient(dial(t, r, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20))))
	get := func(id fnapi.WorkerID, a *pipepb.ArtifactInformation) (n int, err error) {
		stream, err := client.GetArtifact(as(r.context(), id), &jobpb.GetArtifactRequest{Artifact: a})
		for err == nil {
			var chunk *jobpb.GetArtifactResponse
			if chunk, err = stream.Recv(); err == nil {
				n += len(chunk.GetData())
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return n, err
	}
	resolved, err := client.ResolveArtifacts(as(r.context(), w.ID()),
		&jobpb.ResolveArtifactsRequest{Artifacts: []*pipepb.ArtifactInformation{own}})
	if err != nil || len(resolved.GetReplacements()) != 1 {
		t.Fatalf("%v, %v", resolved, err)
	}
	if n, err := get(w.ID(), resolved.GetReplacements()[0]); n != 3*chunkBytes || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if _, err := get(w.ID(), gone); status.Code(err) != codes.NotFound {
		t.Fatalf("the service's own answer: %v", err)
	}
	if _, err := get(r.worker.ID(), own); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("an artifact of another worker: %v", err)
	}
	_, err = client.ResolveArtifacts(as(r.context(), r.worker.ID()),
		&jobpb.ResolveArtifactsRequest{Artifacts: []*pipepb.ArtifactInformation{own}})
	if status.Code(err) != codes.PermissionDenied {
		t.Fatalf("an artifact of another worker: %v", err)
	}
	for _, id := range []fnapi.WorkerID{"", "guess"} {
		if _, err := get(id, own); status.Code(err) != codes.PermissionDenied {
			t.Fatalf("worker id %q: %v", id, err)
		}
	}
	w.Stop()
	if _, err := get(w.ID(), own); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("a stopped worker: %v", err)
	}
}
