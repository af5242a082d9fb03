// Package row decodes values of Beam's row coder, beam:coder:row:v1, by their schema.
//
// Shape: field count varint | null bitmap with its length as varint (empty: no nulls; bit i of byte i/8 is field i of the schema) |
// the non-null fields in encoding position order, nested. Fields that a value has beyond the schema are ignored and those that it
// lacks, if they are few, are null, as the coder's specification wants. Pure; errors are plain and say what was read. Not for
// per-element work at high rates: it decodes to boxed values. Spec: beam_runner_api.proto StandardCoders ROW, coder_impl.py
// RowCoderImpl.
package row
