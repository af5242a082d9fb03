package jobserver

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
)

// hanging is a file whose writes wait for a gate.
type hanging struct {
	logFile
	gate chan struct{}
}

func (h hanging) WriteAt(p []byte, at int64) (int, error) {
	<-h.gate
	return h.logFile.WriteAt(p, at)
}

// TestHangingLog has the disk of a job's log hang: the job can be asked all the same, and its log has everything once the disk answers.
func TestHangingLog(t *testing.T) {
	s := &Server{registry: &registry{dir: t.TempDir()}, cfg: Config{Log: zap.NewNop(), Now: time.Now, MessagesMax: 100, MessageBytesMax: 1 << 20}}
	rec := record{ID: "."}
	log, events, _, err := openEventLog(s.eventLogPath(rec.ID))
	if err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	log.file, log.patience = hanging{log.file, gate}, 20*time.Millisecond
	j := s.newJob(rec, log, events)
	j.State(jobpb.JobState_STOPPED)
	j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "meanwhile")
	j.mend() // asks the disk for nothing
	if v, err := j.read(0); err != nil || len(v.events) != 2 || j.state().GetState() != jobpb.JobState_STOPPED {
		t.Errorf("the job has %d events, %v", len(v.events), err)
	}
	close(gate)
	j.mu.Lock()
	log.patience = time.Minute
	j.mu.Unlock()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		j.mend()
		got, good, total, err := readEventLog(s.eventLogPath(rec.ID))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 2 && good == total && got[1].message.GetMessageText() == "meanwhile" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the log has %d events, %d of %d bytes", len(got), good, total)
		}
	}
	if err := j.suspend(); err != nil {
		t.Error(err)
	}
}

// TestMend has writes to a job's log fail for a while: what was reported then is in the log once it can be written again, the end of
// the job included.
func TestMend(t *testing.T) {
	for _, ends := range []bool{false, true} {
		s := &Server{registry: &registry{dir: t.TempDir()}, cfg: Config{Log: zap.NewNop(), Now: time.Now, MessagesMax: 100, MessageBytesMax: 1 << 20}}
		rec := record{ID: "."} // the log lies in the registry's own directory
		log, events, _, err := openEventLog(s.eventLogPath(rec.ID))
		if err != nil {
			t.Fatal(err)
		}
		j := s.newJob(rec, log, events)
		j.State(jobpb.JobState_STOPPED)
		j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "before")
		began := time.Now()
		if err := log.file.Close(); err != nil { // every write fails from here on
			t.Fatal(err)
		}
		j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "meanwhile")
		j.State(jobpb.JobState_RUNNING)
		if ends {
			j.State(jobpb.JobState_DONE)
			j.publish()
		}
		healthy := func() bool {
			j.mu.Lock()
			defer j.mu.Unlock()
			return j.mu.eventLog == nil || j.mu.eventLog.broken == nil
		}
		if healthy() && time.Since(began) < mendEvery { // else it may have been mended already
			t.Fatal("the log has taken a write that failed")
		}
		for end := time.Now().Add(time.Minute); !healthy(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the log is not mended")
			}
		}
		if !ends {
			j.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, "after")
			if err := j.suspend(); err != nil {
				t.Fatal(err)
			}
		}
		got, good, total, err := readEventLog(filepath.Join(s.registry.dir, fileEvents))
		text := ""
		for _, e := range got {
			text += fmt.Sprint(e.state.GetState(), " ", e.message.GetMessageText(), ";")
		}
		want := "STOPPED ;UNSPECIFIED before;UNSPECIFIED meanwhile;RUNNING ;"
		if ends {
			want += "DONE ;"
		} else {
			want += "UNSPECIFIED after;"
		}
		if err != nil || good != total || text != want {
			t.Errorf("ends %t: the log has %q, %d of %d bytes, %v", ends, text, good, total, err)
		}
	}
}
