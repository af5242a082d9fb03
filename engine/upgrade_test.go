package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// edition is one of the editions of the ledger's pipeline: what it computes is always the same.
type edition struct {
	names    map[string]string // transforms that have another name
	passes   map[string]bool   // transforms behind which one stands that passes everything on
	noFusion bool
	// noAssignment has the harness assign windows, as all editions of earlier versions of Padstone do.
	noAssignment bool
}

var ledgerTransforms = []string{
	"orders", "flat", "split", "names", "items", "windows", "totals", "group", "write items", "write totals", "write groups",
}

func (e *edition) name(transform string) string {
	if name := e.names[transform]; name != "" {
		return name
	}
	return transform
}

// edition builds an edition of the ledger that writes to the same sinks.
func (l *ledger) edition(e *edition) *enginetest.Pipeline {
	p := l.rig.Pipeline()
	pass := func(after string, c enginetest.Collection) enginetest.Collection {
		if !e.passes[after] {
			return c
		}
		return p.Map("pass "+after, c, "", func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })
	}
	orders := pass("orders", p.Read(e.name("orders"), l.source, "kv(bytes,bytes)"))
	flat := pass("flat", p.Map(e.name("flat"), orders, "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		e.Value = enginetest.Text(enginetest.Show("kv(bytes,bytes)", e.Value))
		return c.Emit("", e)
	}))
	split := pass("split", p.ParDo(e.name("split"), flat, enginetest.ParDo{
		Splittable: true, Fn: ranges(fakesdk.Ranges{To: 3, Checkpoint: 1, DelayMs: 1}),
	}))
	names := p.Read(e.name("names"), l.customers, "kv(bytes,bytes)")
	items := pass("items", p.ParDo(e.name("items"), split, enginetest.ParDo{
		Out: "kv(bytes,bytes)", Multimaps: map[string]enginetest.Collection{"names": names}, Fn: l.flaky(named),
	}))
	windowed := pass("windows", p.WindowInto(e.name("windows"), items, enginetest.Fixed(100)))
	p.WriteTo(e.name("write items"), l.items, items)
	p.WriteTo(e.name("write totals"), l.totals, p.ParDo(e.name("totals"), windowed, enginetest.ParDo{
		Bags: []string{"items"}, Timers: map[string]pipepb.TimeDomain_Enum{"end": eventTime}, Fn: l.flaky(totals),
	}))
	p.WriteTo(e.name("write groups"), l.groups, p.GroupByKey(e.name("group"), windowed))
	return p
}

// randomEdition returns an edition that differs from others, more or less.
func randomEdition(rng *rand.Rand, n int) *edition {
	e := &edition{names: make(map[string]string), passes: make(map[string]bool), noFusion: rng.IntN(2) == 0}
	e.noAssignment = rng.IntN(2) == 0
	for _, name := range ledgerTransforms {
		if rng.IntN(3) == 0 {
			e.names[name] = fmt.Sprintf("%s %d", name, n)
		}
	}
	for _, name := range []string{"orders", "flat", "split", "items", "windows"} {
		e.passes[name] = rng.IntN(3) == 0
	}
	return e
}

// options are those of a start that goes on from an earlier edition.
func (e *edition) options(earlier *edition) enginetest.Options {
	mapping := make(map[string]any)
	for _, name := range ledgerTransforms {
		if old := earlier.name(name); old != e.name(name) {
			mapping[old] = e.name(name)
		}
	}
	o, left := enginetest.Options{"transform_name_mapping": mapping}, []any{}
	if e.noFusion {
		left = append(left, engine.ExperimentNoFusion)
	}
	if e.noAssignment {
		left = append(left, engine.ExperimentNoAssignment)
	}
	o["experiments"] = left
	return o
}

// TestUpgrades replaces the ledger's pipeline by other editions at random moments: transforms are put in, taken out and renamed, and
// stages are fused otherwise. What comes out is what an uninterrupted run gives, nothing twice.
func TestUpgrades(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 3))
			l := newLedger(newRig(t, nil), 60)
			l.markSinks()
			now := &edition{}
			l.job = l.rig.Start(l.edition(now), nil)
			upgraded, refused := 0, 0
			for n := range 12 {
				time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond) // somewhere in the middle: that is the point
				l.rig.Restart()
				next := randomEdition(rng, n)
				j, err := l.rig.StartFrom(l.job, l.edition(next), next.options(now))
				switch {
				case err == nil:
					l.job, now = j, next
					upgraded++
				case isCode(err, "savepoint-not-restored") && inFlightOnly(err):
					refused++ // something waited for a transform that another one stands before now
					l.job = l.rig.Recover(l.job)
				default:
					t.Fatal(err)
				}
			}
			t.Logf("%d upgrades, %d refused", upgraded, refused)
			l.finishUpgraded(t)
			if upgraded == 0 {
				t.Error("no upgrade was accepted")
			}
		})
	}
}

func (l *ledger) markSinks() {
	for _, s := range l.sinks() {
		s.Marked = true
	}
}

// finishUpgraded waits for the whole result and checks it: marked sinks take nothing twice.
func (l *ledger) finishUpgraded(t *testing.T) {
	t.Helper()
	items, totals, groups := l.expect()
	wanted := [][]string{items, totals, groups}
	for i, s := range l.sinks() {
		err := s.Await(l.rig.Context(), func(texts []string) bool { return len(texts) >= len(wanted[i]) })
		if err != nil {
			d, _ := l.job.Describe(t.Context())
			t.Fatalf("sink %d has %d of %d; errors %q; %+v", i, len(s.Texts()), len(wanted[i]),
				l.job.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR), d)
		}
	}
	if err := l.job.Drain(l.rig.Context()); err != nil {
		t.Fatal(err)
	}
	l.job.End(jobpb.JobState_DRAINED)
	for i, s := range l.sinks() {
		got := s.Texts()
		slices.Sort(got)
		if !slices.Equal(got, wanted[i]) {
			t.Errorf("sink %d: %d texts, not the %d wanted:\n%q\n%q", i, len(got), len(wanted[i]), got, wanted[i])
		}
	}
}

// inFlightOnly says whether a start was refused for elements on their way alone.
func inFlightOnly(err error) bool {
	for _, kind := range []string{"state", "grouping", "source", "sink", "side input", "state cell", "timer family", "root"} {
		if strings.Contains(err.Error(), kind+` "`) {
			return false
		}
	}
	return true
}

func isCode(err error, code string) bool {
	f := fault.Of(err)
	return f != nil && string(f.Code) == code
}

// lookup is a job whose transforms wait for a side input: its words stay on their way.
type lookup struct {
	rig          *enginetest.Rig
	words, names *enginetest.Source
	seen, plain  *enginetest.Sink
	again        *enginetest.Sink
}

func newLookup(r *enginetest.Rig) *lookup {
	return &lookup{
		rig: r, words: &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("a", "b")}}},
		names: &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: texts("n")}}},
		seen:  &enginetest.Sink{Marked: true}, plain: &enginetest.Sink{Marked: true}, again: &enginetest.Sink{Marked: true},
	}
}

// pipeline builds the job: "look" needs the names, "plain" does not, both read "pass". more adds a transform that also needs the names.
func (l *lookup) pipeline(more bool) *enginetest.Pipeline {
	p := l.rig.Pipeline()
	p.Parallel = true
	words := p.Read("words", l.words, "bytes")
	names := p.Read("names", l.names, "bytes")
	emit := func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }
	pass := p.Map("pass", words, "", emit)
	look := enginetest.ParDo{Iterables: map[string]enginetest.Collection{"names": names}, Fn: looking(
		func(c *fakesdk.Context, e fakesdk.Element) (string, error) { return wordsOf(c, e) })}
	p.WriteTo("write seen", l.seen, p.ParDo("look", pass, look))
	p.WriteTo("write plain", l.plain, p.Map("plain", pass, "", emit))
	if more {
		p.WriteTo("write again", l.again, p.ParDo("look again", pass, look))
	}
	return p
}

func wordsOf(c *fakesdk.Context, e fakesdk.Element) (string, error) {
	return words(c, "names", e.Window())
}

// TestUpgradeInFlight has elements wait for one of two readers of a collection, which the new plan would fuse with the collection's
// producer and with the other one. They go to the one that they waited for, once, and what comes later to both.
func TestUpgradeInFlight(t *testing.T) {
	l := newLookup(newRig(t, nil))
	j := l.rig.Start(l.pipeline(false), enginetest.Options{"experiments": []any{engine.ExperimentNoFusion}})
	if err := l.plain.Await(l.rig.Context(), func(texts []string) bool { return len(texts) == 2 }); err != nil {
		t.Fatal(err)
	}
	j.AwaitOutput("pass", 2)
	l.rig.Restart()
	l.names.Ends = true // now the side input is whole
	l.words.Batches = append(l.words.Batches, enginetest.Batch{Elements: texts("c")})
	l.words.Ends = true
	next, err := l.rig.StartFrom(j, l.pipeline(true), nil)
	if err != nil {
		t.Fatal(err)
	}
	next.End(jobpb.JobState_DONE)
	for s, wanted := range map[*enginetest.Sink][]string{
		l.seen: {"a: [n]", "b: [n]", "c: [n]"}, l.plain: {"a", "b", "c"}, l.again: {"c: [n]"},
	} {
		got := s.Texts()
		slices.Sort(got)
		if !slices.Equal(got, wanted) {
			t.Errorf("got %q, want %q", got, wanted)
		}
	}
	if d, err := next.Describe(t.Context()); err != nil || !strings.Contains(d.Plan, "look again") {
		t.Errorf("plan %v, %v", d, err)
	}
}

// TestUpgradeCut recovers a job whose plan has a cut collection: the plan is the same again.
func TestUpgradeCut(t *testing.T) {
	l := newLookup(newRig(t, nil))
	j := l.rig.Start(l.pipeline(false), enginetest.Options{"experiments": []any{engine.ExperimentNoFusion}})
	j.AwaitOutput("pass", 2)
	l.rig.Restart()
	j, err := l.rig.StartFrom(j, l.pipeline(false), nil)
	if err != nil {
		t.Fatal(err)
	}
	plans := make(map[string]bool)
	for range 3 {
		d, err := j.Describe(l.rig.Context())
		if err != nil {
			t.Fatal(err)
		}
		plans[d.Plan] = true
		l.rig.Restart()
		j = l.rig.Recover(j)
	}
	if len(plans) != 1 {
		t.Errorf("%d plans", len(plans))
	}
	l.rig.Restart()
	l.names.Ends, l.words.Ends = true, true
	l.rig.Recover(j).End(jobpb.JobState_DONE)
	want(t, l.seen, "a: [n]", "b: [n]")
	want(t, l.plain, "a", "b")
}

// counter is a job that counts by key, in one cell or in two, with a timer or without.
func counterPipeline(r *enginetest.Rig, src *enginetest.Source, out *enginetest.Sink, coder string, bags []string, timer bool) *enginetest.Pipeline {
	p := r.Pipeline()
	d := enginetest.ParDo{Bags: bags, Out: "kv(bytes,bytes)", Fn: func() fakesdk.DoFn {
		return fakesdk.DoFn{
			Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				key, err := c.Key(e)
				if err != nil {
					return err
				}
				var all []string
				for _, bag := range bags {
					b := c.Bag(bag, key, e.Window())
					if err := b.Append(enginetest.Text("x")); err != nil {
						return err
					}
					data, err := b.Read()
					if err != nil {
						return err
					}
					all = append(all, fmt.Sprintf("%s%d", bag, len(data)/2))
				}
				e.Value = enginetest.KV(enginetest.Text("n"), enginetest.Text(strings.Join(all, " ")))
				if timer {
					err = c.SetTimer("late", fakesdk.Timer{Key: key, Windows: e.Windows, Fire: 1 << 40, Hold: 1 << 40, Pane: e.Pane})
				}
				return errors.Join(err, c.Emit("", e))
			},
			OnTimer: func(*fakesdk.Context, string, fakesdk.Timer) error { return nil },
		}
	}}
	if timer {
		d.Timers = map[string]pipepb.TimeDomain_Enum{"late": eventTime}
	}
	p.WriteTo("write", out, p.ParDo("count", p.Read("in", src, coder), d))
	return p
}

// TestUpgradeState changes what a stateful transform keeps.
func TestUpgradeState(t *testing.T) {
	r := newRig(t, nil)
	src := &enginetest.Source{Unbounded: true, Batches: []enginetest.Batch{{Elements: pairs("k=1@1", "k=2@2")}}}
	out := &enginetest.Sink{Marked: true}
	first := counterPipeline(r, src, out, "kv(bytes,bytes)", []string{"a", "b"}, true)
	j := r.Start(first, nil)
	await := func(n int) {
		t.Helper()
		if err := out.Await(r.Context(), func(texts []string) bool { return len(texts) >= n }); err != nil {
			t.Fatal(err)
		}
	}
	await(2)
	r.Restart()
	src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs("k=3@3")})

	// Another coder of the key: what was kept would be that of no key, or of another one.
	_, err := r.StartFrom(j, counterPipeline(r, src, out, "kv(varint,bytes)", []string{"a", "b"}, true), enginetest.Options{
		"allow_non_restored_state": true,
	})
	if !isCode(err, "savepoint-incompatible") || !strings.Contains(err.Error(), "coder of the key: bytes, in the new pipeline varint") {
		t.Fatalf("another coder: %v", err)
	}
	// A cell and the timer are gone: not without being told.
	second := counterPipeline(r, src, out, "kv(bytes,bytes)", []string{"b", "c"}, false)
	if _, err = r.StartFrom(j, second, nil); !isCode(err, "savepoint-not-restored") || !strings.Contains(err.Error(), "count / a") ||
		!strings.Contains(err.Error(), "count / late") {
		t.Fatalf("a cell is gone: %v", err)
	}
	j, err = r.StartFrom(j, second, enginetest.Options{"allow_non_restored_state": true})
	if err != nil {
		t.Fatal(err)
	}
	await(3)
	r.Restart()
	// The dropped cell comes back empty, the dropped timer holds nothing.
	src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs("k=4@4")})
	src.Ends = true
	if j, err = r.StartFrom(j, counterPipeline(r, src, out, "kv(bytes,bytes)", []string{"a", "b", "c"}, true), nil); err != nil {
		t.Fatal(err)
	}
	j.End(jobpb.JobState_DONE)
	if got := out.Texts(); !slices.Equal(got, []string{"n=a1 b1", "n=a2 b2", "n=b3 c1", "n=a1 b4 c2"}) {
		t.Errorf("got %q", got)
	}
}

// TestStartFromSavepoint stops the ledger with a savepoint and starts another edition from it, as a user does. What an earlier try has
// left in the new job's directory does not matter.
func TestStartFromSavepoint(t *testing.T) {
	place := t.TempDir()
	l := newLedger(newRig(t, nil), 40)
	l.markSinks()
	first := &edition{}
	// The job is stopped with a window open, so that there is state: after elements at 200 ms, under a watermark of 230.
	open := make(chan struct{})
	l.source.Batches[6].Gate = open
	l.job = l.rig.Start(l.edition(first), nil)
	l.job.AwaitInput("totals", 3*6*ledgerPerBatch)
	l.job.AwaitOutput("items", 20)
	taken, err := l.job.Stop(place)
	if err != nil {
		t.Fatal(err)
	}
	l.job.End(jobpb.JobState_UPDATED)
	close(open)

	next := &edition{
		names: map[string]string{"totals": "sums", "group": "groups"}, passes: map[string]bool{"flat": true, "windows": true}, noFusion: true,
	}
	o := next.options(first)
	check := func(o enginetest.Options, location string, dry bool) error {
		t.Helper()
		o = maps.Clone(o)
		o["savepoint_path"], o["savepoint_dry_run"] = location, dry
		return l.rig.Check(l.edition(next), o)
	}
	for _, location := range []string{place, "file://" + place, place + "/" + l.job.Spec.ID, place + "/" + l.job.Spec.ID + "/" + taken.ID} {
		if err := check(o, location, false); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
	if err := check(o, place, true); !isCode(err, engine.CodeDryRun) || !strings.Contains(err.Error(), "totals => sums") {
		t.Errorf("a dry run: %v", err)
	}
	if err := check(enginetest.Options{}, place, true); !isCode(err, "savepoint-not-restored") || !strings.Contains(err.Error(), "not restored  state       totals") {
		t.Errorf("a dry run without names: %v", err)
	}
	if err := check(o, place+"/nowhere", false); !isCode(err, "checkpoint-not-found") {
		t.Errorf("nowhere: %v", err)
	}

	l.rig.Leave("taken/store/MANIFEST-000001", "of a try that was killed")
	o["savepoint_path"] = place
	l.job = l.rig.Start(l.edition(next), o)
	l.job.AwaitOutput("items", 1)
	l.rig.Restart()
	l.job = l.rig.Recover(l.job)
	l.finishUpgraded(t)
}
