package jobserver

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/internal/fault"
)

// TestGone tells what a server says from what its absence looks like, over the same status code.
func TestGone(t *testing.T) {
	cases := []struct {
		name string
		err  error
		want bool
	}{
		{"nobody listens", status.Error(codes.Unavailable, "connection error: connection refused"), true},
		{"closing", statusOf(errClosing()), true},
		{"a broker is away", statusOf(fault.New(fault.Environment, "kafka-unreachable", "no broker answers")), false},
		{"no such job", statusOf(fault.New(fault.Pipeline, "job-not-found", "no job")), false},
		{"given up", statusOf(context.Canceled), false},
		{"nothing", nil, false},
	}
	for _, c := range cases {
		if got := Gone(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
