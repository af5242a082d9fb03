package translate_test

import (
	"math/rand"
	"slices"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/internal/fault"
	"padstone/translate"
	"padstone/translate/urn"
)

// TestMutations compiles pipelines with a few fields changed, ids above all: the result is a sound plan or a pipeline error.
func TestMutations(t *testing.T) {
	const rounds = 60
	codes := map[fault.Code]int{}
	for i, name := range pipelines(t) {
		p := load(t, name)
		for round := range rounds {
			seed := int64(i*rounds + round)
			if code := compileMutated(t, p, seed, 1+round%4); code != "" {
				codes[code]++
			}
		}
	}
	if len(codes) < 10 {
		t.Errorf("the mutations provoke only %v", codes)
	}
}

// FuzzCompile does the same with pipelines, seeds and numbers of mutations that the fuzzer chooses.
func FuzzCompile(f *testing.F) {
	names := pipelines(f)
	for i := range names {
		f.Add(uint8(i), int64(i), uint8(3))
	}
	f.Fuzz(func(t *testing.T, index uint8, seed int64, count uint8) {
		compileMutated(t, load(t, names[int(index)%len(names)]), seed, int(count%16))
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

func compileMutated(t *testing.T, p *pipepb.Pipeline, seed int64, count int) fault.Code {
	t.Helper()
	m := &mutator{r: rand.New(rand.NewSource(seed))}
	mutated := proto.CloneOf(p)
	for range count {
		m.mutate(mutated)
	}
	code := compileAny(t, mutated)
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
	return code
}

// compileAny checks the outcome for any pipeline; it returns the code of the error.
func compileAny(t *testing.T, p *pipepb.Pipeline) fault.Code {
	t.Helper()
	compiled, err := translate.Compile(p, options("any"))
	if err == nil {
		checkStages(t, compiled)
		return ""
	}
	e := fault.Of(err)
	if e == nil || e.Kind != fault.Pipeline || e.Hint == "" {
		t.Errorf("not a pipeline error with a hint: %v", err)
		return ""
	}
	return e.Code
}

// mutator changes one field somewhere in a message.
type mutator struct{ r *rand.Rand }

func (m *mutator) mutate(p *pipepb.Pipeline) {
	if m.r.Intn(3) == 0 {
		m.payload(p)
		return
	}
	var sites []func()
	m.sites(p.ProtoReflect(), m.ids(p), &sites)
	if len(sites) == 0 {
		return // all of it has been cleared
	}
	sites[m.r.Intn(len(sites))]()
}

// payload mutates a field within a payload.
func (m *mutator) payload(p *pipepb.Pipeline) {
	transforms := p.GetComponents().GetTransforms()
	keys := sortedKeys(transforms)
	if len(keys) == 0 {
		return
	}
	t := transforms[keys[m.r.Intn(len(keys))]]
	var payload proto.Message
	switch t.GetSpec().GetUrn() {
	case urn.ParDo:
		payload = &pipepb.ParDoPayload{}
	case urn.CombinePerKey, urn.CombinePrecombine, urn.CombineMerge:
		payload = &pipepb.CombinePayload{}
	default:
		return
	}
	if proto.Unmarshal(t.GetSpec().GetPayload(), payload) != nil {
		return
	}
	var sites []func()
	m.sites(payload.ProtoReflect(), m.ids(p), &sites)
	if len(sites) == 0 {
		return
	}
	sites[m.r.Intn(len(sites))]()
	if body, err := (proto.MarshalOptions{Deterministic: true}).Marshal(payload); err == nil {
		t.Spec.Payload = body
	}
}

// ids lists ids and URNs to put in place of others.
func (m *mutator) ids(p *pipepb.Pipeline) []string {
	c := p.GetComponents()
	ids := []string{
		"", "nowhere", kafkaRead, kafkaWrite,
		urn.ParDo, urn.Flatten, urn.Reshuffle, urn.GroupByKey, urn.CombinePerKey, urn.ProcessSizedElements, urn.SessionWindows,
		urn.CoderKV, urn.CoderTimer, urn.CoderIterable, urn.CoderWindowedValue, urn.CoderCustomWindow,
	}
	ids = append(ids, sortedKeys(c.GetTransforms())...)
	ids = append(ids, sortedKeys(c.GetPcollections())...)
	ids = append(ids, sortedKeys(c.GetCoders())...)
	ids = append(ids, sortedKeys(c.GetWindowingStrategies())...)
	return append(ids, sortedKeys(c.GetEnvironments())...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// sites lists the mutations that are possible below a message, in a fixed order.
func (m *mutator) sites(msg protoreflect.Message, ids []string, sites *[]func()) {
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !msg.Has(f) {
			continue
		}
		*sites = append(*sites, func() { msg.Clear(f) })
		switch {
		case f.IsMap():
			m.mapSites(msg.Get(f).Map(), f, ids, sites)
		case f.IsList():
			m.listSites(msg.Get(f).List(), f, ids, sites)
		case f.Message() != nil:
			m.sites(msg.Get(f).Message(), ids, sites)
		default:
			*sites = append(*sites, func() { msg.Set(f, m.scalar(f, msg.Get(f), ids)) })
		}
	}
}

func (m *mutator) mapSites(entries protoreflect.Map, f protoreflect.FieldDescriptor, ids []string, sites *[]func()) {
	var keys []string
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, key := range keys {
		k := protoreflect.ValueOfString(key).MapKey()
		*sites = append(*sites, func() { entries.Clear(k) })
		if f.MapValue().Message() != nil {
			m.sites(entries.Get(k).Message(), ids, sites)
			continue
		}
		*sites = append(*sites, func() { entries.Set(k, m.scalar(f.MapValue(), entries.Get(k), ids)) })
	}
}

func (m *mutator) listSites(list protoreflect.List, f protoreflect.FieldDescriptor, ids []string, sites *[]func()) {
	for i := range list.Len() {
		if f.Message() != nil {
			m.sites(list.Get(i).Message(), ids, sites)
			continue
		}
		*sites = append(*sites, func() {
			if i < list.Len() {
				list.Set(i, m.scalar(f, list.Get(i), ids))
			}
		})
	}
}

// scalar returns another value of a field.
func (m *mutator) scalar(f protoreflect.FieldDescriptor, old protoreflect.Value, ids []string) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(ids[m.r.Intn(len(ids))])
	case protoreflect.BytesKind:
		b := slices.Clone(old.Bytes())
		if len(b) > 0 {
			b = b[:m.r.Intn(len(b))]
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!old.Bool())
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(m.r.Intn(5)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(m.r.Int63() - m.r.Int63())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(m.r.Int31() - m.r.Int31())
	default:
		return old
	}
}
