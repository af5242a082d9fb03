package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"padstone/internal/fault"
)

// Engine is a Docker Engine, or what speaks its API. Safe for concurrent use.
type Engine struct {
	cfg    Config
	log    *zap.Logger
	client *client.Client
	run    string // tells the containers of this process from those of a former one

	life    context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	left    leftovers
}

// New returns an Engine, which need not be there yet: nobody is asked. Errors: a configuration that is not valid.
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	options := []client.Opt{client.FromEnv, client.WithUserAgent("padstone")}
	if cfg.Host != "" {
		options = append(options, client.WithHost(cfg.Host))
	}
	c, err := client.New(options...)
	if err != nil {
		return nil, fault.New(fault.Environment, codeNoEngine, "address of the Docker Engine: %w", err).
			WithHint("correct DOCKER_HOST, DOCKER_API_VERSION or DOCKER_CERT_PATH")
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, client: c, run: strings.ToLower(rand.Text())}
	e.life, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// Close tries once more to remove what could not be removed, and waits for the package's goroutines. Containers must have been stopped.
func (e *Engine) Close() error {
	e.cancel()
	e.running.Wait()
	if e.left.any() && e.answers() {
		e.removeLeftovers(context.Background())
	}
	return e.client.Close()
}

// answer bounds a call of the Engine. The cause of its end is errSlow.
func (e *Engine) answer(ctx context.Context) (context.Context, context.CancelFunc) {
	return within(ctx, e.cfg.AnswerTimeout)
}

func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errSlow)
}

// slow replaces the error of a call that ran into its own bound by the bound's cause, which the client loses.
func slow(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}

// Ping asks whether an Engine answers. Errors: docker-no-engine.
func (e *Engine) Ping(ctx context.Context) error {
	asked, cancel := e.answer(ctx)
	defer cancel()
	if _, err := e.client.Ping(asked, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return e.failed(ctx, "start a container", slow(asked, err))
	}
	return nil
}

// answers says whether the Engine answers, which takes it no time if it does.
func (e *Engine) answers() bool {
	asked, cancel := within(context.Background(), min(checkFor, e.cfg.AnswerTimeout))
	defer cancel()
	_, err := e.client.Ping(asked, client.PingOptions{})
	return err == nil
}

// local says whether the Engine is one of this machine, as far as its address tells.
func (e *Engine) local() bool {
	host := e.client.DaemonHost()
	return strings.HasPrefix(host, "unix://") || strings.HasPrefix(host, "npipe://")
}
