package capture

import (
	"slices"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/internal/fault"
)

// stages is a plan over the collections of pipeline: impulse -> make -> look -> deep -> counted; grouped and split cannot be measured.
func stages() *plan.Plan {
	stage := func(id, input string, change func(s *plan.Stage)) *plan.Stage {
		s := &plan.Stage{
			ID: plan.StageID(id), Name: id, Root: id + " root", Kind: plan.Harness, Input: plan.EdgeID(input),
			Transforms: []plan.Transform{{ID: id, Name: id + " root"}, {ID: id + "2", Name: id + " tail"}},
		}
		if change != nil {
			change(s)
		}
		return s
	}
	edge := func(id, collection, producer string) *plan.Edge {
		return &plan.Edge{ID: plan.EdgeID(id), PCollection: collection, Producers: []plan.StageID{plan.StageID(producer)}}
	}
	return &plan.Plan{
		Stages: []*plan.Stage{
			stage("impulse", "", func(s *plan.Stage) { s.Kind = plan.Impulse }),
			stage("make", "start", nil),
			stage("stateful", "made-1", func(s *plan.Stage) { s.States = []plan.State{{}} }),
			stage("split", "made-2", func(s *plan.Stage) { s.Splittable = &plan.Splittable{} }),
			stage("grouped", "made-3", func(s *plan.Stage) { s.Kind = plan.Group }),
			stage("inner", "keyed", nil),
			stage("sorted", "made-5", func(s *plan.Stage) { s.TimeSorted, s.States = true, []plan.State{{}} }),
			stage("plain", "made-4", nil),
		},
		Edges: []*plan.Edge{
			edge("start", "start", "impulse"), edge("made-1", "made", "make"), edge("made-2", "made", "make"), edge("made-3", "made", "make"),
			edge("made-4", "made", "make"), edge("made-5", "made", "make"), edge("keyed", "keyed", "make"),
		},
	}
}

func TestChoose(t *testing.T) {
	cases := []struct{ name, stage, needs, err string }{
		{"", "plain", "", ""},
		{"plain root", "plain", "", ""},
		{"stateful", "stateful", "state", ""},
		{"make tail", "make", "", ""},
		{"split", "", "", `stage "split" cannot be measured: it processes restrictions`},
		{"grouped", "", "", "it runs in the runner"},
		{"sorted", "", "", "order of time"},
		{"inner", "", "", "made within a combine"},
		{"tail", "", "", `8 stages have a transform named like "tail"`},
		{"nobody", "", "", `0 stages have a transform named like "nobody"`},
	}
	for _, c := range cases {
		got, err := choose(pipeline(), stages(), c.name)
		if c.err != "" {
			if f := fault.Of(err); f == nil || f.Code != codeStage || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, not %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got.stage.Name != c.stage || got.needs != c.needs {
			t.Errorf("%q: %+v, %v; want %s that needs %q", c.name, got, err, c.stage, c.needs)
		}
	}
	got, err := choose(pipeline(), stages(), "")
	if names := got.others(); err != nil || !slices.Equal(names, []string{"stateful root"}) {
		t.Errorf("others: %q, %v", names, err)
	}
}

// TestChooseWhatThereIs holds that a stage with state is taken where there is no other, and that none is an error.
func TestChooseWhatThereIs(t *testing.T) {
	p := stages()
	p.Stages = p.Stages[:len(p.Stages)-1]
	if got, err := choose(pipeline(), p, ""); err != nil || got.stage.Name != "stateful" {
		t.Errorf("%+v, %v", got, err)
	}
	p.Stages = p.Stages[:2]
	if _, err := choose(&pipepb.Pipeline{}, p, ""); err == nil || !strings.Contains(err.Error(), "no stage that elements come to") {
		t.Errorf("%v", err)
	}
}
