package fnapi

import (
	"context"
	"errors"
	"testing"
)

// TestReadyOfALostHarness: who has heard that a harness is gone must not take it for the next one, although its worker still holds it.
func TestReadyOfALostHarness(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := s.Expect(WorkerSpec{ID: "w"})
	if err != nil {
		t.Fatal(err)
	}
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
