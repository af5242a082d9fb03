package metrics

import (
	"encoding/binary"
	"math"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

func info(urn, transform string, payload []byte) *pipepb.MonitoringInfo {
	return &pipepb.MonitoringInfo{Urn: urn, Labels: map[string]string{labelTransform: transform}, Payload: payload}
}

func be64(b []byte, values ...float64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

func TestProgress(t *testing.T) {
	counted := func(values ...float64) []byte {
		return be64(binary.BigEndian.AppendUint32(nil, uint32(len(values))), values...)
	}
	chunked := append(be64([]byte{0xff, 0xff, 0xff, 0xff, 2}, 1, 2), 0) // of unknown length: chunks, then an empty one
	for _, test := range []struct {
		name                 string
		completed, remaining []byte
		want                 float64
	}{
		{"a quarter", counted(1), counted(3), 0.25},
		{"several", counted(1, 2), counted(1), 0.75},
		{"of unknown length", chunked, counted(3), 0.5},
		{"nothing", nil, nil, 0},
		{"cut off", counted(1)[:7], counted(3), 0},
		{"endless", counted(1), counted(math.Inf(1)), 0},
	} {
		infos := []*pipepb.MonitoringInfo{
			info(workCompleted, "sdf", test.completed), info(workRemaining, "sdf", test.remaining), info(workRemaining, "other", counted(1e9)),
		}
		if got := Completed(infos, "sdf"); got != test.want {
			t.Errorf("%s: %v, not %v", test.name, got, test.want)
		}
	}
	infos := []*pipepb.MonitoringInfo{info(readIndex, "other", appendVarint(nil, 3)), info(readIndex, "read", appendVarint(nil, -1))}
	if i, ok := ReadIndex(infos, "read"); !ok || i != -1 {
		t.Errorf("at %d, %v", i, ok)
	}
	if _, ok := ReadIndex(infos, "nothing"); ok {
		t.Error("a source that tells nothing is somewhere")
	}
}
