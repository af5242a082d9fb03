package metrics

import (
	"hash/fnv"
	"maps"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// Mark is a number that changes when a bundle gets on: when it begins another element, puts one out, or has processed more of a
// restriction. Times change without that.
func Mark(infos []*pipepb.MonitoringInfo) (mark uint64) {
	for _, info := range infos {
		switch info.GetUrn() {
		case readIndex, elementCount, workCompleted:
		default:
			continue
		}
		h := fnv.New64a()
		write := func(parts ...string) {
			for _, part := range parts {
				h.Write([]byte(part)) // it never fails
				h.Write([]byte{0})
			}
		}
		write(info.GetUrn())
		for _, label := range slices.Sorted(maps.Keys(info.GetLabels())) {
			write(label, info.GetLabels()[label])
		}
		write(string(info.GetPayload()))
		mark += h.Sum64() // SDKs have no order of infos
	}
	return mark
}

// Spent is what a harness says that transforms have taken in a bundle so far, by the transforms' ids.
func Spent(infos []*pipepb.MonitoringInfo) map[string]Execution {
	all := make(map[string]Execution)
	addExecution(all, slices.Values(infos))
	return all
}

// Longest returns the method that took longest, as Dataflow names the state that a worker is in, and its milliseconds.
func (e Execution) Longest() (state string, millis int64) {
	switch {
	case e.Process >= e.Start && e.Process >= e.Finish:
		return "process", e.Process
	case e.Start >= e.Finish:
		return "start", e.Start
	default:
		return "finish", e.Finish
	}
}
