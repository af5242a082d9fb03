package bundle

import (
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"

	"padstone/engine/plan"
)

// answer is a channel split: what it keeps ends with the one element, what it gives up begins with the other.
type answer struct {
	last, first int64
	roots       int
}

func (a answer) split() *fnpb.ProcessBundleSplitResponse_ChannelSplit {
	return &fnpb.ProcessBundleSplitResponse_ChannelSplit{LastPrimaryElement: a.last, FirstResidualElement: a.first}
}

// TestCheckpointAnswers has a bundle of four elements: how the last of some answers is taken, and where it stops the bundle.
func TestCheckpointAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answers []answer
		refused bool
		want    stopped
	}{
		"between":               {answers: []answer{{0, 1, 0}}, want: stopped{true, 1, 1}},
		"within":                {answers: []answer{{0, 2, 2}}, want: stopped{true, 1, 2}},
		"behind the last":       {answers: []answer{{3, 4, 0}}},
		"far behind":            {answers: []answer{{7, 8, 0}}},
		"less and less":         {answers: []answer{{2, 3, 0}, {0, 1, 0}}, want: stopped{true, 1, 1}},
		"more again":            {answers: []answer{{0, 1, 0}, {1, 2, 0}}, want: stopped{true, 1, 1}},
		"within what is left":   {answers: []answer{{1, 2, 0}, {-1, 1, 2}}, want: stopped{true, 0, 1}},
		"within, again":         {answers: []answer{{0, 2, 2}, {0, 2, 2}}, want: stopped{true, 1, 2}},
		"within, then behind":   {answers: []answer{{0, 2, 2}, {1, 2, 0}}, want: stopped{true, 1, 2}},
		"the one it was at":     {answers: []answer{{0, 1, 0}, {0, 2, 2}}, want: stopped{true, 1, 2}},
		"an element left out":   {answers: []answer{{0, 2, 0}}, refused: true},
		"of no element":         {answers: []answer{{3, 5, 2}}, refused: true},
		"given up before":       {answers: []answer{{0, 1, 0}, {1, 3, 2}}, refused: true},
		"divided, then another": {answers: []answer{{0, 2, 2}, {1, 3, 2}}, refused: true},
		"divided, then kept":    {answers: []answer{{0, 2, 2}, {0, 1, 0}}, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			h := &harnessBundle{stage: &Stage{Def: &plan.Stage{Name: "sdf"}}, input: input{planned: 4}}
			var err error
			for i, a := range tc.answers {
				if err = h.stopAt(a.split(), a.roots); err != nil && i < len(tc.answers)-1 {
					t.Fatal(err)
				}
			}
			if (err != nil) != tc.refused {
				t.Fatalf("error %v", err)
			}
			if err == nil && h.stopped != tc.want {
				t.Errorf("%+v, want %+v", h.stopped, tc.want)
			}
		})
	}
}

// TestSplitOfWhatIsGone: a split whose residual another bundle has may not divide an element of that.
func TestSplitOfWhatIsGone(t *testing.T) {
	h := &harnessBundle{stage: &Stage{Def: &plan.Stage{Name: "sdf"}}, input: input{planned: 1}}
	if _, err := h.channelSplit(answer{0, 2, 2}.split(), 2); err == nil {
		t.Error("the harness may divide an element that it has given up")
	}
	if _, err := h.channelSplit(answer{1, 2, 0}.split(), 0); err != nil {
		t.Errorf("a split behind the last element: %v", err)
	}
}
