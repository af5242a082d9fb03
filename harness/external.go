package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/fnapi"
	"padstone/internal/fault"
)

// externalLauncher asks a worker pool for harnesses. Spec: beam_fn_api.proto BeamFnExternalWorkerPool.
type externalLauncher struct {
	log      *zap.Logger
	address  string
	params   map[string]string
	endpoint string // of the Fn API server, as the pool's workers reach it
	conn     *grpc.ClientConn
	client   fnpb.BeamFnExternalWorkerPoolClient
	timeout  time.Duration // of each step of a stop
	programs bool          // the pool runs each worker as a program, which it kills when it is asked to stop it
}

func newExternalLauncher(m *Manager, t *target, spec Spec) (*externalLauncher, error) {
	address := t.external.GetEndpoint().GetUrl()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, poolUnreachable(address, err)
	}
	endpoint := m.cfg.Server.AdvertisedEndpoint()
	if isLoopback(spec.Options) {
		endpoint = m.cfg.Server.Endpoint()
	}
	return &externalLauncher{
		log: m.cfg.Logger, address: address, params: t.external.GetParams(), endpoint: endpoint,
		conn: conn, client: fnpb.NewBeamFnExternalWorkerPoolClient(conn), timeout: m.cfg.StopTimeout,
		programs: isPython(t.env) && !isLoopback(spec.Options),
	}, nil
}

// isLoopback says whether the SDK runs the workers in the program that submits the job. It submits them as an external pool.
func isLoopback(options *structpb.Struct) bool {
	return strings.EqualFold(options.GetFields()["beam:option:environment_type:v1"].GetStringValue(), "LOOPBACK")
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

func (l *externalLauncher) launch(ctx context.Context, w *fnapi.Worker) (launched, error) {
	here := &pipepb.ApiServiceDescriptor{Url: w.Endpoint()}
	resp, err := l.client.StartWorker(ctx, &fnpb.StartWorkerRequest{
		WorkerId: string(w.ID()), ControlEndpoint: here, LoggingEndpoint: here, ArtifactEndpoint: here, ProvisionEndpoint: here,
		Params: maps.Clone(l.params),
	})
	if err != nil {
		return nil, poolUnreachable(l.address, err)
	}
	if resp.GetError() != "" {
		return nil, fault.New(fault.Environment, codePool,
			"the worker pool at %s refuses to start a worker: %s", l.address, resp.GetError())
	}
	return &externalWorker{launcher: l, worker: w}, nil
}

func (l *externalLauncher) reachedBy() string { return l.endpoint }

func (l *externalLauncher) respawns() bool { return false }

func (l *externalLauncher) close() error { return l.conn.Close() }

// externalWorker is a harness that a pool has started. Whether it still runs is only known by its control stream.
type externalWorker struct {
	launcher *externalLauncher
	worker   *fnapi.Worker
}

func (w *externalWorker) exited() <-chan struct{} { return nil }

func (w *externalWorker) broken() <-chan error { return nil }

func (w *externalWorker) outcome() string { return "" }

// ended tells what can be known of a worker somewhere else: whether its pool is still there. Pools need not know the question, as long as
// they say so.
func (w *externalWorker) ended(ctx context.Context) string {
	l := w.launcher
	_, err := healthpb.NewHealthClient(l.conn).Check(ctx, &healthpb.HealthCheckRequest{})
	switch status.Code(err) {
	case codes.Unavailable:
		return fmt.Sprintf("its connection broke, and the worker pool at %s cannot be reached", l.address)
	case codes.DeadlineExceeded, codes.Canceled:
		return fmt.Sprintf("its connection broke, and the worker pool at %s does not answer", l.address)
	default:
		return fmt.Sprintf("its connection broke; how it ended only the worker pool at %s knows, which is there", l.address)
	}
}

// stop asks the pool to stop the worker: after a while, where the pool kills it, for it is tearing down its DoFns since its control
// stream is closed. A worker that is a part of another program does not end before that does, and is only told. A pool that is gone has
// taken its workers along. Spec: python worker_pool_main.py StopWorker.
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
	ctx, cancel := context.WithTimeout(context.Background(), w.launcher.timeout)
	defer cancel()
	if _, err := w.launcher.client.StopWorker(ctx, &fnpb.StopWorkerRequest{WorkerId: string(w.worker.ID())}); err != nil {
		w.launcher.log.Debug("StopWorker failed", zap.String("pool", w.launcher.address), zap.Error(err))
	}
}
