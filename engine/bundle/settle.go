package bundle

import (
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/metrics"
	"padstone/internal/fault"
)

// stopped is where checkpoints have stopped a bundle: it has the elements before keep, [keep, first) are divided into roots, and it gives
// up the rest. That waits for the bundle's end, as the harness's word is not the last one. The Go SDK says at times that it gives up the
// restriction that it is at, and goes on with it: what it has read tells. Spec: sdks/go exec/datasource.go splitHelper, where the
// difference of two fractions may come out below zero.
type stopped struct {
	asked       bool // and answered
	keep, first int
}

// limit is behind the last element that is the bundle's, or was before it was divided.
func (h *harnessBundle) limit() int {
	if h.stopped.asked {
		return h.stopped.first
	}
	return h.input.planned + h.input.divided
}

// stopAt takes the answer to a checkpoint. One that reaches farther than the one before gives nothing up; one with roots must divide an
// element of the bundle's. That may be the one that the answer before began to give up: then it had not been given up.
func (h *harnessBundle) stopAt(cs *fnpb.ProcessBundleSplitResponse_ChannelSplit, roots int) error {
	s := &h.stopped
	keep, first := int(cs.GetLastPrimaryElement())+1, int(cs.GetFirstResidualElement())
	limit, divided := h.limit(), s.asked && s.keep < s.first
	switch {
	case roots == 0 && keep < first:
		return h.contradiction(keep, first)
	case roots == 0 && first >= limit:
		return nil
	case divided && (roots == 0 || keep != s.keep || first != s.first):
		return h.contradiction(keep, first)
	case roots > 0 && first > limit && (!s.asked || keep != limit || first > h.input.planned):
		return h.contradiction(keep, first)
	}
	*s = stopped{asked: true, keep: keep, first: first}
	return nil
}

// contradiction is the error of an answer that does not go with what the bundle has.
func (h *harnessBundle) contradiction(keep, first int) error {
	return fault.New(fault.Environment, "harness-protocol",
		"the harness split the input of %q: it keeps the elements up to %d and gives up those from %d on, of the %d that it had",
		h.stage.Def.Name, keep-1, first, h.limit())
}

// settle takes off the bundle's input what checkpoints have given up, and holds what splits gave up against what the harness has read.
func (h *harnessBundle) settle(infos []*pipepb.MonitoringInfo) error {
	read, told := metrics.ReadIndex(infos, h.stage.Def.InputRead)
	limit := h.limit()
	if told && h.splitAsked {
		s := &h.stopped
		whole := s.asked && s.keep == s.first
		switch n := int(read); {
		case n > limit && whole && n <= h.input.planned && h.counted(infos) == read: // all of them, to their end
			s.keep, s.first = n, n
		case n > limit, h.stage.Def.Splittable != nil && n+1 < limit:
			return fault.New(fault.Environment, "harness-protocol",
				"the harness has read up to element %d of the input of %q, of which splits have left it %d", n, h.stage.Def.Name, limit)
		}
	}
	if s := h.stopped; s.asked {
		return h.returned(s.keep, s.first)
	}
	return nil
}

// counted is how many elements the harness says that its source has put out; -1 if it does not. Where the read index is the same, it is a
// count as well, as Go's is: Python's is the place of the last element.
func (h *harnessBundle) counted(infos []*pipepb.MonitoringInfo) int64 {
	d := &fnpb.ProcessBundleDescriptor{}
	if proto.Unmarshal(h.stage.Def.Descriptor, d) != nil {
		return -1
	}
	for _, collection := range d.GetTransforms()[h.stage.Def.InputRead].GetOutputs() {
		if n, ok := metrics.ElementCount(infos, collection); ok {
			return n
		}
	}
	return -1
}

// returned takes back the restrictions that checkpoints say were not begun.
func (h *harnessBundle) returned(keep, first int) error {
	t, err := h.split(keep, first)
	if err != nil {
		return err
	}
	h.result.Returned = append(h.result.Returned, t.whole...)
	if t.cut == nil {
		return nil
	}
	if t.gone > 0 {
		residual, err := h.piece(t.cut.block, t.data[t.from:], h.result.Commit.Ahead)
		if err != nil {
			return err
		}
		h.residual = append(h.residual, residual)
	}
	h.input.parts = append(h.input.parts, part{block: t.cut.block, count: t.left, data: t.data[:t.keep]})
	return nil
}
