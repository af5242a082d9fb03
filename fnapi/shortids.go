package fnapi

import (
	"context"
	"maps"
	"slices"
	"sync"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// shortIDs is what a harness has told about its short ids: each stands for a MonitoringInfo without its payload. The ids are the
// harness process's own, so that the table dies with the generation. Spec: beam_fn_api.proto MonitoringInfosMetadataRequest.
type shortIDs struct {
	mu    sync.Mutex
	infos map[string]*pipepb.MonitoringInfo
}

// expand returns full, where the harness sent full infos (the Python SDK sends both forms), or else the infos that data stands for,
// sorted by short id. It asks the harness about ids that it meets for the first time.
func (t *shortIDs) expand(
	ctx context.Context, sess *session, full []*pipepb.MonitoringInfo, data map[string][]byte,
) ([]*pipepb.MonitoringInfo, error) {
	if len(full) > 0 || len(data) == 0 {
		return full, nil
	}
	ids := slices.Sorted(maps.Keys(data))
	if unknown := t.unknown(ids); len(unknown) > 0 {
		resp, err := sess.call(ctx, &fnpb.InstructionRequest{Request: &fnpb.InstructionRequest_MonitoringInfos{
			MonitoringInfos: &fnpb.MonitoringInfosMetadataRequest{MonitoringInfoId: unknown},
		}})
		if err != nil {
			return nil, err
		}
		t.learn(resp.GetMonitoringInfos().GetMonitoringInfo())
	}
	out := make([]*pipepb.MonitoringInfo, 0, len(ids))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		info := t.infos[id]
		if info == nil {
			return nil, protocol("the harness does not know its own monitoring info id %q", id)
		}
		out = append(out, &pipepb.MonitoringInfo{
			Urn: info.GetUrn(), Type: info.GetType(), Labels: info.GetLabels(), StartTime: info.GetStartTime(), Payload: data[id],
		})
	}
	return out, nil
}

func (t *shortIDs) unknown(ids []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, id := range ids {
		if t.infos[id] == nil {
			out = append(out, id)
		}
	}
	return out
}

func (t *shortIDs) learn(infos map[string]*pipepb.MonitoringInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.infos == nil {
		t.infos = make(map[string]*pipepb.MonitoringInfo)
	}
	maps.Copy(t.infos, infos)
}
