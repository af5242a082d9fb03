package main

import (
	"context"
	"errors"
	"net"
	"os"
)

// runServer is the server that a script's jobs go to.
type runServer struct {
	api     *client
	info    ServerInfo
	dataDir string // in which it was found; "" if it was named
	// stop ends a server that was started for this script, and does nothing to another.
	stop func() error
}

// now returns where the server is, which may have come back on other ports: one that was found by its data directory says there where.
func (s *runServer) now() (Endpoints, *client) {
	if s.dataDir == "" {
		return s.info.Endpoints, s.api
	}
	info, ok, err := readServerFile(s.dataDir)
	if err != nil || !ok {
		return s.info.Endpoints, s.api
	}
	endpoints := info.Endpoints.reachedAt("localhost")
	api, err := newClient(endpoints.HTTP)
	if err != nil {
		return s.info.Endpoints, s.api
	}
	return endpoints, api
}

// dialJob connects to the Job service, wherever it is by now.
func (s *runServer) dialJob(ctx context.Context, _ string) (net.Conn, error) {
	endpoints, _ := s.now()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", endpoints.Job)
}

// reachServer finds a running server or starts one in this process.
func reachServer(ctx context.Context, term *terminal, o runOptions, console *console) (*runServer, error) {
	dataDir := o.dataDir
	if dataDir == "" {
		dataDir = defaultDataDir(term.getenv)
	}
	api, info, ok, err := locate(ctx, o.server, dataDir, term.getenv)
	if err != nil {
		return nil, err
	}
	if ok {
		if len(o.expansionServices) > 0 {
			return nil, usageError(errors.New("--expansion-service is for a server that is started for the script; one runs already at " +
				api.base + ": give the flag to its `padstone serve`, or choose another --data-dir"))
		}
		console.printf("padstone: using the server at %s (pid %d)", api.base, info.PID)
		server := &runServer{api: api, info: info, stop: func() error { return nil }}
		if o.server == "" && term.getenv("PADSTONE_SERVER") == "" {
			server.dataDir = dataDir
		}
		return server, nil
	}
	return startServer(ctx, term, o, console)
}

// startServer runs a server in this process, on free ports. Without --data-dir its data goes to a temporary directory which is
// removed at the end: jobs of a script that is over must not come back with the next one.
func startServer(ctx context.Context, term *terminal, o runOptions, console *console) (*runServer, error) {
	return startServerOn(ctx, term, o, console, newExecutor)
}

// startServerOn runs a server whose jobs another executor runs.
func startServerOn(ctx context.Context, term *terminal, o runOptions, console *console, open opener) (*runServer, error) {
	cfg := defaultConfig(term.getenv)
	cfg.JobEndpoint, cfg.ArtifactEndpoint, cfg.ExpansionEndpoint, cfg.HTTP = "localhost:0", "localhost:0", "localhost:0", "localhost:0"
	cfg.LogLevel = o.logLevel
	cfg.ExpansionServices = o.expansionServices
	remove := func() error { return nil }
	if o.dataDir != "" {
		cfg.DataDir = o.dataDir
	} else {
		var err error
		if cfg.DataDir, remove, _, err = newTempDir(term.getenv(envDockerHost)); err != nil {
			return nil, err
		}
	}
	if err := cfg.Validate(); err != nil {
		return nil, errors.Join(err, remove())
	}
	log, err := newLogger(console.own(), cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan Endpoints, 1), make(chan error, 1)
	go func() { ended <- serveOn(ctx, cfg, log, open, func(e Endpoints) { ready <- e }) }()
	stop := func() error {
		cancel()
		return errors.Join(<-ended, remove())
	}
	select {
	case err := <-ended:
		cancel()
		return nil, errors.Join(err, remove())
	case endpoints := <-ready:
		api, err := newClient(endpoints.HTTP)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		console.printf("padstone: started a server for this script; HTTP at http://%s", endpoints.HTTP)
		return &runServer{api: api, info: ServerInfo{PID: os.Getpid(), Endpoints: endpoints}, stop: stop}, nil
	}
}
