// Package coder frames encoded elements: it finds where a value ends, and where its key, windows, timestamp and pane lie, without
// decoding anything of the user's.
//
// A Program is compiled from a framing program, the small language in which a plan describes the nested encoding of a value:
//
//	fixed(N) | varint | lp | unit            leaf encodings; lp is a varint length and so many bytes
//	nullable(P) | kv(P,P) | iter(P)          composites of them
//	sharded(P) | window(W) | windowed(P,W) | timer(P,W)   W is global, interval or custom
//
// A Scanner walks a run of windowed elements: timestamp u64 big endian (sign bit flipped), window count i32, windows, pane, value.
// It does not validate what it skips (UTF-8, booleans, window order), does not re-encode, and never allocates for an element.
//
// Invariants: malformed or truncated input is an error that wraps ErrMalformed, never a panic; every loop over input consumes
// input; slices handed out alias the input. Programs are immutable and safe for concurrent use. No goroutines.
//
// Spec: beam_runner_api.proto StandardCoders; the encodings are checked against Beam's Python coders.
package coder
