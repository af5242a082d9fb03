package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// serverFileName is the file in the data directory by which other commands find the server.
const serverFileName = "server.json"

// Endpoints are the host:port addresses that a server really listens on (no port 0).
type Endpoints struct {
	Job           string `json:"job"`
	Artifact      string `json:"artifact"`
	Expansion     string `json:"expansion"`
	HTTP          string `json:"http"`
	EmbeddedKafka string `json:"embedded_kafka,omitempty"`
}

// ServerInfo is server.json and the answer of GET /api/v1/server.
type ServerInfo struct {
	PID       int       `json:"pid"`
	Endpoints Endpoints `json:"endpoints"`
}

// writeServerFile publishes info in dir: complete or not at all, so that a reader never sees half a file.
func writeServerFile(dir string, info ServerInfo) error {
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", serverFileName, err)
	}
	tmp, err := os.CreateTemp(dir, serverFileName+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", serverFileName, err)
	}
	_, err = tmp.Write(append(text, '\n'))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, serverFileName))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", serverFileName, errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

// readServerFile returns what the server of dir published; ok is false when there is none. A file may outlive its server.
func readServerFile(dir string) (info ServerInfo, ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, serverFileName))
	if errors.Is(err, fs.ErrNotExist) {
		return ServerInfo{}, false, nil
	}
	if err != nil {
		return ServerInfo{}, false, fmt.Errorf("reading %s: %w", serverFileName, err)
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return ServerInfo{}, false, fmt.Errorf("reading %s: %w", filepath.Join(dir, serverFileName), err)
	}
	return info, true, nil
}

// removeServerFile takes the file of this process away; another server's file stays.
func removeServerFile(dir string, pid int) error {
	info, ok, err := readServerFile(dir)
	if err != nil || !ok || info.PID != pid {
		return err
	}
	if err := os.Remove(filepath.Join(dir, serverFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", serverFileName, err)
	}
	return nil
}

// dialable replaces an unspecified listening host (0.0.0.0, ::) by host, since nobody can connect to "everywhere".
func dialable(address, host string) string {
	h, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(h); h == "" || (ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort(host, port)
	}
	return address
}

// stagingEndpoint says where a client stages files that has called the Job service at an address of the form host:port. A server that
// listens everywhere is in a container or on another host as often as not: what "localhost" is there, the client cannot reach, and the
// port that is published may be another one.
func stagingEndpoint(job, artifact string) func(called string) string {
	told := dialable(artifact, "localhost")
	return func(called string) string {
		host, _, err := net.SplitHostPort(called)
		switch {
		case err != nil || told == artifact:
			return told
		case artifact == job:
			return called
		default:
			return dialable(artifact, host)
		}
	}
}

// reachedAt returns the endpoints as a client reaches them that found the server on host.
func (e Endpoints) reachedAt(host string) Endpoints {
	e.Job = dialable(e.Job, host)
	e.Artifact = dialable(e.Artifact, host)
	e.Expansion = dialable(e.Expansion, host)
	e.HTTP = dialable(e.HTTP, host)
	e.EmbeddedKafka = dialable(e.EmbeddedKafka, host)
	return e
}
