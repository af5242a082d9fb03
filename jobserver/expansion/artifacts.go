package expansion

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
	"padstone/jobserver/internal/rpc"
)

const (
	// ownersMax bounds how many artifacts are remembered; a client fetches those of an expansion at once.
	ownersMax = 100_000
	// chunkFor bounds the wait for one chunk of an artifact.
	chunkFor = time.Minute
)

// owners remembers which service handed an artifact out. SDKs fetch the artifacts of an expansion from the address that they sent the
// request to, and only the service that made it can resolve them. The newest ownersMax or so are kept.
type owners struct {
	mu struct {
		sync.Mutex
		young, old map[[sha256.Size]byte]string
	}
}

func newOwners() *owners {
	o := &owners{}
	o.mu.young = map[[sha256.Size]byte]string{}
	return o
}

// key leaves the role out, which clients may set as they like.
func key(a *pipepb.ArtifactInformation) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(a.GetTypeUrn()), a.GetTypeUrn(), a.GetTypePayload()))
}

func (o *owners) add(address string, artifacts []*pipepb.ArtifactInformation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range artifacts {
		if len(o.mu.young) >= ownersMax {
			o.mu.young, o.mu.old = map[[sha256.Size]byte]string{}, o.mu.young
		}
		o.mu.young[key(a)] = address
	}
}

func (o *owners) of(a *pipepb.ArtifactInformation) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k := key(a)
	if address, ok := o.mu.young[k]; ok {
		return address, nil
	}
	if address, ok := o.mu.old[k]; ok {
		return address, nil
	}
	return "", fault.New(fault.Pipeline, codeArtifact, "an artifact of type %.100q is of no expansion that this server passed on",
		a.GetTypeUrn()).WithHint("build the pipeline again: the server may have been restarted since")
}

// learn remembers the artifacts of a service's environments, also of those that an environment offers to choose from.
func (o *owners) learn(address string, environments map[string]*pipepb.Environment) {
	for _, env := range environments {
		o.learnOne(address, env, 0)
	}
}

func (o *owners) learnOne(address string, env *pipepb.Environment, depth int) {
	const depthMax = 8 // what comes from outside may be nested without end
	o.add(address, env.GetDependencies())
	choice := &pipepb.AnyOfEnvironmentPayload{}
	if env.GetUrn() != anyOfURN() || depth == depthMax || proto.Unmarshal(env.GetPayload(), choice) != nil {
		return
	}
	for _, one := range choice.GetEnvironments() {
		o.learnOne(address, one, depth+1)
	}
}

func anyOfURN() string {
	value := pipepb.StandardEnvironments_ANYOF
	options := value.Descriptor().Values().ByNumber(value.Number()).Options()
	urn, _ := proto.GetExtension(options, pipepb.E_BeamUrn).(string)
	return urn
}

// retrieval serves the artifacts of expansions that were passed on, from the services that made them.
// Spec: beam_artifact_api.proto ArtifactRetrievalService; python external.py _resolve_artifacts.
type retrieval struct {
	jobpb.UnimplementedArtifactRetrievalServiceServer
	forward *Forwarder
}

// ResolveArtifacts lets each service resolve its own artifacts. Their order stays: SDKs install in it.
func (r *retrieval) ResolveArtifacts(
	ctx context.Context, req *jobpb.ResolveArtifactsRequest,
) (*jobpb.ResolveArtifactsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, expandFor)
	defer cancel()
	out := &jobpb.ResolveArtifactsResponse{}
	for rest := req.GetArtifacts(); len(rest) > 0; {
		address, err := r.forward.owner(rest[0])
		if err != nil {
			return nil, statusOf(err)
		}
		n := 1
		for ; n < len(rest); n++ {
			if next, err := r.forward.owner(rest[n]); err != nil || next != address {
				break
			}
		}
		resp, err := jobpb.NewArtifactRetrievalServiceClient(r.forward.conns[address]).ResolveArtifacts(ctx,
			&jobpb.ResolveArtifactsRequest{Artifacts: rest[:n], PreferredUrns: req.GetPreferredUrns()})
		if err != nil {
			return nil, err // its status says it all
		}
		r.forward.owners.add(address, resp.GetReplacements())
		out.Replacements = append(out.Replacements, resp.GetReplacements()...)
		rest = rest[n:]
	}
	return out, nil
}

// GetArtifact streams an artifact from its service, chunk by chunk.
func (r *retrieval) GetArtifact(req *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer) error {
	address, err := r.forward.owner(req.GetArtifact())
	if err != nil {
		return statusOf(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	silent := fault.New(fault.Environment, codeUnreachable,
		"the expansion service at %s sent nothing of an artifact for %s", address, chunkFor)
	watch := time.AfterFunc(chunkFor, func() { cancel(silent) })
	defer watch.Stop()
	source, err := jobpb.NewArtifactRetrievalServiceClient(r.forward.conns[address]).GetArtifact(ctx, req)
	if err != nil {
		return err
	}
	for {
		chunk, err := source.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case context.Cause(ctx) == error(silent):
			return statusOf(silent)
		case err != nil:
			return err
		}
		// The client may be slow; that is no fault of the service.
		watch.Stop()
		if err := stream.Send(chunk); err != nil {
			return err
		}
		watch.Reset(chunkFor)
	}
}

// owner returns the address of the service that handed an artifact out.
func (f *Forwarder) owner(a *pipepb.ArtifactInformation) (string, error) {
	if f == nil {
		return newOwners().of(a)
	}
	return f.owners.of(a)
}

func statusOf(err error) error {
	return rpc.Error(err, func(code fault.Code) (codes.Code, bool) { return codes.NotFound, code == codeArtifact })
}
