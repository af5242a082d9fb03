package engine

import (
	"fmt"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/scheduler"
)

// phases is how long the parts of a job's recovery take, for people who wait for it. It ends with the first bundle that is committed.
type phases struct {
	began    time.Time
	opened   time.Duration // the store
	restored time.Duration // what the scheduler needs to know; the harnesses start meanwhile
	started  time.Duration // the harnesses
	over     bool
}

// since returns how long the recovery has taken so far.
func (p *phases) since() time.Duration { return time.Since(p.began).Round(time.Millisecond) }

// hasRestored notes what was read of the store.
func (j *job) hasRestored(r *scheduler.Restored) {
	if j.phases.restored = j.phases.since(); !j.resumed {
		j.phases.over = true
		return
	}
	holds := 0
	for _, h := range r.Holds {
		holds += len(h.Holds)
	}
	j.log.Info("job restored", zap.Duration("store_opened", j.phases.opened), zap.Duration("restored", j.phases.restored),
		zap.Int("blocks", len(r.Blocks)), zap.Int("holds", holds))
}

// recovered tells once that the job goes on.
func (j *job) recovered() {
	p := &j.phases
	if p.over {
		return
	}
	p.over = true
	now := p.since()
	j.log.Info("job recovered", zap.Duration("store_opened", p.opened), zap.Duration("restored", p.restored),
		zap.Duration("harnesses_started", p.started), zap.Duration("first_commit", now))
	j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf(
		"the job goes on, %v after its recovery began: the store was open after %v, restored after %v, the harnesses started after %v",
		now, p.opened, p.restored, p.started))
}
