package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

//go:embed page.html
var pageSource string

// page is what every report's page has in common.
type page struct {
	Title string
	About About
	Lead  []string // sentences under the title
	Plots []template.HTML
	Table [][]string // the first row is its head
	Words bool       // the first two columns are words
	Notes []string
}

// write writes the page: it is complete in itself.
func (p page) write(w io.Writer) error {
	t, err := template.New("page").Parse(pageSource)
	if err != nil {
		return fmt.Errorf("template of the page: %w", err)
	}
	return t.Execute(w, p)
}

// writeJSON writes v for programs.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeTable writes rows for people.
func writeTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		for _, cell := range row {
			fmt.Fprint(t, cell, "\t")
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// JSON writes the curve for programs.
func (c *Curve) JSON(w io.Writer) error { return writeJSON(w, c) }

// Text writes the curve for people.
func (c *Curve) Text(w io.Writer) error {
	if err := writeTable(w, c.table()); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, line := range c.lines() {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// HTML writes the curve as a page.
func (c *Curve) HTML(w io.Writer) error {
	return page{
		Title: "Bundle sizes: " + c.Stage, About: c.About, Lead: c.lines(), Table: c.table(),
		Plots: []template.HTML{c.costChart().svg(), c.rateChart().svg(), c.latencyChart().svg()},
		Notes: c.notes(),
	}.write(w)
}

func (c *Curve) table() [][]string {
	head := []string{
		"elements", "bundles", "elements/s", "harness CPU µs/el", "ms/bundle", "runner CPU µs/el", "wall ms/bundle", "p50 ms", "p99 ms",
	}
	byTime := slices.ContainsFunc(c.Points, func(p Point) bool { return p.WantedMillis > 0 })
	if byTime {
		head = append([]string{"wanted"}, head...)
	}
	rows := [][]string{head}
	for _, p := range c.Points {
		row := []string{
			count(p.Elements), count(p.Bundles), figure(p.ElementsPerSecond), optional(p.HarnessMicros), optional(p.HarnessMillis),
			optional(p.RunnerMicros), figure(p.WallMillis), figure(p.P50Millis), figure(p.P99Millis),
		}
		if byTime {
			row = append([]string{millis(p.WantedMillis)}, row...)
		}
		rows = append(rows, row)
	}
	return rows
}

// notes say how it was measured.
func (c *Curve) notes() []string {
	fit := "The fit is a line by least squares of the relative error: a fixed cost a bundle and a cost an element."
	if c.Through != "" {
		return []string{
			"The stage needs " + c.Through + ": the engine ran its bundles, as many at a time as it likes, on one harness process.",
			"The runner is the engine. p50 and p99 are of its bundles, from their start to their commit, and off by a quarter at most.", fit,
		}
	}
	harness, of := "harness process", "process tree"
	if c.Image != "" {
		harness, of = "container of "+c.Image, "container, and the most memory is the most that was seen between sizes"
	}
	return []string{fmt.Sprintf("One %s, kept busy with %s in flight. CPU times are those of its %s.",
		harness, plural(c.InFlight, "bundle"), of), fit}
}

// lines are the findings in words.
func (c *Curve) lines() []string {
	var lines []string
	say := func(name string, f *Fit) {
		if f == nil {
			return
		}
		lines = append(lines, fmt.Sprintf("%s: %s ms a bundle and %s µs an element (residual %s, at most %s).",
			name, figure(f.FixedMillis), figure(f.ElementMicros), percent(f.Residual), percent(f.ResidualMax)))
	}
	say("Harness CPU", c.CPU)
	if c.CPU == nil {
		lines = append(lines, "Harness CPU: n/a on this system.")
	}
	say("Time", c.Wall)
	if c.HarnessMemory != nil {
		lines = append(lines, fmt.Sprintf("Most memory of the harness: %s MB.", megabytes(c.HarnessMemory)))
	}
	lines = append(lines, c.missed()...)
	return append(lines, c.Advice.Text)
}

// missed says which of the times that were asked for bundles do not come near.
func (c *Curve) missed() []string {
	const near = 1.5
	var least, other []string
	for _, p := range c.Points {
		switch {
		case p.WantedMillis == 0 || p.P50Millis <= near*p.WantedMillis && p.P50Millis*near >= p.WantedMillis:
		case p.Elements == 1 && p.P50Millis > p.WantedMillis:
			least = append(least, fmt.Sprintf("No bundle is done in %s: one of a single element takes %s, and was measured instead.",
				millis(p.WantedMillis), millis(p.P50Millis)))
		default:
			other = append(other, fmt.Sprintf("No bundles of %s were found: those of %s take %s.",
				millis(p.WantedMillis), plural(p.Elements, "element"), millis(p.P50Millis)))
		}
	}
	return append(least, other...)
}

// sampled draws a fitted value over the measured sizes.
func (c *Curve) sampled(value func(n float64) float64) (points [][2]float64) {
	low, high := math.Log(float64(c.Points[0].Elements)), math.Log(float64(c.Points[len(c.Points)-1].Elements))
	const steps = 48
	for i := range steps + 1 {
		n := math.Exp(low + (high-low)*float64(i)/steps)
		points = append(points, [2]float64{n, value(n)})
	}
	return points
}

func (c *Curve) measured(value func(p Point) float64) (points [][2]float64) {
	for _, p := range c.Points {
		points = append(points, [2]float64{float64(p.Elements), value(p)})
	}
	return points
}

// chosen marks the recommended size.
func (c *Curve) chosen() []mark {
	if c.Advice.Recommended == 0 {
		return nil
	}
	return []mark{{name: count(c.Advice.Recommended), x: float64(c.Advice.Recommended)}}
}

const sizeAxis = "elements a bundle"

func (c *Curve) costChart() chart {
	ch := chart{title: "What an element costs the harness", x: sizeAxis, y: "CPU µs an element", marks: c.chosen()}
	if c.CPU != nil {
		ch.series = append(ch.series, series{name: "fit", colour: colourFit, points: c.sampled(c.CPU.MicrosPerElement), dashed: true})
	}
	ch.series = append(ch.series, series{name: "measured", colour: colourOne, dots: true, points: c.measured(func(p Point) float64 {
		if p.HarnessMicros == nil {
			return 0
		}
		return *p.HarnessMicros
	})})
	return ch
}

func (c *Curve) rateChart() chart {
	ch := chart{title: "Throughput of one harness", x: sizeAxis, y: "elements/s", marks: c.chosen()}
	if c.Wall != nil {
		ch.series = append(ch.series, series{
			name: "fit", colour: colourFit, dashed: true, points: c.sampled(func(n float64) float64 { return 1e6 / c.Wall.MicrosPerElement(n) }),
		})
	}
	ch.series = append(ch.series, series{
		name: "measured", colour: colourOne, dots: true, points: c.measured(func(p Point) float64 { return p.ElementsPerSecond }),
	})
	return ch
}

func (c *Curve) latencyChart() chart {
	return chart{
		title: "How long a bundle takes", x: sizeAxis, y: "ms",
		marks: append(c.chosen(), mark{name: "budget " + millis(c.Advice.LatencyBudgetMillis), y: c.Advice.LatencyBudgetMillis}),
		series: []series{
			{name: "p50", colour: colourOne, dots: true, points: c.measured(func(p Point) float64 { return p.P50Millis })},
			{name: "p99", colour: colourTwo, dots: true, points: c.measured(func(p Point) float64 { return p.P99Millis })},
		},
	}
}

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}
