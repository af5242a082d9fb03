package translate_test

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/coder/codertest"
	"padstone/internal/fault"
	"padstone/translate"
	"padstone/translate/translatetest"
)

// TestMutations compiles pipelines with a few things changed: the result is a sound plan or a pipeline error.
func TestMutations(t *testing.T) {
	const rounds = 20
	codes := map[fault.Code]int{}
	corpus := corpus(t)
	for i, p := range corpus {
		for round := range rounds {
			seed := int64(i*rounds + round)
			m := &translatetest.Mutator{Intn: rand.New(rand.NewSource(seed)).Intn, Others: corpus}
			codes[compileAny(t, m.Mutate(p, 1+round%4))]++
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
	if len(codes) < 14 || codes[""] == 0 {
		t.Errorf("the mutations provoke only %v", codes)
	}
}

// corpus loads all pipelines.
func corpus(t testing.TB) []*pipepb.Pipeline {
	var all []*pipepb.Pipeline
	for _, name := range pipelines(t) {
		all = append(all, load(t, name))
	}
	return all
}

// FuzzCompile changes what the fuzzer chooses to change.
func FuzzCompile(f *testing.F) {
	corpus := corpus(f)
	r := rand.New(rand.NewSource(1))
	for i := range corpus {
		choices := make([]byte, 60)
		r.Read(choices)
		f.Add(uint8(i), uint8(3), choices)
	}
	f.Fuzz(func(t *testing.T, index, count uint8, choices []byte) {
		m := &translatetest.Mutator{Intn: codertest.NewSource(choices).Pick, Others: corpus}
		compileAny(t, m.Mutate(corpus[int(index)%len(corpus)], int(count%16)))
	})
}

// FuzzBytes compiles whatever parses as a pipeline.
func FuzzBytes(f *testing.F) {
	for _, name := range pipelines(f) {
		f.Add(bytesOf(load(f, name)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p pipepb.Pipeline
		if proto.Unmarshal(body, &p) != nil {
			return
		}
		compileAny(t, &p)
	})
}

// compileMax is how long the compiler may take for anything that the tests make.
const compileMax = time.Minute

// compileAny checks the outcome for any pipeline; it returns the code of the error.
func compileAny(t *testing.T, p *pipepb.Pipeline) fault.Code {
	t.Helper()
	before, begin := proto.CloneOf(p), time.Now()
	compiled, err := translate.Compile(p, options("any"))
	if took := time.Since(begin); took > compileMax {
		t.Errorf("compiling took %s", took)
	}
	if !proto.Equal(before, p) {
		t.Error("Compile changed the pipeline")
	}
	again, errAgain := translate.Compile(before, options("any"))
	if err != nil {
		e := fault.Of(err)
		if e == nil || e.Kind != fault.Pipeline || e.Hint == "" {
			t.Errorf("not a pipeline error with a hint: %v", err)
			return "?"
		}
		if errAgain == nil || errAgain.Error() != err.Error() {
			t.Errorf("the second time the error is another: %v; first %v", errAgain, err)
		}
		return e.Code
	}
	checkStages(t, compiled)
	if errAgain != nil || !slices.Equal([]byte(encode(t, compiled)), []byte(encode(t, again))) {
		t.Errorf("another plan comes out the second time, or none: %v", errAgain)
	}
	return ""
}
