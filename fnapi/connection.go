package fnapi

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// connection is a connection of a harness. A program that ends closes it, which is how one knows that it has ended.
type connection struct {
	ended  chan struct{}
	heard  *heard                 // nil for a connection of another kind of listener
	worker atomic.Pointer[Worker] // whose control stream is on it; nil: none has been
}

type connectionKey struct{}

// connectionOf returns the connection that a call came on, or nil.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// connections notes the ends of connections. It implements stats.Handler.
type connections struct{}

// TagConn makes the connection known to its calls.
func (connections) TagConn(ctx context.Context, info *stats.ConnTagInfo) context.Context {
	c := &connection{ended: make(chan struct{})}
	if addr, ok := info.RemoteAddr.(heardAddr); ok {
		c.heard = addr.conn
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// HandleConn notes the end of a connection.
func (connections) HandleConn(ctx context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		if c := connectionOf(ctx); c != nil {
			close(c.ended)
		}
	}
}

// TagRPC and HandleRPC are not used.
func (connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC does nothing.
func (connections) HandleRPC(context.Context, stats.RPCStats) {}
