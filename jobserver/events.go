package jobserver

import (
	"fmt"
	"slices"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// seqNum orders a job's events; 1 is the first.
type seqNum int64

// event is one state or one message of a job. Immutable once appended.
type event struct {
	seq     seqNum
	state   *jobpb.JobStateEvent // or nil
	message *jobpb.JobMessage    // or nil
	// dropped, if positive, makes this the note that stands for that many dropped messages, the last of them numbered seq.
	dropped int64
}

func (e event) response() *jobpb.JobMessagesResponse {
	if e.state != nil {
		return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_StateResponse{StateResponse: e.state}}
	}
	return &jobpb.JobMessagesResponse{Response: &jobpb.JobMessagesResponse_MessageResponse{MessageResponse: e.message}}
}

func (e event) isError() bool {
	return e.message != nil && e.dropped == 0 && e.message.GetImportance() == jobpb.JobMessage_JOB_MESSAGE_ERROR
}

// eventLimits bounds the messages that a job keeps. States are few and always kept.
type eventLimits struct {
	messagesMax int
	bytesMax    int64
}

// eventList holds a job's events in order. Past a limit it drops the oldest messages that are not errors, then the oldest errors, down
// to nine tenths of the limit, and leaves one note in their place. Not safe for concurrent use.
type eventList struct {
	limits   eventLimits
	events   []event
	messages int
	bytes    int64
	next     seqNum
}

func newEventList(limits eventLimits) *eventList { return &eventList{limits: limits, next: 1} }

// append adds e under the next number and returns it as numbered; trimmed tells that older messages had to go.
func (l *eventList) append(e event) (numbered event, trimmed bool) {
	e.seq = l.next
	return e, l.put(e)
}

// put adds an event that has its number already, as read back from a log.
func (l *eventList) put(e event) (trimmed bool) {
	l.next = max(l.next, e.seq+1)
	l.events = append(l.events, e)
	if e.message != nil && e.dropped == 0 {
		l.messages++
		l.bytes += int64(proto.Size(e.message))
	}
	if l.messages <= l.limits.messagesMax && l.bytes <= l.limits.bytesMax {
		return false
	}
	l.trim()
	return true
}

// trim drops in two passes, errors only in the second.
func (l *eventList) trim() {
	note := event{}
	note.seq, note.dropped = l.note()
	for _, errorsToo := range []bool{false, true} {
		l.events = slices.DeleteFunc(l.events, func(e event) bool {
			full := int64(l.messages) > int64(l.limits.messagesMax)*9/10 || l.bytes > l.limits.bytesMax*9/10
			switch {
			case e.dropped > 0:
				return true // put back below, with the new count
			case !full || e.message == nil || (e.isError() && !errorsToo):
				return false
			}
			l.messages--
			l.bytes -= int64(proto.Size(e.message))
			note.dropped++
			note.seq = max(note.seq, e.seq)
			return true
		})
	}
	if note.dropped == 0 {
		return
	}
	note.message = &jobpb.JobMessage{
		MessageId:  fmt.Sprint(note.seq),
		Importance: jobpb.JobMessage_JOB_MESSAGE_WARNING,
		MessageText: fmt.Sprintf("%d earlier messages were dropped: the server keeps %d messages and %d bytes of a job.",
			note.dropped, l.limits.messagesMax, l.limits.bytesMax),
	}
	at, _ := slices.BinarySearchFunc(l.events, note.seq, func(e event, seq seqNum) int { return int(e.seq - seq) })
	l.events = slices.Insert(l.events, at, note)
}

// note returns the number and count of the present note, zeros without one.
func (l *eventList) note() (seqNum, int64) {
	for _, e := range l.events {
		if e.dropped > 0 {
			return e.seq, e.dropped
		}
	}
	return 0, 0
}

// after returns the events numbered above cursor. The slice is the caller's.
func (l *eventList) after(cursor seqNum) []event {
	at, _ := slices.BinarySearchFunc(l.events, cursor+1, func(e event, seq seqNum) int { return int(e.seq - seq) })
	return slices.Clone(l.events[at:])
}

func stateEvent(state jobpb.JobState_Enum, at time.Time) event {
	return event{state: &jobpb.JobStateEvent{State: state, Timestamp: timestamppb.New(at)}}
}
