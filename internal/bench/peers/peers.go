package peers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"padstone/internal/bench"
	"padstone/internal/bench/proc"
	"padstone/internal/fault"
)

// Codes; docs/errors/bench.md has a section for each.
const (
	codePeer   fault.Code = "bench-peer"
	codePython fault.Code = "bench-python"
	codeServer fault.Code = "bench-server"
)

// Config says what is to be run.
type Config struct {
	Python  string
	Peers   []bench.Peer // PID 0: found by its socket, if that is on this machine
	Cases   []Case
	Size    Size
	Passes  int
	Timeout time.Duration // of one job
	// Step is told before each job, and done after it.
	Step func(pass int, c Case, peer string)
	Done func(run bench.Run)
}

// Jobs is the number of jobs, and how long they take, about.
func (c *Config) Jobs() (n int, about time.Duration) {
	for _, one := range c.Cases {
		each := one.About
		if c.Size == Small {
			each = min(each, 5*time.Second)
		}
		if one.Name == Latency {
			each = time.Duration((c.Size.latencySeconds() + 8) * float64(time.Second))
		}
		n += len(c.Peers) * c.Passes
		about += each * time.Duration(len(c.Peers)*c.Passes)
	}
	return n, about
}

// Compare runs every case on every peer, a pass at a time, so that what else the machine does meets all of them alike. A case that a peer
// has failed is not tried on it again.
func Compare(ctx context.Context, cfg Config) (*bench.Comparison, error) {
	dir, err := os.MkdirTemp("", "padstone-bench-")
	if err != nil {
		return nil, fmt.Errorf("directory for the load kit: %w", err)
	}
	defer os.RemoveAll(dir)
	kit := dir + "/kit"
	if err := unpack(kit); err != nil {
		return nil, fmt.Errorf("load kit: %w", err)
	}
	for i := range cfg.Peers {
		if err := locate(&cfg.Peers[i]); err != nil {
			return nil, err
		}
	}
	result := &bench.Comparison{Size: string(cfg.Size), Peers: cfg.Peers}
	failed := map[[2]string]bool{}
	for pass := range cfg.Passes {
		for _, c := range cfg.Cases {
			for _, peer := range cfg.Peers {
				if failed[[2]string{c.Name, peer.Name}] {
					continue
				}
				cfg.Step(pass, c, peer.Name)
				j := &job{cfg: &cfg, kit: kit + "/load", peer: peer, kind: c, versions: func(said outcome) {
					result.About.Python, result.About.Beam = said.Python, said.Beam
				}}
				run, err := j.run(ctx)
				if err != nil {
					return nil, err
				}
				run.Pass = pass + 1
				failed[[2]string{c.Name, peer.Name}] = run.Error != ""
				result.Runs = append(result.Runs, run)
				cfg.Done(run)
			}
		}
	}
	result.Complete()
	return result, nil
}

// locate finds the process that listens at the peer's endpoint.
func locate(p *bench.Peer) error {
	conn, err := net.DialTimeout("tcp", p.Endpoint, 5*time.Second)
	if err != nil {
		return fault.New(fault.Environment, codePeer, "peer %q: nothing answers at %s: %w", p.Name, p.Endpoint, err).
			WithHint("start the runner's job server, and name its endpoint")
	}
	there, here := conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr)
	if err := conn.Close(); err != nil {
		return err
	}
	if p.PID != 0 {
		if _, err := proc.Tree(p.PID); err != nil && !errors.Is(err, proc.ErrUnknown) {
			return fault.New(fault.Environment, codePeer, "peer %q: %w", p.Name, err).WithHint("correct --pid")
		}
		return nil
	}
	if !there.IP.Equal(here.IP) {
		return nil // on another machine
	}
	if pid, err := proc.Listener(there.Port); err == nil {
		p.PID = pid
	}
	return nil
}

// runnerUsage is what the peer has used; nil if that is not known.
func runnerUsage(p bench.Peer) *proc.Usage {
	if p.PID == 0 {
		return nil
	}
	u, err := proc.Tree(p.PID)
	if err != nil {
		return nil
	}
	return &u
}

// latencies reads a file of seconds, a line each, as milliseconds.
func latencies(path string) (all []float64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		v, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			return nil, fmt.Errorf("latency %q: %w", line, err)
		}
		all = append(all, math.Round(v*1e6)/1e3)
	}
	return all, nil
}
