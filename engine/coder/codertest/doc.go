// Package codertest is a reference for Beam's standard coders: a codec that is written after the specification, value by value and as
// slowly as it likes, and a generator of random coders and values. Tests hold the framing of package coder and the coders of package
// translate against it, and the reference itself against the SDK's standard_coders.yaml.
//
// A Coder is a tree out of a pipeline's coders. It decodes to plain values (see Value) and encodes them again, in the nested or in the
// outer context. What it does not know, such as a pickled object, is opaque bytes when a length prefix says where it ends, and an
// error when nothing does. It shares no code with package coder, on purpose; rows are decoded by package row, which is tested here.
//
// Errors on malformed input, no panics. No goroutines. Spec: beam_runner_api.proto StandardCoders; standard_coders.yaml.
package codertest
