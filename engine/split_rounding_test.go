package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// checkpointAnswers passes the gate when as many split requests have been answered with a split, and lets a test change messages.
func checkpointAnswers(g *gate, answers int64, change func(*fnpb.InstructionResponse)) func(proto.Message) []proto.Message {
	var n atomic.Int64
	return func(m proto.Message) []proto.Message {
		if resp, ok := m.(*fnpb.InstructionResponse); ok {
			if len(resp.GetProcessBundleSplit().GetChannelSplits()) > 0 && n.Add(1) == answers {
				defer g.pass()
			}
			change(resp)
		}
		return []proto.Message{m}
	}
}

// roundingJob has four restrictions of 25 offsets in one bundle. It is held up in the second, which the harness says it gives up.
func roundingJob(t *testing.T, answers int64, change func(*fnpb.InstructionResponse)) *enginetest.Job {
	t.Helper()
	r := newRig(t, nil)
	g := newGate(t, 30, 1000)
	r.Harnesses.Rounds, r.Harnesses.OnClaim = true, g.claim
	r.Harnesses.Tamper = checkpointAnswers(g, answers, change)
	p := r.Pipeline()
	out := p.Write("out", p.ParDo("range", p.Read("in", bounded(texts("a")), "bytes"), enginetest.ParDo{
		Splittable: true, Unbounded: true, Fn: ranges(fakesdk.Ranges{To: 100, Pieces: 4, Unbounded: true}),
	}))
	j := r.Run(p, nil)
	want(t, out, offsets("a", 0, 100)...)
	return j
}

// TestSplitBelowZero has a harness say that it gives up the restriction that it is at, and go on with it: to its end, or to the split of
// another request. What it has read shows that it has kept the restriction, which must not run again.
func TestSplitBelowZero(t *testing.T) {
	for _, answers := range []int64{1, 2} {
		t.Run(fmt.Sprint(answers), func(t *testing.T) {
			j := roundingJob(t, answers, func(*fnpb.InstructionResponse) {})
			if m := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(m) != 0 {
				t.Errorf("messages %q", m)
			}
		})
	}
}

// TestSplitReadsTooMuch has a harness read what it has given up: the bundle has failed, and runs again.
func TestSplitReadsTooMuch(t *testing.T) {
	var done atomic.Bool
	j := roundingJob(t, 1, func(resp *fnpb.InstructionResponse) {
		bundle := resp.GetProcessBundle()
		infos := slices.DeleteFunc(slices.Clone(bundle.GetMonitoringInfos()), func(info *pipepb.MonitoringInfo) bool {
			// Without the count of two elements nobody knows how the index is meant.
			return info.GetUrn() == "beam:metric:element_count:v1" && string(info.GetPayload()) == "\x02"
		})
		if bundle != nil && len(infos) < len(bundle.MonitoringInfos) && done.CompareAndSwap(false, true) {
			bundle.MonitoringInfos = infos
		}
	})
	if m := j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING); len(m) != 1 || !strings.Contains(m[0], "has read up to element 2") {
		t.Errorf("messages %q", m)
	}
}
