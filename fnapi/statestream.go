package fnapi

import (
	"sync"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// The answer to a clear goes with the next one. The Python SDK clears a cell and appends to it at once, and waits for the answer to the
// append alone: one system call here and one thread woken there serve both. Spec: bundle_processor.py SynchronousBagRuntimeState.commit.
const (
	clearsMax   = 128                    // answers that are held back at most
	clearsPause = 300 * time.Microsecond // they go when no other answer has come for so long
	// A harness that waits for each is not kept waiting: after so many that were held back for nothing, none is for a while.
	clearsAlone  = 4
	clearsDirect = 1024
)

// stateStream is one State stream.
type stateStream struct {
	stream  fnpb.BeamFnState_StateServer
	pending sync.WaitGroup // requests that are yet to be answered
	timer   *time.Timer    // flushes
	mu      struct {
		sync.Mutex                       // held while answers are sent
		clears     []*fnpb.StateResponse // held back
		alone      int                   // times in a row that one was held back for nothing
		direct     int                   // answers to clears to come that are not held back
		ended      bool
	}
}

func newStateStream(stream fnpb.BeamFnState_StateServer) *stateStream {
	ss := &stateStream{stream: stream}
	ss.timer = time.AfterFunc(time.Hour, ss.pause)
	ss.timer.Stop()
	return ss
}

// reply sends an answer, or keeps it for a moment if it is one to a clear. A stream that is gone takes none: its session ends.
func (ss *stateStream) reply(resp *fnpb.StateResponse) {
	defer ss.pending.Done()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if resp.GetError() == "" && resp.GetClear() != nil && ss.holdLocked(resp) {
		return
	}
	if len(ss.mu.clears) > 0 {
		ss.mu.alone = 0
		ss.flushLocked()
	}
	ss.sendLocked(resp)
}

// holdLocked keeps an answer for later, unless there are enough or this harness waits for each.
func (ss *stateStream) holdLocked(resp *fnpb.StateResponse) bool {
	switch {
	case len(ss.mu.clears) >= clearsMax:
		return false
	case ss.mu.direct > 0:
		ss.mu.direct--
		return false
	}
	ss.mu.clears = append(ss.mu.clears, resp)
	ss.timer.Reset(clearsPause)
	return true
}

// pause sends what is held back, since nothing has come for a while.
func (ss *stateStream) pause() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.mu.clears) == 0 { // another answer was first
		return
	}
	if ss.mu.alone++; ss.mu.alone >= clearsAlone {
		ss.mu.alone, ss.mu.direct = clearsAlone-1, clearsDirect
	}
	ss.flushLocked()
}

// flush sends what is held back.
func (ss *stateStream) flush() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.flushLocked()
}

func (ss *stateStream) flushLocked() {
	for i, resp := range ss.mu.clears {
		ss.sendLocked(resp)
		ss.mu.clears[i] = nil
	}
	ss.mu.clears = ss.mu.clears[:0]
}

func (ss *stateStream) sendLocked(resp *fnpb.StateResponse) {
	if !ss.mu.ended {
		_ = ss.stream.Send(resp) // the reader of the stream sees the same failure and ends the generation
	}
}

// end makes the stream send no more: gRPC takes nothing once the call has returned.
func (ss *stateStream) end() {
	ss.timer.Stop()
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.mu.ended = true
}
