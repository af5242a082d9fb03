package bench

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

// JSON writes the comparison for programs.
func (c *Comparison) JSON(w io.Writer) error { return writeJSON(w, c) }

// Text writes the comparison for people.
func (c *Comparison) Text(w io.Writer) error {
	if err := writeTable(w, c.table()); err != nil {
		return err
	}
	lines := c.lines()
	if len(lines) > 0 {
		lines = append([]string{""}, lines...)
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// HTML writes the comparison as a page.
func (c *Comparison) HTML(w io.Writer) error {
	return page{
		Title: "Runners side by side", About: c.About, Lead: c.lines(), Table: c.table(), Words: true,
		Plots: []template.HTML{c.bars()},
		Notes: []string{
			"Medians of runs that took turns. CPU µs an element and elements/s are net of the empty job: without the start of harness and job.",
			"Runner: the process that listens at the endpoint, with its descendants. Harness: one process a job, started by this tool.",
			"The client is not counted.",
			"Ratio: total CPU an element against the first peer; of the empty job its CPU time, of the latency case its p50.",
			"Peak memory of the runner is that of a job, as far as the process gives memory back between jobs.",
		},
	}.write(w)
}

func (c *Comparison) table() [][]string {
	rows := [][]string{{
		"case", "peer", "runs", "elements", "s", "elements/s", "runner µs/el", "harness µs/el", "total µs/el", "ratio",
		"runner CPU s", "harness CPU s", "runner MB", "harness MB", "p50 ms", "p99 ms",
	}}
	for _, cell := range c.Cells {
		row := []string{cell.Case, cell.Peer, count(cell.Runs), count(cell.Elements)}
		if cell.Error != "" {
			rows = append(rows, append(row, append([]string{"failed"}, slices.Repeat([]string{""}, len(rows[0])-len(row)-1)...)...))
			continue
		}
		rows = append(rows, append(row,
			figure(cell.Seconds), cell.shown(cell.ElementsPerSecond), cell.shown(cell.RunnerMicros), cell.shown(cell.HarnessMicros),
			cell.shown(cell.TotalMicros), optional(cell.Ratio), optional(cell.RunnerSeconds), optional(cell.HarnessSeconds),
			megabytes(cell.RunnerPeak), megabytes(cell.HarnessPeak), blank(cell.P50Millis), blank(cell.P99Millis)))
	}
	return rows
}

// shown leaves out what a case does not have.
func (c *Cell) shown(v *float64) string {
	if c.Case == EmptyCase || c.P50Millis != nil {
		return ""
	}
	return optional(v)
}

func blank(v *float64) string {
	if v == nil {
		return ""
	}
	return figure(*v)
}

// lines are the failures, and what is not known.
func (c *Comparison) lines() []string {
	var lines []string
	for _, cell := range c.Failures() {
		lines = append(lines, fmt.Sprintf("%s failed %s: %s", cell.Peer, cell.Case, cell.Error))
	}
	for _, p := range c.Peers {
		if p.PID == 0 {
			lines = append(lines, fmt.Sprintf("%s: the process behind %s is not known; name it with --pid %s=PID.", p.Name, p.Endpoint, p.Name))
		}
	}
	return lines
}

// bars draws the CPU time an element of each case and peer: the runner's and the harness's, one behind the other. Each case has a scale of
// its own.
func (c *Comparison) bars() template.HTML {
	var b strings.Builder
	const left, width, row, gap, labels = 110.0, 430.0, 18.0, 14.0, 100.0
	y := 56.0
	draw := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	bar := func(x, v float64, colour string) float64 {
		draw(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`, x, y, max(v, 0), row-4, colour)
		return x + max(v, 0)
	}
	last, scale := "", 0.0
	for _, cell := range c.Cells {
		if cell.TotalMicros == nil {
			continue
		}
		if cell.Case != last {
			last, scale = cell.Case, width/c.most(cell.Case)
			draw(`<text x="0" y="%.1f" class="title">%s</text>`, y+row-8, template.HTMLEscapeString(cell.Case))
			y += row
		}
		draw(`<text x="%.1f" y="%.1f" class="end">%s</text>`, left-8, y+row-8, template.HTMLEscapeString(cell.Peer))
		end := bar(bar(left, *cell.RunnerMicros*scale, colourTwo), *cell.HarnessMicros*scale, colourOne)
		draw(`<text x="%.1f" y="%.1f">%s + %s</text>`, end+6, y+row-8, figure(*cell.RunnerMicros), figure(*cell.HarnessMicros))
		y += row
		if next := c.after(cell); next != cell.Case {
			y += gap
		}
	}
	if last == "" {
		return ""
	}
	head := fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-label="CPU time an element">`, left+width+labels, y) +
		`<text x="0" y="18" class="title">CPU µs an element, net of the empty job</text>` +
		fmt.Sprintf(`<rect x="0" y="30" width="14" height="8" fill="%s"/><text x="20" y="39">runner</text>`, colourTwo) +
		fmt.Sprintf(`<rect x="80" y="30" width="14" height="8" fill="%s"/><text x="100" y="39">harness</text>`, colourOne)
	return template.HTML(head + b.String() + "</svg>\n")
}

// most is the largest total of a case.
func (c *Comparison) most(name string) (most float64) {
	for _, cell := range c.Cells {
		if cell.Case == name && cell.TotalMicros != nil {
			most = max(most, max(*cell.RunnerMicros, 0)+max(*cell.HarnessMicros, 0))
		}
	}
	return max(most, 1e-9)
}

// after names the case of the next cell that has a bar.
func (c *Comparison) after(cell Cell) string {
	seen := false
	for _, other := range c.Cells {
		if seen && other.TotalMicros != nil {
			return other.Case
		}
		seen = seen || other.Case == cell.Case && other.Peer == cell.Peer
	}
	return ""
}
