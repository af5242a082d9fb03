package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"padstone/internal/bench"
	"padstone/internal/bench/peers"
)

// peersOptions are the flags of `padstone bench peers`.
type peersOptions struct {
	python    string
	endpoints []string
	pids      []string
	cases     []string
	size      string
	runs      int
	timeout   time.Duration
	out       string
}

const peersLong = `Run a load kit on job endpoints side by side, and show what each job costs the runner and the harness.

The kit is Python, carried in this binary; it needs an interpreter with apache-beam, and verifies its own results. Runners take turns,
job by job. Each job has a harness process of its own, started here. CPU time and memory of a runner are those of the process that listens
at its endpoint, if it is on this machine, or of the one named by --pid. The cost of the empty job is taken off; figures are medians.

Without --endpoint a Padstone server is started on a temporary directory. An endpoint named "padstone" without a host (--endpoint padstone)
is such a server beside others.

Cases: `

func newBenchPeers(term *terminal) *cobra.Command {
	var o peersOptions
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Measure runners side by side",
		Long:  peersLong + strings.Join(peers.Names(), ", ") + ".",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := o.config()
			if err != nil {
				return err
			}
			return untilInterrupted(cmd.Context(), func(ctx context.Context) error {
				result, err := o.compare(ctx, term, cfg)
				if err != nil {
					return err
				}
				if err := publish(term, result, o.out, "peers"); err != nil {
					return err
				}
				if len(result.Failures()) > 0 {
					return &exitError{code: exitFailed}
				}
				return nil
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.python, "python", "", "Python interpreter (default: $PADSTONE_PYTHON, $VIRTUAL_ENV, ./.venv, python3)")
	fs.StringArrayVar(&o.endpoints, "endpoint", nil, "name=host:port of a job endpoint, or padstone for a server of its own; repeatable")
	fs.StringArrayVar(&o.pids, "pid", nil, "name=PID of the runner's process, where it is not the one that listens; repeatable")
	fs.StringSliceVar(&o.cases, "case", peers.Names(), "cases to run")
	fs.StringVar(&o.size, "elements", string(peers.Full), "full, or small to see whether everything works")
	fs.IntVar(&o.runs, "runs", 3, "how often each case runs on each peer")
	fs.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long a job may take")
	fs.StringVar(&o.out, "out", "padstone-bench", "directory for peers.json and peers.html")
	return cmd
}

// ownName is the peer that is a server of ours.
const ownName = "padstone"

// config reads the flags, and lists every fault of them.
func (o *peersOptions) config() (peers.Config, error) {
	cfg := peers.Config{Size: peers.Size(o.size), Passes: o.runs, Timeout: o.timeout}
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	selected, unknown, ok := peers.Select(o.cases)
	check(ok, "--case: there is no case %q; there are %s", unknown, strings.Join(peers.Names(), ", "))
	check(len(o.cases) > 0, "--case: none")
	cfg.Cases = selected
	check(cfg.Size == peers.Small || cfg.Size == peers.Full, "--elements: %q is neither full nor small", o.size)
	check(o.runs >= 1 && o.runs <= 100, "--runs: %d is not from 1 to 100", o.runs)
	check(o.timeout >= time.Second, "--timeout: %s is below a second", o.timeout)
	named := map[string]int{}
	if len(o.endpoints) == 0 {
		o.endpoints = []string{ownName}
	}
	for _, text := range o.endpoints {
		name, endpoint, given := strings.Cut(text, "=")
		_, _, err := net.SplitHostPort(endpoint)
		check(name != "" && (given && err == nil || text == ownName), "--endpoint: %q is no name=host:port", text)
		_, twice := named[name]
		check(!twice, "--endpoint: %q is named twice", name)
		named[name] = len(cfg.Peers)
		cfg.Peers = append(cfg.Peers, bench.Peer{Name: name, Endpoint: endpoint})
	}
	for _, text := range o.pids {
		name, number, _ := strings.Cut(text, "=")
		pid, err := strconv.Atoi(number)
		i, known := named[name]
		check(err == nil && pid > 0 && known, "--pid: %q is no name=PID of an endpoint's name", text)
		if known {
			cfg.Peers[i].PID = pid
		}
	}
	if len(faults) > 0 {
		return cfg, usageError(errors.Join(faults...))
	}
	return cfg, nil
}

// compare runs the kit, with a bar.
func (o *peersOptions) compare(ctx context.Context, term *terminal, cfg peers.Config) (*bench.Comparison, error) {
	var err error
	if cfg.Python, err = findPython(o.python, term.getenv); err != nil {
		return nil, err
	}
	for i, p := range cfg.Peers {
		if p.Endpoint != "" {
			continue
		}
		binary, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("finding this program: %w", err)
		}
		server, err := peers.StartPadstone(ctx, binary)
		if err != nil {
			return nil, err
		}
		defer server.Stop()
		cfg.Peers[i] = server.Peer
	}
	jobs, estimate := cfg.Jobs()
	shown := newProgress(term, "the load kit", jobs, estimate)
	defer shown.close()
	cfg.Step = func(pass int, c peers.Case, peer string) {
		shown.step("%s on %s (run %d of %d)", c.Name, peer, pass+1, cfg.Passes)
	}
	cfg.Done = func(run bench.Run) {
		if run.Error != "" {
			shown.say("%s failed %s: %s", run.Peer, run.Case, run.Error)
		}
		shown.next()
	}
	result, err := peers.Compare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	at := about()
	at.Python, at.Beam = result.About.Python, result.About.Beam
	result.About = at
	return result, nil
}
