package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/enginetest"
	"padstone/engine/store"
	"padstone/engine/store/storetest"
)

func (s *sim) storeDir() string { return filepath.Join(s.spec.Dir, "engine", "store") }

// checkLeft checks the frontier's promise on what a crash has left: whatever is outside is there, too.
func (s *sim) checkLeft(left *storetest.Disk) {
	shown := s.outside.shown()
	if shown == 0 {
		return
	}
	look := left.Crashed(100, everything)
	st, err := store.Open(store.Config{Dir: s.storeDir(), FS: look, Logger: zap.NewNop()})
	if err != nil {
		s.wrong("what is left of the disk: %v", err)
		return
	}
	if last := st.LastBlock(); last < shown {
		s.wrong("block %d is outside, but the store ends at block %d", shown, last)
	}
	if err := st.Close(); err != nil {
		s.wrong("%v", err)
	}
}

// finish checks what came of a job that has ended.
func (s *sim) finish(l *life, end *ending) {
	l.disk.Watch = nil
	if end.err != nil {
		s.wrong("the job could not be started: %v", end.err)
		return
	}
	r := &result{state: l.reports.Last(), draining: s.draining(), rewound: s.rewound, lost: s.lost}
	if !s.mayEnd(l, r.state) {
		s.wrong("the job has ended in state %s: %q", r.state, l.reports.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR))
		return
	}
	s.hit(Kind("ended " + r.state.String()))
	for _, w := range s.outside.checkLog() {
		s.wrong("%s", w)
	}
	metrics, err := end.running.Metrics(context.Background())
	if err != nil {
		s.wrong("metrics: %v", err)
		return
	}
	r.counter = func(transform, name string) int64 { return enginetest.Sum(metrics.GetCommitted(), transform, name) }
	if r.read, err = s.checkRows(l.disk, r.state != jobpb.JobState_CANCELLED); err != nil {
		s.wrong("the store of the job that has ended: %v", err)
		return
	}
	for _, w := range s.job.check(r) {
		s.wrong("%s", w)
	}
}

func (s *sim) draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.wishes.drain
}

// mayEnd says whether the job may end in a state, by what it was asked and what it has answered. In the life that answers, the job may
// just have ended otherwise.
func (s *sim) mayEnd(l *life, state jobpb.JobState_Enum) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.mu.wishes
	switch state {
	case jobpb.JobState_DONE:
		return w.drains < 0 && w.cancels < 0 || max(w.drains, w.cancels) == l.n
	case jobpb.JobState_DRAINED:
		return w.drain && (w.cancels < 0 || w.cancels == l.n)
	case jobpb.JobState_CANCELLED:
		return w.cancel
	}
	return false
}

// checkRows looks at what a job has left: nothing when it was not cancelled. It returns how many batches were read, by split.
func (s *sim) checkRows(d *storetest.Disk, whole bool) (read map[string]int, err error) {
	st, err := store.Open(store.Config{Dir: s.storeDir(), FS: d, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	for name, table := range s.job.emptied() {
		if n, err := st.CountRows(table); err != nil || whole && n != 0 {
			s.wrong("%d %s rows are left, %v", n, name, err)
		}
	}
	read = map[string]int{}
	for number := range uint32(numbersMax) {
		positions, err := st.Positions(number)
		if err != nil {
			return nil, errors.Join(err, st.Close())
		}
		for _, p := range positions {
			if read[p.Name], err = progress(p); err != nil {
				return nil, errors.Join(err, st.Close())
			}
		}
	}
	return read, st.Close()
}

// progress is how far a source has come: batches, or the events of a TestStream.
func progress(p store.Entry) (int, error) {
	if p.Name == "script" {
		n, size := binary.Uvarint(p.Value)
		if size <= 0 {
			return 0, fmt.Errorf("the place %x in a script", p.Value)
		}
		return int(n), nil
	}
	return strconv.Atoi(string(p.Value))
}

// numbersMax is more than a job has stages.
const numbersMax = 128
