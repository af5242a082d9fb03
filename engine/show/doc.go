// Package show puts encoded values into words, for messages about an element that user code fails on.
//
// It reads what Beam's standard coders write and what Python's coder of primitives does, which most untyped Python pipelines use. Anything
// else is shown as the bytes that it is: as text with escapes where most of it is text, in hexadecimal digits otherwise. Nothing is ever
// wrong about that, so there are no errors. Pure: no I/O, no clock.
package show
