package jobserver

import (
	"fmt"
	"strings"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
)

// messageTextBytesMax cuts one message; it stays far below what a gRPC client receives by default.
const messageTextBytesMax = 256 << 10

// job is one job of the registry, running or over. It is the Reporter of its run.
type job struct {
	rec    record
	path   string // of the event log
	limits eventLimits
	now    func() time.Time
	log    *zap.Logger

	// Guarded by Server.mu: a supervisor was started; the job is over and its executor has let go of its directory.
	supervised, released bool
	// accepted is closed when the executor has answered Start (or Recover), with mu.running set if it took the job.
	accepted chan struct{}
	// asked is closed when a terminal state has been reported; the supervisor then persists the final pictures and publishes it.
	asked chan struct{}

	mu struct {
		sync.Mutex
		states []*jobpb.JobStateEvent // history; never empty once published
		// events is nil for a job that is over: its messages are read from disk when somebody asks.
		events    *eventList
		eventLog  *eventLog // nil when over
		changed   chan struct{}
		verdict   jobpb.JobState_Enum // the terminal state asked for, or UNSPECIFIED
		lastError string
		running   Running // nil before Start has answered and after the final pictures are on disk
	}
}

// newJob returns a job whose events are those given, logged to eventLog, or a job that is over if eventLog is nil.
func (s *Server) newJob(rec record, eventLog *eventLog, events []event) *job {
	j := &job{
		rec: rec, path: s.eventLogPath(rec.ID), limits: s.eventLimits(), now: s.cfg.Now,
		log:      s.cfg.Log.With(zap.String("job", rec.ID)),
		accepted: make(chan struct{}), asked: make(chan struct{}),
	}
	j.mu.changed = make(chan struct{})
	j.mu.eventLog = eventLog
	if eventLog != nil {
		j.mu.events = newEventList(j.limits)
	}
	for _, e := range events {
		if e.state != nil {
			j.mu.states = append(j.mu.states, e.state)
		}
		if e.isError() {
			j.mu.lastError = e.message.GetMessageText()
		}
		if j.mu.events != nil {
			j.mu.events.put(e)
		}
	}
	return j
}

// state is the job's present state and since when.
func (j *job) state() *jobpb.JobStateEvent {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.states[len(j.mu.states)-1]
}

func (j *job) stateLocked() jobpb.JobState_Enum {
	if len(j.mu.states) == 0 {
		return jobpb.JobState_UNSPECIFIED
	}
	return j.mu.states[len(j.mu.states)-1].GetState()
}

// State implements Reporter. Repetitions and states that cannot follow are ignored. A terminal state is taken as the verdict and
// published once the final metrics are on disk.
func (j *job) State(state jobpb.JobState_Enum) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from := j.stateLocked()
	switch {
	case from == state:
	case j.mu.eventLog == nil, !mayFollow(from, state), IsTerminal(state) && j.mu.verdict != jobpb.JobState_UNSPECIFIED:
		j.log.Debug("a state that cannot follow is ignored", zap.Stringer("from", from), zap.Stringer("to", state))
	case IsTerminal(state):
		j.mu.verdict = state
		close(j.asked)
	default:
		j.appendLocked(stateEvent(state, j.now()), true)
	}
}

// publish makes the verdict the job's state: its last event.
func (j *job) publish() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.verdict == jobpb.JobState_FAILED && j.mu.lastError == "" {
		j.messageLocked(jobpb.JobMessage_JOB_MESSAGE_ERROR,
			"The job failed, and its executor gave no reason. This is a fault of the server.")
	}
	j.appendLocked(stateEvent(j.mu.verdict, j.now()), true)
	j.mu.running = nil
	if j.mu.eventLog.broken == nil {
		j.closeLogLocked()
	}
}

// closeLogLocked closes the log of a job that is over, when it holds everything.
func (j *job) closeLogLocked() {
	if err := j.mu.eventLog.close(); err != nil {
		j.log.Warn("event log not closed cleanly", zap.Error(err))
	}
	j.mu.events, j.mu.eventLog = nil, nil // what the log holds need not stay in memory
}

// Message implements Reporter.
func (j *job) Message(importance jobpb.JobMessage_MessageImportance, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.verdict != jobpb.JobState_UNSPECIFIED || j.mu.eventLog == nil {
		j.log.Debug("a message after the end is ignored", zap.String("text", text))
		return
	}
	j.messageLocked(importance, text)
}

func (j *job) messageLocked(importance jobpb.JobMessage_MessageImportance, text string) {
	text = strings.ToValidUTF8(text, "\uFFFD") // a proto string is UTF-8
	if len(text) > messageTextBytesMax {
		text = strings.ToValidUTF8(text[:messageTextBytesMax], "") + fmt.Sprintf(" … (%d bytes in all)", len(text))
	}
	isError := importance == jobpb.JobMessage_JOB_MESSAGE_ERROR
	if isError {
		j.mu.lastError = text
	}
	j.appendLocked(event{message: &jobpb.JobMessage{
		MessageId:   fmt.Sprint(j.mu.events.next),
		Time:        j.now().UTC().Format(time.RFC3339Nano),
		Importance:  importance,
		MessageText: text,
	}}, isError)
}

// appendLocked adds an event to list and log and wakes the streams. A log that cannot be written does not stop the job: streams go on
// from memory, the operator is told once, and the log is mended when the disk works again.
func (j *job) appendLocked(e event, sync bool) {
	e, trimmed := j.mu.events.append(e)
	if e.state != nil {
		j.mu.states = append(j.mu.states, e.state)
		j.log.Info("job state", zap.Stringer("state", e.state.GetState()))
	}
	healthy := j.mu.eventLog.broken == nil
	err := j.mu.eventLog.append(e, sync)
	if err == nil && trimmed && j.mu.eventLog.size > 2*j.limits.bytesMax {
		err = j.mu.eventLog.rewrite(j.mu.events.events)
	}
	if err != nil && healthy {
		j.log.Error("the job's states and messages cannot be stored; until that works a restart would lose them", zap.Error(err))
		time.AfterFunc(mendEvery, j.mend)
	}
	close(j.mu.changed)
	j.mu.changed = make(chan struct{})
}

// mendEvery is how often a log that cannot be written is tried again.
const mendEvery = time.Second

// mend writes anew a log that could not be written.
func (j *job) mend() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.eventLog == nil || j.mu.eventLog.broken == nil {
		return
	}
	if err := j.mu.eventLog.mend(j.mu.events.events); err != nil {
		j.log.Debug("the job's states and messages still cannot be stored", zap.Error(err))
		time.AfterFunc(mendEvery, j.mend)
		return
	}
	j.log.Info("the job's states and messages can be stored again")
	if IsTerminal(j.stateLocked()) {
		j.closeLogLocked()
	}
}

// view is what a stream reads: events after its cursor and how to wait for more.
type view struct {
	events  []event
	changed <-chan struct{} // closed at the next event
	over    bool            // nothing follows these events
}

// read returns the events after cursor.
func (j *job) read(cursor seqNum) (view, error) {
	j.mu.Lock()
	v := view{changed: j.mu.changed, over: IsTerminal(j.stateLocked())}
	if j.mu.events != nil {
		v.events = j.mu.events.after(cursor)
		j.mu.Unlock()
		return v, nil
	}
	j.mu.Unlock()
	events, err := j.stored()
	if err != nil {
		return view{}, err
	}
	v.events = events.after(cursor)
	return v, nil
}

// stored reads the events of a job that is over from disk.
func (j *job) stored() (*eventList, error) {
	events, _, _, err := readEventLog(j.path)
	if err != nil {
		return nil, err
	}
	list := newEventList(j.limits)
	for _, e := range events {
		list.put(e)
	}
	return list, nil
}

// run returns the executor's handle; nil before the executor has taken the job and after the end.
func (j *job) run() Running {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.running
}
