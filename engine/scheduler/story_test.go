package scheduler

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/engine/watermark"
)

// TestStories walks the stories in testdata. Commands:
//
//	job [key-groups=N] [elements=N] [time=MS] [budget=MS] [batch] [ordered]    input: a stage a line:
//	                              NAME KIND [in=A,B] [keyed] [side=C [early] [mapped]] [splittable] [drainable] [bounded] [stable] [sorted] [unlifted]
//	restore NAME [wm=T] [done] [hold=T] [outputs=(T,…)] [count=N] [timer=T]   input: sequence numbers of blocks, of count elements;
//	                              timer is of key group 0
//	harness [processes=N] [each=N] [parallel] [workers=A/B]    - for a place where nobody is
//	moved BUNDLE to=WORKER
//	commit BUNDLE [wm=T] [done] [outputs=(T,…)] [elements=N busy=MS [wall=MS]]   input, an effect a line: add STAGE group=G seq=N count=N bytes=N hold=T [after=T],
//	                              hold T ±N, timer group=G event=T pt=T, side STAGE
//	                              returned or rest seq=N count=N bytes=N hold=T
//	fail BUNDLE [retry=T] [blame=raised|wrong|lost] [items=N]   input: sequence numbers of blocks that replace the first one
//	progress BUNDLE done=SHARE
//	divide BUNDLE                 input, a block a line: kept, returned or add, as above
//	undivided BUNDLE
//	mapped STAGE seq=N end=T
//	needed stage=STAGE            from when on it reads windows of its side input
//	tune [elements=N] [time=MS] [budget=MS]
//	settle [off]
//	cut STAGE                     input: the block that was cut and its parts, a line each, as above
//	rhythm STAGE gap=MS           what comes to the stage comes so long after what came before it
//	costs                         of every Harness stage
//	backlog                       of the environment
//	tick, drain, connected
//	status                        watermarks and backlog of every stage
//
// Each consumer of a test_stream has an output of its own, in the order of the consumers. Every command takes now=T. Times are milliseconds; inf is the end of time.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		st := &story{}
		datadriven.RunTest(t, path, st.run)
	})
}

type story struct {
	sched *Scheduler
	plan  *plan.Plan
	now   element.Time
}

func (st *story) run(t *testing.T, d *datadriven.TestData) string {
	if d.HasArg("now") {
		st.now = timeArg(t, d, "now")
	}
	switch d.Cmd {
	case "job":
		return st.job(t, d)
	case "restore":
		return st.step(t, st.restored(t, d))
	case "harness":
		c := Capacity{Env: "env", Processes: 1, PerProcess: 2, Parallel: d.HasArg("parallel")}
		d.MaybeScanArgs(t, "processes", &c.Processes)
		d.MaybeScanArgs(t, "each", &c.PerProcess)
		if d.HasArg("workers") {
			var names string
			d.ScanArgs(t, "workers", &names)
			c.Workers = strings.Split(strings.ReplaceAll(names, "-", ""), "/")
			c.Processes = len(c.Workers)
		}
		return st.step(t, c)
	case "commit":
		return st.step(t, st.committed(t, d))
	case "fail":
		f := Failed{Bundle: bundleArg(t, d), RetryAt: element.MinTime}
		if d.HasArg("retry") {
			f.RetryAt = timeArg(t, d, "retry")
		}
		st.blame(t, d, &f)
		return st.step(t, f)
	case "progress":
		var done string
		d.ScanArgs(t, "done", &done)
		share, err := strconv.ParseFloat(done, 64)
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		return st.step(t, Progressed{Bundle: bundleArg(t, d), Done: share})
	case "divide":
		return st.step(t, st.divided(t, d))
	case "undivided":
		return st.step(t, Undivided{Bundle: bundleArg(t, d)})
	case "connected":
		return st.step(t, Connected{Env: "env"})
	case "moved":
		var worker string
		d.ScanArgs(t, "to", &worker)
		return st.step(t, Moved{Bundle: bundleArg(t, d), Worker: worker})
	case "tick":
		return st.step(t, Tick{})
	case "drain":
		return st.step(t, Drain{})
	case "settle":
		return st.step(t, Settle{On: !d.HasArg("off")})
	case "tune":
		return st.step(t, st.tune(t, d))
	case "cut":
		stage := st.index(d.CmdArgs[0].Key)
		var blocks []Block
		for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
			blocks = append(blocks, st.block(stage, arguments(append([]string{""}, strings.Fields(line)...))))
		}
		return st.step(t, WasCut{Stage: stage, Block: blocks[0], Parts: blocks[1:]})
	case "rhythm":
		var gap int
		d.ScanArgs(t, "gap", &gap)
		stage := st.sched.stages[st.index(d.CmdArgs[0].Key)]
		stage.gap, stage.arrivedAt = float64(gap), st.now-element.Time(gap)
		return ""
	case "costs":
		return st.costs()
	case "backlog":
		return fmt.Sprintf("%.0f ms\n", st.sched.BacklogMs("env"))
	case "mapped":
		return st.step(t, st.mapped(t, d))
	case "needed": // the windows of the side input of a stage
		var name string
		d.ScanArgs(t, "stage", &name)
		return fmt.Sprintln(formatTime(st.sched.SideNeeded(st.edge(plan.EdgeID("side->" + name)))))
	case "status":
		return st.status()
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func (st *story) blame(t *testing.T, d *datadriven.TestData, f *Failed) {
	if !d.HasArg("blame") {
		return
	}
	var blame string
	d.ScanArgs(t, "blame", &blame)
	f.Blame = map[string]Blame{"raised": UserCode, "wrong": WrongAnswer, "lost": LostHarness}[blame]
	d.MaybeScanArgs(t, "items", &f.Items)
	if b := st.sched.bundles[f.Bundle]; b != nil {
		for _, line := range strings.Fields(strings.TrimSpace(d.Input)) {
			f.Parts = append(f.Parts, st.block(b.Stage, map[string]string{"seq": line, "count": "1", "bytes": "1"}))
		}
	}
}

func (st *story) job(t *testing.T, d *datadriven.TestData) string {
	st.plan = &plan.Plan{KeyGroups: 4, Environments: []*plan.Environment{{ID: "env"}}}
	st.now = 0
	d.MaybeScanArgs(t, "key-groups", &st.plan.KeyGroups)
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		st.stage(strings.Fields(line))
	}
	elements := 100
	d.MaybeScanArgs(t, "elements", &elements)
	bounds := st.tune(t, d)
	st.sched = New(st.plan, Config{
		BundleElementsMax: elements, BacklogBytesMax: 1000, InOrder: d.HasArg("ordered"),
		BundleTimeMaxMs: bounds.BundleTimeMaxMs, LatencyBudgetMs: bounds.LatencyBudgetMs,
		BatchGroup:  func(*plan.Stage) bool { return d.HasArg("batch") },
		SideReadyAt: func(_ plan.SideInput, main element.Time) element.Time { return main + 1 },
	})
	return st.step(t, Tick{})
}

func (st *story) tune(t *testing.T, d *datadriven.TestData) Tune {
	var tune Tune
	var ms, budget int
	d.MaybeScanArgs(t, "elements", &tune.BundleElementsMax)
	d.MaybeScanArgs(t, "time", &ms)
	d.MaybeScanArgs(t, "budget", &budget)
	tune.BundleTimeMaxMs, tune.LatencyBudgetMs = int64(ms), int64(budget)
	return tune
}

func (st *story) costs() string {
	var b strings.Builder
	for _, c := range st.sched.Costs() {
		fmt.Fprintf(&b, "%s fixed=%.1f ms each=%.1f µs quantum=%.0f ms at most %d in flight\n",
			st.plan.Stages[c.Stage].Name, c.FixedMs, c.PerElementUs, c.QuantumMs, c.BundlesMax)
	}
	return b.String()
}

func (st *story) mapped(t *testing.T, d *datadriven.TestData) Mapped {
	var seq uint64
	d.ScanArgs(t, "seq", &seq)
	i := st.index(d.CmdArgs[0].Key)
	return Mapped{
		Stage: i, Block: Block{Edge: st.edge(st.plan.Stages[i].Input), Seq: seq}, SideEnds: []element.Time{timeArg(t, d, "end")},
	}
}

// stage adds a stage and the edges into it.
func (st *story) stage(f []string) {
	s := &plan.Stage{ID: plan.StageID(f[0]), Name: f[0], Kind: plan.StageKind(f[1]), Env: "env"}
	edge := &plan.Edge{ID: plan.EdgeID("->" + f[0]), Kind: plan.FIFO, Consumer: s.ID, Name: f[0]}
	connect := func(e *plan.Edge, from string) {
		for _, name := range strings.Split(from, ",") {
			e.Producers = append(e.Producers, plan.StageID(name))
			p := st.plan.Stage(plan.StageID(name))
			p.Outputs = append(p.Outputs, plan.Output{Edges: []plan.EdgeID{e.ID}})
		}
		st.plan.Edges = append(st.plan.Edges, e)
	}
	st.plan.Stages = append(st.plan.Stages, s)
	for _, opt := range f[2:] {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "keyed":
			edge.Kind = plan.Keyed
		case "spread":
			edge.Spread = true
		case "bounded":
			edge.Bounded = true
			if s.Splittable != nil {
				s.Splittable.Bounded = true
			}
		case "stable":
			s.StableInput = true
		case "sorted":
			s.TimeSorted = true
		case "unlifted":
			s.Unlifted = []byte{1}
		case "splittable":
			s.Splittable = &plan.Splittable{}
		case "drainable":
			s.Splittable = &plan.Splittable{DrainDescriptor: []byte{1}}
		case "in":
			s.Input = edge.ID
			connect(edge, value)
		case "early": // after side
			s.SideInputs[0].Early = true
		case "mapped":
			s.SideInputs[0].Map = &plan.WindowMap{}
		case "side":
			e := &plan.Edge{ID: plan.EdgeID("side->" + f[0]), Kind: plan.Side, Consumer: s.ID}
			s.SideInputs = append(s.SideInputs, plan.SideInput{Local: "s", Transform: f[0], Edge: e.ID, Expires: true, KeepMs: 5})
			connect(e, value)
		}
	}
}

func (st *story) index(name string) int {
	for i, s := range st.plan.Stages {
		if s.Name == name {
			return i
		}
	}
	return -1
}

func (st *story) edge(id plan.EdgeID) int {
	for i, e := range st.plan.Edges {
		if e.ID == id {
			return i
		}
	}
	return -1
}

func (st *story) restored(t *testing.T, d *datadriven.TestData) Restored {
	var r Restored
	stage := st.index(d.CmdArgs[0].Key)
	if d.HasArg("wm") {
		r.Watermarks = append(r.Watermarks, StageWatermark{Stage: stage, Watermark: timeArg(t, d, "wm")})
	}
	if d.HasArg("done") {
		r.Done = append(r.Done, stage)
	}
	if w := timesArg(d, "outputs"); w != nil {
		r.Outputs = append(r.Outputs, StageOutputs{Stage: stage, Watermarks: w})
	}
	if d.HasArg("hold") {
		r.Holds = append(r.Holds, StageHolds{Stage: stage, Holds: []watermark.Count{{At: timeArg(t, d, "hold"), N: 1}}})
	}
	if d.HasArg("timer") {
		r.Timers = append(r.Timers, StageTimers{Stage: stage, Event: timeArg(t, d, "timer"), Processing: NoTimer})
	}
	count := 1
	d.MaybeScanArgs(t, "count", &count)
	for _, line := range strings.Fields(d.Input) {
		seq, _ := strconv.Atoi(line)
		r.Blocks = append(r.Blocks, StageBlock{Stage: stage, Block: Block{
			Seq: uint64(seq), Count: count, Bytes: 1, Hold: 0, Edge: st.edge(st.plan.Stages[stage].Input), AvailableAt: element.MinTime,
		}})
	}
	return r
}

func (st *story) committed(t *testing.T, d *datadriven.TestData) Committed {
	c := Committed{Bundle: bundleArg(t, d), Watermark: element.MinTime, Done: d.HasArg("done")}
	if d.HasArg("wm") {
		c.Watermark = timeArg(t, d, "wm")
	}
	c.Outputs = timesArg(d, "outputs")
	c.Work = work(t, d)
	self := -1
	if b := st.sched.bundles[c.Bundle]; b != nil { // else the scheduler must refuse the event
		self = b.Stage
	}
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		args := arguments(f)
		switch f[0] {
		case "add":
			stage := st.index(f[1])
			c.Added = append(c.Added, StageBlock{Stage: stage, Block: st.block(stage, args)})
		case "returned":
			c.Returned = append(c.Returned, st.block(self, args))
		case "rest":
			rest := st.block(self, args)
			c.Rest = &rest
		case "hold":
			c.Holds = append(c.Holds, HoldDelta{At: parseTime(f[1]), Delta: number(f[2])})
		case "timer":
			tm := StageTimers{Stage: self, Group: uint16(number(args["group"])), Event: NoTimer, Processing: NoTimer}
			if v, ok := args["event"]; ok {
				tm.Event = parseTime(v)
			}
			if v, ok := args["pt"]; ok {
				tm.Processing = parseTime(v)
			}
			c.Timers = append(c.Timers, tm)
		case "side":
			c.SideAdded = append(c.SideAdded, st.edge(plan.EdgeID("side->"+f[1])))
		default:
			t.Fatalf("%s: unknown effect %q", d.Pos, line)
		}
	}
	return c
}

func work(t *testing.T, d *datadriven.TestData) *Work {
	if !d.HasArg("busy") {
		return nil
	}
	var w Work
	var busy, wall int
	d.MaybeScanArgs(t, "elements", &w.Elements)
	d.MaybeScanArgs(t, "busy", &busy)
	wall = busy
	d.MaybeScanArgs(t, "wall", &wall)
	w.Busy, w.Wall = float64(busy), float64(wall)
	return &w
}

func (st *story) divided(t *testing.T, d *datadriven.TestData) Divided {
	ev := Divided{Bundle: bundleArg(t, d)}
	stage := 0
	if b := st.sched.bundles[ev.Bundle]; b != nil {
		stage = b.Stage
	}
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		f := strings.Fields(line)
		b := st.block(stage, arguments(f))
		switch f[0] {
		case "kept":
			ev.Kept = append(ev.Kept, b)
		case "returned":
			ev.Returned = append(ev.Returned, b)
		case "add":
			ev.Added = append(ev.Added, b)
		default:
			t.Fatalf("%s: unknown part %q", d.Pos, line)
		}
	}
	return ev
}

// arguments reads the name=value fields of a line.
func arguments(f []string) map[string]string {
	args := map[string]string{}
	for _, a := range f[1:] {
		k, v, _ := strings.Cut(a, "=")
		args[k] = v
	}
	return args
}

// block makes a block for a stage.
func (st *story) block(stage int, args map[string]string) Block {
	b := Block{
		Group: uint16(number(args["group"])), Seq: uint64(number(args["seq"])), Count: number(args["count"]), Bytes: number(args["bytes"]),
		Size: float64(number(args["size"])), Hold: parseTime(args["hold"]), MaxWindow: parseTime(args["hold"]), AvailableAt: element.MinTime,
		Edge: st.edge(st.plan.Stages[stage].Input),
	}
	if v, ok := args["after"]; ok {
		b.AvailableAt = parseTime(v)
	}
	return b
}

func (st *story) step(t *testing.T, ev Event) string {
	actions, err := st.sched.Step(st.now, ev)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for _, a := range actions {
		switch a := a.(type) {
		case Start:
			fmt.Fprintf(&b, "start %d %s", a.Bundle, st.plan.Stages[a.Stage].Name)
			if st.plan.Stages[a.Stage].Kind == plan.Harness {
				fmt.Fprintf(&b, " process=%d", a.Process)
			}
			if len(a.Groups) > 0 {
				fmt.Fprintf(&b, " groups=%v", a.Groups)
			}
			for _, blk := range a.Blocks {
				fmt.Fprintf(&b, " block=%d", blk.Seq)
			}
			if a.Limit > 0 {
				fmt.Fprintf(&b, " limit=%d failures=%d losses=%d tries=%d", a.Limit, a.Failures, a.Losses, a.Tries)
				if a.Raised != a.Tries {
					fmt.Fprintf(&b, " raised=%d", a.Raised)
				}
			}
			if a.TimersMax > 0 {
				fmt.Fprintf(&b, " timers-max=%d", a.TimersMax)
			}
			for _, flag := range []struct {
				name string
				on   bool
			}{{"timers", a.Timers && !a.AllTimers}, {"all-timers", a.AllTimers}, {"truncate", a.Truncate}, {"final", a.Final}, {"open", a.Open}} {
				if flag.on {
					b.WriteString(" " + flag.name)
				}
			}
			fmt.Fprintf(&b, " wm=%s\n", formatTime(a.InputWatermark))
		case Extend:
			fmt.Fprintf(&b, "extend %d", a.Bundle)
			if len(a.Groups) > 0 {
				fmt.Fprintf(&b, " groups=%v", a.Groups)
			}
			for _, blk := range a.Blocks {
				fmt.Fprintf(&b, " block=%d", blk.Seq)
			}
			fmt.Fprintf(&b, " wm=%s\n", formatTime(a.InputWatermark))
		case Cut:
			fmt.Fprintf(&b, "cut %s block=%d into parts of %d\n", st.plan.Stages[a.Stage].Name, a.Block.Seq, a.Elements)
		case Close:
			fmt.Fprintf(&b, "close %d\n", a.Bundle)
		case Split:
			fmt.Fprintf(&b, "split %d %s for process=%d left=%d ms\n", a.Bundle, st.plan.Stages[a.Stage].Name, a.Process, a.LeftMs)
		case MapWindows:
			fmt.Fprintf(&b, "map %s block=%d\n", st.plan.Stages[a.Stage].Name, a.Block.Seq)
		case Drop:
			fmt.Fprintf(&b, "drop %s", st.plan.Stages[a.Stage].Name)
			for _, blk := range a.Blocks {
				fmt.Fprintf(&b, " block=%d", blk.Seq)
			}
			b.WriteString("\n")
		}
	}
	if w := st.sched.NextWake(); w != NoTimer {
		fmt.Fprintf(&b, "wake at %s\n", formatTime(w))
	}
	if st.sched.Done() {
		b.WriteString("done\n")
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func (st *story) status() string {
	var b strings.Builder
	for i, s := range st.plan.Stages {
		x := st.sched.Status(i)
		fmt.Fprintf(&b, "%s in=%s out=%s", s.Name, formatTime(x.Input), formatTime(x.Output))
		if x.PendingCount > 0 {
			fmt.Fprintf(&b, " pending=%d", x.PendingCount)
		}
		if x.InFlight > 0 {
			fmt.Fprintf(&b, " running=%d", x.InFlight)
		}
		if x.Waiting != "" {
			fmt.Fprintf(&b, " (%s)", x.Waiting)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func bundleArg(t *testing.T, d *datadriven.TestData) BundleID {
	n, err := strconv.Atoi(d.CmdArgs[0].Key)
	if err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	return BundleID(n)
}

func timeArg(t *testing.T, d *datadriven.TestData, name string) element.Time {
	var s string
	d.ScanArgs(t, name, &s)
	return parseTime(s)
}

// timesArg reads a list of times, nil when there is none.
func timesArg(d *datadriven.TestData, name string) []element.Time {
	var times []element.Time
	for _, arg := range d.CmdArgs {
		if arg.Key != name {
			continue
		}
		for _, v := range arg.Vals {
			times = append(times, parseTime(v))
		}
	}
	return times
}

func parseTime(s string) element.Time {
	switch s {
	case "inf":
		return element.MaxTime
	case "-inf":
		return element.MinTime
	}
	return element.Time(number(s))
}

func formatTime(t element.Time) string {
	switch {
	case t <= element.MinTime:
		return "-inf"
	case t >= element.MaxTime:
		return "inf"
	}
	return strconv.FormatInt(int64(t), 10)
}

func number(s string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(s, "+"))
	return n
}

// TestPermutedMapsGiveTheSameActions runs one history many times: nothing in it may depend on map order.
func TestPermutedMapsGiveTheSameActions(t *testing.T) {
	var first string
	for i := 0; i < 50; i++ {
		p := &plan.Plan{KeyGroups: 8}
		st := &story{plan: p}
		st.stage([]string{"a", "impulse"})
		st.stage([]string{"b", "harness", "in=a", "keyed"})
		st.sched = New(p, Config{})
		var out []string
		out = append(out, st.step(t, Tick{}), st.step(t, Capacity{Env: "env", Processes: 2, PerProcess: 2}))
		ev := Committed{Bundle: 1, Done: true}
		for g := 0; g < 8; g++ {
			b := Block{Group: uint16(g), Seq: uint64(g), Count: 1, Bytes: 1, AvailableAt: element.MinTime}
			ev.Added = append(ev.Added, StageBlock{Stage: 1, Block: b})
		}
		out = append(out, st.step(t, ev), st.step(t, Failed{Bundle: 2, RetryAt: element.MinTime}), st.status())
		if all := strings.Join(out, ""); first == "" {
			first = all
		} else if all != first {
			t.Fatalf("run %d differs:\n%s\nfirst:\n%s", i, all, first)
		}
	}
	if !strings.Contains(first, "start 2 b") {
		t.Fatalf("the history does not do what it is meant to:\n%s", first)
	}
}
