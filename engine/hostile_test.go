package engine_test

import (
	"context"
	"math/rand"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/coder/codertest"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/translate/translatetest"
)

// hostile changes what harnesses send, while it lasts.
type hostile struct {
	mu      sync.Mutex
	src     *codertest.Source
	left    int             // changes to come
	strings []string        // that go into fields
	sent    []proto.Message // earlier ones, to be sent again
}

// tamper passes on, drops, doubles or changes a message, or sends an earlier one in its place.
func (h *hostile) tamper(m proto.Message) []proto.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	const sentMax = 50
	if len(h.sent) < sentMax {
		h.sent = append(h.sent, proto.Clone(m))
	}
	h.learn(m)
	if h.left == 0 || h.src.Pick(3) == 0 {
		return []proto.Message{m}
	}
	h.left--
	switch h.src.Pick(8) {
	case 0:
		return nil
	case 1:
		return []proto.Message{m, proto.Clone(m)}
	case 2:
		again := h.sent[h.src.Pick(len(h.sent))]
		return []proto.Message{again, m}
	case 3:
		return []proto.Message{stray(h.src, m), m}
	default:
		changed := proto.Clone(m)
		mutator := &translatetest.Mutator{Intn: h.src.Pick}
		for range 1 + h.src.Pick(3) {
			mutator.Change(changed, h.strings)
		}
		return []proto.Message{changed}
	}
}

// learn keeps the ids that the harness uses, to put one in the place of another.
func (h *hostile) learn(m proto.Message) {
	add := func(ids ...string) {
		for _, id := range ids {
			if len(h.strings) < 200 && !slices.Contains(h.strings, id) {
				h.strings = append(h.strings, id)
			}
		}
	}
	switch m := m.(type) {
	case *fnpb.InstructionResponse:
		add(m.GetInstructionId())
	case *fnpb.StateRequest:
		add(m.GetId(), m.GetInstructionId(), m.GetStateKey().GetBagUserState().GetUserStateId())
	case *fnpb.Elements:
		for _, d := range m.GetData() {
			add(d.GetInstructionId(), d.GetTransformId())
		}
		for _, t := range m.GetTimers() {
			add(t.GetTransformId(), t.GetTimerFamilyId())
		}
	}
}

// stray makes up a message of the same kind, from whole cloth.
func stray(src *codertest.Source, like proto.Message) proto.Message {
	root := &fnpb.DelayedBundleApplication{Application: &fnpb.BundleApplication{
		TransformId: "stray", InputId: "stray", Element: []byte{0xff}, OutputWatermarks: nil,
	}}
	switch m := like.(type) {
	case *fnpb.InstructionResponse:
		id := m.GetInstructionId()
		return []*fnpb.InstructionResponse{
			{InstructionId: id},
			{InstructionId: "stray", Error: "stray"},
			{InstructionId: id, Response: &fnpb.InstructionResponse_ProcessBundle{ProcessBundle: &fnpb.ProcessBundleResponse{
				ResidualRoots: []*fnpb.DelayedBundleApplication{root, {}}, MonitoringData: map[string][]byte{"stray": {0xff}},
				MonitoringInfos: []*pipepb.MonitoringInfo{nil, {Urn: "beam:metric:user:sum_int64:v1", Payload: []byte{0xff}}},
			}}},
			{InstructionId: id, Response: &fnpb.InstructionResponse_ProcessBundleSplit{ProcessBundleSplit: &fnpb.ProcessBundleSplitResponse{
				ResidualRoots: []*fnpb.DelayedBundleApplication{root},
				ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{{LastPrimaryElement: 1 << 60, FirstResidualElement: -5}},
			}}},
		}[src.Pick(4)]
	case *fnpb.StateRequest:
		return []*fnpb.StateRequest{
			{Id: m.GetId(), InstructionId: "stray"},
			{Id: m.GetId(), InstructionId: m.GetInstructionId(), StateKey: m.GetStateKey(), Request: &fnpb.StateRequest_Get{
				Get: &fnpb.StateGetRequest{ContinuationToken: []byte("stray")},
			}},
			{InstructionId: m.GetInstructionId(), Request: &fnpb.StateRequest_Clear{Clear: &fnpb.StateClearRequest{}}},
		}[src.Pick(3)]
	default:
		els := proto.CloneOf(like.(*fnpb.Elements))
		for _, d := range els.GetData() {
			d.Data = append(d.Data, make([]byte, src.Pick(30))...)
			d.IsLast = src.Pick(2) == 0
		}
		els.Timers = append(els.Timers, &fnpb.Elements_Timers{TimerFamilyId: "stray", Timers: []byte{1}})
		return els
	}
}

// coded is how the message of a job that has failed begins.
var coded = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+: `)

// hostilePipelines use what a harness can get wrong.
var hostilePipelines = []func(p *enginetest.Pipeline){
	func(p *enginetest.Pipeline) {
		p.Write("out", p.GroupByKey("group", p.WindowInto("windows", p.Read("in", bounded(pairs("a=1@1", "b=2@2", "a=3@150")), "kv(bytes,bytes)"),
			enginetest.Fixed(100))))
	},
	func(p *enginetest.Pipeline) {
		p.Write("out", p.ParDo("state", p.Read("in", bounded(pairs("a=1@1", "b=2@2", "a=3@3")), "kv(bytes,bytes)"), enginetest.ParDo{
			Bags: []string{"seen"}, Fn: running,
		}))
	},
	func(p *enginetest.Pipeline) {
		p.Write("out", p.ParDo("alarm", p.Read("in", bounded(pairs("a=1@1", "b=2@2")), "kv(bytes,bytes)"), enginetest.ParDo{
			Timers: map[string]pipepb.TimeDomain_Enum{"bell": eventTime}, Fn: alarm("bell", 5, eventTime),
		}))
	},
	func(p *enginetest.Pipeline) {
		p.Write("out", p.ParDo("range", p.Read("in", bounded(texts("a", "b")), "bytes"), enginetest.ParDo{
			Splittable: true, Fn: ranges(fakesdk.Ranges{From: 0, To: 40, Pieces: 2, Checkpoint: 10, DelayMs: 1}),
		}))
	},
	func(p *enginetest.Pipeline) {
		in := p.Read("in", bounded(pairs("a=1@0", "a=2@9", "b=4@25")), "kv(bytes,bytes)")
		p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Gaps(10))))
	},
	func(p *enginetest.Pipeline) {
		table := p.Read("table", bounded(pairs("a=1@0", "b=2@0")), "kv(bytes,bytes)")
		p.Write("out", p.ParDo("look", p.Read("in", bounded(texts("a", "c")), "bytes"), enginetest.ParDo{
			Multimaps: map[string]enginetest.Collection{"table": table}, Fn: lookups,
		}))
	},
	func(p *enginetest.Pipeline) {
		p.Write("out", p.Sum("sum", p.Read("in", bounded(pairs("a=1@1", "a=2@2", "b=5@3")), "kv(bytes,bytes)")))
	},
}

// lookups replaces elements by what is under them in a side input.
func lookups() fakesdk.DoFn {
	return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
		found, err := c.MultimapSide("table", e.Window(), e.Value)
		if err != nil {
			return err
		}
		e.Value = fakesdk.Nested(found)
		return c.Emit("", e)
	}}
}

// FuzzHarness runs jobs on harnesses that say what they should not. A job must end, and one that fails has to say why with a code. A
// harness that stalls is broken from outside, as a supervisor would, and its successor behaves.
func FuzzHarness(f *testing.F) {
	r := rand.New(rand.NewSource(1))
	for i := range 2 * len(hostilePipelines) {
		choices := make([]byte, 80)
		r.Read(choices)
		f.Add(uint8(i), uint8(i%4), choices)
	}
	f.Fuzz(func(t *testing.T, pipeline, form uint8, choices []byte) {
		rig := newRig(t, nil)
		h := &hostile{src: codertest.NewSource(choices), left: 10, strings: []string{"", "stray"}}
		rig.Harnesses.Tamper = h.tamper
		rig.Harnesses.Embed, rig.Harnesses.ShortIDs = form&1 != 0, form&2 != 0
		p := rig.Pipeline()
		hostilePipelines[int(pipeline)%len(hostilePipelines)](p)
		j := rig.Start(p, nil)
		if !ended(j, 150*time.Millisecond) {
			h.mu.Lock()
			h.left = 0
			h.mu.Unlock()
			rig.Harnesses.Break(0)
		}
		if !ended(j, enginetest.Patience) {
			t.Fatalf("the job goes on for ever: states %v, messages %q", j.States(), j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR))
		}
		if j.Last() == jobpb.JobState_FAILED {
			messages := j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR)
			if len(messages) != 1 || !coded.MatchString(messages[0]) {
				t.Fatalf("it does not say why: %q", messages)
			}
			if regexp.MustCompile(`^(internal|fnapi-misuse|.*-internal)`).MatchString(messages[0]) {
				t.Fatalf("the harness is at fault, not we: %q", messages[0])
			}
		}
	})
}

// ended waits for the end of a job.
func ended(j *enginetest.Job, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return j.Await(ctx, func(r *enginetest.Recorder) bool {
		last := r.Last()
		return last == jobpb.JobState_DONE || last == jobpb.JobState_FAILED
	}) == nil
}
