package group

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/trigger/triggertest"
)

// TestStories runs testdata/*.txt. Times are milliseconds. Commands:
//
//	windows <kind> <size> [<period or gap>] [trigger=…] [accumulating] [lateness=…] [output=…] [empty-on-close] [no-empty-on-time]
//	  [on-time-always]
//	add            input: "key ts ts …" a line; the values are the timestamps, or "ts=value"
//	watermark <t>  the input watermark; "end" for the end of the input
//	clock <t>      processing time
//	rest           what is kept
//	finish         ends the input; nothing may be left
//
// add, watermark, clock and finish print the panes "key window @timestamp timing index/non-speculative [first] [last]: values".
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var r *rig
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "windows" {
				r = newRig(t, parseWindowing(t, d))
				return ""
			}
			r.t = t
			switch d.Cmd {
			case "add":
				r.add(parseData(t, d.Input)...)
			case "watermark":
				r.advance(parseTime(t, d.CmdArgs[0].Key), r.env.Now)
			case "clock":
				r.advance(r.env.InputWatermark, parseTime(t, d.CmdArgs[0].Key))
			case "finish":
				r.finish()
			case "rest":
				return r.rest()
			default:
				t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			}
			return r.take()
		})
	})
}

func parseWindowing(t *testing.T, d *datadriven.TestData) plan.Windowing {
	w := plan.Windowing{
		Kind:        plan.WindowKind(d.CmdArgs[0].Key),
		Trigger:     &plan.Trigger{Kind: plan.TriggerDefault},
		OutputTime:  plan.EndOfWindow,
		EmptyOnTime: true,
	}
	var sizes []int64
	for _, a := range d.CmdArgs[1:] {
		// Commas separate values in datadriven.
		value := strings.Join(a.Vals, ",")
		var err error
		switch a.Key {
		case "trigger":
			w.Trigger, err = triggertest.Parse(value)
		case "lateness":
			w.LatenessMs, err = strconv.ParseInt(value, 10, 64)
		case "output":
			w.OutputTime = plan.OutputTime(value)
		case "accumulating":
			w.Accumulating = true
		case "empty-on-close":
			w.EmptyOnClose = true
		case "on-time-always":
			w.OnTimeAlways = true
		case "no-empty-on-time":
			w.EmptyOnTime = false
		default:
			var n int64
			n, err = strconv.ParseInt(a.Key, 10, 64)
			sizes = append(sizes, n)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", d.Pos, a.Key, err)
		}
	}
	if len(sizes) > 0 {
		w.SizeMs = sizes[0]
	}
	if len(sizes) > 1 {
		w.PeriodMs = sizes[1]
	}
	return w
}

func parseData(t *testing.T, input string) []datum {
	var data []datum
	for line := range strings.Lines(input) {
		fields := strings.Fields(line)
		for _, f := range fields[1:] {
			ts, value, named := strings.Cut(f, "=")
			if !named {
				value = ts
			}
			data = append(data, datum{key: fields[0], ts: parseTime(t, ts), value: value})
		}
	}
	return data
}

func parseTime(t *testing.T, s string) element.Time {
	if s == "end" {
		return element.MaxTime
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("time: %w", err))
	}
	return element.Time(n)
}
