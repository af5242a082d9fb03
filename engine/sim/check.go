package sim

import (
	"context"
	"path/filepath"

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
	if state := l.reports.Last(); state != jobpb.JobState_DONE {
		s.wrong("the job has ended in state %s: %q", state, l.reports.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR))
		return
	}
	for _, w := range s.outside.checkLog() {
		s.wrong("%s", w)
	}
	metrics, err := end.running.Metrics(context.Background())
	if err != nil {
		s.wrong("metrics: %v", err)
		return
	}
	counter := func(transform, name string) int64 { return enginetest.Sum(metrics.GetCommitted(), transform, name) }
	for _, w := range s.job.check(counter) {
		s.wrong("%s", w)
	}
	s.checkRows(l.disk)
}

func (s *sim) checkRows(d *storetest.Disk) {
	st, err := store.Open(store.Config{Dir: s.storeDir(), FS: d, Logger: zap.NewNop()})
	if err != nil {
		s.wrong("the store of the job that is done: %v", err)
		return
	}
	for name, table := range s.job.emptied() {
		if n, err := st.CountRows(table); err != nil || n != 0 {
			s.wrong("%d %s rows are left, %v", n, name, err)
		}
	}
	if err := st.Close(); err != nil {
		s.wrong("%v", err)
	}
}
