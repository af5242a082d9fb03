package bundle

import (
	"encoding/binary"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
)

// counted are the metrics of a bundle: elements in and out of each precombine of liftStage.
func counted(n ...int64) (infos []*pipepb.MonitoringInfo) {
	for i, id := range []string{"in1", "out1", "in2", "out2"} {
		if i < len(n) {
			infos = append(infos, &pipepb.MonitoringInfo{
				Urn: "beam:metric:element_count:v1", Labels: map[string]string{"PCOLLECTION": id},
				Type: "beam:metrics:sum_int64:v1", Payload: binary.AppendUvarint(nil, uint64(n[i])),
			})
		}
	}
	return infos
}

func liftStage(precombines int) *Stage {
	return &Stage{Index: 3, Def: &plan.Stage{}, lifts: []precombine{{"in1", "out1"}, {"in2", "out2"}}[:precombines]}
}

// runLifts runs bundles with the same metrics and returns how many of them were lifted.
func runLifts(l *lifts, st *Stage, bundles int, n ...int64) (lifted int) {
	for range bundles {
		if l.lifted(st) {
			lifted++
			l.observe(st, counted(n...))
		}
	}
	return lifted
}

// TestLifts: precombines that do not reduce are left out, tried again more and more seldom, and taken up again once they do.
func TestLifts(t *testing.T) {
	var l lifts
	st := liftStage(1)
	if n := runLifts(&l, st, 100, 1000, 500); n != 100 {
		t.Fatalf("%d of 100 bundles that reduce were lifted", n)
	}
	if n := runLifts(&l, st, 20, 1000, 1000); n < 10 || n > 20 {
		t.Fatalf("%d bundles were lifted before it was seen that they do not reduce", n)
	}
	off := runLifts(&l, st, 2000, 1000, 1000) // each probe takes 10 bundles
	if off < 20 || off > 80 {
		t.Fatalf("%d of 2000 bundles were lifted that do not reduce", off)
	}
	runLifts(&l, st, liftPatienceMax+10, 1000, 10)
	if n := runLifts(&l, st, 50, 1000, 10); n != 50 {
		t.Fatalf("%d of 50 bundles were lifted after those before had reduced", n)
	}
}

// TestLiftsOfFewElements: too few elements tell nothing.
func TestLiftsOfFewElements(t *testing.T) {
	var l lifts
	if n := runLifts(&l, liftStage(1), liftElementsMin-1, 1, 1); n != liftElementsMin-1 {
		t.Fatalf("%d of %d bundles were lifted", n, liftElementsMin-1)
	}
}

// TestLiftsTogether: a stage's precombines are left out when none of them reduces; one without input has no say.
func TestLiftsTogether(t *testing.T) {
	for name, c := range map[string]struct {
		n      []int64
		lifted bool
	}{
		"one reduces":       {[]int64{20_000, 20_000, 20_000, 10}, true},
		"none reduces":      {[]int64{20_000, 20_000, 20_000, 19_000}, false},
		"one has no input":  {[]int64{20_000, 20_000, 0, 0}, false},
		"one is not told":   {[]int64{20_000, 20_000}, false},
		"more than came in": {[]int64{20_000, 60_000, 20_000, 60_000}, false},
		"at the limit":      {[]int64{10_000, 8_000, 10_000, 10_000}, true},
		"neither is told":   {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			var l lifts
			st := liftStage(2)
			runLifts(&l, st, 1, c.n...)
			if got := l.lifted(st); got != c.lifted {
				t.Errorf("the next bundle is lifted: %v", got)
			}
		})
	}
}

// TestUnliftedFirst: a stage whose windows the runner assigns without the tables does without them, until single elements make long
// accumulators; then it is as with others, and no longer once they have become short.
func TestUnliftedFirst(t *testing.T) {
	var l lifts
	st := liftStage(1)
	st.Def.Unlifted = []byte{1}
	const n = straightElementsMin / 2
	short, long := unmerged{n, 30 * n}, unmerged{n, 600 * n}
	run := func(bundles int, u unmerged, in, out int64) (lifted int) {
		for range bundles {
			if l.lifted(st) {
				lifted++
				l.observe(st, counted(in, out))
			} else {
				l.observeUnmerged(st, u)
			}
		}
		return lifted
	}
	if n := run(100, short, 1000, 10); n != 0 {
		t.Fatalf("%d bundles were lifted", n)
	}
	if n := run(2, long, 1000, 10); n != 0 { // tells
		t.Fatalf("%d bundles were lifted before it was known", n)
	}
	if n := run(50, long, 1000, 10); n != 50 {
		t.Fatalf("%d of 50 bundles with long accumulators were lifted", n)
	}
	if n := run(200, long, 20_000, 20_000); n < 1 || n > 10 {
		t.Fatalf("%d of 200 bundles were lifted that do not reduce", n)
	}
	run(2, short, 20_000, 20_000)
	if n := run(2000, short, 1000, 10); n > 1 {
		t.Fatalf("%d bundles were lifted after accumulators had become short", n)
	}
}
