package engine

import (
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
)

// TestExperiments reads experiments as SDKs send them: a list, or several in one.
func TestExperiments(t *testing.T) {
	for _, c := range []struct {
		sent any
		want bool
	}{
		{[]any{"use_fastavro", ExperimentNoFusion}, true},
		{[]any{"use_fastavro, " + ExperimentNoFusion}, true},
		{[]any{ExperimentNoLifting, ExperimentNoFusion + "_please"}, false},
		{ExperimentNoFusion, false},
		{nil, false},
	} {
		options, err := structpb.NewStruct(map[string]any{"beam:option:experiments:v1": c.sent})
		if err != nil {
			t.Fatal(err)
		}
		if got := experiment(options, ExperimentNoFusion); got != c.want {
			t.Errorf("%v: %t", c.sent, got)
		}
	}
}
