package inventory

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"padstone/internal/fault"
)

// Outcome is what becomes of something that an earlier pipeline has kept.
type Outcome string

// The outcomes.
const (
	Carried Outcome = "carried over"
	Moved   Outcome = "moved"        // carried over to another place
	Fresh   Outcome = "starts empty" // the new pipeline keeps it, the savepoint does not have it
	Dropped Outcome = "dropped"      // the new pipeline has no place for it, which --allow_non_restored_state accepts
	Missing Outcome = "not restored" // the same, and nothing accepts it
	Refused Outcome = "incompatible"
)

// Line is what becomes of one thing.
type Line struct {
	Outcome Outcome  `json:"outcome"`
	Kind    string   `json:"kind"`
	Name    string   `json:"name"` // of the transform in the old pipeline; of what starts empty, in the new one
	NewName string   `json:"new_name,omitempty"`
	Details []string `json:"details,omitempty"`
}

// Report is what becomes of everything.
type Report struct {
	Lines    []Line   `json:"lines"`
	Warnings []string `json:"warnings,omitempty"`
}

func (r *Report) add(o Outcome, kind, name, newName string, details ...string) {
	l := Line{Outcome: o, Kind: kind, Name: name}
	if newName != name {
		l.NewName = newName
	}
	for _, d := range details {
		if d != "" {
			l.Details = append(l.Details, d)
		}
	}
	r.Lines = append(r.Lines, l)
}

func (r *Report) carry(kind, name, newName, detail string) {
	r.add(Carried, kind, name, newName, detail)
}
func (r *Report) move(kind, name, detail string)  { r.add(Moved, kind, name, name, detail) }
func (r *Report) fresh(kind, name, detail string) { r.add(Fresh, kind, name, name, detail) }
func (r *Report) refuse(kind, name string, details ...string) {
	r.add(Refused, kind, name, name, details...)
}

func (r *Report) drop(kind, name, detail string, allowed bool) {
	o := Missing
	if allowed {
		o = Dropped
	}
	r.add(o, kind, name, name, detail)
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// has reports whether there is a line about the thing.
func (r *Report) has(kind, name string) bool {
	for _, l := range r.Lines {
		if l.Kind == kind && (l.Name == name || l.NewName == name) {
			return true
		}
	}
	return false
}

// Count returns the number of lines with the outcome.
func (r *Report) Count(o Outcome) (n int) {
	for _, l := range r.Lines {
		if l.Outcome == o {
			n++
		}
	}
	return n
}

// Err returns why a job must not start, or nil. Errors: savepoint-incompatible, savepoint-not-restored.
func (r *Report) Err() error {
	if n := r.Count(Refused); n > 0 {
		return fault.New(fault.Pipeline, "savepoint-incompatible", "%s of the savepoint cannot be read by the new pipeline: %s",
			count(int64(n), "part"), r.list(Refused)).
			WithHint("keep coder, windowing and state of these transforms as they were, or give a transform that is to start empty another name")
	}
	if n := r.Count(Missing); n > 0 {
		return fault.New(fault.Pipeline, "savepoint-not-restored", "the new pipeline has no place for %s of the savepoint: %s",
			count(int64(n), "part"), r.list(Missing)).
			WithHint("name renamed transforms in --transform_name_mapping, or drop what is listed with --allow_non_restored_state")
	}
	return nil
}

func (r *Report) list(o Outcome) string {
	var parts []string
	for _, l := range r.Lines {
		if l.Outcome == o {
			parts = append(parts, fmt.Sprintf("%s %q (%s)", l.Kind, l.Name, strings.Join(l.Details, "; ")))
		}
	}
	return strings.Join(parts, ", ")
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	var parts []string
	for _, o := range []Outcome{Carried, Moved, Fresh, Dropped, Missing, Refused} {
		if n := r.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	if len(parts) == 0 {
		return "nothing to carry over"
	}
	return strings.Join(parts, ", ")
}

// String is the report as a table.
func (r *Report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "OUTCOME\tWHAT\tTRANSFORM\tDETAILS")
	for _, l := range r.Lines {
		name := l.Name
		if l.NewName != "" {
			name += " => " + l.NewName
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Outcome, l.Kind, name, strings.Join(l.Details, "; "))
	}
	if err := w.Flush(); err != nil {
		return err.Error() // a strings.Builder takes everything
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	for _, text := range r.Warnings {
		out.WriteString("warning: " + text + "\n")
	}
	return out.String()
}

// count is a number of things in words.
func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.FormatInt(n, 10) + " " + what + "s"
}
