package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Ratios are what the runner costs in units of what the same machine's harness cannot do without: the CPU time an element of an identity
// function in bundles without end. They differ less from machine to machine, and from day to day, than times do.
type Ratios struct {
	// Margin is how many times as much as before a case may cost.
	Margin float64               `json:"margin"`
	About  string                `json:"about,omitempty"`
	Cases  map[string]CaseRatios `json:"cases"`
}

// CaseRatios are the ratios of one case.
type CaseRatios struct {
	Runner  float64 `json:"runner"`
	Harness float64 `json:"harness"`
}

// ReadRatios reads a file of ratios.
func ReadRatios(r io.Reader) (ratios Ratios, err error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(&ratios); err != nil {
		return ratios, err
	}
	if ratios.Margin <= 1 {
		return ratios, fmt.Errorf("margin %g is not above 1", ratios.Margin)
	}
	if len(ratios.Cases) == 0 {
		return ratios, fmt.Errorf("there are no cases")
	}
	return ratios, nil
}

// JSON writes the ratios as a file.
func (r Ratios) JSON(w io.Writer) error { return writeJSON(w, r) }

// Names lists the cases.
func (r Ratios) Names() []string { return slices.Sorted(maps.Keys(r.Cases)) }

// RatiosOf returns the ratios of what was measured of a peer. Errors: a case that failed, or whose cost is not known.
func RatiosOf(c *Comparison, peer string, curve *Curve, names []string) (map[string]CaseRatios, error) {
	if curve.CPU == nil || curve.CPU.ElementMicros <= 0 {
		return nil, fmt.Errorf("what an element costs the harness is not known")
	}
	unit := curve.CPU.ElementMicros
	all := map[string]CaseRatios{}
	for _, name := range names {
		cell := c.Cell(name, peer)
		switch {
		case cell == nil:
			return nil, fmt.Errorf("case %s did not run", name)
		case cell.Error != "":
			return nil, fmt.Errorf("case %s failed: %s", name, cell.Error)
		case cell.RunnerMicros == nil || cell.HarnessMicros == nil:
			return nil, fmt.Errorf("what case %s costs is not known", name)
		}
		all[name] = CaseRatios{Runner: rounded(*cell.RunnerMicros / unit), Harness: rounded(*cell.HarnessMicros / unit)}
	}
	return all, nil
}

// rounded keeps two decimals: there is no more to a ratio.
func rounded(v float64) float64 { return float64(int(max(v, 0)*100+0.5)) / 100 }

// Verdict is a ratio then and now.
type Verdict struct {
	Case, Of  string
	Then, Now float64
	Grown     bool
}

// Check compares ratios with those of before. What is less than a twentieth of the unit is not looked at: that is the clock's own step.
func (r Ratios) Check(now map[string]CaseRatios) (verdicts []Verdict) {
	const slack = 0.05
	for _, name := range r.Names() {
		for _, v := range []Verdict{
			{Case: name, Of: "runner", Then: r.Cases[name].Runner, Now: now[name].Runner},
			{Case: name, Of: "harness", Then: r.Cases[name].Harness, Now: now[name].Harness},
		} {
			v.Grown = v.Now > v.Then*r.Margin+slack
			verdicts = append(verdicts, v)
		}
	}
	return verdicts
}

// WriteVerdicts writes them for people.
func WriteVerdicts(w io.Writer, verdicts []Verdict) error {
	rows := [][]string{{"case", "CPU of", "before", "now", ""}}
	for _, v := range verdicts {
		word := "as before"
		if v.Grown {
			word = "GROWN"
		}
		rows = append(rows, []string{v.Case, v.Of, figure(v.Then), figure(v.Now), word})
	}
	return writeTable(w, rows)
}
