package jobserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func messageEvent(importance jobpb.JobMessage_MessageImportance, text string) event {
	return event{message: &jobpb.JobMessage{Importance: importance, MessageText: text}}
}

func basic(text string) event { return messageEvent(jobpb.JobMessage_JOB_MESSAGE_BASIC, text) }

func print(events []event) string {
	var b strings.Builder
	for _, e := range events {
		switch {
		case e.state != nil:
			fmt.Fprintf(&b, "%d:%v ", e.seq, e.state.GetState())
		case e.dropped > 0:
			fmt.Fprintf(&b, "%d:(%d dropped) ", e.seq, e.dropped)
		default:
			fmt.Fprintf(&b, "%d:%s ", e.seq, e.message.GetMessageText())
		}
	}
	return strings.TrimSpace(b.String())
}

func TestEventListDrops(t *testing.T) {
	l := newEventList(eventLimits{messagesMax: 10, bytesMax: 1 << 20})
	l.append(stateEvent(jobpb.JobState_RUNNING, time.Time{}))
	l.append(messageEvent(jobpb.JobMessage_JOB_MESSAGE_ERROR, "error"))
	for i := range 20 {
		l.append(basic(fmt.Sprint("m", i)))
	}
	want := "1:RUNNING 2:error 14:(12 dropped) 15:m12 16:m13 17:m14 18:m15 19:m16 20:m17 21:m18 22:m19"
	if got := print(l.events); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A reader that has seen all is not told; one that lags behind is.
	if got := print(l.after(20)); got != "21:m18 22:m19" {
		t.Error(got)
	}
	if got := print(l.after(5)); !strings.HasPrefix(got, "14:(12 dropped) 15:m12") {
		t.Error(got)
	}
	if text := l.events[2].message.GetMessageText(); !strings.Contains(text, "12 earlier messages were dropped") {
		t.Error(text)
	}
	// With nothing else left, errors go as well: the limit holds.
	for i := range 40 {
		l.append(messageEvent(jobpb.JobMessage_JOB_MESSAGE_ERROR, fmt.Sprint("e", i)))
	}
	if l.messages > 10 || len(l.events) > 12 {
		t.Errorf("%d messages: %s", l.messages, print(l.events))
	}
	if last := l.events[len(l.events)-1]; last.message.GetMessageText() != "e39" {
		t.Error(print(l.events))
	}
}

func TestEventListBytes(t *testing.T) {
	l := newEventList(eventLimits{messagesMax: 1000, bytesMax: 10_000})
	for range 100 {
		l.append(basic(strings.Repeat("x", 1000)))
		var size int64
		for _, e := range l.events {
			if e.dropped == 0 {
				size += int64(proto.Size(e.message))
			}
		}
		if size != l.bytes || size > 10_000 {
			t.Fatalf("%d bytes, counted %d", size, l.bytes)
		}
	}
}

// TestEventLogTruncation cuts a log at every byte: what is read back is a prefix of whole events, and appending goes on from there.
func TestEventLogTruncation(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	log, _, _, err := openEventLog(full)
	if err != nil {
		t.Fatal(err)
	}
	l := newEventList(eventLimits{messagesMax: 100, bytesMax: 1 << 20})
	var ends []int64
	for i := range 5 {
		e, _ := l.append(basic(fmt.Sprint("message ", i)))
		if i == 2 {
			e, _ = l.append(stateEvent(jobpb.JobState_RUNNING, time.Unix(1, 2)))
		}
		if err := log.append(e, i%2 == 0); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, log.size)
	}
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) + 1 {
		for _, tail := range [][]byte{nil, make([]byte, 20), {0xff, 0xff, 0xff}} {
			path := filepath.Join(dir, "cut")
			if err := os.WriteFile(path, append(bytes.Clone(data[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, end := range ends {
				if end <= int64(cut) {
					want++
				}
			}
			log, events, lost, err := openEventLog(path)
			if err != nil || len(events) != want {
				t.Fatalf("cut at %d: %d events, %v; want %d", cut, len(events), err, want)
			}
			if clean := (cut == 0 || cut == 8 || want > 0 && ends[want-1] == int64(cut)) && tail == nil; clean != (lost == 0) {
				t.Errorf("cut at %d: %d bytes lost", cut, lost)
			}
			extra := event{seq: 99, message: &jobpb.JobMessage{MessageText: "after"}}
			if err := log.append(extra, true); err != nil {
				t.Fatal(err)
			}
			if err := log.close(); err != nil {
				t.Fatal(err)
			}
			again, good, total, err := readEventLog(path)
			if err != nil || len(again) != want+1 || good != total || again[want].seq != 99 {
				t.Fatalf("cut at %d, appended: %d events of %d/%d bytes, %v", cut, len(again), good, total, err)
			}
		}
	}
}

// TestEventLogDamage flips every byte: reading never fails and never returns an event that was not written.
func TestEventLogDamage(t *testing.T) {
	data := []byte(eventLogMagic)
	written := map[string]bool{}
	for i := range 4 {
		e := basic(fmt.Sprint("message ", i))
		e.seq = seqNum(i + 1)
		written[print([]event{e})] = true
		var err error
		if data, err = encodeRecord(data, e); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	for at := range data {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x55
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		events, _, _, err := readEventLog(path)
		if err != nil || len(events) == 4 {
			t.Fatalf("byte %d: %d events, %v", at, len(events), err)
		}
		for _, e := range events {
			if !written[print([]event{e})] {
				t.Errorf("byte %d: event %s was never written", at, print([]event{e}))
			}
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	good, err := encodeRecord(nil, event{seq: 1, message: &jobpb.JobMessage{MessageText: "x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, size, ok := decodeRecord(data); ok && (size > len(data) || (e.state == nil) == (e.message == nil)) {
			t.Errorf("%d of %d bytes: %+v", size, len(data), e)
		}
	})
}

// TestEventLogRewrite keeps list and log equal through drops, and the log bounded.
func TestEventLogRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, _, _, err := openEventLog(path)
	if err != nil {
		t.Fatal(err)
	}
	limits := eventLimits{messagesMax: 1000, bytesMax: 20_000}
	l := newEventList(limits)
	for i := range 500 {
		e, trimmed := l.append(basic(fmt.Sprint(i, strings.Repeat(" ", 500))))
		if err := log.append(e, false); err != nil {
			t.Fatal(err)
		}
		if trimmed && log.size > 2*limits.bytesMax {
			if err := log.rewrite(l.events); err != nil {
				t.Fatal(err)
			}
		}
		if log.size > 3*limits.bytesMax {
			t.Fatalf("log of %d bytes", log.size)
		}
	}
	if err := log.close(); err != nil {
		t.Fatal(err)
	}
	events, _, _, err := readEventLog(path)
	if err != nil {
		t.Fatal(err)
	}
	read := newEventList(limits)
	for _, e := range events {
		read.put(e)
	}
	if got, want := print(read.events), print(l.events); got != want {
		t.Errorf("read back %s\nwant %s", got, want)
	}
}

func TestTransitions(t *testing.T) {
	states := []jobpb.JobState_Enum{
		jobpb.JobState_STOPPED, jobpb.JobState_STARTING, jobpb.JobState_RUNNING, jobpb.JobState_DRAINING, jobpb.JobState_CANCELLING,
		jobpb.JobState_DONE, jobpb.JobState_FAILED, jobpb.JobState_CANCELLED, jobpb.JobState_DRAINED, jobpb.JobState_UPDATED,
	}
	want := map[jobpb.JobState_Enum]string{
		jobpb.JobState_UNSPECIFIED: "STOPPED",
		jobpb.JobState_STOPPED:     "STARTING RUNNING DRAINING CANCELLING DONE FAILED CANCELLED DRAINED UPDATED",
		jobpb.JobState_STARTING:    "RUNNING DRAINING CANCELLING DONE FAILED CANCELLED DRAINED UPDATED",
		jobpb.JobState_RUNNING:     "STARTING DRAINING CANCELLING DONE FAILED CANCELLED DRAINED UPDATED",
		jobpb.JobState_DRAINING:    "CANCELLING DONE FAILED CANCELLED DRAINED UPDATED",
		jobpb.JobState_CANCELLING:  "DONE FAILED CANCELLED DRAINED UPDATED",
	}
	for _, from := range append(states, jobpb.JobState_UNSPECIFIED) {
		var may []string
		for _, to := range states {
			if mayFollow(from, to) {
				may = append(may, to.String())
			}
		}
		if got := strings.Join(may, " "); got != want[from] {
			t.Errorf("%v: got %s, want %s", from, got, want[from])
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"Payments (prod)": "payments-prod", "../../x": "x", "": "job", "日本": "job", strings.Repeat("a", 99): strings.Repeat("a", 40),
		"--a--b--": "a-b",
	} {
		if got := slug(name); got != want {
			t.Errorf("slug(%q) = %q, want %q", name, got, want)
		}
	}
}
