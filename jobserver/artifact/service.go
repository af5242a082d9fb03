package artifact

import (
	"errors"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"padstone/internal/fault"
	"padstone/jobserver/internal/rpc"
)

// Token names a staging session; unguessable, given to one client at Prepare.
type Token string

// Config configures a Service.
type Config struct {
	Store *Store      // required
	Log   *zap.Logger // required
	// ClientIdleMax is how long a staging stream may be silent while the server waits for it; default 2 min. A client that cannot
	// answer a request (TypeScript throws in its handler) keeps the stream open for ever, and its user waits with it.
	ClientIdleMax time.Duration
	// FileBytesMax bounds one artifact; default 16 GiB.
	FileBytesMax int64
	// FilesMax bounds the artifacts of one environment after resolution; default 10 000.
	FilesMax int
}

func (c Config) withDefaults() Config {
	if c.ClientIdleMax <= 0 {
		c.ClientIdleMax = 2 * time.Minute
	}
	if c.FileBytesMax <= 0 {
		c.FileBytesMax = 16 << 30
	}
	if c.FilesMax <= 0 {
		c.FilesMax = 10_000
	}
	return c
}

// Service is Beam's ArtifactStagingService and ArtifactRetrievalService over a Store.
type Service struct {
	cfg       Config
	closing   chan struct{}
	receivers sync.WaitGroup
	mu        struct {
		sync.Mutex
		closed   bool
		sessions map[Token]*session
	}
}

// NewService returns a service without sessions. The caller ends it with Close.
func NewService(cfg Config) *Service {
	s := &Service{cfg: cfg.withDefaults(), closing: make(chan struct{})}
	s.mu.sessions = make(map[Token]*session)
	return s
}

// Register serves both services; may be called for several gRPC servers.
func (s *Service) Register(registrar grpc.ServiceRegistrar) {
	jobpb.RegisterArtifactStagingServiceServer(registrar, &stagingServer{service: s})
	jobpb.RegisterArtifactRetrievalServiceServer(registrar, &retrievalServer{service: s})
}

// Close ends all staging streams with server-closing and waits for their goroutines; new streams are refused from then on.
func (s *Service) Close() {
	s.mu.Lock()
	if !s.mu.closed {
		s.mu.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.receivers.Wait()
}

// Open starts a session for a pipeline's dependencies. A session without dependencies counts as staged at once: clients may skip the
// stream, or open it and be told that nothing is wanted.
func (s *Service) Open(token Token, wanted map[EnvironmentID]Dependencies) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sessions[token] = &session{wanted: wanted, done: len(wanted) == 0}
}

// Staged is what a session has stored.
type Staged struct {
	// Dependencies are each environment's, type FILE with a digest.
	Dependencies map[EnvironmentID]Dependencies
	// Digests names each content once for every reference that the session holds.
	Digests []Digest
}

// Staged returns what the session has stored. It fails with artifacts-not-staged until the client has staged everything.
func (s *Service) Staged(token Token) (Staged, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.mu.sessions[token]
	if !ok {
		return Staged{}, unknownToken()
	}
	if !session.done {
		return Staged{}, fault.New(fault.Pipeline, "artifacts-not-staged",
			"the pipeline's artifacts (of %d environments) are not staged yet", len(session.wanted)).
			WithHint("stage them at the artifact endpoint that Prepare returned, with its staging token, then Run")
	}
	return Staged{Dependencies: session.stored, Digests: session.held}, nil
}

// Adopt ends a staged session; the references that Staged named are the caller's from now on.
func (s *Service) Adopt(token Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.sessions, token)
}

// Discard ends a session and releases what it staged; a stream that is still staging fails at its next step.
func (s *Service) Discard(token Token) {
	s.mu.Lock()
	session, ok := s.mu.sessions[token]
	delete(s.mu.sessions, token)
	s.mu.Unlock()
	if !ok {
		return
	}
	if err := s.cfg.Store.Release(session.held...); err != nil {
		s.cfg.Log.Warn("artifacts of an abandoned preparation are left behind", zap.Error(err))
	}
}

// session is the staging of one preparation. Guarded by Service.mu.
type session struct {
	wanted map[EnvironmentID]Dependencies
	active bool // a stream is staging
	done   bool
	stored map[EnvironmentID]Dependencies
	held   []Digest // one reference each
}

// begin takes the session for one stream. done means that there is nothing left to ask for: a client that lost the end of its
// stream and tries again (Go does, three times) finds its files staged.
func (s *Service) begin(token Token) (wanted map[EnvironmentID]Dependencies, done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session, ok := s.mu.sessions[token]
	switch {
	case !ok:
		return nil, false, unknownToken()
	case session.done:
		return nil, true, nil
	case session.active:
		return nil, false, fault.New(fault.Pipeline, "staging-in-progress", "another stream is staging under the same token")
	}
	session.active = true
	return session.wanted, false, nil
}

// end gives the session back with what was staged, or with an error and what was held so far. References of a session that was
// discarded meanwhile, or whose staging failed, are released here.
func (s *Service) end(token Token, stored map[EnvironmentID]Dependencies, held []Digest, failure error) error {
	s.mu.Lock()
	session, ok := s.mu.sessions[token]
	if ok {
		session.active = false
		if failure == nil {
			session.done, session.stored, session.held, held = true, stored, held, nil
		}
	} else if failure == nil {
		failure = unknownToken()
	}
	s.mu.Unlock()
	return errors.Join(failure, s.cfg.Store.Release(held...))
}

func unknownToken() error {
	return fault.New(fault.Pipeline, "staging-token-unknown", "no preparation has this staging token").
		WithHint("the preparation expired, was run already, or the server restarted; submit the pipeline again")
}

// Code maps this package's fault codes to gRPC codes where the kind alone does not say enough.
func Code(code fault.Code) (codes.Code, bool) {
	switch code {
	case "staging-token-unknown", "artifact-not-found":
		return codes.NotFound, true
	case "staging-in-progress":
		return codes.Aborted, true
	case "artifacts-not-staged":
		return codes.FailedPrecondition, true
	case "staging-client-silent":
		return codes.DeadlineExceeded, true
	case "artifact-too-large":
		return codes.ResourceExhausted, true
	default:
		return codes.OK, false
	}
}

func statusOf(err error) error { return rpc.Error(err, Code) }
