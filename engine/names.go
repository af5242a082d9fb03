package engine

import "padstone/engine/plan"

// stageIndex finds a stage of the plan; -1 when it has none of the id.
func stageIndex(p *plan.Plan, id plan.StageID) int {
	for i, s := range p.Stages {
		if s.ID == id {
			return i
		}
	}
	return -1
}

// transformNames maps the ids of the pipeline's transforms to the user's names.
func transformNames(p *plan.Plan) map[string]string {
	names := make(map[string]string)
	for _, s := range p.Stages {
		for _, t := range s.Transforms {
			names[t.ID] = t.Name
		}
	}
	return names
}
