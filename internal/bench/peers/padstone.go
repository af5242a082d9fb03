package peers

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"padstone/internal/bench"
	"padstone/internal/fault"
)

// Padstone is a server of this binary's own, on a data directory that is removed with it.
type Padstone struct {
	Peer bench.Peer
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// StartPadstone starts a server and waits until it listens.
func StartPadstone(ctx context.Context, binary string) (*Padstone, error) {
	dir, err := os.MkdirTemp("", "padstone-bench-data-")
	if err != nil {
		return nil, fault.New(fault.Environment, codeServer, "data directory: %w", err)
	}
	free := "localhost:0"
	cmd := exec.Command(binary, "serve", "--data-dir="+dir, "--job-endpoint="+free, "--artifact-endpoint="+free,
		"--expansion-endpoint="+free, "--http="+free, "--log-level=error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to deal with
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fault.New(fault.Environment, codeServer, "starting %s: %w", binary, err)
	}
	p := &Padstone{dir: dir, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended its log says
		close(p.done)
	}()
	endpoint, err := p.await(ctx)
	if err != nil {
		p.Stop()
		return nil, err
	}
	p.Peer = bench.Peer{Name: "padstone", Endpoint: endpoint, PID: cmd.Process.Pid}
	return p, nil
}

// await waits for the file in which a server says where it listens.
func (p *Padstone) await(ctx context.Context) (string, error) {
	const startFor, look = 30 * time.Second, 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, startFor)
	defer cancel()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		var info struct {
			Endpoints struct {
				Job string `json:"job"`
			} `json:"endpoints"`
		}
		text, err := os.ReadFile(filepath.Join(p.dir, "server.json"))
		if err == nil && json.Unmarshal(text, &info) == nil && info.Endpoints.Job != "" {
			return info.Endpoints.Job, nil
		}
		select {
		case <-ticker.C:
			continue
		case <-p.done:
		case <-ctx.Done():
		}
		said, _ := os.ReadFile(filepath.Join(p.dir, "server.log"))
		return "", fault.New(fault.Environment, codeServer, "the server does not start: %s", lastLine(string(said)))
	}
}

// Stop ends the server and removes its data.
func (p *Padstone) Stop() {
	const stopFor = 20 * time.Second
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(stopFor)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	_ = os.RemoveAll(p.dir) // temporary
}
