package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/internal/fault"
)

type stagingServer struct {
	jobpb.UnimplementedArtifactStagingServiceServer
	service *Service
}

// ReverseArtifactRetrievalService stages one session's artifacts: the client speaks first (its token), then the server asks, one
// request at a time. Clients answer out of order and interleave chunks when asked for two things at once (TypeScript answers in
// asynchronous handlers), so the next request waits for the last answer. The server ends the stream: TypeScript's client waits for
// that even if there was nothing to stage. Spec: beam_artifact_api.proto ArtifactStagingService.
func (g *stagingServer) ReverseArtifactRetrievalService(
	stream jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer,
) error {
	return statusOf(g.service.stage(stream))
}

func (s *Service) stage(stream jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer) error {
	// A stream that ends without a message would have no headers, for which TypeScript's client waits though it knows the status.
	if err := stream.SendHeader(nil); err != nil {
		return fault.New(fault.Environment, "staging-interrupted", "the client is gone: %w", err)
	}
	talk, err := s.converse(stream)
	if err != nil {
		return err
	}
	first, err := talk.receive("to name its staging token")
	if err != nil {
		return err
	}
	token := Token(first.GetStagingToken())
	wanted, done, err := s.begin(token)
	if err != nil || done {
		return err
	}
	job := &staging{service: s, talk: talk, fetched: make(map[string]Digest)}
	stored, err := job.all(wanted)
	if err := s.end(token, stored, job.held, err); err != nil {
		s.cfg.Log.Warn("staging failed", zap.Error(err))
		return err
	}
	s.cfg.Log.Debug("artifacts staged", zap.Int("files", len(job.held)))
	return nil
}

// staging is the work of one stream.
type staging struct {
	service *Service
	talk    *conversation
	// fetched remembers what this stream has sent: environments often share their files.
	fetched map[string]Digest
	held    []Digest
}

func (g *staging) all(wanted map[EnvironmentID]Dependencies) (map[EnvironmentID]Dependencies, error) {
	stored := make(map[EnvironmentID]Dependencies, len(wanted))
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		resolved, err := g.resolve(wanted[id])
		if err != nil {
			return nil, fmt.Errorf("environment %s: %w", id, err)
		}
		for _, dep := range resolved {
			file, err := g.fetch(dep)
			if err != nil {
				return nil, fmt.Errorf("environment %s: %w", id, err)
			}
			stored[id] = append(stored[id], file)
		}
	}
	return stored, nil
}

// resolve lets the client replace what only it understands by files, one to many.
func (g *staging) resolve(wanted Dependencies) (Dependencies, error) {
	err := g.talk.send(&jobpb.ArtifactRequestWrapper{Request: &jobpb.ArtifactRequestWrapper_ResolveArtifact{
		ResolveArtifact: &jobpb.ResolveArtifactsRequest{Artifacts: wanted, PreferredUrns: []string{string(typeFile())}},
	}})
	if err != nil {
		return nil, err
	}
	answer, err := g.talk.receive("to resolve artifacts")
	if err != nil {
		return nil, err
	}
	response, ok := answer.GetResponse().(*jobpb.ArtifactResponseWrapper_ResolveArtifactResponse)
	if !ok {
		return nil, fault.New(fault.Pipeline, "staging-protocol", "the client answered a resolve request with %T", answer.GetResponse())
	}
	resolved := response.ResolveArtifactResponse.GetReplacements()
	if len(resolved) > g.service.cfg.FilesMax {
		return nil, fault.New(fault.Pipeline, "artifact-too-large", "%d artifacts, the limit is %d", len(resolved), g.service.cfg.FilesMax)
	}
	return resolved, nil
}

// fetch stores one artifact and returns the dependency that names the stored copy.
func (g *staging) fetch(dep *pipepb.ArtifactInformation) (*pipepb.ArtifactInformation, error) {
	from, ferr := inspect(dep)
	if ferr != nil {
		return nil, ferr
	}
	if err := unfetchable(dep); err != nil {
		return nil, err
	}
	digest, err := g.content(from)
	if err != nil {
		return nil, err
	}
	name := from.name
	if name == "" {
		name = string(digest)
	}
	return withFile(dep, name, string(digest))
}

// content returns the digest of a source's bytes, held by this stream.
func (g *staging) content(from source) (Digest, error) {
	key := from.ask.GetTypeUrn() + "\x00" + string(from.ask.GetTypePayload())
	if digest, ok := g.fetched[key]; ok && from.ask != nil {
		g.service.cfg.Store.Retain(digest)
		g.held = append(g.held, digest)
		return digest, nil
	}
	w, err := g.service.cfg.Store.Create()
	if err != nil {
		return "", err
	}
	if from.ask == nil {
		_, err = w.Write(from.inline)
	} else {
		err = g.download(from, w)
	}
	if err != nil {
		return "", errors.Join(err, w.Abort())
	}
	digest, err := w.Commit()
	if err != nil {
		return "", err
	}
	g.held = append(g.held, digest)
	if from.want != "" && from.want != digest {
		return "", fault.New(fault.Pipeline, "artifact-digest-mismatch",
			"artifact %q has sha256 %s, the pipeline says %s", from.name, digest, from.want).
			WithHint("the file changed after the pipeline was built; submit again")
	}
	if from.ask != nil {
		g.fetched[key] = digest
	}
	return digest, nil
}

// download asks the client for one artifact and writes its chunks until the one marked last.
func (g *staging) download(from source, w *Writer) error {
	err := g.talk.send(&jobpb.ArtifactRequestWrapper{Request: &jobpb.ArtifactRequestWrapper_GetArtifact{
		GetArtifact: &jobpb.GetArtifactRequest{Artifact: from.ask},
	}})
	if err != nil {
		return err
	}
	for {
		answer, err := g.talk.receive("to send artifact " + from.name)
		if err != nil {
			return err
		}
		chunk, ok := answer.GetResponse().(*jobpb.ArtifactResponseWrapper_GetArtifactResponse)
		if !ok {
			return fault.New(fault.Pipeline, "staging-protocol", "the client answered a request for artifact %q with %T",
				from.name, answer.GetResponse())
		}
		data := chunk.GetArtifactResponse.GetData()
		if w.Size()+int64(len(data)) > g.service.cfg.FileBytesMax {
			return fault.New(fault.Pipeline, "artifact-too-large", "artifact %q is larger than %d bytes",
				from.name, g.service.cfg.FileBytesMax)
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if answer.GetIsLast() {
			return nil
		}
	}
}

// conversation is a stream with a limit on the client's silence.
type conversation struct {
	stream  jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer
	in      chan *jobpb.ArtifactResponseWrapper // closed by the receiver at the stream's end
	failure error                               // why in was closed; read after that only
	closing <-chan struct{}
	idleMax time.Duration
}

// converse starts the receiver of a stream. A blocked Recv cannot be given a deadline, so it has a goroutine; the goroutine ends when
// the handler returns, because gRPC cancels the stream's context then.
func (s *Service) converse(
	stream jobpb.ArtifactStagingService_ReverseArtifactRetrievalServiceServer,
) (*conversation, error) {
	c := &conversation{
		stream: stream, in: make(chan *jobpb.ArtifactResponseWrapper), closing: s.closing, idleMax: s.cfg.ClientIdleMax,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, errClosing()
	}
	s.receivers.Go(func() { c.pump(stream.Context()) })
	return c, nil
}

func (c *conversation) pump(ctx context.Context) {
	defer close(c.in)
	for {
		message, err := c.stream.Recv()
		if err != nil {
			c.failure = err
			return
		}
		select {
		case c.in <- message:
		case <-ctx.Done():
			c.failure = ctx.Err()
			return
		}
	}
}

func (c *conversation) send(request *jobpb.ArtifactRequestWrapper) error {
	if err := c.stream.Send(request); err != nil {
		return fault.New(fault.Environment, "staging-interrupted", "the client is gone: %w", err)
	}
	return nil
}

// receive returns the client's next message; doing says what it was asked for.
func (c *conversation) receive(doing string) (*jobpb.ArtifactResponseWrapper, error) {
	timer := time.NewTimer(c.idleMax)
	defer timer.Stop()
	select {
	case message, ok := <-c.in:
		if ok {
			return message, nil
		}
		if errors.Is(c.failure, io.EOF) {
			return nil, fault.New(fault.Environment, "staging-interrupted", "the client ended the stream when it was asked %s", doing)
		}
		return nil, fault.New(fault.Environment, "staging-interrupted", "the stream broke when the client was asked %s: %w", doing, c.failure)
	case <-timer.C:
		return nil, fault.New(fault.Environment, "staging-client-silent",
			"the client was asked %s and has not answered for %s", doing, c.idleMax).
			WithHint("see the client's own log for an error in its artifact handler")
	case <-c.closing:
		return nil, errClosing()
	}
}

func errClosing() error {
	return fault.New(fault.Environment, "server-closing", "the server is shutting down")
}
