package fakesdk

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// counterKey names a user counter.
type counterKey struct{ transform, name string }

// info is the counter as a MonitoringInfo without payload.
func (k counterKey) info() *pipepb.MonitoringInfo {
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

// metrics returns the bundle's counters, in the form that the configuration asks for.
func (b *bundle) metrics() (full []*pipepb.MonitoringInfo, short map[string][]byte) {
	b.mu.Lock()
	counters := maps.Clone(b.counters)
	b.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(counters), func(x, y counterKey) int {
		return slices.Compare([]string{x.transform, x.name}, []string{y.transform, y.name})
	})
	for _, k := range keys {
		payload := binary.AppendUvarint(nil, uint64(counters[k]))
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
