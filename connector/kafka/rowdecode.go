package kafka

import (
	"fmt"
	"math"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka/row"
	"padstone/internal/fault"
)

// rowDecoder turns rows into records. Spec: KafkaIO.java WriteWithHeaders.toProducerRecord.
type rowDecoder struct {
	coder *row.Coder
	topic string // where a row without a topic goes; "" when every row must have one
	// Places of the fields in a row, -1 for those that the schema lacks.
	key, value, headers, topicField, partition, timestamp int
	headerKey, headerValue                                int
}

// newRowDecoder checks that the schema's fields are those that a record has, with the types that it needs.
func newRowDecoder(schema []byte, topic string) (*rowDecoder, error) {
	pb := &pipepb.Schema{}
	if err := proto.Unmarshal(schema, pb); err != nil {
		return nil, fault.New(fault.Pipeline, codeSchema, "the schema of the rows to write: %w", err)
	}
	coder, err := row.New(pb)
	if err != nil {
		return nil, fault.New(fault.Pipeline, codeSchema, "the schema of the rows to write: %w", err)
	}
	d := &rowDecoder{coder: coder, topic: topic, headerKey: -1, headerValue: -1}
	isBytes, isString := atomicIs(pipepb.AtomicType_BYTES), atomicIs(pipepb.AtomicType_STRING)
	for _, f := range []struct {
		name     string
		at       *int
		required bool
		ok       func(*pipepb.FieldType) bool
		want     string
	}{
		{"key", &d.key, true, isBytes, "bytes"},
		{"value", &d.value, true, isBytes, "bytes"},
		{"headers", &d.headers, false, d.headersFit, "a list of rows of key: str and value: bytes"},
		{"topic", &d.topicField, false, isString, "str"},
		{"partition", &d.partition, false, atomicIs(pipepb.AtomicType_INT32, pipepb.AtomicType_INT64), "int"},
		{"timestamp", &d.timestamp, false, atomicIs(pipepb.AtomicType_INT64), "int"},
	} {
		*f.at = coder.Index(f.name)
		if *f.at < 0 && f.required {
			return nil, fault.New(fault.Pipeline, codeSchema, "the rows to write have no field %q", f.name).
				WithHint("make each row with at least key: bytes and value: bytes")
		}
		if *f.at >= 0 && !f.ok(pb.GetFields()[*f.at].GetType()) {
			return nil, fault.New(fault.Pipeline, codeSchema, "field %q of the rows to write is not %s", f.name, f.want)
		}
	}
	if topic == "" && d.topicField < 0 {
		return nil, fault.New(fault.Pipeline, codeSchema, "there is neither a topic nor a field \"topic\" in the rows to write")
	}
	return d, nil
}

func atomicIs(types ...pipepb.AtomicType) func(*pipepb.FieldType) bool {
	return func(t *pipepb.FieldType) bool {
		for _, want := range types {
			if t.GetAtomicType() == want {
				return true
			}
		}
		return false
	}
}

// headersFit checks the type of the headers field and notes where key and value stand in a header.
func (d *rowDecoder) headersFit(t *pipepb.FieldType) bool {
	elem := t.GetArrayType().GetElementType()
	if elem == nil {
		elem = t.GetIterableType().GetElementType()
	}
	for i, f := range elem.GetRowType().GetSchema().GetFields() {
		switch {
		case f.GetName() == "key" && f.GetType().GetAtomicType() == pipepb.AtomicType_STRING:
			d.headerKey = i
		case f.GetName() == "value" && f.GetType().GetAtomicType() == pipepb.AtomicType_BYTES:
			d.headerValue = i
		}
	}
	return d.headerKey >= 0 && d.headerValue >= 0
}

// decode reads one row with its length in front.
func (d *rowDecoder) decode(b []byte, r *kgo.Record) ([]byte, error) {
	data, rest, err := takeBytes(b)
	if err != nil {
		return nil, err
	}
	value, left, err := d.coder.Decode(data)
	if err != nil {
		return nil, err
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("%d bytes are left after the row", len(left))
	}
	r.Key, _ = value[d.key].([]byte)
	r.Value, _ = value[d.value].([]byte)
	if d.topicField >= 0 {
		if topic, ok := value[d.topicField].(string); ok {
			r.Topic = topic
		}
	}
	if r.Topic == "" {
		return nil, fault.New(fault.Pipeline, codeRecord, "a row has no topic and there is no default one")
	}
	if d.partition >= 0 {
		if p, ok := value[d.partition].(int64); ok {
			if p < 0 || p > math.MaxInt32 {
				return nil, fault.New(fault.Pipeline, codeRecord, "a row for topic %q has partition %d", r.Topic, p)
			}
			r.Partition = int32(p)
		}
	}
	if d.timestamp >= 0 {
		if ms, ok := value[d.timestamp].(int64); ok {
			if ms < 0 {
				return nil, fault.New(fault.Pipeline, codeRecord, "a row for topic %q has timestamp %d", r.Topic, ms)
			}
			r.Timestamp = time.UnixMilli(ms)
		}
	}
	return rest, d.decodeHeaders(value, r)
}

func (d *rowDecoder) decodeHeaders(value row.Row, r *kgo.Record) error {
	if d.headers < 0 {
		return nil
	}
	list, _ := value[d.headers].([]any)
	for _, entry := range list {
		header, ok := entry.(row.Row)
		if !ok {
			return fault.New(fault.Pipeline, codeRecord, "a row for topic %q has a null header", r.Topic)
		}
		key, ok := header[d.headerKey].(string)
		if !ok {
			return fault.New(fault.Pipeline, codeRecord, "a row for topic %q has a header without a key", r.Topic)
		}
		content, _ := header[d.headerValue].([]byte)
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: key, Value: content})
	}
	return nil
}
