package capture

import (
	"maps"
	"slices"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/translate/urn"
)

// pipeline is, in one composite "all": impulse -> make -> (spread: key, group) -> look (with make2 as side input) -> write, and
// make -> other, which is written, too.
func pipeline() *pipepb.Pipeline {
	leaf := func(name, spec string, in, out []string) *pipepb.PTransform {
		t := &pipepb.PTransform{
			UniqueName: name, Spec: &pipepb.FunctionSpec{Urn: spec}, Inputs: map[string]string{}, Outputs: map[string]string{},
		}
		for _, id := range in {
			t.Inputs[id] = id
		}
		for _, id := range out {
			t.Outputs[id] = id
		}
		return t
	}
	composite := func(name, spec string, in, out []string, children ...string) *pipepb.PTransform {
		t := leaf(name, spec, in, out)
		t.Subtransforms = children
		return t
	}
	transforms := map[string]*pipepb.PTransform{
		"all":     composite("all", "", nil, []string{"looked", "others"}, "impulse", "make", "impulse2", "make2", "spread", "sums", "end"),
		"impulse": leaf("impulse", urn.Impulse, nil, []string{"start"}), "impulse2": leaf("impulse2", urn.Impulse, nil, []string{"start2"}),
		"make":   leaf("make", urn.ParDo, []string{"start"}, []string{"made"}),
		"make2":  leaf("make2", urn.ParDo, []string{"start2"}, []string{"made2"}),
		"spread": composite("spread", urn.Reshuffle, []string{"made"}, []string{"spread"}, "key", "group"),
		"key":    leaf("key", urn.ParDo, []string{"made"}, []string{"keyed"}),
		"group":  leaf("group", urn.GroupByKey, []string{"keyed"}, []string{"spread"}),
		"sums":   composite("sums", urn.CombinePerKey, []string{"spread"}, []string{"summed"}, "sum"),
		"sum":    leaf("sum", urn.ParDo, []string{"spread"}, []string{"summed"}),
		"end":    composite("end", "", []string{"spread", "made", "made2"}, []string{"looked", "others"}, "look", "other"),
		"look":   leaf("look", urn.ParDo, []string{"spread", "made2"}, []string{"looked"}),
		"other":  leaf("other", urn.ParDo, []string{"made"}, []string{"others"}),
		"write":  leaf("write", urn.ParDo, []string{"looked"}, nil), "write2": leaf("write2", urn.ParDo, []string{"others"}, nil),
	}
	return &pipepb.Pipeline{
		Components: &pipepb.Components{Transforms: transforms}, RootTransformIds: []string{"all", "write", "write2"},
	}
}

func TestUpstream(t *testing.T) {
	const sample = "padstone-bench-sample"
	cases := []struct{ collection, keep string }{
		{"made", "all impulse make"},
		{"spread", "all group impulse key make spread"},
		{"summed", "all group impulse key make spread sum sums"},
		{"looked", "all end group impulse impulse2 key look make make2 spread"},
		{"made2", "all impulse2 make2"},
	}
	for _, c := range cases {
		p := pipeline()
		before := proto.CloneOf(p)
		cut, err := upstream(p, c.collection, "the sink")
		if err != nil {
			t.Errorf("%s: %v", c.collection, err)
			continue
		}
		if !proto.Equal(p, before) {
			t.Errorf("%s: the pipeline has been changed", c.collection)
		}
		transforms := cut.GetComponents().GetTransforms()
		kept := slices.DeleteFunc(slices.Sorted(maps.Keys(transforms)), func(id string) bool { return id == sample })
		if got := strings.Join(kept, " "); got != c.keep {
			t.Errorf("%s: kept %s, not %s", c.collection, got, c.keep)
		}
		if s := transforms[sample]; s.GetSpec().GetUrn() != "the sink" || s.GetInputs()["in"] != c.collection {
			t.Errorf("%s: the sink is %v", c.collection, s)
		}
		if !slices.Equal(cut.GetRootTransformIds(), []string{"all", sample}) {
			t.Errorf("%s: roots %v", c.collection, cut.GetRootTransformIds())
		}
		produced := map[string]bool{}
		for _, tr := range transforms {
			for _, child := range tr.GetSubtransforms() {
				if transforms[child] == nil {
					t.Errorf("%s: %s has lost %s", c.collection, tr.GetUniqueName(), child)
				}
			}
			if len(tr.GetSubtransforms()) == 0 {
				for _, id := range tr.GetOutputs() {
					produced[id] = true
				}
			}
		}
		for _, tr := range transforms {
			for _, ids := range []map[string]string{tr.GetInputs(), tr.GetOutputs()} {
				for _, id := range ids {
					if !produced[id] {
						t.Errorf("%s: %s refers to %s, which nothing makes", c.collection, tr.GetUniqueName(), id)
					}
				}
			}
		}
	}
	fed, err := fedBy(pipeline(), []string{"look"}, "spread", "the source")
	if err != nil {
		t.Fatal(err)
	}
	transforms := fed.GetComponents().GetTransforms()
	const want = "all end impulse2 look make2 padstone-bench-source"
	if got := strings.Join(slices.Sorted(maps.Keys(transforms)), " "); got != want {
		t.Errorf("kept %s, not %s", got, want)
	}
	if s := transforms[sourceID]; s.GetSpec().GetUrn() != "the source" || s.GetOutputs()["out"] != "spread" || len(s.GetInputs()) > 0 {
		t.Errorf("the source is %v", s)
	}
	if !slices.Equal(fed.GetRootTransformIds(), []string{sourceID, "all"}) {
		t.Errorf("roots %v", fed.GetRootTransformIds())
	}
	if whole, err := fedBy(pipeline(), []string{"sum"}, "spread", "the source"); err != nil || whole.GetComponents().GetTransforms()["sums"] == nil {
		t.Errorf("a part of a combine is taken without it: %v, %v", whole, err)
	}
	if _, err := fedBy(pipeline(), []string{"nobody"}, "spread", "the source"); err == nil || !strings.Contains(err.Error(), "bench-stage") {
		t.Errorf("an unknown transform: %v", err)
	}
	for _, collection := range []string{"keyed", "nowhere"} { // inside a composite that is read as one; nowhere
		if _, err := upstream(pipeline(), collection, "the sink"); err == nil || !strings.Contains(err.Error(), "bench-stage") {
			t.Errorf("%s: %v", collection, err)
		}
	}
}
