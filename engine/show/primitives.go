package show

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// className returns the class of a coder that the Python SDK has pickled. Spec: python coders/coders.py serialize_coder, to_runner_api.
func className(payload []byte) string {
	wrapped := &wrapperspb.BytesValue{}
	if proto.Unmarshal(payload, wrapped) == nil && len(wrapped.GetValue()) > 0 {
		payload = wrapped.GetValue()
	}
	name, _, found := bytes.Cut(payload, []byte("$"))
	if !found || len(name) > 100 {
		return ""
	}
	return string(name)
}

// Types of what Python's coder of primitives writes. Spec: python coders/coder_impl.py FastPrimitivesCoderImpl.
const (
	typeNone  = 0
	typeInt   = 1
	typeFloat = 2
	typeBytes = 3
	typeStr   = 4
	typeList  = 5
	typeTuple = 6
	typeDict  = 7
	typeSet   = 8
	typeBool  = 9
)

// primitive words a value as Python writes it. The coder's dicts are flat: key, value, key, value.
func (r *reader) primitive(b *strings.Builder, nested bool, depth int) error {
	kind, err := r.take(1)
	if err != nil || depth > depthMax {
		return errUnknown
	}
	switch kind[0] {
	case typeNone:
		b.WriteString("None")
	case typeInt:
		v, err := r.uvarint()
		fmt.Fprint(b, int64(v))
		return err
	case typeFloat:
		v, err := r.take(8)
		if err == nil {
			fmt.Fprint(b, math.Float64frombits(binary.BigEndian.Uint64(v)))
		}
		return err
	case typeBool:
		v, err := r.take(1)
		if err == nil {
			b.WriteString(map[bool]string{true: "True", false: "False"}[v[0] != 0])
		}
		return err
	case typeBytes, typeStr:
		return r.primitiveBytes(b, kind[0] == typeStr, nested)
	case typeList:
		return r.primitives(b, "[", "]", 1, depth)
	case typeTuple:
		return r.primitives(b, "(", ")", 1, depth)
	case typeSet:
		return r.primitives(b, "{", "}", 1, depth)
	case typeDict:
		return r.primitives(b, "{", "}", 2, depth)
	default: // an object that is pickled
		return errUnknown
	}
	return nil
}

func (r *reader) primitiveBytes(b *strings.Builder, text, nested bool) (err error) {
	data := r.data
	if nested {
		data, err = r.prefixed()
	} else {
		r.data = nil
	}
	if err != nil {
		return err
	}
	if !text {
		b.WriteString("b")
	}
	b.WriteString(strconv.Quote(string(data[:min(len(data), 2*Max)])))
	return nil
}

// primitives words n items of so many parts each.
func (r *reader) primitives(b *strings.Builder, opening, closing string, parts, depth int) error {
	n, err := r.uvarint()
	if err != nil || n > uint64(len(r.data)) {
		return errUnknown
	}
	b.WriteString(opening)
	for i := range int(n) {
		if i > 0 {
			b.WriteString(", ")
		}
		for part := range parts {
			if part > 0 {
				b.WriteString(": ")
			}
			if err := r.primitive(b, true, depth+1); err != nil {
				return err
			}
		}
	}
	b.WriteString(closing)
	return nil
}
