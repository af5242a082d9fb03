package codertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/connector/kafka/row"
)

// Logical types with an encoding of their own.
const (
	millisInstant = "beam:logical_type:millis_instant:v1"
	decimal       = "beam:logical_type:decimal:v1"
)

// row writes a value of a schema: how many fields, which of them are null, and the others in the order of their positions.
func (e *encoder) row(s *pipepb.Schema, v Value) {
	values, ok := v.(row.Row)
	if !ok || len(values) != len(s.GetFields()) {
		e.fail(fmt.Errorf("%v is not a row of %d fields", v, len(s.GetFields())))
		return
	}
	order := make([]int, len(values))
	nulls := make([]byte, (len(values)+7)/8)
	for i, f := range s.GetFields() {
		position := i
		if s.GetEncodingPositionsSet() {
			position = int(f.GetEncodingPosition())
		}
		order[position] = i
		if values[i] == nil {
			nulls[i/8] |= 1 << (i % 8)
		}
	}
	if !slices.Contains(values, nil) {
		nulls = nil
	}
	e.varint(uint64(len(values)))
	e.bytes(string(nulls), true)
	for _, i := range order {
		if values[i] != nil {
			e.field(s.GetFields()[i].GetType(), values[i])
		}
	}
}

// element writes what stands in a list or a map: null is a byte in front.
func (e *encoder) element(t *pipepb.FieldType, v any) {
	if t.GetNullable() {
		e.flag(v != nil)
		if v == nil {
			return
		}
	}
	e.field(t, v)
}

func (e *encoder) field(t *pipepb.FieldType, v any) {
	switch info := t.GetTypeInfo().(type) {
	case *pipepb.FieldType_AtomicType:
		e.atomic(info.AtomicType, v)
	case *pipepb.FieldType_ArrayType:
		e.list(info.ArrayType.GetElementType(), as[[]any](e, v))
	case *pipepb.FieldType_IterableType:
		e.list(info.IterableType.GetElementType(), as[[]any](e, v))
	case *pipepb.FieldType_MapType:
		e.mapping(info.MapType, v)
	case *pipepb.FieldType_RowType:
		e.row(info.RowType.GetSchema(), v)
	case *pipepb.FieldType_LogicalType:
		switch info.LogicalType.GetUrn() {
		case millisInstant:
			e.time(as[int64](e, v))
		case decimal:
			e.decimal(as[row.Decimal](e, v))
		default:
			e.element(info.LogicalType.GetRepresentation(), v)
		}
	default:
		e.fail(errors.New("a field without a type"))
	}
}

func (e *encoder) atomic(t pipepb.AtomicType, v any) {
	switch t {
	case pipepb.AtomicType_BYTE:
		e.dst = append(e.dst, byte(as[int64](e, v)))
	case pipepb.AtomicType_INT16:
		e.dst = binary.BigEndian.AppendUint16(e.dst, uint16(as[int64](e, v)))
	case pipepb.AtomicType_INT32:
		e.varint(uint64(uint32(as[int64](e, v))))
	case pipepb.AtomicType_INT64:
		e.varint(uint64(as[int64](e, v)))
	case pipepb.AtomicType_FLOAT:
		e.dst = binary.BigEndian.AppendUint32(e.dst, math.Float32bits(float32(as[float64](e, v))))
	case pipepb.AtomicType_DOUBLE:
		e.dst = binary.BigEndian.AppendUint64(e.dst, math.Float64bits(as[float64](e, v)))
	case pipepb.AtomicType_BOOLEAN:
		e.flag(as[bool](e, v))
	case pipepb.AtomicType_STRING:
		e.bytes(as[string](e, v), true)
	case pipepb.AtomicType_BYTES:
		e.bytes(string(as[[]byte](e, v)), true)
	default:
		e.fail(fmt.Errorf("type %v", t))
	}
}

func (e *encoder) list(t *pipepb.FieldType, values []any) {
	e.count(int32(len(values)))
	for _, v := range values {
		e.element(t, v)
	}
}

// mapping writes a map's entries, sorted where the value has no order.
func (e *encoder) mapping(t *pipepb.MapType, v any) {
	if m, ok := v.(map[string]any); ok {
		e.count(int32(len(m)))
		for _, key := range slices.Sorted(maps.Keys(m)) {
			e.element(t.GetKeyType(), key)
			e.element(t.GetValueType(), m[key])
		}
		return
	}
	entries := as[[]row.Entry](e, v)
	e.count(int32(len(entries)))
	for _, entry := range entries {
		e.element(t.GetKeyType(), entry.Key)
		e.element(t.GetValueType(), entry.Value)
	}
}

// decimal writes the scale and the shortest two's complement that has room for the sign.
func (e *encoder) decimal(d row.Decimal) {
	if d.Unscaled == nil {
		e.fail(errors.New("a decimal without digits"))
		return
	}
	e.varint(uint64(uint32(d.Scale)))
	n := new(big.Int).Set(d.Unscaled)
	size := 1
	for limit := big.NewInt(0x80); n.Cmp(limit) >= 0 || n.Cmp(new(big.Int).Neg(limit)) < 0; limit.Lsh(limit, 8) {
		size++
	}
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(size)*8))
	}
	e.bytes(string(n.FillBytes(make([]byte, size))), true)
}
