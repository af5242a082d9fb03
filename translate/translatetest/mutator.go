package translatetest

import (
	"maps"
	"math"
	"slices"
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/engine/coder/codertest"
	"padstone/translate/urn"
)

// Mutator changes pipelines.
type Mutator struct {
	// Intn chooses a number from 0 to n-1.
	Intn func(n int) int
	// Others are pipelines to take parts from; may be empty.
	Others []*pipepb.Pipeline
}

// Mutate makes count changes. The result shares nothing with p.
func (m *Mutator) Mutate(p *pipepb.Pipeline, count int) *pipepb.Pipeline {
	p = proto.CloneOf(p)
	if p.Components == nil {
		p.Components = &pipepb.Components{}
	}
	changes := []func(*pipepb.Pipeline){
		m.field, m.field, m.field, m.payload, m.payload, m.duplicate, m.rename, m.rewire, m.contain, m.coder, m.nest, m.graft, m.garble,
	}
	for range count {
		if p.Components == nil {
			return p // a change has cleared it
		}
		changes[m.Intn(len(changes))](p)
	}
	return p
}

// pick returns a key of a map, or "" when there is none.
func pick[V any](m *Mutator, from map[string]V) string {
	keys := slices.Sorted(maps.Keys(from))
	if len(keys) == 0 {
		return ""
	}
	return keys[m.Intn(len(keys))]
}

// field changes one field somewhere.
func (m *Mutator) field(p *pipepb.Pipeline) { m.Change(p, m.ids(p)) }

// Change changes one field somewhere in any message; strings become one of those given.
func (m *Mutator) Change(msg proto.Message, strings []string) {
	s := &sites{mutator: m, ids: strings}
	s.message(msg.ProtoReflect())
	if len(s.found) > 0 {
		s.found[m.Intn(len(s.found))]()
	}
}

// payloads are the messages in the payloads of transforms, windowing functions and environments.
var payloads = map[string]func() proto.Message{
	urn.ParDo:                func() proto.Message { return &pipepb.ParDoPayload{} },
	urn.ProcessSizedElements: func() proto.Message { return &pipepb.ParDoPayload{} },
	urn.CombinePerKey:        func() proto.Message { return &pipepb.CombinePayload{} },
	urn.CombinePrecombine:    func() proto.Message { return &pipepb.CombinePayload{} },
	urn.CombineMerge:         func() proto.Message { return &pipepb.CombinePayload{} },
	urn.TestStream:           func() proto.Message { return &pipepb.TestStreamPayload{} },
	urn.FixedWindows:         func() proto.Message { return &pipepb.FixedWindowsPayload{} },
	urn.SlidingWindows:       func() proto.Message { return &pipepb.SlidingWindowsPayload{} },
	urn.SessionWindows:       func() proto.Message { return &pipepb.SessionWindowsPayload{} },
	"beam:env:external:v1":   func() proto.Message { return &pipepb.ExternalPayload{} },
	"beam:env:process:v1":    func() proto.Message { return &pipepb.ProcessPayload{} },
}

// payload changes a field within a payload.
func (m *Mutator) payload(p *pipepb.Pipeline) {
	spec := m.spec(p)
	empty := payloads[spec.GetUrn()]
	if empty == nil {
		return
	}
	body := empty()
	if proto.Unmarshal(spec.GetPayload(), body) != nil {
		return
	}
	m.Change(body, m.ids(p))
	if out, err := (proto.MarshalOptions{Deterministic: true}).Marshal(body); err == nil {
		spec.Payload = out
	}
}

// spec returns the function of some transform or windowing strategy, or nil.
func (m *Mutator) spec(p *pipepb.Pipeline) *pipepb.FunctionSpec {
	if m.Intn(3) == 0 {
		return p.Components.WindowingStrategies[pick(m, p.Components.WindowingStrategies)].GetWindowFn()
	}
	return p.Components.Transforms[pick(m, p.Components.Transforms)].GetSpec()
}

// garble makes a payload something else: nothing, a piece of itself, or bytes that announce more than there is.
func (m *Mutator) garble(p *pipepb.Pipeline) {
	spec := m.spec(p)
	if spec == nil {
		return
	}
	switch m.Intn(4) {
	case 0:
		spec.Payload = nil
	case 1:
		spec.Payload = spec.Payload[:m.Intn(len(spec.Payload)+1)]
	case 2:
		spec.Payload = slices.Concat(spec.Payload, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	default:
		spec.Payload = make([]byte, 1<<16)
	}
}

// duplicate copies a transform under an id of its own: its outputs have two producers now.
func (m *Mutator) duplicate(p *pipepb.Pipeline) {
	id := pick(m, p.Components.Transforms)
	if id == "" {
		return
	}
	copied := proto.CloneOf(p.Components.Transforms[id])
	name := id + "-copy"
	if m.Intn(2) == 0 {
		copied.UniqueName += "-copy"
	}
	p.Components.Transforms[name] = copied
	if m.Intn(2) == 0 {
		p.RootTransformIds = append(p.RootTransformIds, name)
		return
	}
	m.adopt(p, name)
}

// adopt puts a transform into some other one.
func (m *Mutator) adopt(p *pipepb.Pipeline, id string) {
	if parent := p.Components.Transforms[pick(m, p.Components.Transforms)]; parent != nil {
		parent.Subtransforms = append(parent.Subtransforms, id)
	}
}

// contain puts a transform into another one: maybe into itself, maybe into two.
func (m *Mutator) contain(p *pipepb.Pipeline) { m.adopt(p, pick(m, p.Components.Transforms)) }

// rename moves an entry to another key: what refers to it dangles.
func (m *Mutator) rename(p *pipepb.Pipeline) {
	c := p.Components
	switch m.Intn(5) {
	case 0:
		moved(m, c.Transforms)
	case 1:
		moved(m, c.Pcollections)
	case 2:
		moved(m, c.Coders)
	case 3:
		moved(m, c.WindowingStrategies)
	default:
		moved(m, c.Environments)
	}
}

func moved[V any](m *Mutator, from map[string]V) {
	if id := pick(m, from); id != "" {
		v := from[id]
		delete(from, id)
		from[id+"-moved"] = v
	}
}

// rewire makes a transform read or write some other collection: loops, and collections that nobody or more than one writes.
func (m *Mutator) rewire(p *pipepb.Pipeline) {
	t := p.Components.Transforms[pick(m, p.Components.Transforms)]
	pc := pick(m, p.Components.Pcollections)
	if t == nil {
		return
	}
	ends := &t.Inputs
	if m.Intn(2) == 0 {
		ends = &t.Outputs
	}
	if *ends == nil {
		*ends = map[string]string{}
	}
	tag := pick(m, *ends)
	if m.Intn(3) == 0 {
		tag += "-more"
	}
	(*ends)[tag] = pc
}

// coder gives a collection a random coder, or nests a coder in itself.
func (m *Mutator) coder(p *pipepb.Pipeline) {
	c := p.Components
	if c.Coders == nil {
		c.Coders = map[string]*pipepb.Coder{}
	}
	if victim := c.Coders[pick(m, c.Coders)]; victim != nil && m.Intn(3) == 0 {
		victim.ComponentCoderIds = append(victim.ComponentCoderIds, pick(m, c.Coders))
		return
	}
	choices := make([]byte, 64)
	for i := range choices {
		choices[i] = byte(m.Intn(256))
	}
	id := codertest.NewSource(choices).Coder().AddTo(c.Coders)
	if pc := c.Pcollections[pick(m, c.Pcollections)]; pc != nil {
		pc.CoderId = id
	}
}

// nestMax is deeper than anything may be, and still parses.
const nestMax = 2000

// nest nests something far too deep.
func (m *Mutator) nest(p *pipepb.Pipeline) {
	c := p.Components
	depth := 1 + m.Intn(nestMax)
	switch m.Intn(3) {
	case 0:
		pc := c.Pcollections[pick(m, c.Pcollections)]
		if pc == nil || c.Coders == nil {
			return
		}
		for i := range depth {
			id := "nest" + strconv.Itoa(i)
			c.Coders[id] = &pipepb.Coder{Spec: &pipepb.FunctionSpec{Urn: urn.CoderIterable}, ComponentCoderIds: []string{pc.CoderId}}
			pc.CoderId = id
		}
	case 1:
		if len(p.RootTransformIds) == 0 || c.Transforms == nil {
			return
		}
		for i := range depth {
			id := "nest" + strconv.Itoa(i)
			c.Transforms[id] = &pipepb.PTransform{UniqueName: id, Subtransforms: []string{p.RootTransformIds[0]}}
			p.RootTransformIds[0] = id
		}
	default:
		if w := c.WindowingStrategies[pick(m, c.WindowingStrategies)]; w != nil {
			for range depth {
				w.Trigger = &pipepb.Trigger{Trigger: &pipepb.Trigger_Repeat_{Repeat: &pipepb.Trigger_Repeat{Subtrigger: w.Trigger}}}
			}
		}
	}
}

// graft puts parts of another pipeline in the place of those with the same ids, and runs it as well.
func (m *Mutator) graft(p *pipepb.Pipeline) {
	if len(m.Others) == 0 {
		return
	}
	other := proto.CloneOf(m.Others[m.Intn(len(m.Others))])
	all := m.Intn(2) == 0
	c, o := p.Components, other.GetComponents()
	merge(m, all, &c.Transforms, o.GetTransforms())
	merge(m, all, &c.Pcollections, o.GetPcollections())
	merge(m, all, &c.Coders, o.GetCoders())
	merge(m, all, &c.WindowingStrategies, o.GetWindowingStrategies())
	merge(m, all, &c.Environments, o.GetEnvironments())
	p.RootTransformIds = append(p.RootTransformIds, other.GetRootTransformIds()...)
}

func merge[V any](m *Mutator, all bool, to *map[string]V, from map[string]V) {
	if *to == nil {
		*to = map[string]V{}
	}
	for _, id := range slices.Sorted(maps.Keys(from)) {
		if all || m.Intn(2) == 0 {
			(*to)[id] = from[id]
		}
	}
}

// ids lists ids and URNs to put in the place of others.
func (m *Mutator) ids(p *pipepb.Pipeline) []string {
	c := p.GetComponents()
	ids := []string{
		"", "nowhere", urn.ParDo, urn.Flatten, urn.Reshuffle, urn.GroupByKey, urn.CombinePerKey, urn.ProcessSizedElements, urn.TestStream,
		urn.SessionWindows, urn.CoderKV, urn.CoderTimer, urn.CoderIterable, urn.CoderWindowedValue, urn.CoderCustomWindow,
		urn.CoderShardedKey, urn.CoderNullable,
	}
	ids = append(ids, slices.Sorted(maps.Keys(c.GetTransforms()))...)
	ids = append(ids, slices.Sorted(maps.Keys(c.GetPcollections()))...)
	ids = append(ids, slices.Sorted(maps.Keys(c.GetCoders()))...)
	ids = append(ids, slices.Sorted(maps.Keys(c.GetWindowingStrategies()))...)
	return append(ids, slices.Sorted(maps.Keys(c.GetEnvironments()))...)
}

// sites lists the changes that are possible below a message, in a fixed order.
type sites struct {
	mutator *Mutator
	ids     []string
	found   []func()
}

func (s *sites) add(change func()) { s.found = append(s.found, change) }

func (s *sites) message(msg protoreflect.Message) {
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !msg.Has(f) {
			continue
		}
		s.add(func() { msg.Clear(f) })
		switch {
		case f.IsMap():
			s.entries(msg.Get(f).Map(), f)
		case f.IsList():
			s.elements(msg.Get(f).List(), f)
		case f.Message() != nil:
			s.message(msg.Get(f).Message())
		default:
			s.add(func() { msg.Set(f, s.scalar(f, msg.Get(f))) })
		}
	}
}

func (s *sites) entries(entries protoreflect.Map, f protoreflect.FieldDescriptor) {
	var keys []string
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, key := range keys {
		k := protoreflect.ValueOfString(key).MapKey()
		s.add(func() { entries.Clear(k) })
		if f.MapValue().Message() != nil {
			s.message(entries.Get(k).Message())
			continue
		}
		s.add(func() { entries.Set(k, s.scalar(f.MapValue(), entries.Get(k))) })
	}
}

func (s *sites) elements(list protoreflect.List, f protoreflect.FieldDescriptor) {
	for i := range list.Len() {
		if f.Message() != nil {
			s.message(list.Get(i).Message())
			continue
		}
		s.add(func() {
			if i < list.Len() {
				list.Set(i, s.scalar(f, list.Get(i)))
			}
		})
	}
}

// scalar returns another value of a field.
func (s *sites) scalar(f protoreflect.FieldDescriptor, old protoreflect.Value) protoreflect.Value {
	intn := s.mutator.Intn
	extremes := []int64{0, 1, -1, 2, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, -9223372036854775}
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(s.ids[intn(len(s.ids))])
	case protoreflect.BytesKind:
		b := slices.Clone(old.Bytes())
		if len(b) > 0 {
			b = b[:intn(len(b))]
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(!old.Bool())
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(intn(8) - 1))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(extremes[intn(len(extremes))])
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(extremes[intn(len(extremes))]))
	default:
		return old
	}
}
