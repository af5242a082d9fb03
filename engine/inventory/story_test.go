package inventory_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"padstone/engine/inventory"
	"padstone/engine/plan"
)

// TestStories matches pipelines. Commands:
//
//	old [groups=N]     input: an entry a line, with the numbers 1, 2, … : KIND NAME [<- COLLECTION] [ATTRIBUTE…]; or, for a transform that
//	                   does not begin a stage: step NAME <- COLLECTION
//	new [groups=N] [cut=(COLLECTION,…)]   the same
//	match [allow] [names=(OLD:NEW,…)]     prints the report, its error, what is done to rows, and the numbers of the new entries
//
// Attributes: readers=A,B element=STRUCTURE key=STRUCTURE fixed=MS late=MS keyed accumulators cell=NAME:KIND:STRUCTURE
// timer=NAME:DOMAIN access=A tags=A,B held=keyed,side,done,elements:N,outbox:N,positions:N. Readers default to the name.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var earlier, inv *inventory.Inventory
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "old":
				earlier = parse(t, d)
				earlier.Adopt(nil)
				return ""
			case "new":
				inv = parse(t, d)
				return ""
			case "match":
				o := inventory.Options{AllowNonRestored: d.HasArg("allow"), Names: map[string]string{}}
				if arg, ok := d.Arg("names"); ok {
					for _, v := range arg.Vals {
						old, name, _ := strings.Cut(v, ":")
						o.Names[old] = name
					}
				}
				return matched(earlier, inv, o)
			}
			t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			return ""
		})
	})
}

func matched(earlier, inv *inventory.Inventory, o inventory.Options) string {
	report, moves, cut := inventory.Match(earlier, inv, o)
	var b strings.Builder
	if len(cut) > 0 {
		fmt.Fprintf(&b, "cut %v\n", cut)
		return b.String()
	}
	b.WriteString(report.String())
	b.WriteString(report.Summary() + "\n")
	if err := report.Err(); err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	fmt.Fprintf(&b, "moves: inbox %v, side %v, clear %v, drop %v, cells %v, timers %v\n",
		moves.Inbox, moves.Side, moves.ClearInbox, moves.Drop, moves.Cells, moves.Timers)
	for _, e := range inv.Entries {
		fmt.Fprintf(&b, "%d=%s ", e.Number, e.Name)
	}
	return strings.TrimSpace(b.String()) + "\n"
}

func parse(t *testing.T, d *datadriven.TestData) *inventory.Inventory {
	t.Helper()
	inv := &inventory.Inventory{Format: 1, KeyGroups: 8, Next: 1}
	d.MaybeScanArgs(t, "groups", &inv.KeyGroups)
	if arg, ok := d.Arg("cut"); ok {
		inv.Cut = arg.Vals
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		e := &inventory.Entry{Kind: inventory.Kind(words[0]), Name: words[1], Held: &inventory.Held{}}
		rest := words[2:]
		step := plan.Step{Name: e.Name}
		if len(rest) > 1 && rest[0] == "<-" {
			e.Collection, e.Readers = rest[1], []string{e.Name}
			step.Reads = []string{e.Collection}
			rest = rest[2:]
		}
		if e.Kind != inventory.SideInput {
			inv.Steps = append(inv.Steps, step)
		}
		if e.Kind == "step" {
			continue
		}
		for _, attr := range rest {
			name, value, _ := strings.Cut(attr, "=")
			attribute(t, e, name, value)
		}
		for _, r := range e.Readers {
			if r != e.Name && e.Kind != inventory.SideInput {
				inv.Steps = append(inv.Steps, plan.Step{Name: r, Reads: []string{e.Collection}})
			}
		}
		inv.Entries = append(inv.Entries, e)
	}
	return inv
}

func attribute(t *testing.T, e *inventory.Entry, name, value string) {
	t.Helper()
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", name, value, err)
		}
		return n
	}
	parts := strings.Split(value, ":")
	switch name {
	case "readers":
		e.Readers = strings.Split(value, ",")
	case "element":
		e.Element = plan.Structure(value)
	case "key":
		e.Key, e.Keyed = plan.Structure(value), true
	case "keyed":
		e.Keyed = true
	case "accumulators":
		e.Accumulators = true
	case "fixed":
		e.Windowing = &plan.Windowing{Kind: plan.Fixed, SizeMs: number(value)}
	case "late":
		e.Windowing.LatenessMs = number(value)
	case "cell":
		e.Cells = append(e.Cells, inventory.Cell{Name: parts[0], Kind: plan.StateKind(parts[1]), Element: plan.Structure(parts[2])})
	case "timer":
		e.Timers = append(e.Timers, inventory.Timer{Name: parts[0], Domain: plan.TimeDomain(parts[1])})
	case "access":
		e.Access = plan.SideAccess(value)
	case "tags":
		e.Tags = strings.Split(value, ",")
	case "held":
		for _, h := range strings.Split(value, ",") {
			what, n, _ := strings.Cut(h, ":")
			switch what {
			case "keyed":
				e.Held.Keyed = true
			case "side":
				e.Held.Side = true
			case "done":
				e.Held.Done = true
			case "elements":
				e.Held.Elements = number(n)
			case "outbox":
				e.Held.Outbox = number(n)
			case "positions":
				e.Held.Positions = int(number(n))
			default:
				t.Fatalf("held %q", h)
			}
		}
	default:
		t.Fatalf("unknown attribute %q; known are %v", name, slices.Sorted(slices.Values([]string{"readers", "held"})))
	}
}
