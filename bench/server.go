package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a `padstone serve` of the benchmark's own.
type server struct {
	dir       string // its data directory
	cmd       *exec.Cmd
	endpoints map[string]string
	startedAt time.Time
}

// startServer starts a server, by its program or a command that becomes it, and waits until it says where it listens.
func startServer(binary []string, dir string, args ...string) (*server, error) {
	published := filepath.Join(dir, "server.json")
	if err := os.Remove(published); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &server{dir: dir, startedAt: time.Now()}
	any := "127.0.0.1:0"
	command := slices.Concat(binary, []string{"serve", "--data-dir", dir, "--job-endpoint", any, "--artifact-endpoint", any,
		"--expansion-endpoint", any, "--http", any}, args)
	s.cmd = exec.Command(command[0], command[1:]...)
	log, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 1000 {
		var info struct {
			PID       int
			Endpoints map[string]string
		}
		if text, err := os.ReadFile(published); err == nil && json.Unmarshal(text, &info) == nil && info.PID == s.cmd.Process.Pid {
			s.endpoints = info.Endpoints
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill()
	return nil, fmt.Errorf("the server does not start; see %s", log.Name())
}

// stop ends the server as SIGTERM does.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// usage is what a process has used.
type usage struct {
	peakMiB, residentMiB float64
	cpu                  time.Duration
}

// usage reads what the server has used so far. Spec: proc_pid_status(5), proc_pid_stat(5).
func (s *server) usage() (u usage, err error) {
	proc := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmHWM":
			u.peakMiB = kib / 1024
		case "VmRSS":
			u.residentMiB = kib / 1024
		}
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the command's name may have spaces
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	const tick = 10 * time.Millisecond
	u.cpu = time.Duration(user+system) * tick
	return u, nil
}

// diskMiB is the size of the files in the data directory.
func (s *server) diskMiB() float64 {
	total := int64(0)
	_ = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go while the server runs
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return float64(total) / (1 << 20)
}
