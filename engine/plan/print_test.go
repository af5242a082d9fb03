package plan

import "testing"

// TestString prints what the goldens of the compiler do not have: everything at once.
func TestString(t *testing.T) {
	w := &Windowing{
		Kind: Sliding, SizeMs: 60, PeriodMs: 20, OffsetMs: 5, Coding: IntervalWindow, Accumulating: true, OutputTime: Earliest,
		LatenessMs: 7, EmptyOnClose: true, EmptyOnTime: true,
		Trigger: &Trigger{Kind: TriggerAfterEndOfWindow, Children: []*Trigger{
			nil,
			{Kind: TriggerAfterProcessing, Delays: []TimeShift{{DelayMs: 3}, {PeriodMs: 10, OffsetMs: 1}}},
		}},
	}
	p := &Plan{
		Name: "p", KeyGroups: 4,
		Environments: []*Environment{{ID: "env", URN: "beam:env:docker:v1"}},
		Stages: []*Stage{
			{ID: "s0", Name: "Read", Kind: Source, Native: &Native{URN: "native", Config: []byte("abc")},
				Outputs: []Output{{Local: "pc", PCollection: "pc", Edges: []EdgeID{"e"}}}},
			{ID: "s1", Name: "Do", Kind: Harness, Env: "env", Input: "e", KeyCoder: "lp", Windowing: w, Finalizes: true, StableInput: true,
				Transforms: []Transform{{ID: "t", Name: "Do/It", URN: "beam:transform:pardo:v1"}},
				SideInputs: []SideInput{{Transform: "t", Local: "side", Edge: "missing", Access: Multimap}},
				States: []State{
					{Name: "Do/It", Cell: "bag", Kind: Bag},
					{Name: "Do/It", Cell: "map", Kind: MultimapST, MapKey: "lp", Element: "varint"},
				},
				Timers: []TimerFamily{
					{Name: "Do/It", Family: "f", Domain: EventTime, Element: "timer(lp,interval)", OnWindowExpiration: true},
				},
				Splittable: &Splittable{Transform: "t", DrainDescriptor: []byte{1}},
				Outputs:    []Output{{Write: "w", Local: "out", PCollection: "out"}},
			},
		},
		Edges: []*Edge{{
			ID: "e", Kind: Keyed, PCollection: "pc", Producers: []StageID{"s0", "gone"}, Consumer: "s1",
			Element: "kv(lp,lp)", Window: GlobalWindow,
		}},
	}
	const want = `plan "p", 4 key groups, unbounded
environment env beam:env:docker:v1

stage s0 source "Read"
  native    native, 3 bytes of configuration
  out       pc -> "Do" s1

stage s1 harness "Do" in env, finalizes, stable input
  in        e keyed kv(lp,lp) global unbounded <- "Read" s0, gone
  key       lp
  windowing sliding(60 ms every 20 ms from 5 ms) trigger after_end_of_window(-, after_processing_time(+3 ms, align 10 ms from 1 ms)) accumulating at earliest lateness 7 ms empty on close empty on time
  side      missing: no such edge multimap to t as side, no windowing
  step      t "Do/It" pardo:v1
  state     bag of "Do/It": bag of unframed elements
  state     map of "Do/It": multimap by lp of varint
  timer     f of "Do/It": event time, timer(lp,interval), on window expiration
  splits    t, unbounded, truncates on drain
  out       out by w -> nothing
`
	if got := p.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
