package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/jobserver"
)

// How often a server that has gone away is tried again.
const (
	relinkMin = 100 * time.Millisecond
	relinkMax = time.Second
)

// link is what is known of a server that may go away and come back: jobs outlive it, so whoever waits for them does, too. Safe for
// concurrent use.
type link struct {
	patience time.Duration // how long a server may be away; 0: not at all
	say      func(format string, args ...any)
	name     string // of the server, for people

	mu struct {
		sync.Mutex
		lostAt time.Time // zero while it answers
	}
}

// await waits a little after an attempt that found the server gone. It returns false when there is no point in another one: what failed
// was not the connection, or the server has been away for too long, or ctx is done.
func (l *link) await(ctx context.Context, err error, wait *time.Duration) bool {
	if !jobserver.Gone(err) || ctx.Err() != nil {
		return false
	}
	since, first := l.lost()
	left := l.patience - time.Since(since)
	if left <= 0 {
		return false
	}
	if first {
		l.say("padstone: the server at %s does not answer; its jobs are kept, waiting up to %s for it to come back", l.name, l.patience)
	}
	*wait = min(max(2**wait, relinkMin), relinkMax)
	timer := time.NewTimer(min(*wait, left))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lost notes that the server is gone, and returns since when and whether that is news.
func (l *link) lost() (since time.Time, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first = l.mu.lostAt.IsZero(); first {
		l.mu.lostAt = time.Now()
	}
	return l.mu.lostAt, first
}

// answered notes that the server is there.
func (l *link) answered() {
	l.mu.Lock()
	lostAt := l.mu.lostAt
	l.mu.lostAt = time.Time{}
	l.mu.Unlock()
	if !lostAt.IsZero() {
		l.say("padstone: the server at %s answers again, after %s", l.name, roundSpan(time.Since(lostAt)))
	}
}

// relinking makes a connection try again soon after it was refused: by default gRPC waits up to two minutes.
func relinking() grpc.DialOption {
	return grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: relinkMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: relinkMax},
		MinConnectTimeout: 5 * time.Second,
	})
}

// errGone is what becomes of a call whose server did not come back.
func (l *link) errGone(err error) error {
	if !jobserver.Gone(err) || l.patience == 0 {
		return err
	}
	return status.Error(codes.Unavailable,
		fmt.Sprintf("the server at %s was away for %s: %s", l.name, l.patience, status.Convert(err).Message()))
}
