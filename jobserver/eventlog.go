package jobserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/durable"
)

// The event log of a job is a header and records, appended in order:
//
//	"PADEVT1\n"
//	length u32le | crc32c of payload u32le | payload
//	payload: seq uvarint | dropped uvarint | JobMessagesResponse proto
//
// A crash leaves a prefix of it, perhaps with a torn record at the end; reading stops at the first record that does not check.
const (
	eventLogMagic  = "PADEVT1\n"
	recordHeadSize = 8
	// recordBytesMax is far above any record that is written (a message is cut to messageTextBytesMax); a longer length is damage.
	recordBytesMax = 16 << 20
)

// answerWithin is how long a log waits for its disk. Whoever appends holds what readers of the job need, so that a disk that hangs is to
// hold them up no longer.
const answerWithin = 2 * time.Second

// errUnanswered breaks a log whose disk hangs.
var errUnanswered = errors.New("the disk does not answer")

// logFile is a file as an event log needs it.
type logFile interface {
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// eventLog appends to one job's log file. Not safe for concurrent use.
type eventLog struct {
	path string
	file logFile
	size int64
	// patience is how long it waits for its disk: answerWithin, but in tests.
	patience time.Duration
	// unanswered is closed when the disk has done what it was asked last; nil while it answers in time.
	unanswered <-chan struct{}
	// broken is the first write error. The log takes nothing more after it: a gap would read back as a prefix.
	broken error
}

// openEventLog opens or creates the log at path for appending and returns the events in it and how many bytes at its end did not read
// back. Those are cut off, so that what is appended follows the last good record.
func openEventLog(path string) (log *eventLog, events []event, lostBytes int64, err error) {
	events, good, total, err := readEventLog(path)
	if err != nil {
		return nil, nil, 0, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("open event log: %w", err)
	}
	log = &eventLog{path: path, file: file, size: good, patience: answerWithin}
	if err := log.prepare(); err != nil {
		return nil, nil, 0, errors.Join(err, file.Close())
	}
	return log, events, total - good, nil
}

// prepare cuts a torn tail off, and writes the header of a new (or torn within the header) log.
func (l *eventLog) prepare() error {
	if l.size < int64(len(eventLogMagic)) {
		if _, err := l.file.WriteAt([]byte(eventLogMagic), 0); err != nil {
			return fmt.Errorf("write event log header: %w", err)
		}
		l.size = int64(len(eventLogMagic))
	}
	if err := l.file.Truncate(l.size); err != nil {
		return fmt.Errorf("truncate event log: %w", err)
	}
	return l.sync()
}

// readEventLog returns the events of the log's good prefix, that prefix's length and the file's; a missing file is an empty log.
func readEventLog(path string) (events []event, good, total int64, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, nil
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read event log: %w", err)
	}
	if len(data) < len(eventLogMagic) || string(data[:len(eventLogMagic)]) != eventLogMagic {
		return nil, 0, int64(len(data)), nil
	}
	rest := data[len(eventLogMagic):]
	for {
		e, size, ok := decodeRecord(rest)
		if !ok {
			return events, int64(len(data) - len(rest)), int64(len(data)), nil
		}
		events = append(events, e)
		rest = rest[size:]
	}
}

// append writes one event. sync makes it survive a power loss; without it the record survives the process, not the machine.
func (l *eventLog) append(e event, sync bool) error {
	if l.broken != nil {
		return l.broken
	}
	record, err := encodeRecord(nil, e)
	if err != nil {
		return err
	}
	file, at := l.file, l.size
	if err := l.within(func() error { _, err := file.WriteAt(record, at); return err }); err != nil {
		l.broken = fmt.Errorf("write event log: %w", err)
		return l.broken
	}
	l.size += int64(len(record))
	if sync {
		return l.sync()
	}
	return nil
}

func (l *eventLog) sync() error {
	if err := l.within(l.file.Sync); err != nil {
		// After a failed fsync the kernel may have dropped the pages: what is on disk is unknown from here on.
		l.broken = fmt.Errorf("sync event log: %w", err)
		return l.broken
	}
	return nil
}

// within asks the disk for something that needs nothing of the log. A disk that does not answer in time is asked for nothing more before it
// has answered.
func (l *eventLog) within(ask func() error) error {
	if l.unanswered != nil {
		select {
		case <-l.unanswered:
			l.unanswered = nil
		default:
			return errUnanswered
		}
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = ask()
	}()
	timer := time.NewTimer(l.patience)
	defer timer.Stop()
	select {
	case <-done:
		return err
	case <-timer.C:
		l.unanswered = done
		return errUnanswered
	}
}

// rewrite replaces the log by one that holds just these events; the way to give back the space of dropped ones.
func (l *eventLog) rewrite(events []event) error {
	if l.broken != nil {
		return l.broken
	}
	return l.replace(events)
}

// mend replaces a broken log by one that holds just these events, if the disk takes it now.
func (l *eventLog) mend(events []event) error {
	if err := l.replace(events); err != nil {
		return err
	}
	l.broken = nil
	return nil
}

// replace puts a log with these events into the place of the present one.
func (l *eventLog) replace(events []event) error {
	data := []byte(eventLogMagic)
	for _, e := range events {
		var err error
		if data, err = encodeRecord(data, e); err != nil {
			return err
		}
	}
	if err := l.within(func() error { return durable.WriteFile(l.path, data) }); err != nil {
		if errors.Is(err, errUnanswered) {
			l.broken = err // the file of the log may be one that nobody finds any more
		}
		return fmt.Errorf("rewrite event log: %w", err)
	}
	file, err := os.OpenFile(l.path, os.O_RDWR, 0o600)
	if err != nil {
		l.broken = fmt.Errorf("open rewritten event log: %w", err)
		return l.broken
	}
	old := l.file
	l.file, l.size = file, int64(len(data))
	return old.Close()
}

func (l *eventLog) close() error { return l.file.Close() }

func encodeRecord(to []byte, e event) ([]byte, error) {
	head := len(to)
	to = append(to, make([]byte, recordHeadSize)...)
	to = binary.AppendUvarint(to, uint64(e.seq))
	to = binary.AppendUvarint(to, uint64(e.dropped))
	to, err := proto.MarshalOptions{}.MarshalAppend(to, e.response())
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	payload := to[head+recordHeadSize:]
	binary.LittleEndian.PutUint32(to[head:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(to[head+4:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	return to, nil
}

// decodeRecord reads the record at the start of data; ok is false where none checks.
func decodeRecord(data []byte) (e event, size int, ok bool) {
	if len(data) < recordHeadSize {
		return event{}, 0, false
	}
	length := binary.LittleEndian.Uint32(data)
	// Zero is refused because a file system may leave zeros where the tail was, and the checksum of nothing is zero.
	if length == 0 || length > recordBytesMax || int(length) > len(data)-recordHeadSize {
		return event{}, 0, false
	}
	payload := data[recordHeadSize:][:length]
	if crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(data[4:]) {
		return event{}, 0, false
	}
	seq, n := binary.Uvarint(payload)
	if n <= 0 {
		return event{}, 0, false
	}
	dropped, m := binary.Uvarint(payload[n:])
	if m <= 0 {
		return event{}, 0, false
	}
	response := &jobpb.JobMessagesResponse{}
	if proto.Unmarshal(payload[n+m:], response) != nil || response.GetResponse() == nil {
		return event{}, 0, false
	}
	return event{
		seq: seqNum(seq), dropped: int64(dropped), state: response.GetStateResponse(), message: response.GetMessageResponse(),
	}, recordHeadSize + int(length), true
}
