package main

import (
	"fmt"
	"io"
	"strings"

	"padstone/jobserver"
)

// printProfile prints where the time of bundles went, a row a stage.
func printProfile(w io.Writer, stages []jobserver.StageDescription) error {
	var t *table
	for i := range stages {
		p := stages[i].Profile
		if p == nil || p.Bundles == 0 {
			continue
		}
		groups, shares := p.Shares()
		if t == nil {
			fmt.Fprintln(w)
			t = newTable(w, append(append([]string{"BUNDLES OF", "SECONDS", "MS P50", "P99", "ELEMENTS P50", "LAST"},
				upper(groups)...), "INBOX MS", "DURABLE MS", "FIXED MS", "US/ELEMENT", "OPEN MS")...)
		}
		row := []string{
			stages[i].Name, fmt.Sprintf("%.1f", p.Seconds), short(p.Millis.P50), short(p.Millis.P99), thousands(int64(p.Elements.P50 + 0.5)),
			thousands(p.LastElements),
		}
		for _, share := range shares {
			row = append(row, percent(share))
		}
		row = append(row, mean(p.Inbox), mean(p.Durable))
		t.row(append(row, costs(stages[i].Cost)...)...)
	}
	if t == nil {
		return nil
	}
	return t.flush()
}

// shareMin is the share of a part that is worth a line.
const shareMin = 0.005

// printParts prints the parts of the time, with what stages wait for before and after it, a line a part.
func printParts(w io.Writer, stages []jobserver.StageDescription) error {
	fmt.Fprintln(w)
	t := newTable(w, "STAGE", "PART", "SECONDS", "SHARE", "MS A BUNDLE")
	for i := range stages {
		p := stages[i].Profile
		if p == nil || p.Bundles == 0 {
			continue
		}
		name := stages[i].Name
		row := func(part string, seconds float64, share, ms string) {
			t.row(name, part, fmt.Sprintf("%.3f", seconds), share, ms)
			name = ""
		}
		for _, part := range p.Parts {
			text := part.Group
			if part.Part != part.Group {
				text += ": " + part.Part
			}
			if share := part.Seconds / p.Seconds; share >= shareMin {
				row(text, part.Seconds, percent(share), short(part.Seconds*1000/float64(p.Bundles)))
			}
		}
		for _, x := range []struct {
			name string
			jobserver.Waits
		}{{"before: inbox", p.Inbox}, {"after: durable", p.Durable}, {"after: written", p.Written}, {"in vain", p.Again}} {
			if x.Count > 0 {
				row(x.name, x.Seconds, "", fmt.Sprintf("%s for %s, %s at most", mean(x.Waits), plural(int(x.Count), "wait"), short(x.MaxMillis)))
			}
		}
		for _, s := range p.SDK {
			row("SDK: "+s.Transform, float64(s.StartMillis+s.ProcessMillis+s.FinishMillis)/1000, "",
				fmt.Sprintf("in all: start %d, process %d, finish %d", s.StartMillis, s.ProcessMillis, s.FinishMillis))
		}
	}
	return t.flush()
}

// costs are what a bundle and an element cost the harness, and how long a bundle is kept open at most; "-" where nobody knows.
func costs(c *jobserver.CostDescription) []string {
	if c == nil || c.Bundles == 0 {
		return []string{"-", "-", "-"}
	}
	return []string{short(c.FixedMillis), short(c.ElementMicros), short(c.QuantumMillis)}
}

func upper(words []string) []string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = strings.ToUpper(word)
	}
	return out
}

// short prints a number with as many places as it is worth.
func short(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return thousands(int64(v + 0.5))
}

func percent(share float64) string {
	if share > 0 && share < 0.01 {
		return "<1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}

// mean is the mean wait in milliseconds, "-" where nothing has waited.
func mean(w jobserver.Waits) string {
	if w.Count == 0 {
		return "-"
	}
	return short(1000 * w.Seconds / float64(w.Count))
}
