package jobserver

import (
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// TransformInfo is one transform of a job's pipeline, as its user wrote it.
type TransformInfo struct {
	Name        string        `json:"name"`  // unique in the pipeline: "Read/Map", within the composite "Read"
	Depth       int           `json:"depth"` // of composites around it
	URN         string        `json:"urn,omitempty"`
	DisplayData []DisplayItem `json:"display_data,omitempty"`
}

// DisplayItem is what a transform, or the options of a pipeline, say about themselves. Spec: beam_runner_api.proto LabelledPayload.
type DisplayItem struct {
	Label     string `json:"label,omitempty"`
	Namespace string `json:"namespace,omitempty"` // the class that says it
	Key       string `json:"key,omitempty"`
	Value     any    `json:"value"` // string, bool, float64 or int64
}

// urnLabelled marks display data of a label and a value; others are not for people.
var urnLabelled = proto.GetExtension(pipepb.StandardDisplayData_LABELLED.Descriptor().Values().
	ByNumber(pipepb.StandardDisplayData_LABELLED.Number()).Options(), pipepb.E_BeamUrn).(string)

// Transforms lists the transforms of a job's pipeline, each composite before its parts, in the pipeline's order, and what the pipeline
// itself displays. Errors: job-not-found.
func (s *Server) Transforms(id string) (transforms []TransformInfo, options []DisplayItem, err error) {
	if _, err := s.find(id); err != nil {
		return nil, nil, err
	}
	pipeline, err := s.registry.pipeline(id)
	if err != nil {
		return nil, nil, err
	}
	return transformsOf(pipeline), displayItems(pipeline.GetDisplayData()), nil
}

func transformsOf(p *pipepb.Pipeline) []TransformInfo {
	var list []TransformInfo
	all := p.GetComponents().GetTransforms()
	seen := make(map[string]bool, len(all))
	var walk func(ids []string, depth int)
	walk = func(ids []string, depth int) {
		for _, id := range ids {
			t := all[id]
			if t == nil || seen[id] {
				continue
			}
			seen[id] = true
			list = append(list, TransformInfo{
				Name: t.GetUniqueName(), Depth: depth, URN: t.GetSpec().GetUrn(), DisplayData: displayItems(t.GetDisplayData()),
			})
			walk(t.GetSubtransforms(), depth+1)
		}
	}
	walk(p.GetRootTransformIds(), 0)
	return list
}

// displayItems returns the labelled display data, sorted by namespace and key: SDKs send it in no order.
func displayItems(data []*pipepb.DisplayData) []DisplayItem {
	var items []DisplayItem
	for _, d := range data {
		var l pipepb.LabelledPayload
		if d.GetUrn() != urnLabelled || proto.Unmarshal(d.GetPayload(), &l) != nil {
			continue
		}
		items = append(items, DisplayItem{Label: l.GetLabel(), Namespace: l.GetNamespace(), Key: l.GetKey(), Value: displayValue(&l)})
	}
	slices.SortStableFunc(items, func(a, b DisplayItem) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return items
}

func displayValue(l *pipepb.LabelledPayload) any {
	switch v := l.GetValue().(type) {
	case *pipepb.LabelledPayload_StringValue:
		return v.StringValue
	case *pipepb.LabelledPayload_BoolValue:
		return v.BoolValue
	case *pipepb.LabelledPayload_DoubleValue:
		return v.DoubleValue
	case *pipepb.LabelledPayload_IntValue:
		return v.IntValue
	default:
		return ""
	}
}
