package trigger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/trigger/triggertest"
	"padstone/internal/fault"
)

// machine is a story: windows by name, each with a state and a maximum timestamp.
type machine struct {
	p         *Program
	now       element.Time
	watermark element.Time
	names     []string
	states    map[string]*State
	max       map[string]element.Time
}

// TestStories runs testdata/*.txt. Commands:
//
//	trigger <tree>                    compiles a tree and forgets the windows
//	window <name> max=<t>
//	elements <name> n=<n>             n elements arrive in one bundle
//	clock <t>, watermark <t>          evaluate all windows
//	merge <from> <from> … into=<name> max=<t> [n=<n>]
//
// Each prints, for the windows it evaluates: fires or -, [finished], [wake <t>], and the encoded state.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var m *machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "trigger":
				var text string
				m, text = compile(t, d)
				return text
			case "window":
				m.open(d.CmdArgs[0].Key, m.number(t, d, "max"))
				return ""
			case "elements":
				name := d.CmdArgs[0].Key
				m.p.OnElements(m.states[name], int(m.number(t, d, "n")), m.clock(name))
				return m.evaluate(t, name)
			case "clock", "watermark":
				at, err := strconv.ParseInt(d.CmdArgs[0].Key, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if d.Cmd == "clock" {
					m.now = element.Time(at)
				} else {
					m.watermark = element.Time(at)
				}
				return m.evaluate(t, m.names...)
			case "merge":
				return m.merge(t, d)
			}
			t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

func compile(t *testing.T, d *datadriven.TestData) (*machine, string) {
	tree, err := triggertest.Parse(strings.TrimPrefix(d.FullCmd(), "trigger"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile(tree)
	if err != nil {
		return nil, err.Error() + "\n"
	}
	m := &machine{p: p, watermark: element.MinTime, states: map[string]*State{}, max: map[string]element.Time{}}
	return m, fmt.Sprintf("nodes %d, slots %d, on time %t, only end of window %t, waits for end %t\n", len(p.nodes), p.slots, p.HasOnTime(),
		p.OnlyEndOfWindow(), p.WaitsForEnd())
}

func (m *machine) open(name string, maxTS int64) {
	m.names = append(m.names, name)
	m.states[name], m.max[name] = &State{}, element.Time(maxTS)
}

func (m *machine) number(t *testing.T, d *datadriven.TestData, key string) int64 {
	var n int64
	d.ScanArgs(t, key, &n)
	return n
}

func (m *machine) clock(name string) Clock {
	return Clock{Now: m.now, Watermark: m.watermark, WindowMax: m.max[name]}
}

func (m *machine) evaluate(t *testing.T, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		s, c := m.states[name], m.clock(name)
		fmt.Fprintf(&b, "%s:", name)
		if m.p.ShouldFire(s, c) {
			m.p.OnFire(s, c)
			b.WriteString(" fires")
		} else {
			b.WriteString(" -")
		}
		if m.p.Finished(s) {
			b.WriteString(" finished")
		}
		if at, ok := m.p.Wake(s, c); ok {
			fmt.Fprintf(&b, " wake %d", int64(at))
		}
		enc := m.p.AppendState(nil, s)
		fmt.Fprintf(&b, " (%x)\n", enc)
		var back State
		if rest, err := m.p.ParseState(enc, &back); err != nil || len(rest) > 0 {
			t.Errorf("state %x does not read back: %v", enc, err)
		}
		m.states[name] = &back // what is remembered is what was encoded
	}
	return b.String()
}

func (m *machine) merge(t *testing.T, d *datadriven.TestData) string {
	var into string
	var from []*State
	for _, a := range d.CmdArgs {
		switch {
		case a.Key == "into":
			into = a.Vals[0]
		case len(a.Vals) == 0:
			from = append(from, m.states[a.Key])
			m.names = removed(m.names, a.Key)
		}
	}
	m.open(into, m.number(t, d, "max"))
	*m.states[into] = m.p.Merge(from, m.clock(into))
	if d.HasArg("n") {
		m.p.OnElements(m.states[into], int(m.number(t, d, "n")), m.clock(into))
	}
	return m.evaluate(t, into)
}

func removed(names []string, name string) []string {
	var kept []string
	for _, n := range names {
		if n != name {
			kept = append(kept, n)
		}
	}
	return kept
}

func TestCompileRefuses(t *testing.T) {
	deep := &plan.Trigger{Kind: plan.TriggerDefault}
	for range nodesMax {
		deep = &plan.Trigger{Kind: plan.TriggerRepeat, Children: []*plan.Trigger{deep}}
	}
	for name, tree := range map[string]*plan.Trigger{
		"nothing":       nil,
		"unknown kind":  {Kind: "sometimes"},
		"count of 0":    {Kind: plan.TriggerAfterCount},
		"no child":      {Kind: plan.TriggerAfterAll},
		"missing child": {Kind: plan.TriggerRepeat, Children: []*plan.Trigger{nil}},
		"leaf's child":  {Kind: plan.TriggerAlways, Children: []*plan.Trigger{{Kind: plan.TriggerAlways}}},
		"one child":     {Kind: plan.TriggerOrFinally, Children: []*plan.Trigger{{Kind: plan.TriggerAlways}}},
		"negative":      {Kind: plan.TriggerAfterProcessing, Delays: []plan.TimeShift{{DelayMs: -1}}},
		"three phases":  {Kind: plan.TriggerAfterEndOfWindow, Children: make([]*plan.Trigger, 3)},
		"too deep":      deep,
	} {
		_, err := Compile(tree)
		var f *fault.Error
		if !errors.As(err, &f) || f.Kind != fault.Pipeline || f.Code != "invalid-trigger" {
			t.Errorf("%s: got %v, want a fault invalid-trigger", name, err)
		}
	}
}

func TestDelayed(t *testing.T) {
	minute := plan.TimeShift{PeriodMs: 60, OffsetMs: 5}
	for _, c := range []struct {
		from   element.Time
		shifts []plan.TimeShift
		want   element.Time
	}{
		{100, nil, 100},
		{100, []plan.TimeShift{{DelayMs: 30}}, 130},
		{100, []plan.TimeShift{minute}, 125},
		{125, []plan.TimeShift{minute}, 125},
		{126, []plan.TimeShift{minute}, 185},
		{-60, []plan.TimeShift{minute}, -55},
		{100, []plan.TimeShift{{DelayMs: 30}, minute}, 185},
		{100, []plan.TimeShift{{DelayMs: 1 << 62}}, element.MaxTime},
	} {
		if got := delayed(c.from, c.shifts); got != c.want {
			t.Errorf("delayed(%d, %v) = %d, want %d", c.from, c.shifts, got, c.want)
		}
	}
}

// FuzzState feeds arbitrary bytes as a state: reading and using them must not panic, whatever they say.
func FuzzState(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0}, "end(all(count(2),each(count(1),delay(5))),any(count(2),repeat(count(3))))")
	f.Add([]byte{0xff, 1, 9, 9, 9}, "until(repeat(count(2)),each(delay(5),count(3)))")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		tree, err := triggertest.Parse(text)
		if err != nil {
			return
		}
		p, err := Compile(tree)
		if err != nil {
			return
		}
		var s State
		if _, err := p.ParseState(b, &s); err != nil {
			return
		}
		for _, c := range []Clock{{Now: 10, Watermark: 5, WindowMax: 9}, {Now: 10, Watermark: 10, WindowMax: 9}} {
			p.OnElements(&s, 3, c)
			if p.ShouldFire(&s, c) {
				p.OnFire(&s, c)
			}
			p.Wake(&s, c)
			s = p.Merge([]*State{&s, {}}, c)
		}
	})
}
