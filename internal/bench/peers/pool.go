package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	"padstone/internal/bench/proc"
)

// pool is a worker pool that starts harnesses as a container does, a process each, and says what they have used.
type pool struct {
	python  string
	kit     string // directory with the kit
	logs    string // directory for what harnesses print
	address string
	server  *grpc.Server
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		workers map[string]*worker
		used    proc.Usage // by harnesses that have ended
	}

	fnpb.UnimplementedBeamFnExternalWorkerPoolServer
}

// worker is a harness process.
type worker struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startPool listens on a free port.
func startPool(python, kit, logs string) (*pool, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("worker pool: %w", err)
	}
	p := &pool{
		python: python, kit: kit, logs: logs, server: grpc.NewServer(grpc.WaitForHandlers(true)),
		address: fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port),
	}
	p.mu.workers = map[string]*worker{}
	fnpb.RegisterBeamFnExternalWorkerPoolServer(p.server, p)
	p.running.Go(func() { _ = p.server.Serve(l) }) // until it is stopped
	return p, nil
}

// StartWorker starts a harness. Spec: python worker_pool_main.py; what the container's boot program does besides, in boot.go.
func (p *pool) StartWorker(ctx context.Context, req *fnpb.StartWorkerRequest) (*fnpb.StartWorkerResponse, error) {
	if err := p.start(ctx, req); err != nil {
		return &fnpb.StartWorkerResponse{Error: err.Error()}, nil
	}
	return &fnpb.StartWorkerResponse{}, nil
}

func (p *pool) start(ctx context.Context, req *fnpb.StartWorkerRequest) error {
	control, logging, options, capabilities := req.GetControlEndpoint().GetUrl(), req.GetLoggingEndpoint().GetUrl(), []byte("{}"), ""
	if url := req.GetProvisionEndpoint().GetUrl(); url != "" {
		info, err := provision(ctx, url, req.GetWorkerId())
		if err != nil {
			return fmt.Errorf("provisioning of the harness: %w", err)
		}
		if info.GetPipelineOptions() != nil {
			if options, err = protojson.Marshal(info.GetPipelineOptions()); err != nil {
				return err
			}
		}
		capabilities = strings.Join(info.GetRunnerCapabilities(), " ")
		if url := info.GetControlEndpoint().GetUrl(); url != "" {
			control = url
		}
		if url := info.GetLoggingEndpoint().GetUrl(); url != "" {
			logging = url
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.workers[req.GetWorkerId()] != nil {
		return nil // asked for again
	}
	log, err := os.Create(filepath.Join(p.logs, fmt.Sprintf("harness-%d.log", len(p.mu.workers))))
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(p.python, "-m", "apache_beam.runners.worker.sdk_worker_main")
	cmd.Env = append(os.Environ(),
		"PYTHONPATH="+p.kit, "WORKER_ID="+req.GetWorkerId(), "PIPELINE_OPTIONS="+string(options), "RUNNER_CAPABILITIES="+capabilities,
		"SEMI_PERSISTENT_DIRECTORY="+p.logs, "CONTROL_API_SERVICE_DESCRIPTOR="+`url: "`+control+`"`)
	if logging != "" {
		cmd.Env = append(cmd.Env, "LOGGING_API_SERVICE_DESCRIPTOR="+`url: "`+logging+`"`)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to deal with
	if err := cmd.Start(); err != nil {
		return err
	}
	w := &worker{cmd: cmd, done: make(chan struct{})}
	p.mu.workers[req.GetWorkerId()] = w
	p.running.Go(func() { p.wait(w) })
	return nil
}

// provision asks the runner what the harness is to know.
func provision(ctx context.Context, url, worker string) (*fnpb.ProvisionInfo, error) {
	conn, err := grpc.NewClient(url, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "worker_id", worker), 20*time.Second)
	defer cancel()
	resp, err := fnpb.NewProvisionServiceClient(conn).GetProvisionInfo(ctx, &fnpb.GetProvisionInfoRequest{}, grpc.WaitForReady(true))
	return resp.GetInfo(), err
}

// wait notes what a harness has used.
func (p *pool) wait(w *worker) {
	_ = w.cmd.Wait() // it is killed, as a rule
	p.mu.Lock()
	defer p.mu.Unlock()
	if state := w.cmd.ProcessState; state != nil {
		p.mu.used.CPU += state.UserTime() + state.SystemTime()
		p.mu.used.Processes++
		if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
			p.mu.used.PeakBytes += maxBytes(usage)
		}
	}
	close(w.done)
}

// StopWorker ends a harness.
func (p *pool) StopWorker(_ context.Context, req *fnpb.StopWorkerRequest) (*fnpb.StopWorkerResponse, error) {
	p.mu.Lock()
	w := p.mu.workers[req.GetWorkerId()]
	p.mu.Unlock()
	if w != nil {
		w.stop()
	}
	return &fnpb.StopWorkerResponse{}, nil
}

// stop gives the harness a moment to end by itself, so that it tears down what it has, and kills it then.
func (w *worker) stop() {
	const moment = 2 * time.Second
	_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
	_ = syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL)
	<-w.done
}

// close ends all harnesses and returns what they have used.
func (p *pool) close() proc.Usage {
	p.server.Stop()
	p.mu.Lock()
	var workers []*worker
	for _, w := range p.mu.workers {
		workers = append(workers, w)
	}
	p.mu.Unlock()
	for _, w := range workers {
		w.stop()
	}
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.used
}
