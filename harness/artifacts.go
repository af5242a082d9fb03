package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// Artifact URNs. Spec: beam_runner_api.proto StandardArtifacts.
const (
	typeFile            = "beam:artifact:type:file:v1"
	typeURL             = "beam:artifact:type:url:v1"
	roleStagingTo       = "beam:artifact:role:staging_to:v1"
	rolePipRequirements = "beam:artifact:role:pip_requirements_file:v1"
)

// stagedName returns the file name that a dependency is staged under.
func stagedName(dep *pipepb.ArtifactInformation) (string, error) {
	if dep.GetRoleUrn() == roleStagingTo {
		var role pipepb.ArtifactStagingToRolePayload
		if err := proto.Unmarshal(dep.GetRolePayload(), &role); err != nil {
			return "", fmt.Errorf("role payload: %w", err)
		}
		return role.GetStagedName(), nil
	}
	switch dep.GetTypeUrn() {
	case typeFile:
		var file pipepb.ArtifactFilePayload
		if err := proto.Unmarshal(dep.GetTypePayload(), &file); err != nil {
			return "", fmt.Errorf("file payload: %w", err)
		}
		return filepath.Base(file.GetPath()), nil
	case typeURL:
		var url pipepb.ArtifactUrlPayload
		if err := proto.Unmarshal(dep.GetTypePayload(), &url); err != nil {
			return "", fmt.Errorf("url payload: %w", err)
		}
		return path.Base(url.GetUrl()), nil
	}
	return "", fmt.Errorf("artifact type %q with role %q has no file name", dep.GetTypeUrn(), dep.GetRoleUrn())
}

// expectedDigest returns the SHA-256 that a dependency states, in hex, or "".
func expectedDigest(dep *pipepb.ArtifactInformation) string {
	if dep.GetTypeUrn() != typeFile {
		return ""
	}
	var file pipepb.ArtifactFilePayload
	if err := proto.Unmarshal(dep.GetTypePayload(), &file); err != nil {
		return ""
	}
	return file.GetSha256()
}

// fetchArtifacts writes an environment's dependencies to dir, each under its staged name. Spec: beam_artifact_api.proto
// ArtifactRetrievalService.
func fetchArtifacts(ctx context.Context, endpoint string, id fnapi.WorkerID, deps []*pipepb.ArtifactInformation, dir string) error {
	if len(deps) == 0 {
		return nil
	}
	if endpoint == "" {
		return fault.New(fault.Internal, codeArtifact, "%d dependencies and no artifact endpoint", len(deps))
	}
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		return fault.New(fault.Environment, codeArtifact, "artifact service at %s: %w", endpoint, err)
	}
	defer conn.Close()
	ctx = metadata.AppendToOutgoingContext(ctx, "worker_id", string(id))
	client := jobpb.NewArtifactRetrievalServiceClient(conn)
	resolved, err := client.ResolveArtifacts(ctx, &jobpb.ResolveArtifactsRequest{Artifacts: deps})
	if err != nil {
		return fault.New(fault.Environment, codeArtifact, "resolve artifacts at %s: %w", endpoint, err)
	}
	for _, dep := range resolved.GetReplacements() {
		name, err := stagedName(dep)
		if err == nil && !filepath.IsLocal(filepath.FromSlash(name)) {
			err = errors.New("the staged name leaves its directory")
		}
		if err == nil {
			err = fetchArtifact(ctx, client, dep, filepath.Join(dir, filepath.FromSlash(name)))
		}
		if err != nil {
			return fault.New(fault.Environment, codeArtifact, "artifact %q: %w", name, err)
		}
	}
	return nil
}

// fetchArtifact writes one artifact to a file and checks its digest.
func fetchArtifact(
	ctx context.Context, client jobpb.ArtifactRetrievalServiceClient, dep *pipepb.ArtifactInformation, file string,
) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	stream, err := client.GetArtifact(ctx, &jobpb.GetArtifactRequest{Artifact: dep})
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755) // a staged file may be a program
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	digest := sha256.New()
	if err := copyChunks(stream, out, digest); err != nil {
		return err
	}
	if want, got := expectedDigest(dep), hex.EncodeToString(digest.Sum(nil)); want != "" && want != got {
		return fmt.Errorf("its SHA-256 is %s and should be %s", got, want)
	}
	return nil
}

func copyChunks(stream jobpb.ArtifactRetrievalService_GetArtifactClient, out io.Writer, digest hash.Hash) error {
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := io.MultiWriter(out, digest).Write(chunk.GetData()); err != nil {
			return err
		}
	}
}
