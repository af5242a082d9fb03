package translate_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate"
	"padstone/translate/urn"
)

// TestOptions checks the options' defaults and limits.
func TestOptions(t *testing.T) {
	p := newStory("impulse I -> a\npardo P a -> b").pipeline
	compiled, err := translate.Compile(p, translate.Options{Name: "n"})
	if err != nil || compiled.KeyGroups != translate.KeyGroupsDefault || compiled.Name != "n" {
		t.Errorf("defaults: %v, %v", compiled, err)
	}
	for _, groups := range []int{-1, 3, 6} {
		if _, err := translate.Compile(p, translate.Options{KeyGroups: groups}); fault.KindOf(err) != fault.Internal {
			t.Errorf("%d key groups: %v", groups, err)
		}
	}
	if _, err := translate.Compile(nil, translate.Options{}); fault.Of(err) == nil {
		t.Errorf("no pipeline: %v", err)
	}
}

// TestConnectorCode checks that a connector's own code and hint survive, with the transform's name added.
func TestConnectorCode(t *testing.T) {
	own := fault.New(fault.Pipeline, "kafka-config", "no servers").WithHint("set bootstrap.servers")
	o := storyOptions
	o.ValidateNative = func(string, []byte) error { return own }
	_, err := translate.Compile(newStory("read R -> a").pipeline, o)
	if e := fault.Of(err); !errors.Is(err, own) || e.Code != "kafka-config" || e.Transform != "R" {
		t.Errorf("got %v", err)
	}
}

// TestEnvironmentsMerge checks that display data and resource hints do not part environments, and who names the merged one.
func TestEnvironmentsMerge(t *testing.T) {
	p := newStory("impulse I -> a\npardo P a env=z -> b\npardo Q b env=a -> c\nenvironment z beam:env:docker:v1\n" +
		"environment a beam:env:docker:v1").pipeline
	p.Components.Environments["z"].ResourceHints = map[string][]byte{"beam:resources:min_ram_bytes:v1": []byte("1")}
	p.Components.Environments["a"].DisplayData = []*pipepb.DisplayData{{Urn: "x"}}
	compiled, err := translate.Compile(p, translate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(compiled.Environments) != 1 || compiled.Environments[0].ID != "a" || len(compiled.Stages) != 2 {
		t.Errorf("want one environment a and one harness stage:\n%s", compiled)
	}
}

// TestStageIDsSurvive checks that a stage keeps its id when transforms are numbered differently and others are added.
func TestStageIDsSurvive(t *testing.T) {
	const text = "impulse I -> a\npardo P a -> b\ncombine C b -> c\npardo S c sdf=varint -> d\npardo T d state=x:bag(varint) -> e"
	before, err := translate.Compile(newStory(text).pipeline, storyOptions)
	if err != nil {
		t.Fatal(err)
	}
	renumbered := newStory(text + "\nimpulse Other -> o\npardo Last o -> p").pipeline
	c := renumbered.GetComponents()
	for i, root := range renumbered.GetRootTransformIds() {
		c.Transforms["new_"+root] = c.GetTransforms()[root]
		delete(c.GetTransforms(), root)
		renumbered.RootTransformIds[i] = "new_" + root
	}
	after, err := translate.Compile(renumbered, storyOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range before.Stages {
		if after.Stage(s.ID) == nil {
			t.Errorf("stage %q %s is gone:\n%s", s.Name, s.ID, after)
		}
	}
	for _, e := range before.Edges {
		if after.Edge(e.ID) == nil {
			t.Errorf("edge %q %s is gone:\n%s", e.Name, e.ID, after)
		}
	}
}

// TestKeysAreTheSameBytes checks that elements, timers and state keys of a stateful stage carry keys of one coder: SDKs take the
// one of state keys from the collection behind the data source.
func TestKeysAreTheSameBytes(t *testing.T) {
	p := newStory("impulse I -> a\npardo P a -> b\ncoder b kv(my_key,my_value)\n" +
		"pardo S b state=x:bag(varint) timer=f:event -> c").pipeline
	compiled, err := translate.Compile(p, storyOptions)
	if err != nil {
		t.Fatal(err)
	}
	s := compiled.Stages[len(compiled.Stages)-1]
	d := parse(t, s.Descriptor)
	read := d.GetTransforms()[s.InputRead]
	windowed := d.GetCoders()[port(t, read).GetCoderId()]
	element := d.GetCoders()[windowed.GetComponentCoderIds()[0]]
	collection := d.GetCoders()[d.GetPcollections()[read.GetOutputs()["out"]].GetCoderId()]
	var payload pipepb.ParDoPayload
	if err := proto.Unmarshal(d.GetTransforms()["S"].GetSpec().GetPayload(), &payload); err != nil {
		t.Fatal(err)
	}
	timer := d.GetCoders()[payload.GetTimerFamilySpecs()["f"].GetTimerFamilyCoderId()]
	key := element.GetComponentCoderIds()[0]
	if key != collection.GetComponentCoderIds()[0] || key != timer.GetComponentCoderIds()[0] {
		t.Errorf("keys: elements %s, collection %s, timers %s", tree(d.GetCoders(), key),
			tree(d.GetCoders(), collection.GetComponentCoderIds()[0]), tree(d.GetCoders(), timer.GetComponentCoderIds()[0]))
	}
	if got := d.GetCoders()[key].GetSpec().GetUrn(); got != urn.CoderLengthPrefix || s.KeyCoder != "lp" {
		t.Errorf("the key's coder is %s, its program %s", got, s.KeyCoder)
	}
}

// TestLongChain compiles a pipeline of many stages, as a check on what fusion costs.
func TestLongChain(t *testing.T) {
	var text strings.Builder
	text.WriteString("impulse I -> c0\ncoder c0 bytes\n")
	const length = 600
	at := func(i int) string { return fmt.Sprintf("c%d", i+1) }
	text.WriteString("pardo First c0 -> " + at(0) + "\n")
	for i := range length {
		fmt.Fprintf(&text, "reshuffle R%[1]s %[1]s -> r%[1]s\npardo P%[1]s r%[1]s -> %[2]s\n", at(i), at(i+1))
	}
	compiled, err := translate.Compile(newStory(text.String()).pipeline, storyOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(compiled.Stages); got != length+2 {
		t.Errorf("%d stages, want %d", got, length+2)
	}
	for i, s := range compiled.Stages[1:] {
		if compiled.Edge(s.Input).Producers[0] != compiled.Stages[i].ID || s.Kind != plan.Harness {
			t.Fatalf("stage %d does not follow the one before", i+1)
		}
	}
}

// TestSettle: an environment with alternatives becomes the first that is supported, with its capabilities; others stay.
func TestSettle(t *testing.T) {
	anyOf := func(urns ...string) *pipepb.Environment {
		payload := &pipepb.AnyOfEnvironmentPayload{}
		for _, u := range urns {
			payload.Environments = append(payload.Environments, &pipepb.Environment{Urn: u})
		}
		return &pipepb.Environment{Urn: urn.EnvAnyOf, Payload: bytesOf(payload), Capabilities: []string{"c"}}
	}
	never := anyOf("beam:env:mainframe:v1")
	p := &pipepb.Pipeline{Components: &pipepb.Components{Environments: map[string]*pipepb.Environment{
		"last":   anyOf("beam:env:docker:v1", "beam:env:mainframe:v1", "beam:env:process:v1"),
		"choice": anyOf("beam:env:mainframe:v1", "beam:env:external:v1", "beam:env:process:v1"),
		"never":  never,
		"plain":  {Urn: "beam:env:mainframe:v1"},
	}}}
	translate.Settle(p, storyOptions.EnvironmentSupported)
	got := p.GetComponents().GetEnvironments()
	want := &pipepb.Environment{Urn: "beam:env:external:v1", Capabilities: []string{"c"}}
	if !proto.Equal(got["choice"], want) || got["never"] != never || got["plain"].GetUrn() != "beam:env:mainframe:v1" ||
		got["last"].GetUrn() != "beam:env:process:v1" {
		t.Errorf("got %v", got)
	}
}

// TestLongChains checks that a chain is cut where a harness might not get to its end, a Flatten like any other step, and only there.
func TestLongChains(t *testing.T) {
	const most = 100
	for _, c := range []struct{ steps, stages int }{{most, 2}, {most + 1, 3}, {3*most + 1, 5}} {
		story := "impulse I -> p0"
		for i := range c.steps {
			if i%10 == 5 {
				story += fmt.Sprintf("\nflatten F%d p%d -> p%d", i, i, i+1)
			} else {
				story += fmt.Sprintf("\npardo P%d p%d -> p%d", i, i, i+1)
			}
		}
		compiled, err := translate.Compile(newStory(story).pipeline, storyOptions)
		if err != nil {
			t.Fatal(err)
		}
		longest := 0
		for _, s := range compiled.Stages {
			longest = max(longest, len(s.Transforms))
		}
		if len(compiled.Stages) != c.stages || longest > most {
			t.Errorf("%d steps: %d stages of at most %d steps, want %d of at most %d", c.steps, len(compiled.Stages), longest, c.stages, most)
		}
	}
}
