package enginetest

import (
	"fmt"
	"slices"
	"strings"

	"padstone/engine/enginetest/reference"
	"padstone/engine/rows"
)

// CheckSinks compares what the sinks have taken with outs, the output of every step, and returns what is wrong.
func (m *Model) CheckSinks(outs [][]reference.Element) (faults []string) {
	for _, i := range m.Steps.Leaves() {
		want, got := reference.Texts(outs[i]), m.Taken(i)
		if !slices.Equal(got, want) {
			missing, extra := Difference(want, got)
			faults = append(faults, fmt.Sprintf("%s: %d elements, not %d; missing %q, too many %q",
				m.Steps.Name(i), len(got), len(want), missing, extra))
		}
	}
	return faults
}

// Taken is what the sink of a leaf has taken, sorted, as reference.Texts prints it.
func (m *Model) Taken(leaf int) []string {
	got := m.Sinks[leaf].Texts()
	for k, text := range got { // the sink adds the window's end
		got[k], _, _ = strings.Cut(text, ")@")
		if len(got[k]) < len(text) {
			got[k] += ")"
		}
	}
	slices.Sort(got)
	return got
}

// Cut returns the steps as if sources had no more than batches says, by their split; left is how many batches are left out.
func (m *Model) Cut(batches map[string]int) (cut reference.Pipeline, left int) {
	cut = slices.Clone(m.Steps)
	source := 0
	for i := range cut {
		if cut[i].Op != reference.Read {
			continue
		}
		src := m.Sources[source]
		read := batches[src.Split]
		elements := 0
		for _, b := range src.Batches[:read] {
			elements += len(b.Elements)
		}
		cut[i].Elements = cut[i].Elements[:elements]
		left += len(src.Batches) - read
		source++
	}
	return cut, left
}

// CheckCounters compares how often user code was called, as counter tells it of a transform, with the number of its inputs.
func (m *Model) CheckCounters(counter func(transform, name string) int64, outs [][]reference.Element) (faults []string) {
	for i, s := range m.Steps {
		switch s.Op {
		case reference.Rekey, reference.FlatMap, reference.Filter, reference.Sum, reference.SideInput, reference.Count, reference.Buffer:
			if n, want := counter(m.Steps.Name(i), "seen"), int64(len(outs[s.Inputs[0]])); n != want {
				faults = append(faults, fmt.Sprintf("%s has counted %d inputs, not %d", m.Steps.Name(i), n, want))
			}
		}
	}
	return faults
}

// Emptied are the tables in which the job leaves nothing behind: all but what the global window keeps.
func (m *Model) Emptied() map[string]rows.Table {
	tables := map[string]rows.Table{
		"inbox": rows.Inbox, "inbox data": rows.Data,
		"group": rows.Group, "trigger": rows.Trigger, "timer": rows.TimerID, "timer order": rows.TimerTS,
		"hold": rows.Hold, "outbox": rows.Outbox, "content reference": rows.ContentRef, "state": rows.State,
	}
	for _, s := range m.Steps {
		if s.Op == reference.Count && s.Fn.Kind == reference.GlobalWindows {
			delete(tables, "state")
		}
	}
	return tables
}

// Difference returns what one sorted list has and the other has not, either way.
func Difference(a, b []string) (onlyA, onlyB []string) {
	left := map[string]int{}
	for _, s := range b {
		left[s]++
	}
	for _, s := range a {
		if left[s]--; left[s] < 0 {
			onlyA = append(onlyA, s)
		}
	}
	for _, s := range b {
		if left[s] > 0 {
			left[s]--
			onlyB = append(onlyB, s)
		}
	}
	return onlyA, onlyB
}
