package bundle

import (
	"slices"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/metrics"
	"padstone/engine/plan"
)

// Counted are the metrics of a bundle that add up to those of the job. A harness counts the elements that it reads under the PCollection
// that they are of, as the one that has put them out did, and others that read them do: one of them is heard.
func (s *Stage) Counted(infos []*pipepb.MonitoringInfo) []*pipepb.MonitoringInfo {
	if s.recounted == "" {
		return infos
	}
	return slices.DeleteFunc(slices.Clone(infos), func(info *pipepb.MonitoringInfo) bool { return metrics.IsElementCount(info, s.recounted) })
}

// resolveCounts finds the PCollections that are counted elsewhere than by who reads them: by those that put them out, or, where that is
// no harness, by the first stage that reads them.
func (j *Job) resolveCounts() error {
	counted := make(map[string]bool)
	reads := make([]string, len(j.Stages))
	for i, s := range j.Stages {
		for _, o := range slices.Concat(s.outputs, s.straight.outputs) {
			for _, e := range o.edges {
				if e.counted != "" {
					counted[e.counted] = true
				}
			}
		}
		if s.Def.Kind != plan.Harness {
			continue
		}
		d := &fnpb.ProcessBundleDescriptor{}
		if err := proto.Unmarshal(s.Def.Descriptor, d); err != nil {
			return err
		}
		for id, t := range d.GetTransforms() {
			for _, collection := range t.GetOutputs() {
				if id == s.Def.InputRead {
					reads[i] = collection
				} else {
					counted[collection] = true
				}
			}
		}
	}
	for i, s := range j.Stages {
		if counted[reads[i]] {
			s.recounted = reads[i]
		}
		counted[reads[i]] = true
	}
	return nil
}
