package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
)

// chunkBytes is the size of a GetArtifactResponse: well below the 4 MiB that gRPC clients accept by default.
const chunkBytes = 2 << 20

// NoArtifactsStaged is the retrieval token to provision harnesses with. Beam's boot programs fetch by the dependencies of
// ProvisionInfo; for an environment without any, every other token sends them to the legacy service, which nobody serves any more.
// Spec: sdks/go/pkg/beam/artifact/materialize.go Materialize.
const NoArtifactsStaged = "__no_artifacts_staged__"

type retrievalServer struct {
	jobpb.UnimplementedArtifactRetrievalServiceServer
	service *Service
}

// ResolveArtifacts returns the artifacts as they are once each is known to be stored: staging has resolved them.
func (g *retrievalServer) ResolveArtifacts(
	_ context.Context, request *jobpb.ResolveArtifactsRequest,
) (*jobpb.ResolveArtifactsResponse, error) {
	for _, artifact := range request.GetArtifacts() {
		digest, err := digestOf(artifact)
		if err != nil {
			return nil, statusOf(err)
		}
		if _, err := os.Stat(g.service.cfg.Store.Path(digest)); errors.Is(err, fs.ErrNotExist) {
			_, _, err := g.service.cfg.Store.Open(digest)
			return nil, statusOf(err)
		}
	}
	return &jobpb.ResolveArtifactsResponse{Replacements: request.GetArtifacts()}, nil
}

// GetArtifact streams a stored content in chunks; an empty content is one empty chunk.
func (g *retrievalServer) GetArtifact(
	request *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer,
) error {
	return statusOf(g.service.retrieve(request.GetArtifact(), stream))
}

func (s *Service) retrieve(artifact *pipepb.ArtifactInformation, stream jobpb.ArtifactRetrievalService_GetArtifactServer) (err error) {
	digest, err := digestOf(artifact)
	if err != nil {
		return err
	}
	file, size, err := s.cfg.Store.Open(digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	hash := sha256.New()
	for sent := int64(0); ; {
		// A fresh buffer each time: gRPC may still hold the last one.
		buf := make([]byte, min(chunkBytes, size-sent))
		n, err := io.ReadFull(file, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read artifact: %w", err)
		}
		hash.Write(buf[:n])
		if err := stream.Send(&jobpb.GetArtifactResponse{Data: buf[:n]}); err != nil {
			return fmt.Errorf("send artifact: %w", err)
		}
		if sent += int64(n); sent >= size || n == 0 {
			break
		}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != string(digest) {
		return fault.New(fault.Corruption, "artifact-corrupt", "stored artifact %s reads back as %s", digest, got).
			WithHint("delete that file below the data directory's artifacts/sha256 and submit the pipeline again")
	}
	return nil
}

// digestOf reads the digest of an artifact that a harness asks for. The path in the payload is a name for people and is never opened.
func digestOf(artifact *pipepb.ArtifactInformation) (Digest, error) {
	if URN(artifact.GetTypeUrn()) != typeFile() {
		return "", fault.New(fault.Pipeline, "unsupported-artifact-type", "artifacts are served as %s, not %.100q",
			typeFile(), artifact.GetTypeUrn())
	}
	payload := &pipepb.ArtifactFilePayload{}
	if err := proto.Unmarshal(artifact.GetTypePayload(), payload); err != nil {
		return "", invalid(artifact, err)
	}
	digest, ok := ParseDigest(payload.GetSha256())
	if !ok {
		return "", fault.New(fault.Pipeline, "artifact-not-found", "artifact %.200q has no sha256 to find it by", payload.GetPath())
	}
	return digest, nil
}
