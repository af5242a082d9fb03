package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector/kafka/config"
	"padstone/engine/element"
	"padstone/engine/plan"
	"padstone/internal/fault"
)

// decoder turns blocks into records that share the blocks' memory.
type decoder struct {
	cfg *config.Write
	row *rowDecoder // nil for KV elements
}

func newDecoder(cfg *config.Write) (*decoder, error) {
	d := &decoder{cfg: cfg}
	if cfg.RowSchema != nil {
		var err error
		if d.row, err = newRowDecoder(cfg.RowSchema, cfg.Topic); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// errShort means that an element ends before it should.
var errShort = errors.New("the element is cut short")

// block appends the records of a block. An error means that the data is not in the coding that the plan says, or that a value does
// not fit its serializer.
func (d *decoder) block(out []*kgo.Record, block element.Block) ([]*kgo.Record, error) {
	b := block.Data
	for n := 0; len(b) > 0 || n < block.Count; n++ {
		if n == block.Count {
			return nil, malformed(n, fmt.Errorf("%d bytes are left after the last element", len(b)))
		}
		var err error
		if b, err = skipHeader(b, d.cfg.Window); err != nil {
			return nil, malformed(n, err)
		}
		r := &kgo.Record{Topic: d.cfg.Topic, Partition: anyPartition}
		if d.row != nil {
			b, err = d.row.decode(b, r)
		} else {
			b, err = d.kv(b, r)
		}
		if err != nil {
			if f := fault.Of(err); f != nil {
				return nil, f
			}
			return nil, malformed(n, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func malformed(n int, err error) error {
	return fault.New(fault.Internal, codeElement, "element %d of a block for Kafka does not decode: %w", n, err)
}

// skipHeader returns what follows timestamp, windows and pane. Spec: beam_runner_api.proto StandardCoders WINDOWED_VALUE.
func skipHeader(b []byte, window plan.WindowCoding) ([]byte, error) {
	if len(b) < 12 {
		return nil, errShort
	}
	windows := int32(binary.BigEndian.Uint32(b[8:]))
	if windows < 0 {
		return nil, fmt.Errorf("%d windows", windows)
	}
	b = b[12:]
	for range windows {
		if window == plan.GlobalWindow {
			break // no bytes
		}
		if len(b) < 8 {
			return nil, errShort
		}
		var err error
		if window == plan.IntervalWindow {
			_, b, err = takeVarint(b[8:])
		} else {
			_, b, err = takeBytes(b[8:])
		}
		if err != nil {
			return nil, err
		}
	}
	return skipPane(b)
}

// skipPane passes over a pane: a first byte with the number of indices that follow and a bit for metadata after them.
func skipPane(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errShort
	}
	first := b[0]
	indices := int(first>>4) & 7
	if indices > 2 {
		return nil, fmt.Errorf("pane encoding %d is not known", indices)
	}
	b = b[1:]
	var err error
	for range indices {
		if _, b, err = takeVarint(b); err != nil {
			return nil, err
		}
	}
	if first&0x80 != 0 {
		_, b, err = takeBytes(b)
	}
	return b, err
}

func takeVarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errShort
	}
	return v, b[n:], nil
}

func takeBytes(b []byte) ([]byte, []byte, error) {
	n, b, err := takeVarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n:n], b[n:], nil
}

// kv decodes a KV element into r.
func (d *decoder) kv(b []byte, r *kgo.Record) ([]byte, error) {
	var err error
	if r.Key, b, err = operand(b, "key", d.cfg.Key); err != nil {
		return nil, err
	}
	if r.Value, b, err = operand(b, "value", d.cfg.Value); err != nil {
		return nil, err
	}
	return b, nil
}

// operand decodes a key or value into the bytes that Kafka gets, nil for null.
func operand(b []byte, part string, o config.Operand) (out, rest []byte, err error) {
	if o.Nullable {
		if len(b) == 0 {
			return nil, nil, errShort
		}
		if b[0] == 0 {
			return nil, b[1:], nil
		}
		b = b[1:]
	}
	switch o.Coder {
	case config.BytesCoder, config.StringCoder:
		return takeBytes(b)
	case config.VarintCoder:
		v, rest, err := takeVarint(b)
		if err != nil {
			return nil, nil, err
		}
		out, err = integer(part, int64(v), o.Format)
		return out, rest, err
	case config.DoubleCoder:
		if len(b) < 8 {
			return nil, nil, errShort
		}
		if o.Format == config.Float32 {
			v := math.Float64frombits(binary.BigEndian.Uint64(b))
			return binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(v))), b[8:], nil
		}
		return b[:8:8], b[8:], nil
	}
	return nil, nil, fmt.Errorf("coder %q is not known", o.Coder)
}

func integer(part string, v int64, f config.Format) ([]byte, error) {
	bits := map[config.Format]int{config.Int16: 16, config.Int32: 32, config.Int64: 64}[f]
	if v < -1<<(bits-1) || v > 1<<(bits-1)-1 {
		return nil, fault.New(fault.Pipeline, codeRecord, "a %s of %d does not fit %s", part, v, f).
			WithHint("write it with LongSerializer")
	}
	switch f {
	case config.Int16:
		return binary.BigEndian.AppendUint16(nil, uint16(v)), nil
	case config.Int32:
		return binary.BigEndian.AppendUint32(nil, uint32(v)), nil
	default:
		return binary.BigEndian.AppendUint64(nil, uint64(v)), nil
	}
}
