package engine_test

import (
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestSplitOfNothing has a harness answer that a bundle of one element is split behind it, as that of Go does: this is no split.
func TestSplitOfNothing(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 0, 1000)
	r.Harnesses.Tamper = func(m proto.Message) []proto.Message {
		if resp, ok := m.(*fnpb.InstructionResponse); ok && resp.GetProcessBundleSplit() != nil {
			if len(resp.GetProcessBundleSplit().GetChannelSplits()) > 0 {
				t.Errorf("one element was split: %v", resp)
			}
			defer g.pass()
			resp.GetProcessBundleSplit().ChannelSplits = []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{
				LastPrimaryElement: 0, FirstResidualElement: 1,
			}}
		}
		return []proto.Message{m}
	}
	p := r.Pipeline()
	out := p.Write("out", p.Map("slow", p.Read("in", bounded(numberTexts(1)), "bytes"), "bytes", g.slowly))
	j := r.Run(p, twoProcesses())
	want(t, out, countTo(1)...)
	if n := splits(t, j, "slow"); n != 0 {
		t.Errorf("%d splits", n)
	}
	if n := attempted(t, j, "slow", "tried"); n != 1 {
		t.Errorf("the element was processed %d times", n)
	}
}

// refusing makes a harness answer with an error to as many splits that it has made.
func refusing(splits *atomic.Int64, most int64) func(proto.Message) []proto.Message {
	return func(m proto.Message) []proto.Message {
		resp, ok := m.(*fnpb.InstructionResponse)
		if ok && len(resp.GetProcessBundleSplit().GetChannelSplits()) > 0 && splits.Add(1) <= most {
			return []proto.Message{&fnpb.InstructionResponse{InstructionId: resp.GetInstructionId(), Error: "ValueError: no split today"}}
		}
		return []proto.Message{m}
	}
}

// TestSplitFails has user code fail in a split: what was split is not known, so the bundle runs again, and is not split then.
func TestSplitFails(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 0, 1000)
	r.Harnesses.OnClaim = g.claim
	var splits atomic.Int64
	refuse := refusing(&splits, 1000)
	r.Harnesses.Tamper = func(m proto.Message) []proto.Message {
		if resp, ok := m.(*fnpb.InstructionResponse); ok && resp.GetProcessBundleProgress() != nil && splits.Load() > 0 {
			g.pass() // it has told that it still runs
		}
		return refuse(m)
	}
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 100}),
	}))
	j := r.Run(p, twoProcesses())
	want(t, out, offsets("a", 0, 100)...)
	if m := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(m) != 1 || !strings.Contains(m[0], "hot") || !strings.Contains(m[0], "no split today") {
		t.Errorf("messages %q", m)
	}
}

// TestSplitFailsAtTheEnd has a bundle end, too soon, before it is known that its split has failed: it runs again.
func TestSplitFailsAtTheEnd(t *testing.T) {
	r := newRig(t, eager)
	g := newGate(t, 10, 1000)
	r.Harnesses.OnClaim, r.Harnesses.OnLateSplit = g.claim, g.pass
	var splits atomic.Int64
	r.Harnesses.Tamper = refusing(&splits, 1)
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("hot", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 100}),
	}))
	r.Run(p, twoProcesses())
	want(t, out, offsets("a", 0, 100)...)
}
