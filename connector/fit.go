package connector

import (
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// Fit fits the configuration of every native stage of a new plan to the encoding of its elements. It is called once, between
// compiling the plan and storing it. Errors carry the transform's name.
func Fit(natives Registry, p *plan.Plan) error {
	for _, stage := range p.Stages {
		fitter, edge := fitting(natives, p, stage)
		if fitter == nil || edge == nil {
			continue
		}
		config, err := fitter.Fit(stage.Native.Config, edge.Element, edge.Window)
		if err != nil {
			if f := fault.Of(err); f != nil && f.Transform == "" {
				f.Transform = stage.Name
			}
			return err
		}
		stage.Native = &plan.Native{URN: stage.Native.URN, Config: config}
	}
	return nil
}

// fitting returns what has a say on a stage's configuration, and an edge with the stage's elements; nil where there is none.
func fitting(natives Registry, p *plan.Plan, stage *plan.Stage) (Fitter, *plan.Edge) {
	if stage.Native == nil {
		return nil, nil
	}
	var kind any
	var edge *plan.Edge
	switch stage.Kind {
	case plan.Source:
		kind, _ = natives.Source(URN(stage.Native.URN))
		for _, out := range stage.Outputs {
			if len(out.Edges) > 0 {
				edge = p.Edge(out.Edges[0])
			}
		}
	case plan.Sink:
		kind, _ = natives.Sink(URN(stage.Native.URN))
		edge = p.Edge(stage.Input)
	}
	fitter, _ := kind.(Fitter)
	return fitter, edge
}
