package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata with what comes out")

func TestFitCosts(t *testing.T) {
	exact := func(fixed, slope float64, sizes ...float64) (costs []Cost) {
		for _, n := range sizes {
			costs = append(costs, Cost{Elements: n, Millis: fixed + slope*n})
		}
		return costs
	}
	cases := []struct {
		name         string
		costs        []Cost
		fixed, slope float64 // ms, µs
		residual     float64
		ok           bool
	}{
		{"exact", exact(1.5, 0.002, 1, 10, 100, 1000, 10000, 100000), 1.5, 2, 0, true},
		{"two points", exact(3, 0.01, 1, 1000), 3, 10, 0, true},
		{"twice as far off above as below", []Cost{{1, 1}, {1, 2}, {1000000, 1000}}, 1.2, 1000 * (1000 - 1.2) / 1e6, 0, true},
		{"no fixed part", exact(-1, 0.1, 20, 100, 1000), 0, 65.89, 0.308, true},
		{"no part an element", []Cost{{1, 2}, {100, 1.9}, {1000, 1.8}}, 1.893, 0, 0.04, true},
		{"one size", []Cost{{10, 2}, {10, 3}}, 0, 0, 0, false},
		{"what is not known", []Cost{{1, 0}, {0, 1}, {5, -1}}, 0, 0, 0, false},
		{"none", nil, 0, 0, 0, false},
	}
	for _, c := range cases {
		f, ok := FitCosts(c.costs)
		if ok != c.ok {
			t.Errorf("%s: ok %v", c.name, ok)
			continue
		}
		if math.Abs(f.FixedMillis-c.fixed) > 0.01*c.fixed+1e-9 || math.Abs(f.ElementMicros-c.slope) > 0.01*c.slope+1e-9 {
			t.Errorf("%s: %.4f ms + %.4f µs, not %.4f + %.4f", c.name, f.FixedMillis, f.ElementMicros, c.fixed, c.slope)
		}
		if c.residual > 0 && (f.Residual < c.residual/2 || f.Residual > c.residual*2 || f.ResidualMax < f.Residual) {
			t.Errorf("%s: residual %.4f, at most %.4f; not about %.4f", c.name, f.Residual, f.ResidualMax, c.residual)
		}
	}
}

// TestFitIsLeast holds that no line nearby has a smaller sum of squared relative errors.
func TestFitIsLeast(t *testing.T) {
	costs := []Cost{{1, 1.9}, {10, 1.4}, {100, 1.6}, {1000, 3.7}, {10000, 21}, {100000, 199}}
	f, ok := FitCosts(costs)
	if !ok {
		t.Fatal("no fit")
	}
	sum := func(f Fit) (s float64) {
		for _, c := range costs {
			e := (f.Millis(c.Elements) - c.Millis) / c.Millis
			s += e * e
		}
		return s
	}
	for _, by := range []float64{0.98, 1.02} {
		for _, other := range []Fit{
			{FixedMillis: f.FixedMillis * by, ElementMicros: f.ElementMicros},
			{FixedMillis: f.FixedMillis, ElementMicros: f.ElementMicros * by},
			{FixedMillis: f.FixedMillis * by, ElementMicros: f.ElementMicros / by},
		} {
			if sum(other) <= sum(f) {
				t.Errorf("%+v is no worse than %+v", other, f)
			}
		}
	}
}

func TestSizeFor(t *testing.T) {
	f := Fit{FixedMillis: 2, ElementMicros: 2}
	for _, overhead := range []float64{0.01, 0.05, 0.5, 0.99} {
		if got := f.Overhead(f.SizeFor(overhead)); math.Abs(got-overhead) > 1e-9 {
			t.Errorf("a size for %g has an overhead of %g", overhead, got)
		}
	}
	if n := (Fit{ElementMicros: 3}).SizeFor(0.05); n != 1 {
		t.Errorf("without a fixed part %g elements", n)
	}
	if n := (Fit{FixedMillis: 3}).SizeFor(0.05); !math.IsInf(n, 1) {
		t.Errorf("with nothing else %g elements", n)
	}
}

// points are those of a harness with 2 ms a bundle and 2 µs an element, whose latencies are twice the time of a bundle.
func points(sizes ...int) (all []Point) {
	for _, n := range sizes {
		ms := 2 + float64(n)*0.002
		micros := ms * 1000 / float64(n)
		runner := 0.3 * micros
		all = append(all, Point{
			Elements: n, Bundles: 100, Seconds: ms / 10, ElementsPerSecond: 1e6 / micros, HarnessMillis: &ms, HarnessMicros: &micros,
			RunnerMicros: &runner, WallMillis: ms, P50Millis: 1.5 * ms, P99Millis: 2 * ms,
		})
	}
	return all
}

func TestAdvice(t *testing.T) {
	all := []int{1, 10, 100, 1000, 10000, 100000}
	cases := []struct {
		name                         string
		sizes                        []int
		budget                       time.Duration
		overhead                     float64
		recommended, latency, enough int
		say                          string
	}{
		{"both", all, 100 * time.Millisecond, 0.05, 19000, 23000, 19000, "up to 23 000 fit into the latency budget of 100 ms"},
		{"budget too small", all, 20 * time.Millisecond, 0.05, 3400, 3400, 19000, "The latency budget of 20.0 ms allows no more. Below 5 % fixed cost they would need 19 000"},
		{"budget below one element", all, time.Millisecond, 0.05, 0, 0, 19000, "No bundles are done within 1 ms: those of 1 element, the smallest, take 4 ms"},
		{"budget beyond all", all, time.Minute, 0.05, 19000, 100000, 19000, "no size that was measured exceeds the latency budget"},
		{"too small a range", []int{1, 100}, time.Second, 0.05, 100, 100, 19000, "That is the largest size that was measured"},
		{"half", all, 100 * time.Millisecond, 0.5, 1000, 21000, 1000, "50 % of their cost is fixed"},
		{"one size", []int{100}, time.Second, 0.05, 0, 0, 0, "at least two sizes"},
	}
	for _, c := range cases {
		curve := &Curve{Points: points(c.sizes...)}
		curve.Complete(Wishes{LatencyBudget: c.budget, Overhead: c.overhead})
		a := curve.Advice
		if a.Recommended != c.recommended || !near(a.SizeForLatency, c.latency) || a.SizeForOverhead != c.enough {
			t.Errorf("%s: recommended %d, latency %d, overhead %d; want %d, %d, %d", c.name,
				a.Recommended, a.SizeForLatency, a.SizeForOverhead, c.recommended, c.latency, c.enough)
		}
		if !strings.Contains(a.Text, c.say) {
			t.Errorf("%s: %q does not say %q", c.name, a.Text, c.say)
		}
	}
}

// near allows for the straight lines between measured sizes.
func near(got, want int) bool { return math.Abs(float64(got-want)) <= 0.1*float64(want) }

// TestMissedTimes holds that the report tells of times that no bundles take.
func TestMissedTimes(t *testing.T) {
	all := points(1, 1000, 100_000) // they take 3, 6 and 303 ms
	all[0].WantedMillis, all[1].WantedMillis, all[2].WantedMillis = 0.001, 5, 10_000
	curve := &Curve{Points: all}
	curve.Complete(Wishes{LatencyBudget: time.Second, Overhead: 0.05})
	var text strings.Builder
	if err := curve.Text(&text); err != nil {
		t.Fatal(err)
	}
	for _, say := range []string{
		"No bundle is done in 1.00 µs: one of a single element takes 3", "No bundles of 10.0 s were found: those of 100 000 elements take 303 ms.",
	} {
		if !strings.Contains(text.String(), say) {
			t.Errorf("%q is not said in %s", say, text.String())
		}
	}
	if missed := curve.missed(); len(missed) != 2 {
		t.Errorf("%q", missed)
	}
}

// TestAdviceWithNoise holds that one slow small bundle does not forbid all sizes.
func TestAdviceWithNoise(t *testing.T) {
	curve := &Curve{Points: points(1, 10, 100, 1000, 10000)}
	curve.Points[0].P99Millis = 500
	curve.Complete(Wishes{LatencyBudget: 100 * time.Millisecond, Overhead: 0.05})
	if a := curve.Advice; a.SizeForLatency != 10000 || a.Recommended != 10000 {
		t.Errorf("%+v", a)
	}
}

// TestWithoutCPU holds that a system which tells no CPU times gets a fit of times, and n/a.
func TestWithoutCPU(t *testing.T) {
	curve := &Curve{Stage: "identity", InFlight: 1, Points: points(1, 100, 10000)}
	for i := range curve.Points {
		curve.Points[i].HarnessMillis, curve.Points[i].HarnessMicros = nil, nil
	}
	curve.Complete(Wishes{LatencyBudget: time.Second, Overhead: 0.05})
	if curve.CPU != nil || curve.Wall == nil || curve.Advice.SizeForOverhead != 19000 {
		t.Errorf("%+v, %+v", curve.Wall, curve.Advice)
	}
	var text, page, program bytes.Buffer
	for err := range map[error]bool{curve.Text(&text): true, curve.HTML(&page): true, curve.JSON(&program): true} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(text.String(), "n/a") || !strings.Contains(page.String(), "n/a") {
		t.Errorf("no n/a in\n%s", text.String())
	}
	if !strings.Contains(program.String(), `"harness_cpu_us_per_element": null`) {
		t.Errorf("no null in\n%s", program.String())
	}
}

// TestCurve compares a report in all its forms with testdata; a rewrite is to be looked at in a browser.
func TestCurve(t *testing.T) {
	memory := int64(200 << 20)
	curve := &Curve{
		About: About{
			At: time.Date(2026, 11, 26, 5, 20, 0, 0, time.UTC), Padstone: "v1.2.3", Machine: "linux/amd64, 2 CPUs, <a processor>",
			Python: "3.11.2", Beam: "2.77.0",
		},
		Stage: "identity over 10 bytes", InFlight: 2, Points: points(100000, 1, 10, 100, 1000, 10000), HarnessMemory: &memory,
	}
	curve.Complete(Wishes{LatencyBudget: 100 * time.Millisecond, Overhead: 0.05})
	golden(t, "curve.txt", func(w *bytes.Buffer) error { return curve.Text(w) })
	golden(t, "curve.html", func(w *bytes.Buffer) error { return curve.HTML(w) })
	var program bytes.Buffer
	if err := curve.JSON(&program); err != nil {
		t.Fatal(err)
	}
	var back Curve
	if err := json.Unmarshal(program.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Points) != 6 || back.Points[0].Elements != 1 || back.CPU.ElementMicros != curve.CPU.ElementMicros || back.Advice != curve.Advice {
		t.Errorf("JSON reads back as %+v", back)
	}
}

// golden compares what write writes with a file of testdata.
func golden(t *testing.T, name string, write func(w *bytes.Buffer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got.String(), "://") {
		t.Errorf("%s refers to something on the network", name)
	}
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs; look at it and run the test with -rewrite\n%s", path, got.String())
	}
}

// TestFigures holds how numbers are written for people.
func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 0.004: "0.00", 2.349: "2.35", 9.996: "10.0", 12.34: "12.3", 99.96: "100", 123.4: "123", 999.6: "1 000", 123456.7: "123 457", -2.5: "-2.50",
	} {
		if got := figure(v); got != want {
			t.Errorf("%g is written %q, not %q", v, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567", -1234: "-1 234", -123: "-123"} {
		if got := count(n); got != want {
			t.Errorf("%d is written %q, not %q", n, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0 %", 0.001: "0.1 %", 0.05: "5 %", 1: "100 %"} {
		if got := percent(v); got != want {
			t.Errorf("%g is written %q, not %q", v, got, want)
		}
	}
}

func seconds(v float64) *float64 { return &v }
func size(mib int64) *int64      { v := mib << 20; return &v }

// comparison has two peers and three passes; each figure of pass p is off by the p-th of the noise.
func comparison() *Comparison {
	c := &Comparison{
		About: About{At: time.Date(2026, 11, 26, 5, 50, 0, 0, time.UTC), Padstone: "v1.2.3", Machine: "linux/amd64, 2 CPUs, a processor"},
		Size:  "full", Peers: []Peer{{Name: "padstone", Endpoint: "localhost:8099", PID: 17}, {Name: "other <runner>", Endpoint: "elsewhere:1"}},
	}
	noise := []float64{0.3, 0, -0.2}
	for pass := range 3 {
		run := func(peer, name string, elements int, runner *float64, harness, took float64, latencies ...float64) {
			if runner != nil {
				runner = seconds(*runner + noise[pass])
			}
			harness += noise[pass]
			c.Runs = append(c.Runs, Run{
				Peer: peer, Case: name, Pass: pass + 1, Elements: elements, Seconds: took + noise[pass], RunnerSeconds: runner, HarnessSeconds: &harness,
				RunnerPeak: size(50 + int64(pass)), HarnessPeak: size(180), Latencies: latencies,
			})
		}
		run("padstone", "empty", 1, seconds(0.5), 1, 2)
		run("other <runner>", "empty", 1, nil, 1, 3)
		run("padstone", "gbk", 1_000_000, seconds(1.5), 3, 6)
		run("other <runner>", "gbk", 1_000_000, nil, 3.5, 3)
		run("padstone", "latency", 0, seconds(0.6), 1, 10, 5, 6, 7, float64(100+pass))
		run("other <runner>", "latency", 0, nil, 1, 10, 12, 13)
		if pass == 0 {
			c.Runs = append(c.Runs, Run{Peer: "other <runner>", Case: "state", Pass: 1, Elements: 10_000, Error: "wrong result: 1 instead of 2"})
		}
		run("padstone", "state", 10_000, seconds(0.6), 2, 4)
	}
	c.Complete()
	return c
}

func TestComparison(t *testing.T) {
	c := comparison()
	got := c.Cell("gbk", "padstone")
	if *got.RunnerMicros != 1 || *got.HarnessMicros != 2 || *got.TotalMicros != 3 || *got.ElementsPerSecond != 250_000 || *got.Ratio != 1 || got.Runs != 3 {
		t.Errorf("gbk on padstone: %+v", got)
	}
	if *got.RunnerPeak != 51<<20 || *got.RunnerSeconds != 1.5 {
		t.Errorf("medians of gbk on padstone: %+v", got)
	}
	other := c.Cell("gbk", "other <runner>")
	if other.RunnerMicros != nil || other.TotalMicros != nil || other.Ratio != nil || *other.HarnessMicros != 2.5 || other.ElementsPerSecond != nil {
		t.Errorf("gbk on another machine: %+v", other)
	}
	if l := c.Cell("latency", "other <runner>"); *l.P50Millis != 13 || *l.Ratio != 13.0/7 || l.RunnerMicros != nil {
		t.Errorf("latency: %+v", l)
	}
	if f := c.Failures(); len(f) != 1 || f[0].Case != "state" || f[0].Error != "wrong result: 1 instead of 2" || f[0].RunnerSeconds != nil {
		t.Errorf("failures: %+v", f)
	}
	if c.Cell("state", "padstone").Ratio == nil || c.Cell("empty", "padstone").RunnerMicros != nil {
		t.Errorf("%+v", c.Cells)
	}
	golden(t, "comparison.txt", func(w *bytes.Buffer) error { return c.Text(w) })
	golden(t, "comparison.html", func(w *bytes.Buffer) error { return c.HTML(w) })
	var program bytes.Buffer
	if err := c.JSON(&program); err != nil {
		t.Fatal(err)
	}
	var back Comparison
	if err := json.Unmarshal(program.Bytes(), &back); err != nil || len(back.Runs) != len(c.Runs) || len(back.Cells) != len(c.Cells) {
		t.Errorf("JSON reads back as %+v, %v", back, err)
	}
}

func TestRatios(t *testing.T) {
	before, err := ReadRatios(strings.NewReader(`{"margin": 1.5, "cases": {"gbk": {"runner": 0.5, "harness": 1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "{}", `{"margin": 1, "cases": {"gbk": {}}}`, `{"margin": 2, "cases": {}}`, `{"margin": 2, "case": {"gbk": {}}}`} {
		if _, err := ReadRatios(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for ratios", bad)
		}
	}
	curve := &Curve{Points: points(1, 100, 10000)}
	curve.Complete(Wishes{LatencyBudget: time.Second, Overhead: 0.05})
	c := comparison() // gbk costs 1 + 2 µs an element, and the harness needs 2
	now, err := RatiosOf(c, "padstone", curve, []string{"gbk"})
	if err != nil || now["gbk"] != (CaseRatios{Runner: 0.5, Harness: 1}) {
		t.Errorf("%+v, %v", now, err)
	}
	for _, v := range before.Check(now) {
		if v.Grown || v.Then != v.Now {
			t.Errorf("%+v", v)
		}
	}
	grown := before.Check(map[string]CaseRatios{"gbk": {Runner: 0.81, Harness: 1.5}})
	if len(grown) != 2 || !grown[0].Grown || grown[1].Grown {
		t.Errorf("%+v", grown)
	}
	var text strings.Builder
	if err := WriteVerdicts(&text, grown); err != nil || strings.Count(text.String(), "GROWN") != 1 || strings.Count(text.String(), "as before") != 1 {
		t.Errorf("%v: %s", err, text.String())
	}
	for peer, name := range map[string]string{"padstone": "nothing", "other <runner>": "state"} {
		if _, err := RatiosOf(c, peer, curve, []string{name}); err == nil {
			t.Errorf("%s of %s has ratios", name, peer)
		}
	}
	if _, err := RatiosOf(c, "other <runner>", curve, []string{"gbk"}); err == nil {
		t.Error("a runner elsewhere has ratios")
	}
	if _, err := RatiosOf(c, "padstone", &Curve{}, []string{"gbk"}); err == nil {
		t.Error("there are ratios without a unit")
	}
}

// TestThrough holds that a report says when an engine ran the bundles.
func TestThrough(t *testing.T) {
	curve := &Curve{Stage: "Totals", Through: "side inputs", Points: points(1, 100)}
	curve.Complete(Wishes{LatencyBudget: time.Second, Overhead: 0.05})
	var page bytes.Buffer
	if err := curve.HTML(&page); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.String(), "The stage needs side inputs: the engine ran its bundles") || strings.Contains(page.String(), "kept busy") {
		t.Errorf("not said in\n%s", page.String())
	}
}
