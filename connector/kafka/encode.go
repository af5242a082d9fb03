package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/internal/fault"
)

// paneNoFiring is the encoding of PaneInfo.NO_FIRING: first and last, timing unknown. Spec: PaneInfo.java PaneInfoCoder.
const paneNoFiring = 0x0f

// encoder appends records as windowed values in the global window.
type encoder struct {
	key, value                 config.Format
	keyRequired, valueRequired bool // no null in the element's coder
	metadata                   bool
	row                        []byte // scratch, so that a row's length is known before it is appended
}

// append appends one element. The error is a *fault.Error that names topic, partition and offset.
func (e *encoder) append(b []byte, r *kgo.Record, ts element.Time) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, uint64(ts)^(1<<63))
	b = append(b, 0, 0, 0, 1, paneNoFiring) // one window, the global one, which has no bytes
	if e.metadata {
		e.row = appendRecordRow(e.row[:0], r)
		return appendBytes(b, e.row), nil
	}
	b, err := appendOperand(b, e.key, e.keyRequired, r.Key)
	if err != nil {
		return nil, deserializeError(r, "key", e.key, err)
	}
	b, err = appendOperand(b, e.value, e.valueRequired, r.Value)
	if err != nil {
		return nil, deserializeError(r, "value", e.value, err)
	}
	return b, nil
}

func deserializeError(r *kgo.Record, part string, f config.Format, err error) error {
	return fault.New(fault.Pipeline, codeDeserialize, "the %s of topic %q partition %d offset %d is not %s: %w",
		part, r.Topic, r.Partition, r.Offset, f, err).
		WithHint("read the topic with the default ByteArrayDeserializer and decode in a step of the pipeline")
}

func appendBytes(b, p []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// errNull is a null where the pipeline's type has none.
var errNull = errors.New("it is null, which the output type of the read does not allow")

// appendOperand appends raw as nullable(coder of f), or without the nullable when a value is required.
func appendOperand(b []byte, f config.Format, required bool, raw []byte) ([]byte, error) {
	switch {
	case raw == nil && required:
		return nil, errNull
	case raw == nil:
		return append(b, 0), nil
	case !required:
		b = append(b, 1)
	}
	switch f {
	case config.Bytes:
		return appendBytes(b, raw), nil
	case config.String:
		if !utf8.Valid(raw) {
			// As Java's decoder does it, and so that no SDK fails on it.
			raw = []byte(strings.ToValidUTF8(string(raw), "\ufffd"))
		}
		return appendBytes(b, raw), nil
	}
	want := map[config.Format]int{config.Int16: 2, config.Int32: 4, config.Int64: 8, config.Float32: 4, config.Float64: 8}[f]
	if len(raw) != want {
		return nil, fmt.Errorf("it has %d bytes, not %d", len(raw), want)
	}
	switch f {
	case config.Int16:
		return binary.AppendUvarint(b, uint64(int16(binary.BigEndian.Uint16(raw)))), nil
	case config.Int32:
		return binary.AppendUvarint(b, uint64(int32(binary.BigEndian.Uint32(raw)))), nil
	case config.Int64:
		return binary.AppendUvarint(b, binary.BigEndian.Uint64(raw)), nil
	case config.Float32:
		v := math.Float32frombits(binary.BigEndian.Uint32(raw))
		return binary.BigEndian.AppendUint64(b, math.Float64bits(float64(v))), nil
	case config.Float64:
		return append(b, raw...), nil
	}
	return nil, errors.New("unknown format")
}

// timestampName returns KafkaTimestampType's id and name. Spec: KafkaTimestampType.java.
func timestampName(r *kgo.Record) (int32, string) {
	switch r.Attrs.TimestampType() {
	case 0:
		return 0, "CreateTime"
	case 1:
		return 1, "LogAppendTime"
	default:
		return -1, "NoTimestampType"
	}
}

// appendRecordRow appends r in the row coding of config.RecordSchema.
func appendRecordRow(b []byte, r *kgo.Record) []byte {
	b = append(b, 9) // fields
	var nulls byte
	if r.Key == nil {
		nulls |= 1 << 4
	}
	if r.Value == nil {
		nulls |= 1 << 5
	}
	if nulls == 0 {
		b = append(b, 0)
	} else {
		b = append(b, 2, nulls, 0) // nine fields take two bytes of bitmap
	}
	b = appendString(b, r.Topic)
	b = binary.AppendUvarint(b, uint64(uint32(r.Partition)))
	b = binary.AppendUvarint(b, uint64(r.Offset))
	b = binary.AppendUvarint(b, uint64(r.Timestamp.UnixMilli()))
	if r.Key != nil {
		b = appendBytes(b, r.Key)
	}
	if r.Value != nil {
		b = appendBytes(b, r.Value)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		b = append(b, 2)
		if h.Value == nil {
			b = append(b, 1, 1<<1)
		} else {
			b = append(b, 0)
		}
		b = appendString(b, h.Key)
		if h.Value != nil {
			b = appendBytes(b, h.Value)
		}
	}
	id, name := timestampName(r)
	b = binary.AppendUvarint(b, uint64(uint32(id)))
	return appendString(b, name)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
