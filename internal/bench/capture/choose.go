package capture

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/internal/bench/saturate"
	"padstone/internal/fault"
)

// choice is the stage to be measured, and how.
type choice struct {
	from  *pipepb.Pipeline
	plan  *plan.Plan
	stage *plan.Stage
	// needs says why an engine must run the stage's bundles; "" if that is not so.
	needs string
}

// choose returns the stage of a transform; without a name the first that elements come to, and that needs no engine if there is one.
func choose(from *pipepb.Pipeline, p *plan.Plan, name string) (choice, error) {
	if name != "" {
		s, err := saturate.Find(p, name)
		if err != nil {
			return choice{}, err
		}
		needs, err := needs(from, p, s)
		return choice{from, p, s, needs}, err
	}
	var second *choice
	for _, s := range p.Stages {
		if !fed(p, s) {
			continue
		}
		needs, err := needs(from, p, s)
		switch {
		case err != nil:
		case needs == "":
			return choice{from, p, s, ""}, nil
		case second == nil:
			second = &choice{from, p, s, needs}
		}
	}
	if second != nil {
		return *second, nil
	}
	return choice{}, fault.New(fault.Pipeline, codeStage, "the pipeline has no stage that elements come to, or none that can be measured").
		WithHint("a stage that an impulse starts has one bundle of one element; put a Reshuffle where elements are to be shared out")
}

// needs says what a stage takes besides elements. The error is that of one that cannot be measured.
func needs(from *pipepb.Pipeline, p *plan.Plan, s *plan.Stage) (string, error) {
	input := p.Edge(s.Input)
	if input != nil && newPruner(from).producer[input.PCollection] == "" {
		return "", fault.New(fault.Pipeline, codeStage, "bundles of stage %q cannot be measured: its input is made within a combine", s.Name).
			WithHint("choose another stage with --stage; a Reshuffle behind the combine gives what is behind it a stage of its own")
	}
	return saturate.Needs(s, input)
}

// fed tells whether elements come to a stage of a harness: one that an impulse starts gets one element.
func fed(p *plan.Plan, s *plan.Stage) bool {
	input := p.Edge(s.Input)
	return s.Kind == plan.Harness && input != nil && p.Stage(input.Producers[0]).Kind != plan.Impulse
}

// others names the stages that could have been chosen, by their first transforms.
func (c choice) others() (names []string) {
	for _, s := range c.plan.Stages {
		if s == c.stage || !fed(c.plan, s) {
			continue
		}
		if _, err := needs(c.from, c.plan, s); err == nil {
			names = append(names, s.Root)
		}
	}
	return names
}
