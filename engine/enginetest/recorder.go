package enginetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
)

// Recorder implements jobserver.Reporter and keeps everything. Safe for concurrent use.
type Recorder struct {
	mu struct {
		sync.Mutex
		states   []jobpb.JobState_Enum
		messages []Message
		more     chan struct{} // closed and replaced with each report
	}
}

// Message is a message for the user.
type Message struct {
	Importance jobpb.JobMessage_MessageImportance
	Text       string
}

// State implements jobserver.Reporter.
func (r *Recorder) State(s jobpb.JobState_Enum) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.states = append(r.mu.states, s)
	r.signalLocked()
}

// Message implements jobserver.Reporter.
func (r *Recorder) Message(importance jobpb.JobMessage_MessageImportance, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.messages = append(r.mu.messages, Message{importance, text})
	r.signalLocked()
}

func (r *Recorder) signalLocked() {
	if r.mu.more != nil {
		close(r.mu.more)
		r.mu.more = nil
	}
}

// States returns all transitions.
func (r *Recorder) States() []jobpb.JobState_Enum {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.states)
}

// Last returns the last state.
func (r *Recorder) Last() jobpb.JobState_Enum {
	if s := r.States(); len(s) > 0 {
		return s[len(s)-1]
	}
	return jobpb.JobState_UNSPECIFIED
}

// Messages returns the messages of an importance.
func (r *Recorder) Messages(importance jobpb.JobMessage_MessageImportance) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, m := range r.mu.messages {
		if m.Importance == importance {
			out = append(out, m.Text)
		}
	}
	return out
}

// Await waits until cond holds.
func (r *Recorder) Await(ctx context.Context, cond func(r *Recorder) bool) error {
	for {
		r.mu.Lock()
		if r.mu.more == nil {
			r.mu.more = make(chan struct{})
		}
		more := r.mu.more
		r.mu.Unlock()
		if cond(r) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("states %v: %w", r.States(), ctx.Err())
		}
	}
}
