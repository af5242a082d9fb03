package fnapi

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that elementsCodec wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"padstone/internal/buffers"
)

// Field numbers of the Elements message. Spec: beam_fn_api.proto Elements, Elements.Data, Elements.Timers.
const (
	fieldData   protowire.Number = 1 // of Elements
	fieldTimers protowire.Number = 2 // of Elements

	fieldInstruction protowire.Number = 1
	fieldTransform   protowire.Number = 2
	fieldFamily      protowire.Number = 3 // timers only
	dataPayload      protowire.Number = 3
	dataLast         protowire.Number = 4
	timersPayload    protowire.Number = 4
	timersLast       protowire.Number = 5
)

// entry is one Elements.Data or Elements.Timers.
type entry struct {
	instruction string
	transform   string
	family      string // timers only
	timers      bool
	payload     []byte // whole encoded elements or timers, concatenated
	last        bool
	lent        *buffers.Buffer // what the payload lies in; nil: memory of its own

	encoded *atomic.Int64 // takes what encoding the message took, in nanoseconds; may be nil
	decoded time.Duration // what decoding the message took, with its first entry
}

// port returns which channel of a bundle the entry belongs to.
func (e *entry) port() port { return port{transform: e.transform, family: e.family, timers: e.timers} }

// port is one logical channel of a bundle: a data source or sink, or a timer family.
type port struct {
	transform string
	family    string
	timers    bool
}

func (p port) String() string {
	if p.timers {
		return fmt.Sprintf("timer family %q of %q", p.family, p.transform)
	}
	return fmt.Sprintf("data of %q", p.transform)
}

// elements is an Elements message that is read and written without copying payloads: when read, they are slices of one buffer, which is
// lent if it is large; when written, the caller's bytes go to the transport as they are and must not change before it releases them.
type elements []entry

// elementsCodec is gRPC's proto codec, except for *elements, of which it takes the time, and for pages of state.
type elementsCodec struct {
	encoding.CodecV2
	clock func() time.Duration
}

// Codec is how messages are encoded that the server's streams send and receive, for transports other than gRPC's.
func Codec() encoding.CodecV2 { return newElementsCodec(sinceStart()) }

func newElementsCodec(clock func() time.Duration) elementsCodec {
	return elementsCodec{encoding.GetCodecV2("proto"), clock}
}

// sinceStart is a clock that starts now.
func sinceStart() func() time.Duration {
	started := time.Now()
	return func() time.Duration { return time.Since(started) }
}

// Marshal implements encoding.CodecV2.
func (c elementsCodec) Marshal(v any) (mem.BufferSlice, error) {
	els, ok := v.(*elements)
	if !ok {
		if m, ok := v.(*fnpb.StateResponse); ok && isPage(m) {
			return marshalPage(m), nil
		}
		return c.CodecV2.Marshal(v)
	}
	began := c.clock()
	var out mem.BufferSlice
	for i := range *els {
		e := &(*els)[i]
		out = append(out, mem.SliceBuffer(e.header()))
		switch {
		case len(e.payload) == 0:
		case e.lent != nil:
			out = append(out, mem.NewBuffer(&e.payload, releaser{e.lent}))
		default:
			out = append(out, mem.SliceBuffer(e.payload))
		}
	}
	if len(*els) > 0 && (*els)[0].encoded != nil {
		(*els)[0].encoded.Add(int64(c.clock() - began))
	}
	return out, nil
}

// releaser is told by the transport when it has written a payload. It implements mem.BufferPool.
type releaser struct{ lent *buffers.Buffer }

// Get implements mem.BufferPool. Nobody takes new buffers from it.
func (releaser) Get(n int) *[]byte { b := make([]byte, n); return &b }

// Put implements mem.BufferPool.
func (r releaser) Put(*[]byte) { r.lent.Release() }

// Unmarshal implements encoding.CodecV2.
func (c elementsCodec) Unmarshal(data mem.BufferSlice, v any) error {
	els, ok := v.(*elements)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	began := c.clock()
	var err error
	if n := data.Len(); n < lentBytesMin {
		err = els.parse(data.Materialize())
	} else {
		err = els.parseLent(data, n)
	}
	if len(*els) > 0 {
		(*els)[0].decoded = c.clock() - began
	}
	return err
}

// lentBytesMin is the length from which on the memory of a message is lent.
const lentBytesMin = 64 << 10

// parseLent reads a message of n bytes into memory that is lent to its entries.
func (els *elements) parseLent(data mem.BufferSlice, n int) error {
	lent := buffers.Get(n)
	data.CopyTo(lent.Bytes())
	err := els.parse(lent.Bytes())
	for i := range *els {
		lent.Retain()
		(*els)[i].lent = lent
	}
	lent.Release()
	return err
}

// header encodes all of the entry but the payload's bytes, which come last on the wire.
func (e *entry) header() []byte {
	payloadField, lastField, outer := dataPayload, dataLast, fieldData
	if e.timers {
		payloadField, lastField, outer = timersPayload, timersLast, fieldTimers
	}
	inner := make([]byte, 0, 32+len(e.instruction)+len(e.transform)+len(e.family))
	inner = appendString(inner, fieldInstruction, e.instruction)
	inner = appendString(inner, fieldTransform, e.transform)
	if e.timers {
		inner = appendString(inner, fieldFamily, e.family)
	}
	if e.last {
		inner = protowire.AppendTag(inner, lastField, protowire.VarintType)
		inner = protowire.AppendVarint(inner, 1)
	}
	if len(e.payload) > 0 {
		inner = protowire.AppendTag(inner, payloadField, protowire.BytesType)
		inner = protowire.AppendVarint(inner, uint64(len(e.payload)))
	}
	out := make([]byte, 0, 12+len(inner))
	out = protowire.AppendTag(out, outer, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(len(inner)+len(e.payload)))
	return append(out, inner...)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// errElements says that a data-plane message is not a valid Elements message.
var errElements = errors.New("malformed Elements message")

// parse reads an encoded Elements message; payloads are slices of b.
func (els *elements) parse(b []byte) error {
	*els = (*els)[:0]
	return fields(b, func(num protowire.Number, v []byte, _ uint64) error {
		if num != fieldData && num != fieldTimers {
			return nil
		}
		var e entry
		if err := e.parse(v, num == fieldTimers); err != nil {
			return err
		}
		*els = append(*els, e)
		return nil
	})
}

func (e *entry) parse(b []byte, timers bool) error {
	payloadField, lastField := dataPayload, dataLast
	if timers {
		payloadField, lastField = timersPayload, timersLast
	}
	e.timers = timers
	return fields(b, func(num protowire.Number, v []byte, n uint64) error {
		switch {
		case num == fieldInstruction:
			e.instruction = string(v)
		case num == fieldTransform:
			e.transform = string(v)
		case num == fieldFamily && timers:
			e.family = string(v)
		case num == payloadField:
			e.payload = v[:len(v):len(v)]
		case num == lastField:
			e.last = n != 0
		}
		return nil
	})
}

// fields calls visit for each length-delimited (v) and varint (n) field of an encoded message and skips the others.
func fields(b []byte, visit func(num protowire.Number, v []byte, n uint64) error) error {
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return errElements
		}
		b = b[size:]
		var v []byte
		var n uint64
		switch typ {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(num, typ, b)
		}
		if size < 0 {
			return errElements
		}
		b = b[size:]
		if typ != protowire.BytesType && typ != protowire.VarintType {
			continue
		}
		if err := visit(num, v, n); err != nil {
			return err
		}
	}
	return nil
}

// entriesOf converts the elements that a response carries inside.
func entriesOf(m *fnpb.Elements) []entry {
	var out []entry
	for _, t := range m.GetTimers() {
		out = append(out, entry{
			instruction: t.GetInstructionId(), transform: t.GetTransformId(), family: t.GetTimerFamilyId(), timers: true,
			payload: t.GetTimers(), last: t.GetIsLast(),
		})
	}
	for _, d := range m.GetData() {
		out = append(out, entry{
			instruction: d.GetInstructionId(), transform: d.GetTransformId(), payload: d.GetData(), last: d.GetIsLast(),
		})
	}
	return out
}
