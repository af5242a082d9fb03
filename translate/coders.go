package translate

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// coderDepthMax bounds the nesting of coders. Package coder accepts framing programs twice as deep.
const coderDepthMax = 24

// treeKey identifies a coder by its structure: equal keys, equal encodings.
type treeKey [sha256.Size]byte

// wire is a coder that the runner can frame.
type wire struct {
	id      string // coder id
	program string // framing program of the nested encoding
	// wrapped is set when the coder as the SDK gave it cannot be framed: some part had to be length-prefixed.
	wrapped bool
}

// coderTable resolves the coders of a pipeline and makes new ones. It never changes the pipeline's own.
type coderTable struct {
	src    map[string]*pipepb.Coder
	made   map[string]*pipepb.Coder
	trees  map[string]structure
	byTree map[treeKey]string // the smallest id of a structure
	wires  map[string]wire
}

func newCoderTable(src map[string]*pipepb.Coder) *coderTable {
	t := &coderTable{
		src:    src,
		made:   map[string]*pipepb.Coder{},
		trees:  map[string]structure{},
		byTree: map[treeKey]string{},
		wires:  map[string]wire{},
	}
	for _, id := range slices.Sorted(maps.Keys(src)) {
		// A coder that does not resolve is an error only if something uses it.
		if s, err := t.structure(id, 0); err == nil {
			if _, ok := t.byTree[s.key]; !ok {
				t.byTree[s.key] = id
			}
		}
	}
	return t
}

func (t *coderTable) get(id string) (*pipepb.Coder, error) {
	if c := t.made[id]; c != nil {
		return c, nil
	}
	if c := t.src[id]; c != nil {
		return c, nil
	}
	return nil, refuse(codeDanglingCoder, "coder %q is not in the pipeline", id).WithHint(hintSDK)
}

// structure is the identity of a coder tree.
type structure struct {
	key    treeKey
	height int // 1 for a leaf
}

// structure returns the structural identity of a coder. depth is that of the caller; it ends the walk of a coder nested in itself.
// Errors: dangling-coder; invalid-coder when nested too deep or in itself.
func (t *coderTable) structure(id string, depth int) (structure, error) {
	if known, ok := t.trees[id]; ok {
		return known, nil
	}
	c, err := t.get(id)
	if err != nil {
		return structure{}, err
	}
	if depth > coderDepthMax {
		return structure{}, tooDeep(id)
	}
	h := sha256.New()
	for _, part := range [][]byte{[]byte(c.GetSpec().GetUrn()), c.GetSpec().GetPayload()} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write(part)
	}
	height := 1
	for _, component := range c.GetComponentCoderIds() {
		s, err := t.structure(component, depth+1)
		if err != nil {
			return structure{}, err
		}
		h.Write(s.key[:])
		height = max(height, s.height+1)
	}
	if height > coderDepthMax {
		return structure{}, tooDeep(id)
	}
	s := structure{key: treeKey(h.Sum(nil)), height: height}
	t.trees[id] = s
	return s, nil
}

// same reports whether two coders have the same structure.
func (t *coderTable) same(a, b string) (bool, error) {
	sa, err := t.structure(a, 0)
	if err != nil {
		return false, err
	}
	sb, err := t.structure(b, 0)
	return sa.key == sb.key, err
}

// intern returns the id of a coder with the URN, payload and components, made under a name like name if there is none yet.
func (t *coderTable) intern(name, coderURN string, payload []byte, components ...string) (string, error) {
	id := unused(name, func(id string) bool { return t.src[id] != nil || t.made[id] != nil })
	t.made[id] = &pipepb.Coder{
		Spec:              &pipepb.FunctionSpec{Urn: coderURN, Payload: payload},
		ComponentCoderIds: components,
	}
	s, err := t.structure(id, 0)
	if err != nil {
		delete(t.made, id)
		return "", err
	}
	if known, ok := t.byTree[s.key]; ok {
		delete(t.made, id)
		delete(t.trees, id)
		return known, nil
	}
	t.byTree[s.key] = id
	return id, nil
}

// components returns the coder's components. Errors: invalid-coder when there are not n.
func components(id string, c *pipepb.Coder, n int) ([]string, error) {
	if got := len(c.GetComponentCoderIds()); got != n {
		return nil, refuse(codeCoder, "coder %q (%s) has %d components, wants %d", id, c.GetSpec().GetUrn(), got, n).WithHint(hintSDK)
	}
	return c.GetComponentCoderIds(), nil
}

// kv returns the components of a KV coder. Errors: keyed-input-required when the coder is not a KV coder.
func (t *coderTable) kv(id string) (key, value string, err error) {
	c, err := t.get(id)
	if err != nil {
		return "", "", err
	}
	if got := c.GetSpec().GetUrn(); got != urn.CoderKV {
		return "", "", refuse(codeKeyed, "the input's coder is %q, the runner needs a key and value coder (%s)", got, urn.CoderKV).
			WithHint("give the input collection a key-value type, in Python for example with .with_output_types(tuple[str, int])")
	}
	parts, err := components(id, c, 2)
	if err != nil {
		return "", "", err
	}
	return parts[0], parts[1], nil
}

// stateBacked returns the coder of KV<K, iterable<V>> with an iterable that may be a token instead of values. Both read what either
// writes but for the token. Spec: beam_runner_api.proto StandardCoders.STATE_BACKED_ITERABLE.
func (t *coderTable) stateBacked(id string) (string, error) {
	key, values, err := t.kv(id)
	if err != nil {
		return "", err
	}
	c, err := t.get(values)
	if err != nil {
		return "", err
	}
	parts, err := components(values, c, 1)
	if err != nil {
		return "", err
	}
	backed, err := t.intern(values+".backed", urn.CoderStateBackedIterable, nil, parts[0])
	if err != nil {
		return "", err
	}
	return t.intern(id+".backed", urn.CoderKV, nil, key, backed)
}

// wire returns the coder with everything that the runner cannot frame wrapped in a length prefix, down to where it must look.
// Spec: beam_runner_api.proto StandardCoders. The row coder is framed as opaque: its fields are nobody's business here.
func (t *coderTable) wire(id string) (wire, error) {
	if w, ok := t.wires[id]; ok {
		return w, nil
	}
	// The structure first: that refuses dangling, endless and too deep coders.
	if _, err := t.structure(id, 0); err != nil {
		return wire{}, err
	}
	c, err := t.get(id)
	if err != nil {
		return wire{}, err
	}
	w, err := t.frame(id, c)
	if err == nil {
		t.wires[id] = w
	}
	return w, err
}

func (t *coderTable) frame(id string, c *pipepb.Coder) (wire, error) {
	switch c.GetSpec().GetUrn() {
	case urn.CoderBytes, urn.CoderStringUTF8, urn.CoderLengthPrefix:
		return wire{id: id, program: "lp"}, nil
	case urn.CoderBool:
		return wire{id: id, program: "fixed(1)"}, nil
	case urn.CoderDouble:
		return wire{id: id, program: "fixed(8)"}, nil
	case urn.CoderVarint:
		return wire{id: id, program: "varint"}, nil
	case urn.CoderKV:
		return t.frameParts(id, c, 2, func(p []string) string { return "kv(" + p[0] + "," + p[1] + ")" })
	case urn.CoderIterable, urn.CoderStateBackedIterable:
		return t.frameParts(id, c, 1, func(p []string) string { return "iter(" + p[0] + ")" })
	case urn.CoderNullable:
		return t.frameParts(id, c, 1, func(p []string) string { return "nullable(" + p[0] + ")" })
	case urn.CoderShardedKey:
		return t.frameParts(id, c, 1, func(p []string) string { return "sharded(" + p[0] + ")" })
	case urn.CoderParamWindowedValue:
		return t.frameParam(id, c)
	case urn.CoderTimer:
		return t.frameWindowed(id, c, "timer")
	case urn.CoderWindowedValue:
		return t.frameWindowed(id, c, "windowed")
	case urn.CoderGlobalWindow, urn.CoderIntervalWindow, urn.CoderCustomWindow:
		window, coding, err := t.window(id)
		return wire{id: window, program: "window(" + string(coding) + ")", wrapped: window != id}, err
	default:
		prefixed, err := t.intern(id+".lp", urn.CoderLengthPrefix, nil, id)
		return wire{id: prefixed, program: "lp", wrapped: true}, err
	}
}

// frameParts frames a coder whose encoding is made of n components'.
func (t *coderTable) frameParts(id string, c *pipepb.Coder, n int, program func([]string) string) (wire, error) {
	parts, err := components(id, c, n)
	if err != nil {
		return wire{}, err
	}
	ids, programs := make([]string, n), make([]string, n)
	wrapped := false
	for i, part := range parts {
		w, err := t.wire(part)
		if err != nil {
			return wire{}, err
		}
		ids[i], programs[i] = w.id, w.program
		wrapped = wrapped || w.wrapped
	}
	return t.rebuilt(id, c, ids, program(programs), wrapped)
}

// frameWindowed frames timer and windowed value coders: the components are a value and a window coder.
func (t *coderTable) frameWindowed(id string, c *pipepb.Coder, constructor string) (wire, error) {
	parts, err := components(id, c, 2)
	if err != nil {
		return wire{}, err
	}
	value, err := t.wire(parts[0])
	if err != nil {
		return wire{}, err
	}
	window, coding, err := t.window(parts[1])
	if err != nil {
		return wire{}, err
	}
	program := constructor + "(" + value.program + "," + string(coding) + ")"
	return t.rebuilt(id, c, []string{value.id, window}, program, value.wrapped || window != parts[1])
}

// frameParam frames a coder whose values have the timestamp, windows and pane that are in its payload: only the value is encoded. Its
// window coder stays as it is, whether it can be framed or not: the payload's windows are encoded with it.
func (t *coderTable) frameParam(id string, c *pipepb.Coder) (wire, error) {
	parts, err := components(id, c, 2)
	if err != nil {
		return wire{}, err
	}
	value, err := t.wire(parts[0])
	if err != nil {
		return wire{}, err
	}
	return t.rebuilt(id, c, []string{value.id, parts[1]}, value.program, value.wrapped)
}

// rebuilt returns the coder itself when its components are unchanged, else one like it with the new components.
func (t *coderTable) rebuilt(id string, c *pipepb.Coder, ids []string, program string, wrapped bool) (wire, error) {
	if slices.Equal(ids, c.GetComponentCoderIds()) {
		return wire{id: id, program: program, wrapped: wrapped}, nil
	}
	rebuilt, err := t.intern(id+".wire", c.GetSpec().GetUrn(), c.GetSpec().GetPayload(), ids...)
	return wire{id: rebuilt, program: program, wrapped: wrapped}, err
}

// window returns a coder of windows that the runner can frame. An unknown one becomes a custom window coder: the window's maximum
// timestamp, then the length-prefixed original. Spec: beam_runner_api.proto StandardCoders.CUSTOM_WINDOW.
func (t *coderTable) window(id string) (string, plan.WindowCoding, error) {
	c, err := t.get(id)
	if err != nil {
		return "", "", err
	}
	inner := id
	switch c.GetSpec().GetUrn() {
	case urn.CoderGlobalWindow:
		return id, plan.GlobalWindow, nil
	case urn.CoderIntervalWindow:
		return id, plan.IntervalWindow, nil
	case urn.CoderCustomWindow:
		parts, err := components(id, c, 1)
		if err != nil {
			return "", "", err
		}
		inner = parts[0]
	}
	payload, err := t.prefixed(inner)
	if err != nil {
		return "", "", err
	}
	custom, err := t.intern(inner+".window", urn.CoderCustomWindow, nil, payload)
	return custom, plan.CustomWindow, err
}

// prefixed returns the coder in a length prefix, or itself when it has one.
func (t *coderTable) prefixed(id string) (string, error) {
	c, err := t.get(id)
	if err != nil || c.GetSpec().GetUrn() == urn.CoderLengthPrefix {
		return id, err
	}
	return t.intern(id+".lp", urn.CoderLengthPrefix, nil, id)
}

// hintSDK is for pipelines that no SDK should produce.
const hintSDK = "the pipeline proto is inconsistent: check the SDK version and anything that edits the proto"

// tooDeep refuses a coder.
func tooDeep(id string) *fault.Error {
	return refuse(codeCoder, "coder %q is nested deeper than %d levels, or in itself", id, coderDepthMax).WithHint(hintSDK)
}

// unused returns name, or the first of name.2, name.3, … that is not taken.
func unused(name string, taken func(string) bool) string {
	for id, n := name, 2; ; n++ {
		if !taken(id) {
			return id
		}
		id = name + "." + strconv.Itoa(n)
	}
}
