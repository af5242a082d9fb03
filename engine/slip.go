package engine

import (
	"path/filepath"
	"sync"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/store"
	"padstone/internal/fault"
)

// slipFile lies beside the store.
const slipFile = "slip"

// What is on a slip: the bytes' places and values.
const (
	slipAsked = iota
	slipEnded
)

const (
	askedDrain  = 'd'
	askedCancel = 'c'
)

// endings are the terminal states as a slip keeps them.
var endings = map[byte]jobpb.JobState_Enum{
	'd': jobpb.JobState_DONE, 'f': jobpb.JobState_FAILED, 'c': jobpb.JobState_CANCELLED, 'r': jobpb.JobState_DRAINED,
	'u': jobpb.JobState_UPDATED,
}

// slip keeps, durably and on a full disk too, what was asked of a job and how it ended. Safe for concurrent use.
type slip struct {
	mu sync.Mutex
	s  *store.Slip
}

func openSlip(fs store.FS, dir string) (*slip, error) {
	s, err := store.OpenSlip(fs, filepath.Join(dir, slipFile))
	if err != nil {
		return nil, err
	}
	return &slip{s: s}, nil
}

// asked is what was asked of the job; 0: nothing.
func (s *slip) asked() byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.s.Get(slipAsked)
}

// ask notes what is asked of the job, before the asker has an answer. A cancelled job is not drained any more.
func (s *slip) ask(what byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s.Get(slipAsked) == askedCancel {
		return nil
	}
	return s.s.Set(slipAsked, what)
}

// end notes how the job ended.
func (s *slip) end(state jobpb.JobState_Enum) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b, of := range endings {
		if of == state {
			return s.s.Set(slipEnded, b)
		}
	}
	return fault.New(fault.Internal, "bad-plan", "a job cannot end in the state %v", state)
}

// ended returns the outcome of a job whose end is noted, nil otherwise.
func (s *slip) ended() *outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := endings[s.s.Get(slipEnded)]
	if !ok {
		return nil
	}
	o := &outcome{State: state, Metrics: []byte("{}")}
	if state == jobpb.JobState_FAILED {
		o.Message = "the job failed, and the disk had no room for the reason before the server ended"
	}
	return o
}
