package metrics

import (
	"fmt"
	"sort"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Label names and URNs. Spec: metrics.proto MonitoringInfoLabels, MonitoringInfoSpecs.
const (
	labelTransform  = "PTRANSFORM"
	labelCollection = "PCOLLECTION"
	labelNamespace  = "NAMESPACE"
	labelName       = "NAME"
	userSum         = "beam:metric:user:sum_int64:v1"
	typeSum         = "beam:metrics:sum_int64:v1"
)

// Totals are the metrics of one job.
type Totals struct {
	names map[string]string // transform id → the user's name
	byKey map[string]*pipepb.MonitoringInfo
}

// New returns empty totals. names maps transform ids to the user's transform names.
func New(names map[string]string) *Totals {
	return &Totals{names: names, byKey: make(map[string]*pipepb.MonitoringInfo)}
}

// Clone returns a copy.
func (t *Totals) Clone() *Totals {
	c := New(t.names)
	for k, info := range t.byKey {
		c.byKey[k] = proto.CloneOf(info)
	}
	return c
}

// Entry is a total in stored form.
type Entry struct {
	Key   string
	Value []byte // serialised MonitoringInfo
}

// Add merges the metrics of one committed bundle and returns the totals that changed, sorted by key.
func (t *Totals) Add(infos []*pipepb.MonitoringInfo) ([]Entry, error) {
	changed := make(map[string]bool, len(infos))
	for _, info := range infos {
		info = t.named(info)
		key := keyOf(info)
		old := t.byKey[key]
		if old == nil {
			t.byKey[key] = info
		} else {
			payload, err := merge(info.GetType(), old.GetPayload(), info.GetPayload())
			if err != nil {
				return nil, fmt.Errorf("metric %s: %w", key, err)
			}
			old.Payload = payload
			old.StartTime = info.GetStartTime()
		}
		changed[key] = true
	}
	entries := make([]Entry, 0, len(changed))
	for key := range changed {
		value, err := proto.Marshal(t.byKey[key])
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", key, err)
		}
		entries = append(entries, Entry{Key: key, Value: value})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Key < entries[j].Key })
	return entries, nil
}

// Counter returns a user counter of the transform with the name, to be added.
func Counter(transform, namespace, name string, n int64) *pipepb.MonitoringInfo {
	return &pipepb.MonitoringInfo{
		Urn: userSum, Type: typeSum, Payload: appendVarint(nil, n),
		Labels: map[string]string{labelTransform: transform, labelNamespace: namespace, labelName: name},
	}
}

// Elements returns the number of elements of a PCollection, to be added.
func Elements(collection string, n int64) *pipepb.MonitoringInfo {
	return &pipepb.MonitoringInfo{
		Urn: elementCount, Type: typeSum, Payload: appendVarint(nil, n), Labels: map[string]string{labelCollection: collection},
	}
}

// Restore takes a stored total back.
func (t *Totals) Restore(e Entry) error {
	info := &pipepb.MonitoringInfo{}
	if err := proto.Unmarshal(e.Value, info); err != nil {
		return fmt.Errorf("metric %q: %w", e.Key, err)
	}
	t.byKey[e.Key] = info
	return nil
}

// Snapshot returns copies of all totals, sorted by key.
func (t *Totals) Snapshot() []*pipepb.MonitoringInfo {
	keys := make([]string, 0, len(t.byKey))
	for k := range t.byKey {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	out := make([]*pipepb.MonitoringInfo, len(keys))
	for i, k := range keys {
		out[i] = proto.Clone(t.byKey[k]).(*pipepb.MonitoringInfo)
	}
	return out
}

// named replaces the transform id by the user's name.
func (t *Totals) named(info *pipepb.MonitoringInfo) *pipepb.MonitoringInfo {
	info = proto.Clone(info).(*pipepb.MonitoringInfo)
	if name, ok := t.names[info.GetLabels()[labelTransform]]; ok {
		info.Labels[labelTransform] = name
	}
	return info
}

func keyOf(info *pipepb.MonitoringInfo) string {
	labels := make([]string, 0, len(info.GetLabels()))
	for k, v := range info.GetLabels() {
		labels = append(labels, k+"="+v)
	}
	sort.Strings(labels)
	return info.GetUrn() + "|" + info.GetType() + "|" + strings.Join(labels, "|")
}
