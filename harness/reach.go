package harness

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

// reachFor bounds the connection to a worker pool.
const reachFor = 3 * time.Second

// reach says whether anybody listens at the address.
func reach(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: reachFor}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// greets says whether a pool that takes connections speaks the protocol, as far as that goes: a program that is busy does, in the library's
// own threads, and one that hangs or was stopped does not. So there is no need to wait for its answer as long as for a worker.
func (s *sites) greets(ctx context.Context, one *site) bool {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.GreetTimeout)
	defer cancel()
	conn, err := grpc.NewClient(one.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
		if state == connectivity.Idle {
			conn.Connect()
		}
	}
	return true
}
