package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// recovery is the command: it kills a server whose job has much state, and measures how long the next one takes.
type recovery struct {
	program, python, dir string
	script               string
	fill                 filling
	kills                int

	args []string
	pool *exec.Cmd
	job  string
}

func recoveryFlags() (*flag.FlagSet, *recovery) {
	r := &recovery{}
	f := flag.NewFlagSet("recovery", flag.ExitOnError)
	f.StringVar(&r.program, "padstone", "../bin/padstone", "the server's binary")
	f.StringVar(&r.python, "python", "../.venv/bin/python", "a Python with apache-beam")
	f.StringVar(&r.script, "script", "recovery_job.py", "the pipeline")
	f.StringVar(&r.dir, "data-dir", "", "data directory of the server; empty: a temporary one; one that has a job is not filled again")
	f.IntVar(&r.fill.keys, "keys", 10_000_000, "keys with state of a thousand bytes that do not compress")
	f.IntVar(&r.fill.timers, "timers", 1_000_000, "keys that have a timer")
	f.IntVar(&r.fill.backlog, "backlog-mib", 64, "MiB of elements that wait for the stage with state")
	f.IntVar(&r.kills, "kills", 3, "how often the server is killed")
	return f, r
}

func (r *recovery) run(ctx context.Context) (err error) {
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "padstone-bench"); err != nil {
			return err
		}
		defer os.RemoveAll(r.dir)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	r.args = []string{"--log-format", "json"}
	if err := r.startPool(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stopPool()) }()
	if jobs, _ := filepath.Glob(filepath.Join(r.dir, "jobs", "*")); len(jobs) == 1 {
		r.job = filepath.Base(jobs[0])
	} else if err := r.prepare(ctx); err != nil {
		return err
	}
	s, err := startServer([]string{r.program}, r.dir, r.args...)
	if err != nil {
		return err
	}
	for range r.kills {
		if _, err = r.await(s, 1); err != nil {
			break
		}
		time.Sleep(2 * time.Second)
		s.kill()
		if s, err = startServer([]string{r.program}, r.dir, r.args...); err != nil {
			return err
		}
		var took time.Duration
		if took, err = r.await(s, 1); err != nil {
			break
		}
		u, uerr := s.usage()
		err = uerr
		fmt.Printf("recovered: %.2f s from start to the first bundle of the stage with state; peak RSS %.0f MiB; CPU %.2f s; disk %.0f MiB\n",
			took.Seconds(), u.peakMiB, u.cpu.Seconds(), s.diskMiB())
	}
	s.kill()
	return err
}

// prepare runs the job for a moment, and fills its store.
func (r *recovery) prepare(ctx context.Context) error {
	s, err := startServer([]string{r.program}, r.dir, r.args...)
	if err != nil {
		return err
	}
	defer s.kill()
	cmd := exec.CommandContext(ctx, r.python, r.script, "--runner=PortableRunner", "--job_endpoint="+s.endpoints["job"],
		"--artifact_endpoint="+s.endpoints["artifact"], "--environment_type=EXTERNAL", "--environment_config="+r.poolAddress())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", r.script, err, out)
	}
	jobs, err := filepath.Glob(filepath.Join(r.dir, "jobs", "*"))
	if err != nil || len(jobs) != 1 {
		return fmt.Errorf("%d jobs: %w", len(jobs), err)
	}
	r.job = filepath.Base(jobs[0])
	if _, err := r.await(s, 20); err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	began := time.Now()
	n, err := r.fill.run(filepath.Join(jobs[0], "engine", "store"))
	if err != nil {
		return err
	}
	u := self()
	fmt.Printf("filled: %s in %.0f s; peak RSS of the writer %.0f MiB; disk %.0f MiB\n", n, time.Since(began).Seconds(), u, s.diskMiB())
	return nil
}

const poolPort = "50123"

func (r *recovery) poolAddress() string { return "localhost:" + poolPort }

// startPool starts a worker pool that outlives servers.
func (r *recovery) startPool(ctx context.Context) error {
	r.pool = exec.CommandContext(ctx, r.python, "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port="+poolPort)
	bin, err := filepath.Abs(filepath.Dir(r.python)) // the pool starts its workers with whatever python it finds
	if err != nil {
		return err
	}
	r.pool.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	r.pool.Stderr = os.Stderr
	if err := r.pool.Start(); err != nil {
		return err
	}
	for range 300 {
		if c, err := net.Dial("tcp", r.poolAddress()); err == nil {
			return c.Close()
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.Join(errors.New("the worker pool does not listen"), r.stopPool())
}

func (r *recovery) stopPool() error {
	err := r.pool.Process.Signal(syscall.SIGTERM)
	_ = r.pool.Wait() // it ends by the signal
	return err
}

// await waits until the stage with state has committed so many bundles, and returns how long the server has run then.
func (r *recovery) await(s *server, bundles int64) (time.Duration, error) {
	for time.Since(s.startedAt) < time.Minute {
		n, err := r.committed(s)
		if err != nil {
			return 0, err
		}
		if n >= bundles {
			return time.Since(s.startedAt), nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, errors.New("the stage with state commits nothing")
}

func (r *recovery) committed(s *server) (int64, error) {
	resp, err := http.Get("http://" + s.endpoints["http"] + "/api/v1/jobs/" + r.job)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		State       string
		Description struct {
			Stages []struct {
				Name      string
				Committed int64 `json:"bundles_committed"`
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return 0, err
	}
	for _, st := range answer.Description.Stages {
		if strings.Contains(st.Name, "Remember") {
			return st.Committed, nil
		}
	}
	return 0, nil
}

// self is the peak RSS of this process, in MiB.
func self() float64 {
	s := &server{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}
	u, err := s.usage()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	return u.peakMiB
}
