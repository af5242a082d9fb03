package fnapi

import (
	"context"
	"errors"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// expected returns a worker whose harness is waited for, of a server that serves nobody.
func expected(t *testing.T) *Worker {
	t.Helper()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w, err := s.Expect(WorkerSpec{ID: "w"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestReadyOfALostHarness: who has heard that a harness is gone must not take it for the next one, although its worker still holds it.
func TestReadyOfALostHarness(t *testing.T) {
	w := expected(t)
	former, err := w.connect(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	former.mu.err = errors.New("gone") // as end does before its worker hears of it
	close(former.done)
	<-w.Done()
	enough, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Ready(enough); !errors.Is(err, context.Canceled) {
		t.Fatalf("ready without a harness: %v", err)
	}
	if _, err := w.connect(nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestLostOfAGeneration: who looks at a harness only when the next one has come in its place hears of its loss all the same.
func TestLostOfAGeneration(t *testing.T) {
	w := expected(t)
	if _, err := w.connect(nil); err != nil {
		t.Fatal(err)
	}
	first, err := w.Connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Lost(first):
		t.Fatal("lost while it is connected")
	default:
	}
	before := w.Lost(first)
	if _, err := w.connect(nil); err != nil {
		t.Fatal(err)
	}
	<-before
	<-w.Lost(first)
	second, err := w.Connected(t.Context())
	if err != nil || second != first+1 {
		t.Fatalf("generation %d after %d, %v", second, first, err)
	}
	lost := w.Lost(second)
	w.Disconnect("test")
	<-lost
	<-w.Lost(second)
}

// TestLastWords: what a harness has answered before it went away counts, not that it has gone.
func TestLastWords(t *testing.T) {
	w := expected(t)
	for range 100 { // who waits sees both at once, or one after the other
		ss := &statusStream{out: make(chan *fnpb.WorkerStatusRequest), done: make(chan struct{})}
		ss.mu.waiting = make(map[string]chan *fnpb.WorkerStatusResponse)
		w.setStatus(nil, ss)
		sess, err := w.connect(nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			req := <-ss.out
			ss.answer(&fnpb.WorkerStatusResponse{Id: req.GetId(), StatusInfo: "threads"})
			close(ss.done)
			call := <-sess.out
			sess.respond(&fnpb.InstructionResponse{InstructionId: call.GetInstructionId()})
			sess.end(errors.New("gone"))
		}()
		if text, err := w.Status(t.Context()); text != "threads" || err != nil {
			t.Fatalf("status %q, %v", text, err)
		}
		if _, err := sess.call(t.Context(), &fnpb.InstructionRequest{}); err != nil {
			t.Fatal(err)
		}
	}
}
