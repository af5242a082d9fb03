package metrics

import (
	"encoding/binary"
	"iter"
	"maps"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// Times of a transform's methods. Spec: metrics.proto MonitoringInfoSpecs START_BUNDLE_MSECS, PROCESS_BUNDLE_MSECS, FINISH_BUNDLE_MSECS.
const (
	urnStart   = "beam:metric:pardo_execution_time:start_bundle_msecs:v1"
	urnProcess = "beam:metric:pardo_execution_time:process_bundle_msecs:v1"
	urnFinish  = "beam:metric:pardo_execution_time:finish_bundle_msecs:v1"
)

// Execution is what a harness says that a transform has taken, in milliseconds. It takes samples: Python's does every 200 ms.
type Execution struct{ Start, Process, Finish int64 }

// Execution returns what transforms have taken, by the user's names.
func (t *Totals) Execution() map[string]Execution {
	all := make(map[string]Execution)
	addExecution(all, maps.Values(t.byKey))
	return all
}

// addExecution adds up the times of transforms.
func addExecution(all map[string]Execution, infos iter.Seq[*pipepb.MonitoringInfo]) {
	for info := range infos {
		var into func(*Execution) *int64
		switch info.GetUrn() {
		case urnStart:
			into = func(e *Execution) *int64 { return &e.Start }
		case urnProcess:
			into = func(e *Execution) *int64 { return &e.Process }
		case urnFinish:
			into = func(e *Execution) *int64 { return &e.Finish }
		default:
			continue
		}
		v, n := binary.Uvarint(info.GetPayload())
		if n <= 0 {
			continue
		}
		name := info.GetLabels()[labelTransform]
		e := all[name]
		*into(&e) += int64(v)
		all[name] = e
	}
}

// Less returns what has been added to before.
func (e Execution) Less(before Execution) Execution {
	return Execution{Start: e.Start - before.Start, Process: e.Process - before.Process, Finish: e.Finish - before.Finish}
}
