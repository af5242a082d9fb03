package connector_test

import (
	"errors"
	"testing"

	"padstone/connector"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// fitted is a registry, a source and a sink; only the parts that Fit uses are there.
type fitted struct {
	connector.Source
	connector.Sink
	err error
}

type source struct {
	connector.Source
	f *fitted
}

type sink struct {
	connector.Sink
	f *fitted
}

func (f *fitted) resolve() connector.Registry { return registry{f} }

type registry struct{ f *fitted }

func (r registry) Source(urn connector.URN) (connector.Source, bool) {
	return source{f: r.f}, urn == "source"
}

func (r registry) Sink(urn connector.URN) (connector.Sink, bool) {
	if urn != "sink" {
		return nil, false
	}
	return sink{f: r.f}, true
}

func (s source) Fit(config []byte, element string, window plan.WindowCoding) ([]byte, error) {
	return []byte(string(config) + " from " + element + " " + string(window)), s.f.err
}

func (s sink) Fit(config []byte, element string, window plan.WindowCoding) ([]byte, error) {
	return []byte(string(config) + " to " + element + " " + string(window)), s.f.err
}

func newPlan() *plan.Plan {
	return &plan.Plan{
		Stages: []*plan.Stage{
			{ID: "in", Name: "Read", Kind: plan.Source, Native: &plan.Native{URN: "source", Config: []byte("a")},
				Outputs: []plan.Output{{Edges: []plan.EdgeID{"e"}}}},
			{ID: "unused", Kind: plan.Source, Native: &plan.Native{URN: "source", Config: []byte("b")}, Outputs: []plan.Output{{}}},
			{ID: "work", Kind: plan.Harness},
			{ID: "out", Name: "Write", Kind: plan.Sink, Native: &plan.Native{URN: "sink", Config: []byte("c")}, Input: "f"},
			{ID: "other", Kind: plan.Sink, Native: &plan.Native{URN: "unknown", Config: []byte("d")}, Input: "f"},
		},
		Edges: []*plan.Edge{
			{ID: "e", Element: "kv(lp,lp)", Window: plan.GlobalWindow},
			{ID: "f", Element: "lp", Window: plan.IntervalWindow},
		},
	}
}

func TestFit(t *testing.T) {
	p := newPlan()
	f := &fitted{}
	if err := connector.Fit(f.resolve(), p); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[plan.StageID]string{
		"in": "a from kv(lp,lp) global", "unused": "b", "out": "c to lp interval", "other": "d",
	} {
		if got := string(p.Stage(id).Native.Config); got != want {
			t.Errorf("stage %s: %q, want %q", id, got, want)
		}
	}
	f.err = fault.New(fault.Pipeline, "x", "no")
	if err := connector.Fit(f.resolve(), newPlan()); fault.Of(err).Transform != "Read" {
		t.Errorf("got %v", err)
	}
	f.err = errors.New("plain")
	if err := connector.Fit(f.resolve(), newPlan()); !errors.Is(err, f.err) {
		t.Errorf("got %v", err)
	}
}
