package jobserver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
	"padstone/jobserver/artifact"
)

// preparation is a checked submission that waits for its artifacts and for Run. It lives in memory: a restart forgets it.
type preparation struct {
	id       string
	jobID    string // of the job that Run will make
	name     string
	token    artifact.Token
	pipeline *pipepb.Pipeline
	options  *structpb.Struct
	at       time.Time
	notes    []string   // what was done to its environments
	running  sync.Mutex // held by the one Run at a time
	claims   int        // Runs under way, which keep it from being forgotten; guarded by Server.mu
}

// prepare checks a submission now, so that a bad pipeline is refused before anything is staged.
func (s *Server) prepare(ctx context.Context, request *jobpb.PrepareJobRequest) (*preparation, error) {
	// A pipeline without transforms is one that is done at once; no pipeline at all is a client's mistake.
	if request.GetPipeline() == nil {
		return nil, fault.New(fault.Pipeline, "invalid-request", "the request holds no pipeline").
			WithHint("submit the pipeline with a Beam SDK")
	}
	if err := artifact.Validate(request.GetPipeline()); err != nil {
		return nil, err
	}
	name := jobName(request)
	p := &preparation{
		id: slug(name) + "-prep-" + randomID(), jobID: slug(name) + "-" + randomID(), name: name,
		token: artifact.Token(randomID()), pipeline: request.GetPipeline(), options: request.GetPipelineOptions(), at: s.cfg.Now(),
	}
	if p.options == nil {
		p.options = &structpb.Struct{}
	}
	overrides, err := jobOverrides(p.options)
	if err != nil {
		return nil, err
	}
	misses := unfitting(p.pipeline, overrides)
	p.notes = append(misses, override(p.pipeline, append(overrides, s.cfg.Overrides...))...)
	before := environmentTexts(p.pipeline) // the executor puts others in their places
	if err := s.cfg.Executor.Check(ctx, s.spec(p.jobID, name, p.pipeline, p.options)); err != nil {
		if len(misses) > 0 {
			err = fault.Amended(err, func(f *fault.Error) { f.Msg += "; " + strings.Join(misses, "; ") })
		}
		s.cfg.Log.Info("a pipeline was refused", zap.String("name", name), zap.Error(err))
		return nil, err
	}
	p.notes = append(p.notes, chosen(p.pipeline, before)...)
	return p, s.remember(p)
}

// chosen says which alternatives of environments the executor has chosen.
func chosen(p *pipepb.Pipeline, before map[string]string) (notes []string) {
	envs := p.GetComponents().GetEnvironments()
	for _, id := range slices.Sorted(maps.Keys(envs)) {
		if is := EnvironmentText(envs[id]); is != before[id] {
			noteReplaced(envs[id], before[id])
			notes = append(notes, fmt.Sprintf("environment %q: %s, chosen from %s", id, is, before[id]))
		}
	}
	return notes
}

// Preview tells what a pipeline would carry over from the savepoint that its options name. Nothing is kept of it. Errors:
// invalid-request, those of the pipeline and of the savepoint.
func (s *Server) Preview(ctx context.Context, pipeline *pipepb.Pipeline, options *structpb.Struct) (*Preview, error) {
	p, ok := s.cfg.Executor.(Previewer)
	if !ok {
		return nil, fault.New(fault.Pipeline, "invalid-request", "this server does not start jobs from savepoints")
	}
	return p.Preview(ctx, s.spec("preview", "preview", pipeline, options))
}

func (s *Server) remember(p *preparation) error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return errClosing()
	}
	forgotten := s.expireLocked()
	s.mu.prepared[p.id] = p
	s.artifacts.Open(p.token, artifact.Of(p.pipeline))
	s.mu.Unlock()
	for _, old := range forgotten {
		s.cfg.Log.Info("a preparation that was never run is forgotten", zap.String("preparation", old.id))
		s.artifacts.Discard(old.token)
	}
	return nil
}

// expireLocked removes preparations that are too old, and the oldest ones until there is room for one more.
func (s *Server) expireLocked() (forgotten []*preparation) {
	for {
		var oldest *preparation
		for _, p := range s.mu.prepared {
			if p.claims == 0 && (oldest == nil || p.at.Before(oldest.at)) {
				oldest = p
			}
		}
		full := len(s.mu.prepared) >= s.cfg.PreparationsMax
		if oldest == nil || (!full && s.cfg.Now().Sub(oldest.at) < s.cfg.PreparationFor) {
			return forgotten
		}
		delete(s.mu.prepared, oldest.id)
		forgotten = append(forgotten, oldest)
	}
}

func (s *Server) spec(id, name string, pipeline *pipepb.Pipeline, options *structpb.Struct) Spec {
	return Spec{
		ID: id, Name: name, Pipeline: pipeline, Options: options,
		RetrievalToken: artifact.NoArtifactsStaged, ArtifactEndpoint: s.cfg.ArtifactEndpoint, Dir: s.registry.jobDir(id),
	}
}

func errClosing() error {
	return fault.New(fault.Environment, "server-closing", "the server is shutting down").WithHint("connect again when it is back")
}
