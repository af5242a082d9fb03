package plan

import (
	"fmt"
	"strings"
)

// String prints the plan as a tree, one stage after the other in topological order, with the edges where they are consumed. Equal
// plans print alike; descriptors and environments are not printed.
func (p *Plan) String() string {
	w := &printer{plan: p}
	w.line("plan %q, %d key groups, %s", p.Name, p.KeyGroups, boundedness(p.Bounded))
	for _, e := range p.Environments {
		w.line("environment %s %s", e.ID, e.URN)
	}
	for _, s := range p.Stages {
		w.stage(s)
	}
	return w.String()
}

// printer prints a plan.
type printer struct {
	strings.Builder
	plan *Plan
}

func (w *printer) line(format string, args ...any) {
	fmt.Fprintf(w, format, args...)
	w.WriteByte('\n')
}

func (w *printer) stage(s *Stage) {
	w.line("")
	w.line("stage %s %s %q%s", s.ID, s.Kind, s.Name, stageMarks(s))
	if s.Input != "" {
		w.edge("in", s.Input, "")
	}
	if s.KeyCoder != "" {
		w.line("  key       %s", s.KeyCoder)
	}
	if s.Windowing != nil {
		w.line("  windowing %s", s.Windowing)
	}
	if s.Compact != nil {
		w.line("  compact   accumulators in %s", s.Env)
	}
	if s.Native != nil {
		w.line("  native    %s, %d bytes of configuration", s.Native.URN, len(s.Native.Config))
	}
	if s.Script != nil {
		w.line("  script    %s", s.Script)
	}
	for _, side := range s.SideInputs {
		w.edge("side", side.Edge, fmt.Sprintf(" %s to %s as %s, %s%s", side.Access, side.Transform, side.Local, side.Windowing,
			sideMarks(side)))
	}
	for _, t := range s.Transforms {
		w.line("  step      %s %q %s%s", t.ID, t.Name, strings.TrimPrefix(t.URN, "beam:transform:"), mark(t.Assigned, ", in the runner"))
	}
	for _, st := range s.States {
		w.line("  state     %s of %q: %s", st.Cell, st.Name, stateShape(st))
	}
	for _, t := range s.Timers {
		w.line("  timer     %s of %q: %s time, %s%s", t.Family, t.Name, t.Domain, t.Element,
			mark(t.OnWindowExpiration, ", on window expiration"))
	}
	if sp := s.Splittable; sp != nil {
		w.line("  splits    %s, %s%s", sp.Transform, boundedness(sp.Bounded), mark(sp.DrainDescriptor != nil, ", truncates on drain"))
	}
	for _, out := range s.Outputs {
		w.output(out)
	}
}

// stageMarks prints a stage's environment and demands.
func stageMarks(s *Stage) string {
	return mark(s.Env != "", " in "+string(s.Env)) + mark(s.Finalizes, ", finalizes") + mark(s.StableInput, ", stable input") +
		mark(s.TimeSorted, ", time-sorted input")
}

func (w *printer) edge(role string, id EdgeID, more string) {
	e := w.plan.Edge(id)
	if e == nil {
		w.line("  %-9s %s: no such edge%s", role, id, more)
		return
	}
	w.line("  %-9s %s %s %s %s %s%s%s <- %s", role, id, e.Kind, e.Element, e.Window, boundedness(e.Bounded),
		mark(e.StateBacked, " state-backed")+mark(e.Spread, " spread")+
			mark(e.Grouped, " grouped")+mark(e.Panes != AllPanes, " newest of each "+string(e.Panes)),
		more, w.stages(e.Producers))
}

// sideMarks prints when readers of a side input may go on and how long its windows are kept.
func sideMarks(s SideInput) string {
	return mark(s.Map != nil, ", mapped by the SDK") +
		mark(s.Early, ", from the first pane on") + mark(s.Expires, fmt.Sprintf(", kept for %d ms", s.KeepMs))
}

func (w *printer) output(out Output) {
	consumers := make([]StageID, 0, len(out.Edges))
	for _, id := range out.Edges {
		if e := w.plan.Edge(id); e != nil {
			consumers = append(consumers, e.Consumer)
		}
	}
	via := out.Local
	if out.Write != "" {
		via += " by " + out.Write
	}
	w.line("  out       %s -> %s", via, w.stages(consumers))
	for _, id := range out.Edges {
		w.assigned(out.Assigned[id], "")
		w.assigned(out.AssignedUnlifted[id], ", unless combines are lifted")
	}
}

func (w *printer) assigned(a *Assignment, more string) {
	if a != nil {
		w.line("  assigned  %s %s%s", a.PCollection, a.Windowing.fn(), more)
	}
}

// stages prints a list of stages by name.
func (w *printer) stages(ids []StageID) string {
	if len(ids) == 0 {
		return "nothing"
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
		if s := w.plan.Stage(id); s != nil {
			names[i] = fmt.Sprintf("%q %s", s.Name, s.ID)
		}
	}
	return strings.Join(names, ", ")
}

func stateShape(s State) string {
	shape := string(s.Kind)
	if s.MapKey != "" {
		shape += " by " + s.MapKey
	}
	if s.Element == "" {
		return shape + " of unframed elements"
	}
	return shape + " of " + s.Element
}

func mark(set bool, text string) string {
	if set {
		return text
	}
	return ""
}

func boundedness(bounded bool) string {
	if bounded {
		return "bounded"
	}
	return "unbounded"
}

// String prints a windowing strategy: the function, then what differs from the defaults of a strategy.
func (w *Windowing) String() string {
	if w == nil {
		return "no windowing"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s trigger %s", w.fn(), w.Trigger)
	b.WriteString(mark(w.Accumulating, " accumulating"))
	if w.OutputTime != EndOfWindow {
		b.WriteString(" at " + string(w.OutputTime))
	}
	if w.LatenessMs != 0 {
		fmt.Fprintf(&b, " lateness %d ms", w.LatenessMs)
	}
	b.WriteString(mark(w.EmptyOnClose, " empty on close"))
	b.WriteString(mark(w.EmptyOnTime, " empty on time"+mark(w.OnTimeAlways, " always")))
	return b.String()
}

// fn prints the window function.
func (w *Windowing) fn() string {
	var b strings.Builder
	switch w.Kind {
	case Fixed:
		fmt.Fprintf(&b, "fixed(%d ms", w.SizeMs)
	case Sliding:
		fmt.Fprintf(&b, "sliding(%d ms every %d ms", w.SizeMs, w.PeriodMs)
	case Sessions:
		fmt.Fprintf(&b, "sessions(gap %d ms", w.SizeMs)
	default:
		fmt.Fprintf(&b, "%s(%s", w.Kind, w.Coding)
	}
	if w.OffsetMs != 0 {
		fmt.Fprintf(&b, " from %d ms", w.OffsetMs)
	}
	return b.String() + ")"
}

// String prints a trigger as an expression; "-" is a firing that is not asked for.
func (t *Trigger) String() string {
	if t == nil {
		return "-"
	}
	args := make([]string, 0, len(t.Delays)+len(t.Children)+1)
	if t.Kind == TriggerAfterCount {
		args = append(args, fmt.Sprint(t.Count))
	}
	for _, d := range t.Delays {
		args = append(args, d.String())
	}
	for _, child := range t.Children {
		args = append(args, child.String())
	}
	if len(args) == 0 {
		return string(t.Kind)
	}
	return string(t.Kind) + "(" + strings.Join(args, ", ") + ")"
}

// String prints a time shift.
func (s TimeShift) String() string {
	if s.PeriodMs > 0 {
		return fmt.Sprintf("align %d ms from %d ms", s.PeriodMs, s.OffsetMs)
	}
	return fmt.Sprintf("+%d ms", s.DelayMs)
}
