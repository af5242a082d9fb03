package streamend

import (
	"context"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// Methods of the Job service. Spec: beam_job_api.proto JobService.
var (
	Messages = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/GetMessageStream"
	States   = "/" + jobpb.JobService_ServiceDesc.ServiceName + "/GetStateStream"
)

// KeyOf returns what the requests of a job's two streams have in common.
type KeyOf func(request any) string

// ByJob is the KeyOf of decoded requests.
func ByJob(request any) string {
	if r, ok := request.(interface{ GetJobId() string }); ok {
		return r.GetJobId()
	}
	return ""
}

// Options returns the options of a gRPC server that serves the Job service, or passes its calls on.
func Options(key KeyOf) []grpc.ServerOption {
	return []grpc.ServerOption{grpc.StatsHandler(watcher{}), grpc.ChainStreamInterceptor(ordered(key))}
}

// connection has the state streams that are open on a client's connection, by job.
type connection struct {
	mu   sync.Mutex
	open map[string]map[*call]struct{}
	last time.Time // when a state stream ended
}

// call is one call of a connection.
type call struct {
	conn  *connection
	key   string        // under which it is open; guarded by conn.mu
	ended chan struct{} // closed when the call's end was given to the transport
}

func (c *call) enter(key string) {
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	c.key = key
	if c.conn.open[key] == nil {
		c.conn.open[key] = make(map[*call]struct{})
	}
	c.conn.open[key][c] = struct{}{}
}

func (c *call) end() {
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	close(c.ended)
	if c.key != "" {
		c.conn.last = time.Now()
	}
	delete(c.conn.open[c.key], c)
	if len(c.conn.open[c.key]) == 0 {
		delete(c.conn.open, c.key)
	}
}

func (c *connection) openOf(key string) []*call {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := make([]*call, 0, len(c.open[key]))
	for open := range c.open[key] {
		calls = append(calls, open)
	}
	return calls
}

// Settled is how long the end of a message stream comes after that of a state stream. gRPC's threads in the client may hand on two ends in
// the other order when they read both at once.
const Settled = 100 * time.Millisecond

// settle waits until the client has handled the end of the last state stream, as far as one can tell from here.
func (c *connection) settle(ctx context.Context) error {
	c.mu.Lock()
	rest := Settled - time.Since(c.last)
	c.mu.Unlock()
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ordered has the end of a message stream wait. A state stream of a job that is over ends at once, so the wait is short; a stream
// that ends early, with an error, does not wait.
func ordered(keyOf KeyOf) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		self, ok := stream.Context().Value(callKey{}).(*call)
		if !ok {
			return next(server, stream)
		}
		switch info.FullMethod {
		case States:
			return next(server, &tapped{ServerStream: stream, tap: func(request any) { self.enter(keyOf(request)) }})
		case Messages:
			var key string
			err := next(server, &tapped{ServerStream: stream, tap: func(request any) { key = keyOf(request) }})
			if err != nil {
				return err
			}
			for _, open := range self.conn.openOf(key) {
				select {
				case <-open.ended:
				case <-stream.Context().Done():
					return context.Cause(stream.Context())
				}
			}
			return self.conn.settle(stream.Context())
		default:
			return next(server, stream)
		}
	}
}

// tapped shows the first request of a stream to tap before the handler sees it.
type tapped struct {
	grpc.ServerStream
	tap func(request any)
}

func (t *tapped) RecvMsg(m any) error {
	err := t.ServerStream.RecvMsg(m)
	if err == nil && t.tap != nil {
		t.tap(m)
		t.tap = nil
	}
	return err
}

// watcher tells connections and calls apart, and learns when a call has ended.
type watcher struct{}

type (
	connKey struct{}
	callKey struct{}
)

func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connKey{}, &connection{open: make(map[string]map[*call]struct{})})
}

func (watcher) HandleConn(context.Context, stats.ConnStats) {}

func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	conn, ok := ctx.Value(connKey{}).(*connection)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, callKey{}, &call{conn: conn, ended: make(chan struct{})})
}

func (watcher) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, over := event.(*stats.End); !over {
		return
	}
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.end()
	}
}
