package config

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// RecordSchemaID is the id of RecordSchema. SDKs key their generated row classes by it, so it changes whenever the schema does.
const RecordSchemaID = "6d9c0e64-5f58-4f0b-8d5f-6f9f7a0c1e01"

// HeaderSchemaID is the id of the schema of one header inside RecordSchema.
const HeaderSchemaID = "6d9c0e64-5f58-4f0b-8d5f-6f9f7a0c1e02"

// RecordSchema is the schema of a record read with metadata. Spec: KafkaIO.java ByteArrayKafkaRecord, KafkaHeader.
func RecordSchema() *pipepb.Schema {
	header := &pipepb.Schema{Id: HeaderSchemaID, Fields: []*pipepb.Field{
		field(0, "key", atomic(pipepb.AtomicType_STRING)),
		field(1, "value", nullable(atomic(pipepb.AtomicType_BYTES))),
	}}
	headers := &pipepb.FieldType{Nullable: true, TypeInfo: &pipepb.FieldType_ArrayType{ArrayType: &pipepb.ArrayType{
		ElementType: &pipepb.FieldType{TypeInfo: &pipepb.FieldType_RowType{RowType: &pipepb.RowType{Schema: header}}},
	}}}
	return &pipepb.Schema{Id: RecordSchemaID, Fields: []*pipepb.Field{
		field(0, "topic", atomic(pipepb.AtomicType_STRING)),
		field(1, "partition", atomic(pipepb.AtomicType_INT32)),
		field(2, "offset", atomic(pipepb.AtomicType_INT64)),
		field(3, "timestamp", atomic(pipepb.AtomicType_INT64)),
		field(4, "key", nullable(atomic(pipepb.AtomicType_BYTES))),
		field(5, "value", nullable(atomic(pipepb.AtomicType_BYTES))),
		field(6, "headers", headers),
		field(7, "timestampTypeId", atomic(pipepb.AtomicType_INT32)),
		field(8, "timestampTypeName", atomic(pipepb.AtomicType_STRING)),
	}}
}

func field(id int32, name string, t *pipepb.FieldType) *pipepb.Field {
	return &pipepb.Field{Id: id, EncodingPosition: id, Name: name, Type: t}
}

func atomic(t pipepb.AtomicType) *pipepb.FieldType {
	return &pipepb.FieldType{TypeInfo: &pipepb.FieldType_AtomicType{AtomicType: t}}
}

func nullable(t *pipepb.FieldType) *pipepb.FieldType {
	t.Nullable = true
	return t
}
