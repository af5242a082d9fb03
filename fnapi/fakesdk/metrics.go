package fakesdk

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strconv"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// counterKey names a user counter, or a number of the SDK's own by its URN.
type counterKey struct{ transform, name string }

// Numbers of the SDK's own. Spec: metrics.proto MonitoringInfoSpecs.
const (
	urnElements  = "beam:metric:element_count:v1"
	urnReadIndex = "beam:metric:data_channel:read_index:v1"
	urnCompleted = "beam:metric:ptransform_progress:completed:v1"
	urnRemaining = "beam:metric:ptransform_progress:remaining:v1"
	urnTook      = "beam:metric:pardo_execution_time:process_bundle_msecs:v1"
)

// info is the counter as a MonitoringInfo without payload.
func (k counterKey) info() *pipepb.MonitoringInfo {
	switch k.name {
	case urnElements:
		return &pipepb.MonitoringInfo{Urn: k.name, Type: "beam:metrics:sum_int64:v1", Labels: map[string]string{"PCOLLECTION": k.transform}}
	case urnReadIndex, urnTook:
		return &pipepb.MonitoringInfo{Urn: k.name, Type: "beam:metrics:sum_int64:v1", Labels: map[string]string{"PTRANSFORM": k.transform}}
	case urnCompleted, urnRemaining:
		return &pipepb.MonitoringInfo{Urn: k.name, Type: "beam:metrics:progress:v1", Labels: map[string]string{"PTRANSFORM": k.transform}}
	}
	return &pipepb.MonitoringInfo{
		Urn: "beam:metric:user:sum_int64:v1", Type: "beam:metrics:sum_int64:v1",
		Labels: map[string]string{"PTRANSFORM": k.transform, "NAMESPACE": "fakesdk", "NAME": k.name},
	}
}

// shortIDs gives counters their short ids.
type shortIDs struct {
	ids  map[counterKey]string
	keys map[string]counterKey
}

func (s *shortIDs) id(k counterKey) string {
	if s.ids == nil {
		s.ids, s.keys = make(map[counterKey]string), make(map[string]counterKey)
	}
	if _, ok := s.ids[k]; !ok {
		id := strconv.FormatInt(int64(len(s.ids)+1), 16)
		s.ids[k], s.keys[id] = id, k
	}
	return s.ids[k]
}

// numbers returns the payloads of all that the bundle counts: where its source is, how far it is with a restriction, user counters.
func (b *bundle) numbers() map[counterKey][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[counterKey][]byte)
	for k, n := range b.counters {
		out[k] = binary.AppendUvarint(nil, uint64(n))
	}
	if b.graph != nil {
		for _, source := range b.graph.sources {
			index := b.index
			if b.harness.cfg.Rounds {
				if b.tracker == nil {
					index++
				}
				out[counterKey{source.outputs[only(source.outputs)], urnElements}] = binary.AppendUvarint(nil, uint64(index))
			}
			out[counterKey{source.id, urnReadIndex}] = binary.AppendUvarint(nil, uint64(index))
		}
	}
	if t := b.tracker; t != nil {
		out[counterKey{t.transform, urnCompleted}] = doubles(float64(t.next - t.from))
		out[counterKey{t.transform, urnRemaining}] = doubles(float64(t.to - t.next))
	}
	return out
}

// doubles encodes an iterable of one double.
func doubles(v float64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, 1), math.Float64bits(v))
}

// metrics returns the bundle's numbers, in the form that the configuration asks for.
func (b *bundle) metrics() (full []*pipepb.MonitoringInfo, short map[string][]byte) {
	numbers := b.numbers()
	keys := slices.SortedFunc(maps.Keys(numbers), func(x, y counterKey) int {
		return slices.Compare([]string{x.transform, x.name}, []string{y.transform, y.name})
	})
	for _, k := range keys {
		payload := numbers[k]
		if b.harness.cfg.ShortIDs {
			if short == nil {
				short = make(map[string][]byte)
			}
			b.harness.mu.Lock()
			short[b.harness.mu.shortIDs.id(k)] = payload
			b.harness.mu.Unlock()
			continue
		}
		info := k.info()
		info.Payload = payload
		full = append(full, info)
	}
	return full, short
}

func (h *Harness) monitoringInfos(id string, req *fnpb.MonitoringInfosMetadataRequest) *fnpb.InstructionResponse {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[string]*pipepb.MonitoringInfo)
	for _, short := range req.GetMonitoringInfoId() {
		if k, ok := h.mu.shortIDs.keys[short]; ok {
			out[short] = k.info()
		}
	}
	return &fnpb.InstructionResponse{InstructionId: id, Response: &fnpb.InstructionResponse_MonitoringInfos{
		MonitoringInfos: &fnpb.MonitoringInfosMetadataResponse{MonitoringInfo: out},
	}}
}
