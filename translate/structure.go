package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/translate/urn"
)

// describeStructures writes down how everything is encoded that may lie in a store for longer than a plan lives.
func (g *graph) describeStructures() error {
	for _, s := range g.stages {
		root := s.nodes[0]
		for _, n := range slices.Concat(s.nodes, s.passed) {
			step := plan.Step{Name: n.name}
			for _, in := range n.main {
				step.Reads = append(step.Reads, in.pc.durableName())
			}
			s.plan.Steps = append(s.plan.Steps, step)
		}
		if s.plan.KeyCoder != "" && !root.view {
			key, err := g.keyOf(root)
			if err != nil {
				return in(err, root.user)
			}
			if s.plan.KeyStructure, err = g.coders.text(key); err != nil {
				return in(err, root.user)
			}
		}
		if s.kind == plan.Group {
			s.plan.Accumulators = accumulates(s.input)
		}
		if root.keyed {
			if err := g.cellStructures(s, root); err != nil {
				return in(err, root.user)
			}
		}
	}
	return nil
}

// accumulates reports whether a collection is of accumulators that a combine has made.
func accumulates(pc *pcollection) bool {
	return slices.ContainsFunc(pc.from(), func(from *pcollection) bool {
		return from.producer.urn == urn.CombinePrecombine || from.producer.urn == urn.CombineConvert
	})
}

// cellStructures fills in the structures of the coders of state cells. The cells are in the order of their names.
func (g *graph) cellStructures(s *stage, n *node) error {
	for i := range s.plan.States {
		cell := &s.plan.States[i]
		element, key := stateCoders(n.pardo.GetStateSpecs()[cell.Cell])
		var err error
		if element != "" {
			if cell.Structure, err = g.coders.text(element); err != nil {
				return err
			}
		}
		if key != "" {
			if cell.MapKeyStructure, err = g.coders.text(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// text returns the structure of a coder.
func (t *coderTable) text(id string) (plan.Structure, error) {
	if _, err := t.structure(id, 0); err != nil { // refuses dangling, endless and too deep coders
		return "", err
	}
	var b strings.Builder
	if err := t.appendText(&b, id); err != nil {
		return "", err
	}
	return plan.Structure(b.String()), nil
}

func (t *coderTable) appendText(b *strings.Builder, id string) error {
	c, err := t.get(id)
	if err != nil {
		return err
	}
	spec := c.GetSpec()
	b.WriteString(strings.TrimSuffix(strings.TrimPrefix(spec.GetUrn(), "beam:coder:"), ":v1"))
	switch payload := spec.GetPayload(); {
	case spec.GetUrn() == urn.CoderRow:
		schema := &pipepb.Schema{}
		if err := proto.Unmarshal(payload, schema); err != nil {
			return refuse(codeCoder, "coder %q: the schema does not parse: %w", id, err).WithHint(hintSDK)
		}
		appendSchema(b, schema)
	case len(payload) == 0:
	case spec.GetUrn() == urn.CoderParamWindowedValue:
		fmt.Fprintf(b, "=%x", payload)
	default: // what an SDK has serialised in a way of its own
		sum := sha256.Sum256(payload)
		b.WriteString(plan.OpaqueMark + hex.EncodeToString(sum[:idBytes]))
	}
	for i, part := range c.GetComponentCoderIds() {
		b.WriteByte("(,"[min(i, 1)])
		if err := t.appendText(b, part); err != nil {
			return err
		}
	}
	if len(c.GetComponentCoderIds()) > 0 {
		b.WriteByte(')')
	}
	return nil
}

// appendSchema writes the fields in the order in which they are encoded: ids and options of a schema may differ from run to run and say
// nothing of how rows are encoded.
func appendSchema(b *strings.Builder, s *pipepb.Schema) {
	fields := slices.Clone(s.GetFields())
	if s.GetEncodingPositionsSet() {
		slices.SortStableFunc(fields, func(x, y *pipepb.Field) int { return int(x.GetEncodingPosition() - y.GetEncodingPosition()) })
	}
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(f.GetName() + ": ")
		appendType(b, f.GetType())
	}
	b.WriteByte('}')
}

func appendType(b *strings.Builder, t *pipepb.FieldType) {
	switch k := t.GetTypeInfo().(type) {
	case *pipepb.FieldType_AtomicType:
		b.WriteString(strings.ToLower(k.AtomicType.String()))
	case *pipepb.FieldType_ArrayType:
		b.WriteString("array(")
		appendType(b, k.ArrayType.GetElementType())
		b.WriteByte(')')
	case *pipepb.FieldType_IterableType:
		b.WriteString("iterable(")
		appendType(b, k.IterableType.GetElementType())
		b.WriteByte(')')
	case *pipepb.FieldType_MapType:
		b.WriteString("map(")
		appendType(b, k.MapType.GetKeyType())
		b.WriteString(", ")
		appendType(b, k.MapType.GetValueType())
		b.WriteByte(')')
	case *pipepb.FieldType_RowType:
		b.WriteString("row")
		appendSchema(b, k.RowType.GetSchema())
	case *pipepb.FieldType_LogicalType:
		b.WriteString(k.LogicalType.GetUrn() + "(")
		appendType(b, k.LogicalType.GetRepresentation())
		b.WriteByte(')')
	default:
		b.WriteString("unknown")
	}
	if t.GetNullable() {
		b.WriteByte('?')
	}
}
