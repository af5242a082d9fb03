package fnapi

import (
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
)

// TestCheckSplit: a harness may leave the name of the source out, as the Java one does, but not split another, or overlap.
func TestCheckSplit(t *testing.T) {
	b := &Bundle{}
	for _, tc := range []struct {
		source      string
		last, first int64
		fine        bool
	}{
		{"source", 0, 1, true},
		{"", 0, 1, true},
		{"", -1, 1, true},
		{"other", 0, 1, false},
		{"source", 1, 1, false},
		{"", -2, 1, false},
	} {
		answer := &fnpb.ProcessBundleSplitResponse{ChannelSplits: []*fnpb.ProcessBundleSplitResponse_ChannelSplit{
			{TransformId: tc.source, LastPrimaryElement: tc.last, FirstResidualElement: tc.first},
		}}
		if err := b.checkSplit(Split{Transform: "source"}, answer); (err == nil) != tc.fine {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
