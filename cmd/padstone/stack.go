package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"padstone/internal/durable"
	"padstone/internal/fault"
)

// stopFor bounds the graceful end of each part of a server; after it the part is cut off.
const stopFor = 20 * time.Second

// stack is a server: parts that listen and parts that are only to be closed, in the order in which they were added.
type stack struct {
	log       *zap.Logger
	dataDir   string
	endpoints Endpoints
	parts     []part
}

// part is one part of a server. serve, if there is one, runs until stop or until its context is done; an error ends the server. stop,
// if there is one, must end within its context or a little later.
type part struct {
	name  string
	serve func(ctx context.Context) error
	stop  func(ctx context.Context) error
}

// listen opens a listener, which the stack closes, and says which flag to look at when that fails.
func (s *stack) listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fault.New(fault.Environment, codeAddress, "--%s %s: %w", flag, address, err).
			WithHint("another server may be running: try `padstone jobs list`, or choose another port (0 takes a free one)")
	}
	s.addCloser("listener of "+flag, func(context.Context) error {
		// A server that ran on the listener has closed it already.
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

// addGRPC adds a gRPC server that serves on every one of listeners.
func (s *stack) addGRPC(name string, server *grpc.Server, listeners ...net.Listener) {
	s.addCloser(name, func(ctx context.Context) error { return stopGRPC(ctx, server) })
	for _, l := range listeners {
		s.parts = append(s.parts, part{name: name, serve: func(context.Context) error { return server.Serve(l) }})
	}
}

// stopGRPC lets calls in flight end, until ctx is done.
func stopGRPC(ctx context.Context, server *grpc.Server) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// Streams that follow a running job never end by themselves.
		server.Stop()
		<-done
	}
	return nil
}

// addHTTP adds an HTTP server.
func (s *stack) addHTTP(name string, handler http.Handler, l net.Listener) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(s.log.Named(name))}
	s.parts = append(s.parts, part{
		name: name,
		serve: func(context.Context) error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
		stop: func(ctx context.Context) error {
			if err := server.Shutdown(ctx); err != nil {
				return server.Close()
			}
			return nil
		},
	})
}

// addTask adds work that begins with the server and must have ended before it does.
func (s *stack) addTask(name string, work func(ctx context.Context) error) {
	s.parts = append(s.parts, part{name: name, serve: func(ctx context.Context) error {
		if err := work(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		return nil
	}})
}

// addCloser adds a part that only has to be closed; it is closed after every part added later has stopped.
func (s *stack) addCloser(name string, stop func(ctx context.Context) error) {
	s.parts = append(s.parts, part{name: name, stop: stop})
}

// run serves until ctx is done or a part fails, publishes server.json meanwhile and calls ready once it is there. Parts stop in
// reverse order. The error is nil after a graceful end.
func (s *stack) run(ctx context.Context, pid int, ready func(Endpoints)) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var serving sync.WaitGroup
	for _, p := range s.parts {
		if p.serve == nil {
			continue
		}
		serving.Go(func() {
			if err := p.serve(ctx); err != nil {
				fail(fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
	info := ServerInfo{PID: pid, Endpoints: s.endpoints}
	err := writeServerFile(s.dataDir, info)
	if durable.Full(err) {
		s.log.Warn("the disk is full: the server cannot be found by its data directory until there is room", zap.Error(err))
		serving.Go(func() { s.publishLater(ctx, info) })
		err = nil
	}
	if err == nil {
		if ready != nil {
			ready(s.endpoints)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			err = cause
		}
		err = errors.Join(err, removeServerFile(s.dataDir, pid))
	}
	err = errors.Join(err, s.close())
	serving.Wait()
	return err
}

// publishLater publishes server.json once the disk has room: until then jobs can be cancelled, which may give some.
func (s *stack) publishLater(ctx context.Context, info ServerInfo) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for writeServerFile(s.dataDir, info) != nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// close stops all parts in reverse order; also the way to give up a stack that never ran.
func (s *stack) close() error {
	var errs []error
	for i := len(s.parts) - 1; i >= 0; i-- {
		p := s.parts[i]
		if p.stop == nil {
			continue
		}
		// Not derived from run's context, which is done by now.
		ctx, cancel := context.WithTimeout(context.Background(), stopFor)
		if err := p.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stopping %s: %w", p.name, err))
		}
		cancel()
		s.log.Debug("stopped", zap.String("part", p.name))
	}
	return errors.Join(errs...)
}
