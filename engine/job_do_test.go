package engine

import (
	"context"
	"errors"
	"testing"
)

// TestDoTakesBack: what a caller has asked of a driver and given up does not run behind its back.
func TestDoTakesBack(t *testing.T) {
	j := &job{events: make(chan func(), 1), ended: make(chan struct{})}
	gone := errors.New("the caller goes")
	ctx, cancel := context.WithCancelCause(context.Background())
	ran := 0
	cancelled := make(chan error, 1)
	go func() {
		_, err := j.do(ctx, func() { ran++ })
		cancelled <- err
	}()
	late := <-j.events
	cancel(gone)
	if err := <-cancelled; !errors.Is(err, gone) {
		t.Fatalf("do returned %v", err)
	}
	late()
	if ran != 0 {
		t.Error("it ran afterwards")
	}
	go func() { (<-j.events)() }()
	if ok, err := j.do(context.Background(), func() { ran++ }); !ok || err != nil || ran != 1 {
		t.Errorf("%v, %v, ran %d times", ok, err, ran)
	}
}
