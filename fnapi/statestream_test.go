package fnapi

import (
	"io"
	"slices"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
)

// answers is a state stream that keeps what is sent.
type answers struct {
	grpc.ServerStream
	ids []string
}

func (a *answers) Send(r *fnpb.StateResponse) error {
	a.ids = append(a.ids, r.GetId())
	return nil
}

func (a *answers) Recv() (*fnpb.StateRequest, error) { return nil, io.EOF }

func (a *answers) want(t *testing.T, ids ...string) {
	t.Helper()
	if !slices.Equal(a.ids, ids) {
		t.Fatalf("sent %v, want %v", a.ids, ids)
	}
	a.ids = nil
}

// testReply replies as State does; the test says when the pause is over.
func (ss *stateStream) testReply(resp *fnpb.StateResponse) {
	ss.pending.Add(1)
	ss.reply(resp)
	ss.timer.Stop()
}

func clearAnswer(id string) *fnpb.StateResponse {
	return &fnpb.StateResponse{Id: id, Response: &fnpb.StateResponse_Clear{Clear: &fnpb.StateClearResponse{}}}
}

func appendAnswer(id string) *fnpb.StateResponse {
	return &fnpb.StateResponse{Id: id, Response: &fnpb.StateResponse_Append{Append: &fnpb.StateAppendResponse{}}}
}

// untimedStream is a stream on which no time passes: whatever waits for a while waits for pause.
func untimedStream(t *testing.T, sent *answers) *stateStream {
	ss := newStateStream(sent)
	ss.timer = time.AfterFunc(time.Hour, func() {})
	t.Cleanup(func() { ss.timer.Stop() })
	return ss
}

// TestClearsGoWithTheNext: the answer to a clear waits for the next one, in order, and goes alone when there is none.
func TestClearsGoWithTheNext(t *testing.T) {
	sent := &answers{}
	ss := untimedStream(t, sent)
	ss.testReply(clearAnswer("1"))
	sent.want(t)
	ss.testReply(appendAnswer("2"))
	sent.want(t, "1", "2")
	ss.testReply(clearAnswer("3"))
	ss.testReply(&fnpb.StateResponse{Id: "4", Error: "no"})
	sent.want(t, "3", "4")
	ss.testReply(clearAnswer("5"))
	ss.testReply(clearAnswer("6"))
	ss.pause()
	sent.want(t, "5", "6")
	ss.pause()
	sent.want(t)
	ss.testReply(clearAnswer("7"))
	ss.flush()
	sent.want(t, "7")
	for range clearsMax {
		ss.testReply(clearAnswer("c"))
	}
	sent.want(t)
	ss.testReply(clearAnswer("last"))
	if len(sent.ids) != clearsMax+1 {
		t.Fatalf("%d answers were sent, want %d", len(sent.ids), clearsMax+1)
	}
	ss.end()
	ss.testReply(appendAnswer("late"))
	if len(sent.ids) != clearsMax+1 {
		t.Fatal("an answer was sent on a stream that has ended")
	}
}

// TestClearsOfAHarnessThatWaits: one that waits for each answer has them at once, and is tried again after a while.
func TestClearsOfAHarnessThatWaits(t *testing.T) {
	sent := &answers{}
	ss := untimedStream(t, sent)
	alone := func() {
		ss.testReply(clearAnswer("a"))
		sent.want(t)
		ss.pause()
		sent.want(t, "a")
	}
	for range clearsAlone {
		alone()
	}
	for range clearsDirect {
		ss.testReply(clearAnswer("d"))
		sent.want(t, "d")
	}
	alone() // one that is held back tells again
	ss.testReply(clearAnswer("d"))
	sent.want(t, "d")
}
