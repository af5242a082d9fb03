package harness

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/internal/fault"
	"padstone/internal/option"
)

// externalLauncher asks worker pools for harnesses. Spec: beam_fn_api.proto BeamFnExternalWorkerPool.
type externalLauncher struct {
	log      *zap.Logger
	params   map[string]string
	endpoint string // of the Fn API server, as the pools' workers reach it
	sites    *sites
	warm     *warm
	timeout  time.Duration // of each step of a stop
	programs bool          // the pools run each worker as a program, which they kill when they are asked to stop it
}

func newExternalLauncher(m *Manager, t *target, p *Pool) *externalLauncher {
	endpoint := m.cfg.Server.AdvertisedEndpoint()
	if isLoopback(p.spec.Options) {
		endpoint = m.cfg.Server.Endpoint()
	}
	names := splitPools(t.external.GetEndpoint().GetUrl())
	return &externalLauncher{
		log: m.cfg.Logger, params: t.external.GetParams(), endpoint: endpoint, timeout: m.cfg.StopTimeout, warm: m.warm,
		sites:    newSites(m, names, func(text string) { p.tell("", text) }, p.poolIsBack),
		programs: isPython(t.env) && !isLoopback(p.spec.Options),
	}
}

// isLoopback says whether the SDK runs the workers in the program that submits the job. It submits them as an external pool.
func isLoopback(options *structpb.Struct) bool {
	return strings.EqualFold(option.Text(options, "environment_type"), "LOOPBACK")
}

// isPython says whether the environment's SDK is Python's, whose pool alone runs workers as programs: those of the others run them in
// their own. Spec: the capability beam:version:sdk_base; python worker_pool_main.py.
func isPython(env *pipepb.Environment) bool {
	return slices.ContainsFunc(env.GetCapabilities(), func(c string) bool {
		return strings.HasPrefix(c, "beam:version:sdk_base:") && strings.Contains(c, "beam_python")
	})
}

func poolUnreachable(address string, err error) *fault.Error {
	return fault.New(fault.Environment, codePool, "the worker pool at %s cannot be reached: %w", address, err).
		WithHint("start the pool, or for LOOPBACK keep the submitting program running")
}

func poolMute(address string) *fault.Error {
	return poolUnreachable(address, errors.New("it takes a connection, but does not answer")).
		WithHint("look whether it is a worker pool that listens there, and whether it hangs")
}

func poolRefuses(address string, resp *fnpb.StartWorkerResponse) *fault.Error {
	return fault.New(fault.Environment, codePool, "the worker pool at %s refuses to start a worker: %s", address, resp.GetError())
}

// startRequest asks a pool for the harness of a worker, which finds every service at the worker's endpoint.
func startRequest(w *fnapi.Worker, params map[string]string) *fnpb.StartWorkerRequest {
	here := &pipepb.ApiServiceDescriptor{Url: w.Endpoint()}
	return &fnpb.StartWorkerRequest{
		WorkerId: string(w.ID()), ControlEndpoint: here, LoggingEndpoint: here, ArtifactEndpoint: here, ProvisionEndpoint: here,
		Params: maps.Clone(params),
	}
}

func (l *externalLauncher) launch(ctx context.Context, w *fnapi.Worker) (launched, error) {
	if at := l.sites.adopted(w.ID()); at != nil && !gone(w) {
		l.log.Info("harness was warm", zap.String("worker", string(w.ID())), zap.String("pool", at.address))
		return &externalWorker{launcher: l, site: at, worker: w}, nil
	}
	at, err := l.sites.start(ctx, startRequest(w, l.params))
	if err != nil {
		return nil, err
	}
	l.log.Info("harness started by a worker pool", zap.String("worker", string(w.ID())), zap.String("pool", at.address))
	return &externalWorker{launcher: l, site: at, worker: w}, nil
}

func (l *externalLauncher) reachedBy() string { return l.endpoint }

func (l *externalLauncher) respawns() bool { return false }

func (l *externalLauncher) manyPrograms() bool { return l.programs }

func (l *externalLauncher) close() error { return l.sites.close() }

// externalWorker is a harness that a pool has started. Whether it still runs is only known by its control stream.
type externalWorker struct {
	launcher *externalLauncher
	site     *site
	worker   *fnapi.Worker
}

func (w *externalWorker) exited() <-chan struct{} { return nil }

func (w *externalWorker) broken() <-chan error { return nil }

func (w *externalWorker) outcome() string { return "" }

// ended tells what can be known of a worker somewhere else.
func (w *externalWorker) ended(ctx context.Context) string {
	return w.launcher.sites.check(ctx, w.site)
}

// stop asks the pool to stop the worker: after a while, where the pool kills it, for it is tearing down its DoFns since its control
// stream is closed. A worker that is a part of another program does not end before that does, and is only told. Spec: python
// worker_pool_main.py StopWorker.
func (w *externalWorker) stop(hurry <-chan struct{}) {
	if w.launcher.programs {
		timer := time.NewTimer(w.launcher.timeout)
		select {
		case <-w.worker.Gone():
		case <-hurry:
		case <-timer.C:
			w.launcher.log.Debug("worker of a pool does not end", zap.String("worker", string(w.worker.ID())))
		}
		timer.Stop()
	}
	w.launcher.sites.stop(w.site, w.worker.ID())
}
